//! Weights that are integers with a scale and a zero point, or an offset, per group: GPTQ, AWQ, compressed-tensors, MLX.
//!
//! Truth: the layouts as the formats' own programs write them (GPTQModel and its forerunners, AutoAWQ, llm-compressor,
//! `mlx.core.quantize`).

use std::ops::Range;

use serde_json::Value;
use whit_base::DType;
use whit_base::quant::{assemble_row, levels};

use super::codes::{Codes, FLOATS, Floats, Layout, integers};
use super::{Made, Matrix, Source};
use crate::{FileError, SafeTensor};

/// What is taken from an integer before its group's scale, or added after.
#[derive(Clone, Debug)]
enum Zero {
    /// The same for all.
    One(i16),
    /// `(n_groups, n_out)` integers.
    Each(Vec<i16>),
    /// A float that is added to the product: `(n_out, n_groups)`.
    Added(Floats),
}

/// How the groups of a row are numbered.
#[derive(Clone, Debug)]
enum Groups {
    /// So many columns each, in order.
    Runs(usize),
    /// The group of each column.
    Listed(Vec<u32>),
}

#[derive(Debug)]
struct Linear {
    codes: Codes,
    scales: Floats,
    /// Whether scales are `(n_groups, n_out)` and not `(n_out, n_groups)`.
    scales_down: bool,
    zero: Zero,
    groups: Groups,
}

impl Linear {
    fn group(&self, column: usize) -> usize {
        match &self.groups {
            Groups::Runs(n) => column / n,
            Groups::Listed(list) => list[column] as usize,
        }
    }

    fn scale(&self, row: usize, group: usize) -> f32 {
        if self.scales_down { self.scales.at(group, row) } else { self.scales.at(row, group) }
    }

    fn integer_zero(&self, row: usize, group: usize) -> i16 {
        match &self.zero {
            Zero::One(zero) => *zero,
            Zero::Each(all) => all[group * self.codes.n_out + row],
            Zero::Added(_) => 0,
        }
    }

    /// What is added after the scale.
    fn offset(&self, row: usize, group: usize) -> f32 {
        match &self.zero {
            Zero::One(_) | Zero::Each(_) => 0.0,
            Zero::Added(offsets) => offsets.at(row, group),
        }
    }
}

impl Matrix for Linear {
    fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        let n_in = self.codes.n_in;
        let mut q = vec![0; rows.len() * n_in];
        self.codes.read(rows.clone(), &mut q);
        for (i, row) in rows.enumerate() {
            let (q, out) = (&q[i * n_in..][..n_in], &mut out[i * n_in..][..n_in]);
            let mut last = (usize::MAX, 0.0, 0, 0.0);
            for (column, (q, out)) in q.iter().zip(out).enumerate() {
                let group = self.group(column);
                if last.0 != group {
                    last = (
                        group,
                        self.scale(row, group),
                        self.integer_zero(row, group),
                        self.offset(row, group),
                    );
                }
                *out = f32::from(*q - last.2) * last.1 + last.3;
            }
        }
    }

    fn blocks(&self, dtype: DType, rows: Range<usize>, out: &mut [u8]) -> bool {
        let Groups::Runs(run) = self.groups else { return false };
        let has_offset = matches!(self.zero, Zero::Added(_));
        let takes_offset = levels(dtype).map(|(least, _)| least == 0);
        if !run.is_multiple_of(32) || takes_offset != Some(has_offset) {
            return false;
        }
        let n_in = self.codes.n_in;
        let mut q = vec![0; rows.len() * n_in];
        self.codes.read(rows.clone(), &mut q);
        let (mut d, mut m) = (vec![0.0; n_in / 32], vec![0.0; n_in / 32]);
        let lines = q.chunks_exact_mut(n_in).zip(out.chunks_exact_mut(dtype.row_bytes(n_in).unwrap_or(1)));
        for (row, (q, out)) in rows.zip(lines) {
            for (block, q) in q.chunks_exact_mut(32).enumerate() {
                let group = 32 * block / run;
                d[block] = self.scale(row, group);
                m[block] = self.offset(row, group);
                let zero = self.integer_zero(row, group);
                q.iter_mut().for_each(|q| *q -= zero);
            }
            assemble_row(dtype, q, &d, &m, out);
        }
        true
    }
}

