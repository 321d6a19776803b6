//! Attention: prepare queries and append keys, then visit the cache.
//!
//! The second phase's items are blocks of rows of one sequence and one key-value head. Long caches met by few rows are
//! also cut along the positions; the last piece of a block to finish joins the pieces.

use std::sync::atomic::Ordering;

use whit_base::{Batch, CacheType, PAGE_TOKENS, Sight};

use super::CpuExecutor;
use super::step::{AttendStep, Buf};
use crate::cache::padded_head_dim;
use crate::kernels::attention::{AttendBlock, DistanceBias};
use crate::pool::Worker;

/// Query vectors that a block aims for: enough to reuse a page's loads, few enough for the first-level cache.
const BLOCK_QUERIES: usize = 48;

/// Positions in one piece of a cache that a single row meets. Pieces lie at multiples of it, whatever the number of
/// threads, so that sums are always formed in the same order.
const SPLIT_POSITIONS: usize = 8 * PAGE_TOKENS;

/// Partial results that one batch may have: every piece of every page once, and a first piece for some sequences more.
pub(crate) fn max_splits(n_kv_heads: usize, n_pages: usize, max_rows: usize) -> usize {
    n_kv_heads * (n_pages * PAGE_TOKENS / SPLIT_POSITIONS + max_rows.min(64))
}

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttendItem {
    segment: usize,
    row: usize,
    n_rows: usize,
    kv_head: usize,
    span: (usize, usize),
    /// Pieces that this block was cut into, and the index of its first partial result.
    n_splits: usize,
    first_split: usize,
    split: usize,
}

/// The items of the layers of one cache group that see alike; all of them have the same heads.
pub(crate) struct GroupItems {
    pub(crate) group: usize,
    pub(crate) sight: Sight,
    items: Vec<AttendItem>,
}

impl GroupItems {
    pub(crate) fn new(group: usize, sight: Sight) -> GroupItems {
        GroupItems { group, sight, items: Vec::new() }
    }

    pub(crate) fn items(&self) -> &[AttendItem] {
        &self.items
    }

    /// Cuts the batch's attention. Reuses its memory.
    pub(crate) fn rebuild<'a>(
        &mut self,
        batch: &Batch<'_>,
        mut layers: impl Iterator<Item = &'a AttendStep>,
        window: Option<usize>,
        max_splits: usize,
    ) {
        self.items.clear();
        // All layers of a group have the same heads: checked when the plan was loaded.
        let Some(step) = layers.next() else { return };
        let group = step.n_heads / step.n_kv_heads;
        let rows_per_block = (BLOCK_QUERIES / group).max(1);
        let mut n_partials = 0;
        // Long rows first: the shortest items then fill the gaps at the end.
        for (index, segment) in batch.segments.iter().enumerate().rev() {
            let n_rows = segment.rows.len();
            for block in (0..n_rows.div_ceil(rows_per_block)).rev() {
                let offset = block * rows_per_block;
                let rows = rows_per_block.min(n_rows - offset);
                let first = segment.first_position + offset;
                let whole = segment.first_position + n_rows;
                let (start, end) = match self.sight {
                    Sight::Before => {
                        (window.map_or(0, |window| (first + 1).saturating_sub(window)), first + rows)
                    }
                    Sight::All => (0, whole),
                    Sight::Near(n) => (first.saturating_sub(n), (first + rows).saturating_add(n).min(whole)),
                };
                let pieces = start / SPLIT_POSITIONS..end.div_ceil(SPLIT_POSITIONS);
                let fits = n_partials + pieces.len() * step.n_kv_heads <= max_splits;
                let n_splits = if rows == 1 && fits { pieces.len() } else { 1 };
                for kv_head in 0..step.n_kv_heads {
                    let first_split = n_partials;
                    if n_splits > 1 {
                        n_partials += n_splits;
                    }
                    for split in 0..n_splits {
                        let (from, to) = if n_splits == 1 {
                            (start, end)
                        } else {
                            let from = (pieces.start + split) * SPLIT_POSITIONS;
                            (from.max(start), (from + SPLIT_POSITIONS).min(end))
                        };
                        self.items.push(AttendItem {
                            segment: index,
                            row: segment.rows.start + offset,
                            n_rows: rows,
                            kv_head,
                            span: (from, to),
                            n_splits,
                            first_split,
                            split,
                        });
                    }
                }
            }
        }
    }
}

/// Floats and positions of one block in a thread's scratch.
struct BlockScratch {
    head: *mut f32,
    head2: *mut f32,
    positions: *mut u32,
    scores: *mut f32,
    max: *mut f32,
    sum: *mut f32,
    acc: *mut f32,
}

