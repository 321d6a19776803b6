//! EXL2: rows of the transposed matrix sorted by importance, in runs of 2 to 8 bits.
//!
//! `q_weight (words, n_out)`: per column a stream of bits, the first in the lowest, `bits` words for 32 packed rows; `q_groups`
//! pairs of bits and first word; `q_scale (n_groups, n_out / 8)` nibbles; `q_scale_max (n_groups)`; `q_invperm (n_in)`. A weight is
//! `(q - 2^(bits - 1)) * (s + 1)^2 * max / 256`. Truth: ExLlamaV2's `q_matrix` kernels, as laid down in the research notes.

use std::ops::Range;

use whit_base::{Bytes, DType};

use super::codes::{Codes, FLOATS, Floats, Layout, integers};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

#[derive(Debug)]
struct Run {
    bits: usize,
    first_word: usize,
    /// Of the sorted rows.
    rows: Range<usize>,
}

#[derive(Debug)]
struct Exl2 {
    words: Bytes,
    runs: Vec<Run>,
    scales: Codes,
    largest: Floats,
    /// Where each sorted row belongs.
    order: Vec<u32>,
    /// Columns as they are stored, with some for padding.
    n_stored: usize,
}

impl Matrix for Exl2 {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        let n_in = self.order.len();
        let n_groups = self.scales.n_in;
        let mut s = vec![0; rows.len() * n_groups];
        self.scales.read(rows.clone(), &mut s);
        for (g, run) in self.runs.iter().enumerate() {
            let start = 4 * run.first_word * self.n_stored;
            let Some(words) = self.words.slice(start.min(self.words.len())..self.words.len()) else {
                continue;
            };
            let n = run.rows.len();
            let codes = Codes { words, layout: Layout::Down, bits: run.bits, n_out: self.n_stored, n_in: n };
            let mut q = vec![0; rows.len() * n];
            codes.read(rows.clone(), &mut q);
            let (middle, largest) = (1 << (run.bits - 1), self.largest.at(0, g));
            for (i, q) in q.chunks_exact(n).enumerate() {
                let step = f32::from(s[i * n_groups + g] + 1);
                let scale = step * step * largest / 256.0;
                for (q, row) in q.iter().zip(&self.order[run.rows.clone()]) {
                    out[i * n_in + *row as usize] = f32::from(q - middle) * scale;
                }
            }
        }
    }
}

pub(super) fn matrix(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let groups = source.part(module, "q_groups", &["I16"])?;
    let scales = source.part(module, "q_scale", &["I32"])?;
    let largest = source.part(module, "q_scale_max", &FLOATS)?;
    let inverse = source.part(module, "q_invperm", &["I32"])?;
    let fail = |tensor: &SafeTensor, problem: &str| source.fail(&tensor.name, problem.to_owned());
    let [n_words, n_out] = tensor.shape[..] else { return Err(fail(tensor, "it is no matrix")) };
    let n_in = inverse.shape.iter().product::<usize>();
    let n_groups = largest.shape.iter().product::<usize>();
    if n_groups == 0 || groups.data.len() != 4 * n_groups || !n_out.is_multiple_of(8) {
        return Err(fail(groups, "it does not name a width and a place for each group"));
    }
    source.expect(scales, &[n_groups, n_out / 8])?;
    let mut order = vec![u32::MAX; n_in];
    for (row, &at) in integers(inverse).iter().enumerate() {
        let place = usize::try_from(at).ok().and_then(|at| order.get_mut(at)).filter(|to| **to == u32::MAX);
        *place.ok_or_else(|| fail(inverse, "it is no order of the rows"))? = row as u32;
    }
    let pairs: Vec<(usize, usize)> = groups
        .data
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| {
            let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
            (number(0), number(2))
        })
        .collect();
    let mut runs = Vec::with_capacity(n_groups);
    let mut row = 0;
    for (g, &(bits, first_word)) in pairs.iter().enumerate() {
        let next = pairs.get(g + 1).map_or(n_words, |pair| pair.1);
        let n = match next.checked_sub(first_word) {
            Some(words) if (2..=8).contains(&bits) && next <= n_words && words > 0 => {
                // What is left of the last group may end inside its words.
                (words * 32 / bits).min(n_in - row)
            }
            _ => 0,
        };
        if n == 0 {
            return Err(fail(groups, "its groups have no words, or widths beyond 2 to 8 bits"));
        }
        runs.push(Run { bits, first_word, rows: row..row + n });
        row += n;
    }
    if row != n_in {
        return Err(fail(groups, "its groups do not cover all rows"));
    }
    let nibbles =
        Codes { words: scales.data.clone(), layout: Layout::Across, bits: 4, n_out: n_groups, n_in: n_out };
    let transposed = transpose(&nibbles);
    let mut parts = vec![tensor, groups, scales, largest, inverse];
    parts.extend(source.find(module, "q_perm"));
    let matrix = Exl2 {
        words: tensor.data.clone(),
        runs,
        scales: transposed,
        largest: Floats::new(largest, n_groups),
        order,
        n_stored: n_out,
    };
    // Columns for padding are told from the bias or not at all: families know the shapes that they want.
    source.made(module, &parts, [n_out, n_in], (DType::Q8_0, false), matrix)
}

/// The same nibbles, by row of weights; small.
fn transpose(nibbles: &Codes) -> Codes {
    let (n_groups, n_out) = (nibbles.n_out, nibbles.n_in);
    let mut all = vec![0; n_groups * n_out];
    nibbles.read(0..n_groups, &mut all);
    let width = n_groups.next_multiple_of(8);
    let mut bytes = vec![0u8; n_out * width / 2];
    for row in 0..n_out {
        for g in 0..n_groups {
            bytes[(row * width + g) / 2] |= (all[g * n_out + row] as u8) << (4 * (g % 2));
        }
    }
    Codes { words: Bytes::from_vec(bytes), layout: Layout::Across, bits: 4, n_out, n_in: width }
}