/// The format whose integers are those of so many bits, less a zero point: where that varies, one more bit is wanted from
/// 4 bits on.
fn exact(bits: usize, zero: &Zero) -> Option<DType> {
    match (bits, zero) {
        (2..=4, Zero::One(_)) | (2..=3, Zero::Each(_)) => Some(DType::Q4_0),
        (4, Zero::Each(_)) => Some(DType::Q5_0),
        (8, Zero::One(128)) => Some(DType::Q8_0),
        (2..=4, Zero::Added(_)) => Some(DType::Q4_1),
        (5, Zero::Added(_)) => Some(DType::Q5_1),
        _ => None,
    }
}

impl Linear {
    fn made(self, source: &Source<'_>, module: &str, parts: &[&SafeTensor]) -> Result<Made, FileError> {
        let in_runs = matches!(self.groups, Groups::Runs(n) if n.is_multiple_of(32));
        let format = exact(self.codes.bits, &self.zero).filter(|_| in_runs);
        let has_offset = matches!(self.zero, Zero::Added(_));
        let shape = [self.codes.n_out, self.codes.n_in];
        let format = (format.unwrap_or(DType::Q8_0), format.is_some() && !has_offset);
        source.made(module, parts, shape, format, self)
    }
}

/// Bits and group size of a module: the configuration's, but for what it says of the module alone.
fn settings(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<(usize, i64), FileError> {
    let own = |name: &str| {
        let table = source.config.get(module)?.as_object()?;
        table.get(name)?.as_i64()
    };
    let read = |name: &str| own(name).or_else(|| source.number(name));
    let bits = read("bits").or_else(|| read("w_bit")).unwrap_or(4);
    let group = read("group_size").or_else(|| read("q_group_size")).unwrap_or(128);
    if !(2..=8).contains(&bits) || bits == 7 || (group < 1 && group != -1) {
        let problem = format!("the configuration says {bits} bits in groups of {group}, which no format has");
        return Err(source.fail(&tensor.name, problem));
    }
    Ok((bits as usize, group))
}

/// The columns of a group, for a size that may be -1 for all of them.
fn run(
    source: &Source<'_>,
    tensor: &SafeTensor,
    group: i64,
    n_in: usize,
) -> Result<(usize, usize), FileError> {
    let n = if group == -1 { n_in } else { usize::try_from(group).unwrap_or(n_in) };
    if n == 0 || n_in == 0 || !n_in.is_multiple_of(n) {
        let problem = format!("{n_in} columns are no whole groups of {n}");
        return Err(source.fail(&tensor.name, problem));
    }
    Ok((n, n_in / n))
}

fn two(source: &Source<'_>, tensor: &SafeTensor) -> Result<[usize; 2], FileError> {
    match tensor.shape[..] {
        [a, b] if a > 0 && b > 0 => Ok([a, b]),
        _ => {
            Err(source
                .fail(&tensor.name, format!("its shape is {:?}, expected two dimensions", tensor.shape)))
        }
    }
}

/// Columns behind so many words of packed integers.
fn unpacked(
    source: &Source<'_>,
    tensor: &SafeTensor,
    n_words: usize,
    bits: usize,
) -> Result<usize, FileError> {
    let n_bits = n_words.checked_mul(32).filter(|n| n.is_multiple_of(bits));
    n_bits.map(|n| n / bits).ok_or_else(|| {
        source.fail(&tensor.name, format!("{n_words} words hold no whole number of {bits}-bit values"))
    })
}

/// GPTQ: `qweight (n_in * bits / 32, n_out)`, `qzeros (n_groups, n_out * bits / 32)`, `scales (n_groups, n_out)`, `g_idx (n_in)`.
/// Files of the first version hold zero points less 1.
pub(super) fn gptq(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let format = source.config.get("checkpoint_format").and_then(Value::as_str).unwrap_or("gptq");
    if !["gptq", "gptq_v2"].contains(&format) {
        let problem =
            format!("the weights are laid out for `{format}`, which is not read; get them as `gptq`");
        return Err(source.fail(&tensor.name, problem));
    }
    let (bits, group) = settings(source, module, tensor)?;
    let [n_words, n_out] = two(source, tensor)?;
    let n_in = unpacked(source, tensor, n_words, bits)?;
    let (run, n_groups) = run(source, tensor, group, n_in)?;
    let (zeros, scales) = (source.part(module, "qzeros", &["I32"])?, source.part(module, "scales", &FLOATS)?);
    source.expect(scales, &[n_groups, n_out])?;
    let zero_words = n_out.checked_mul(bits).filter(|n| n.is_multiple_of(32)).map(|n| n / 32);
    let zero_words = zero_words.ok_or_else(|| {
        source.fail(&tensor.name, format!("{n_out} columns of zero points end inside a word"))
    })?;
    source.expect(zeros, &[n_groups, zero_words])?;
    let packed =
        Codes { words: zeros.data.clone(), layout: Layout::Across, bits, n_out: n_groups, n_in: n_out };
    let mut each = vec![0; n_groups * n_out];
    packed.read(0..n_groups, &mut each);
    if format == "gptq" {
        each.iter_mut().for_each(|zero| *zero = (*zero + 1) & ((1 << bits) - 1));
    }
    let mut parts = vec![tensor, zeros, scales];
    let groups = match source.find(module, "g_idx") {
        Some(list) => {
            source.expect(list, &[n_in])?;
            parts.push(list);
            let all = integers(list);
            if let Some(bad) = all.iter().find(|&&g| usize::try_from(g).map_or(true, |g| g >= n_groups)) {
                let problem = format!("it names group {bad}, but there are {n_groups}");
                return Err(source.fail(&list.name, problem));
            }
            let in_order = all.iter().enumerate().all(|(k, &g)| g as usize == k / run);
            if in_order { Groups::Runs(run) } else { Groups::Listed(all.iter().map(|&g| g as u32).collect()) }
        }
        None => Groups::Runs(run),
    };
    let middle = 1 << (bits - 1);
    let zero = if each.iter().all(|&zero| zero == middle) { Zero::One(middle) } else { Zero::Each(each) };
    let codes = Codes { words: tensor.data.clone(), layout: Layout::Down, bits, n_out, n_in };
    let scales = Floats::new(scales, n_out);
    Linear { codes, scales, scales_down: true, zero, groups }.made(source, module, &parts)
}

/// AWQ: `qweight (n_in, n_out / 8)` and `qzeros (n_groups, n_out / 8)`, interleaved, `scales (n_groups, n_out)`.
pub(super) fn awq(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let version = source.config.get("version").and_then(Value::as_str).unwrap_or("gemm");
    if !version.eq_ignore_ascii_case("gemm") {
        let problem =
            format!("the weights are laid out for `{version}`, which is not read; get them as `gemm`");
        return Err(source.fail(&tensor.name, problem));
    }
    let (bits, group) = settings(source, module, tensor)?;
    if bits != 4 {
        return Err(source.fail(&tensor.name, format!("the configuration says {bits} bits, AWQ has 4")));
    }
    let [n_in, n_words] = two(source, tensor)?;
    let n_out = unpacked(source, tensor, n_words, bits)?;
    let (run, n_groups) = run(source, tensor, group, n_in)?;
    let (zeros, scales) = (source.part(module, "qzeros", &["I32"])?, source.part(module, "scales", &FLOATS)?);
    source.expect(scales, &[n_groups, n_out])?;
    source.expect(zeros, &[n_groups, n_words])?;
    let packed =
        Codes { words: zeros.data.clone(), layout: Layout::Interleaved, bits, n_out, n_in: n_groups };
    let mut by_row = vec![0; n_groups * n_out];
    packed.read(0..n_out, &mut by_row);
    let each = (0..n_groups * n_out).map(|i| by_row[i % n_out * n_groups + i / n_out]).collect();
    let codes = Codes { words: tensor.data.clone(), layout: Layout::Interleaved, bits, n_out, n_in };
    let scales_floats = Floats::new(scales, n_out);
    let linear = Linear {
        codes,
        scales: scales_floats,
        scales_down: true,
        zero: Zero::Each(each),
        groups: Groups::Runs(run),
    };
    linear.made(source, module, &[tensor, zeros, scales])
}

/// compressed-tensors, `pack-quantized`: `weight_packed (n_out, n_in * bits / 32)` with the middle as zero point, `weight_scale
/// (n_out, n_groups)`, `weight_shape`.
pub(super) fn compressed(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    if source.find(module, "weight_zero_point").is_some() || source.find(module, "weight_g_idx").is_some() {
        let problem = "it has zero points or an order of columns, which are not read in this layout; get the model \
                       as GPTQ, AWQ or GGUF";
        return Err(source.fail(&tensor.name, problem.to_owned()));
    }
    let scales = source.part(module, "weight_scale", &FLOATS)?;
    let shape = source.part(module, "weight_shape", &["I64", "I32"])?;
    let [n_out, n_words] = two(source, tensor)?;
    let n_in = match (shape.kind.name(), shape.data.len()) {
        ("I64", 16) => shape.data.get(8..12),
        ("I32", 8) => shape.data.get(4..8),
        _ => None,
    };
    let n_in =
        n_in.and_then(|bytes| bytes.try_into().ok()).map_or(0, |bytes| u32::from_le_bytes(bytes) as usize);
    let bits = n_words.checked_mul(32).filter(|n| n_in > 0 && n.is_multiple_of(n_in)).map(|n| n / n_in);
    let Some(bits @ (4 | 8)) = bits else {
        let problem = format!("{n_words} words hold {n_in} values of neither 4 nor 8 bits");
        return Err(source.fail(&tensor.name, problem));
    };
    let [_, n_groups] = two(source, scales)?;
    source.expect(scales, &[n_out, n_groups])?;
    let group = n_in.checked_div(n_groups).unwrap_or(0);
    let (run, _) = run(source, tensor, group as i64, n_in)?;
    let codes = Codes { words: tensor.data.clone(), layout: Layout::Across, bits, n_out, n_in };
    let zero = Zero::One(1 << (bits - 1));
    let floats = Floats::new(scales, n_groups);
    let linear = Linear { codes, scales: floats, scales_down: false, zero, groups: Groups::Runs(run) };
    linear.made(source, module, &[tensor, scales, shape])
}

/// MLX: `weight (n_out, n_in * bits / 32)`, `scales` and `biases (n_out, n_groups)`.
pub(super) fn mlx(source: &Source<'_>, module: &str, tensor: &SafeTensor) -> Result<Made, FileError> {
    let (bits, _) = settings(source, module, tensor)?;
    let mode = source.config.get("mode").and_then(Value::as_str).unwrap_or("affine");
    if mode != "affine" {
        let problem =
            format!("the weights are in the mode `{mode}`, which is not read; get them as `affine`");
        return Err(source.fail(&tensor.name, problem));
    }
    let (scales, biases) = (source.part(module, "scales", &FLOATS)?, source.part(module, "biases", &FLOATS)?);
    let [n_out, n_words] = two(source, tensor)?;
    let n_in = unpacked(source, tensor, n_words, bits)?;
    let [_, n_groups] = two(source, scales)?;
    source.expect(scales, &[n_out, n_groups])?;
    source.expect(biases, &[n_out, n_groups])?;
    let group = n_in.checked_div(n_groups).unwrap_or(0);
    let (run, _) = run(source, tensor, group as i64, n_in)?;
    let codes = Codes { words: tensor.data.clone(), layout: Layout::Across, bits, n_out, n_in };
    let zero = Zero::Added(Floats::new(biases, n_groups));
    let floats = Floats::new(scales, n_groups);
    let linear = Linear { codes, scales: floats, scales_down: false, zero, groups: Groups::Runs(run) };
    linear.made(source, module, &[tensor, scales, biases])
}