/// Scratch of a thread for groups of at most `group` heads of padded size `head_dim`.
pub(crate) fn scratch_bytes(group: usize, head_dim: usize) -> usize {
    let queries = BLOCK_QUERIES.max(group);
    4 * (2 * head_dim + queries * (3 + PAGE_TOKENS + head_dim) + 8 * 16)
}

impl CpuExecutor {
    fn block_scratch(&self, worker: &Worker<'_>, group: usize, head_dim: usize) -> BlockScratch {
        let queries = BLOCK_QUERIES.max(group);
        let mut at = self.scratch[worker.index].memory.ptr::<f32>();
        let mut take = |n: usize| {
            let p = at;
            // SAFETY: `scratch_bytes` counts these parts, each rounded up to 16 floats.
            at = unsafe { at.add(n.next_multiple_of(16)) };
            p
        };
        BlockScratch {
            head: take(head_dim),
            head2: take(head_dim),
            positions: take(queries).cast(),
            scores: take(queries * PAGE_TOKENS),
            max: take(queries),
            sum: take(queries),
            acc: take(queries * head_dim),
        }
    }

    /// Copies one head, padded with zeros, and applies norm, rotation and scale.
    unsafe fn prepare_head(
        &self,
        from: *const f32,
        to: *mut f32,
        step: &AttendStep,
        norm: &Option<(Vec<f32>, f32)>,
        row: usize,
        scale: f32,
    ) {
        let (dim, padded) = (step.head_dim, padded_head_dim(step.head_dim));
        // SAFETY: `from` has head_dim values, `to` the padded size.
        unsafe {
            match norm {
                Some((weight, eps)) => (self.kernels.rms_norm)(from, weight.as_ptr(), *eps, to, dim),
                None => std::ptr::copy_nonoverlapping(from, to, dim),
            }
            if padded != dim {
                std::ptr::write_bytes(to.add(dim), 0, padded - dim);
            }
            if let Some(rope) = step.rope {
                let table = &self.ropes[rope];
                let (cos, sin) = table.row(row);
                (self.kernels.rope)(table.style, to, cos, sin, table.inv_freq.len());
            }
            if scale != 1.0 {
                (self.kernels.scale)(to, scale, dim);
            }
        }
    }

    /// First phase: queries into scratch, keys and values into the cache.
    pub(crate) unsafe fn attend_prepare(&self, step: &AttendStep, batch: &Batch<'_>, worker: &Worker<'_>) {
        let n_rows = batch.tokens.len();
        let padded = padded_head_dim(step.head_dim);
        let group = step.n_heads / step.n_kv_heads;
        let scratch = self.block_scratch(worker, group, padded);
        let n_units = step.n_kv_heads;
        let chunk = if n_rows == 1 { 1 } else { n_units };
        let layer = self.cache(step.cache);
        let table = self.group_of_layer(step.cache);
        let append = match self.cache_type() {
            CacheType::F16 => self.kernels.append_f16,
            CacheType::F32 => self.kernels.append_f32,
        };
        let queries = self.queries.ptr::<f32>();
        loop {
            let items = worker.take(n_rows * n_units, chunk);
            if items.is_empty() {
                return;
            }
            let row = items.start / n_units;
            let Some(segment) = batch.segments.iter().find(|segment| segment.rows.contains(&row)) else {
                return;
            };
            let position = segment.first_position + row - segment.rows.start;
            let page = segment.pages[table][position / PAGE_TOKENS] as usize * layer.page_bytes;
            for kv_head in items.start % n_units..(items.end - 1) % n_units + 1 {
                // SAFETY: rows and heads are disjoint between items; `validate` checked the page.
                unsafe {
                    for i in 0..group {
                        let head = kv_head * group + i;
                        let to = queries.add(((kv_head * n_rows + row) * group + i) * padded);
                        let from = step.q.row(row).add(head * step.head_dim);
                        self.prepare_head(from, to, step, &step.q_norm, row, step.scale);
                    }
                    let at = kv_head * step.head_dim;
                    self.prepare_head(step.k.row(row).add(at), scratch.head, step, &step.k_norm, row, 1.0);
                    let value = step.v.row(row).add(at);
                    std::ptr::write_bytes(scratch.head2, 0, padded);
                    std::ptr::copy_nonoverlapping(value, scratch.head2, step.head_dim);
                    let (k, v) = layer.head(kv_head);
                    append(
                        scratch.head,
                        scratch.head2,
                        k.add(page),
                        v.add(page),
                        position % PAGE_TOKENS,
                        padded,
                    );
                }
            }
        }
    }

    /// Second phase: every item, and the rounding of its part of the output.
    pub(crate) unsafe fn attend_visit(&self, step: &AttendStep, batch: &Batch<'_>, worker: &Worker<'_>) {
        let padded = padded_head_dim(step.head_dim);
        let group = step.n_heads / step.n_kv_heads;
        let scratch = self.block_scratch(worker, group, padded);
        let items = self.items(step.items);
        let (window, ahead) = match step.sight {
            Sight::Before => (step.window.unwrap_or(usize::MAX), 0),
            Sight::All => (usize::MAX, usize::MAX),
            Sight::Near(n) => (n.saturating_add(1), n),
        };
        let table = self.group_of_layer(step.cache);
        let attend = match self.cache_type() {
            CacheType::F16 => self.kernels.attend_f16,
            CacheType::F32 => self.kernels.attend_f32,
        };
        let n_rows = batch.tokens.len();
        let layer = self.cache(step.cache);
        loop {
            let taken = worker.take(items.len(), 1);
            if taken.is_empty() {
                return;
            }
            let item = &items[taken.start];
            let segment = &batch.segments[item.segment];
            let n_queries = item.n_rows * group;
            // SAFETY: the scratch holds BLOCK_QUERIES queries; partial results of this item are its own; rows and heads
            // of the output are disjoint between items.
            unsafe {
                let positions = std::slice::from_raw_parts_mut(scratch.positions, n_queries);
                for (i, position) in positions.iter_mut().enumerate() {
                    *position = (segment.first_position + item.row - segment.rows.start + i / group) as u32;
                }
                let (k, v) = layer.head(item.kv_head);
                let partial = |split: usize| {
                    let base = self.partials.ptr::<f32>().add(split * self.partial_stride);
                    (base, base.add(group), base.add(2 * group))
                };
                let (max, sum, acc) = if item.n_splits > 1 {
                    partial(item.first_split + item.split)
                } else {
                    (scratch.max, scratch.sum, scratch.acc)
                };
                attend(&AttendBlock {
                    q: self.queries.ptr::<f32>().add((item.kv_head * n_rows + item.row) * group * padded),
                    n_queries,
                    q_stride: padded,
                    head_dim: padded,
                    positions,
                    window,
                    ahead,
                    bias: step.bias.as_ref().map(|bias| DistanceBias {
                        table: bias.rows[item.kv_head * group * bias.stride..].as_ptr(),
                        stride: bias.stride,
                        group,
                        reach: bias.reach,
                    }),
                    softcap: step.softcap,
                    pages: segment.pages[table],
                    span: item.span,
                    k,
                    v,
                    page_stride: layer.page_bytes,
                    scores: scratch.scores,
                    max,
                    sum,
                    acc,
                });
                if item.n_splits > 1 {
                    // The piece that finishes last joins them; the others' results are visible through the counter.
                    let done = self.split_done[item.first_split].fetch_add(1, Ordering::AcqRel) + 1;
                    if done < item.n_splits {
                        continue;
                    }
                    self.split_done[item.first_split].store(0, Ordering::Relaxed);
                    for i in 0..group {
                        join(
                            (0..item.n_splits).map(|split| {
                                let (max, sum, acc) = partial(item.first_split + split);
                                (*max.add(i), *sum.add(i), acc.add(i * padded).cast_const())
                            }),
                            scratch.acc.add(i * padded),
                            scratch.sum.add(i),
                            padded,
                        );
                    }
                }
                for i in 0..n_queries {
                    let row = item.row + i / group;
                    let at = (item.kv_head * group + i % group) * step.head_dim;
                    let from = scratch.acc.add(i * padded);
                    (self.kernels.scale)(from, 1.0 / *scratch.sum.add(i), padded);
                    std::ptr::copy_nonoverlapping(from, step.out.row(row).add(at), step.head_dim);
                    if rounds_by_head(&step.out, step.head_dim) {
                        step.out.round(self.kernels, row, at, step.head_dim);
                    }
                }
            }
        }
    }
}

/// Whether a head covers whole 8-bit groups of the output.
pub(crate) fn rounds_by_head(out: &Buf, head_dim: usize) -> bool {
    out.rounded.is_some() && head_dim.is_multiple_of(32)
}

/// Joins partial softmax results `(max, sum, acc)`.
unsafe fn join(
    parts: impl Iterator<Item = (f32, f32, *const f32)> + Clone,
    acc: *mut f32,
    sum: *mut f32,
    head_dim: usize,
) {
    let max = parts.clone().map(|(max, _, _)| max).fold(f32::NEG_INFINITY, f32::max);
    // SAFETY: the caller vouches for head_dim values behind each pointer.
    unsafe {
        std::ptr::write_bytes(acc, 0, head_dim);
        *sum = 0.0;
        for (part_max, part_sum, part) in parts {
            let factor = (part_max - max).exp();
            *sum += factor * part_sum;
            for d in 0..head_dim {
                *acc.add(d) += factor * *part.add(d);
            }
        }
    }
}
