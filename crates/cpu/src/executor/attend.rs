//! Attention: prepare queries and append keys, then visit the cache.
//!
//! The second phase's items are blocks of rows of one sequence and one key-value head. Where that makes too few of them,
//! blocks are also cut along the cache, one item for each of its pieces; who finishes the last piece of a block merges
//! them. Uncut blocks merge the same pieces in the same order, so that a row's result depends neither on the number of
//! threads nor on what else is in the batch.

use std::sync::atomic::Ordering;

use whit_base::{Batch, PAGE_TOKENS, Segment, Sight};

use super::CpuExecutor;
use super::step::AttendStep;
use crate::cache::CachedHead;
use crate::kernels::attention::{AttendBlock, DistanceBias, PIECE_PAGES, PIECE_TOKENS, Partial};
use crate::pool::Worker;

/// Query vectors that a block aims for: enough to reuse a page's loads, few enough for the first-level cache.
const BLOCK_QUERIES: usize = 48;

/// Items per thread that are enough to keep all of them busy to the end.
const ITEMS_PER_THREAD: usize = 4;

/// Rows of a prompt whose keys one item appends: neighbours in a page share cache lines.
const ROWS_PER_APPEND: usize = PAGE_TOKENS;

/// Floats for the pieces of cut blocks: enough for eight rows that meet every page, and for some more that meet few. A
/// block for which there is no room is not cut.
pub(crate) fn max_partials(step: &AttendStep, n_pages: usize, max_rows: usize) -> usize {
    let n_pieces = 8 * n_pages.div_ceil(PIECE_TOKENS / PAGE_TOKENS) + max_rows.min(64);
    n_pieces * step.n_kv_heads * Partial::floats(step.n_heads / step.n_kv_heads, step.padded)
}

/// One piece of work.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttendItem {
    segment: usize,
    row: usize,
    n_rows: usize,
    kv_head: usize,
    span: (usize, usize),
    cut: Option<Cut>,
}

/// The place of an item among the pieces of a block.
#[derive(Clone, Copy, Debug)]
struct Cut {
    index: usize,
    n_pieces: usize,
    /// Counts the block's finished pieces.
    counter: usize,
    /// First float of the results of the block's first piece.
    partials: usize,
}

/// What a batch's attention may be cut into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CutLimits {
    pub(crate) n_threads: usize,
    /// Floats of partial results.
    pub(crate) n_floats: usize,
    /// Blocks that may be cut.
    pub(crate) n_counters: usize,
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
        limits: CutLimits,
    ) {
        self.items.clear();
        // All layers of a group have the same heads: checked when the plan was loaded.
        let Some(step) = layers.next() else { return };
        let group = step.n_heads / step.n_kv_heads;
        let rows_per_block = (BLOCK_QUERIES / group).max(1);
        let (mut counter, mut partials) = (0, 0);
        // Long rows first: the shortest items then fill the gaps at the end.
        for (index, segment) in batch.segments.iter().enumerate().rev() {
            let n_rows = segment.rows.len();
            let n_blocks = n_rows.div_ceil(rows_per_block);
            let few = n_blocks * step.n_kv_heads < ITEMS_PER_THREAD * limits.n_threads;
            for block in (0..n_blocks).rev() {
                let offset = block * rows_per_block;
                let n_rows = rows_per_block.min(n_rows - offset);
                let span = self.sees(segment.first_position + offset, n_rows, segment, window);
                let n_pieces = span.1.div_ceil(PIECE_TOKENS) - span.0 / PIECE_TOKENS;
                let n_floats = n_pieces * Partial::floats(n_rows * group, step.padded);
                for kv_head in 0..step.n_kv_heads {
                    let item = AttendItem {
                        segment: index,
                        row: segment.rows.start + offset,
                        n_rows,
                        kv_head,
                        span,
                        cut: None,
                    };
                    let fits = partials + n_floats <= limits.n_floats && counter < limits.n_counters;
                    if n_pieces == 1 || !few || !fits {
                        self.items.push(item);
                        continue;
                    }
                    let piece = |index| AttendItem {
                        span: nth_piece(span, index),
                        cut: Some(Cut { index, n_pieces, counter, partials }),
                        ..item
                    };
                    self.items.extend((0..n_pieces).map(piece));
                    counter += 1;
                    partials += n_floats;
                }
            }
        }
    }

    /// The positions that `n_rows` rows see, the first of them at position `first`.
    fn sees(
        &self,
        first: usize,
        n_rows: usize,
        segment: &Segment<'_>,
        window: Option<usize>,
    ) -> (usize, usize) {
        let whole = segment.first_position + segment.rows.len();
        match self.sight {
            Sight::Before => (window.map_or(0, |window| (first + 1).saturating_sub(window)), first + n_rows),
            Sight::All => (0, whole),
            Sight::Near(n) => (first.saturating_sub(n), (first + n_rows).saturating_add(n).min(whole)),
        }
    }
}

/// The positions of a span that lie in its piece number `index`.
fn nth_piece((from, to): (usize, usize), index: usize) -> (usize, usize) {
    let start = (from / PIECE_TOKENS + index) * PIECE_TOKENS;
    (start.max(from), (start + PIECE_TOKENS).min(to))
}

/// A block's parts of a thread's scratch.
struct BlockScratch {
    head: *mut f32,
    head2: *mut f32,
    positions: *mut u32,
    scores: *mut f32,
    /// What the block has gathered...
    total: Partial,
    /// ...and the piece that is about to be merged with it.
    piece: Partial,
}

/// Scratch of a thread for groups of at most `group` heads of padded size `head_dim`.
pub(crate) fn scratch_bytes(group: usize, head_dim: usize) -> usize {
    let n = BLOCK_QUERIES.max(group).next_multiple_of(16);
    4 * (2 * head_dim + n + n * PIECE_TOKENS + 2 * Partial::floats(n, head_dim))
}

impl CpuExecutor {
    fn block_scratch(&self, worker: &Worker<'_>, group: usize, head_dim: usize) -> BlockScratch {
        let n = BLOCK_QUERIES.max(group).next_multiple_of(16);
        let mut at = self.scratch[worker.index].memory.ptr::<f32>();
        let mut take = |n: usize| {
            let p = at;
            // SAFETY: `scratch_bytes` counts these parts, each a multiple of 16 floats.
            at = unsafe { at.add(n) };
            p
        };
        let (head, head2) = (take(head_dim), take(head_dim));
        let (positions, scores) = (take(n).cast(), take(n * PIECE_TOKENS));
        // SAFETY: as above.
        let [total, piece] = [(); 2].map(|()| unsafe { Partial::at(take(Partial::floats(n, head_dim)), n) });
        BlockScratch { head, head2, positions, scores, total, piece }
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
        let (dim, padded) = (step.head_dim, step.padded);
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
            self.rotate(to, padded);
        }
    }

    /// Rotates a vector where the cache's type wants that, or back.
    unsafe fn rotate(&self, x: *mut f32, padded: usize) {
        if self.limits.cache_type.rotates() {
            // SAFETY: the caller vouches for the padded vector.
            unsafe { (self.kernels.rotate)(x, padded) }
        }
    }

    /// First phase: queries into scratch, keys and values into the cache.
    pub(crate) unsafe fn attend_prepare(&self, step: &AttendStep, batch: &Batch<'_>, worker: &Worker<'_>) {
        let n_rows = batch.tokens.len();
        let scratch = self.block_scratch(worker, step.n_heads / step.n_kv_heads, step.padded);
        let rows_per_item = if n_rows > ROWS_PER_APPEND { ROWS_PER_APPEND } else { 1 };
        let n_items = n_rows.div_ceil(rows_per_item);
        loop {
            let taken = worker.take(n_items * step.n_kv_heads, 1);
            if taken.is_empty() {
                return;
            }
            let (kv_head, first) = (taken.start / n_items, taken.start % n_items * rows_per_item);
            for row in first..(first + rows_per_item).min(n_rows) {
                // SAFETY: rows and heads are disjoint between items.
                unsafe { self.prepare_row(step, batch, &scratch, row, kv_head) };
            }
        }
    }

    /// One row's part of one key-value head.
    unsafe fn prepare_row(
        &self,
        step: &AttendStep,
        batch: &Batch<'_>,
        scratch: &BlockScratch,
        row: usize,
        kv_head: usize,
    ) {
        let n_rows = batch.tokens.len();
        let padded = step.padded;
        let group = step.n_heads / step.n_kv_heads;
        let Some(segment) = batch.segments.iter().find(|segment| segment.rows.contains(&row)) else {
            return;
        };
        let position = segment.first_position + row - segment.rows.start;
        let scale = step.scale * step.sharpening.map_or(1.0, |sharpening| sharpening.factor(position));
        let CachedHead { keys, values, stride } = self.cache.head(step.cache, kv_head);
        let page = segment.pages[self.cache.group_of(step.cache)][position / PAGE_TOKENS] as usize * stride;
        // SAFETY: the row and head are this item's; `validate` checked the page.
        unsafe {
            for i in 0..group {
                let head = kv_head * group + i;
                let to = self.queries.ptr::<f32>().add(((kv_head * n_rows + row) * group + i) * padded);
                let from = step.q.row(row).add(head * step.head_dim);
                self.prepare_head(from, to, step, &step.q_norm, row, scale);
            }
            let Some((k, v)) = &step.kv else { return };
            let at = kv_head * step.head_dim;
            self.prepare_head(k.row(row).add(at), scratch.head, step, &step.k_norm, row, 1.0);
            let value = v.row(row).add(at);
            std::ptr::write_bytes(scratch.head2, 0, padded);
            std::ptr::copy_nonoverlapping(value, scratch.head2, step.head_dim);
            self.rotate(scratch.head2, padded);
            let append = self.kernels.append(self.limits.cache_type);
            append(
                scratch.head,
                scratch.head2,
                keys.add(page),
                values.add(page),
                position % PAGE_TOKENS,
                padded,
            );
        }
    }

    /// Second phase: every item, and the rounding of its part of the output.
    pub(crate) unsafe fn attend_visit(&self, step: &AttendStep, batch: &Batch<'_>, worker: &Worker<'_>) {
        let padded = step.padded;
        let group = step.n_heads / step.n_kv_heads;
        let scratch = self.block_scratch(worker, group, padded);
        let items = self.items[step.items].items();
        while let Some(index) = worker.take_own(items.len()) {
            let item = &items[index];
            let n_queries = item.n_rows * group;
            // SAFETY: the scratch holds BLOCK_QUERIES queries, or one row's; partial results of this item are its own;
            // rows and heads of the output are disjoint between blocks.
            unsafe {
                let block = self.block(step, batch, item, &scratch);
                let merge = self.kernels.merge;
                if let Some(cut) = item.cut {
                    let partial = |index: usize| {
                        let at = cut.partials + index * Partial::floats(n_queries, padded);
                        Partial::at(self.partials.ptr::<f32>().add(at), n_queries)
                    };
                    let next = items.get(index + 1);
                    let next =
                        next.map_or([std::ptr::null(); PIECE_PAGES], |item| self.keys(step, batch, item));
                    let block = AttendBlock { result: partial(cut.index), ..block };
                    self.attend_pieces(&block, &scratch.piece, next);
                    // The others' results are visible through the counter.
                    let counter = &self.split_done[cut.counter];
                    if counter.fetch_add(1, Ordering::AcqRel) + 1 < cut.n_pieces {
                        continue;
                    }
                    counter.store(0, Ordering::Relaxed);
                    for i in 0..n_queries {
                        *scratch.total.max.add(i) = f32::NEG_INFINITY;
                        *scratch.total.sum.add(i) = 0.0;
                    }
                    std::ptr::write_bytes(scratch.total.acc, 0, n_queries * padded);
                    for index in 0..cut.n_pieces {
                        merge(partial(index), scratch.total, n_queries, padded);
                    }
                } else {
                    self.attend_pieces(&block, &scratch.piece, [std::ptr::null(); PIECE_PAGES]);
                }
                for i in 0..n_queries {
                    let row = item.row + i / group;
                    let at = (item.kv_head * group + i % group) * step.head_dim;
                    let from = scratch.total.acc.add(i * padded);
                    (self.kernels.scale)(from, 1.0 / *scratch.total.sum.add(i), padded);
                    self.rotate(from, padded);
                    std::ptr::copy_nonoverlapping(from, step.out.row(row).add(at), step.head_dim);
                    if step.out.rounds_by(step.head_dim) {
                        step.out.round(self.kernels, row, at, step.head_dim);
                    }
                }
            }
        }
    }

    /// What an item asks of the kernel; the results go to the scratch.
    unsafe fn block<'a>(
        &self,
        step: &AttendStep,
        batch: &'a Batch<'_>,
        item: &AttendItem,
        scratch: &'a BlockScratch,
    ) -> AttendBlock<'a> {
        let head_dim = step.padded;
        let group = step.n_heads / step.n_kv_heads;
        let (window, ahead) = match step.sight {
            Sight::Before => (step.window.unwrap_or(usize::MAX), 0),
            Sight::All => (usize::MAX, usize::MAX),
            Sight::Near(n) => (n.saturating_add(1), n),
        };
        let segment = &batch.segments[item.segment];
        let n_queries = item.n_rows * group;
        let head = self.cache.head(step.cache, item.kv_head);
        // SAFETY: the scratch has room for the block's queries.
        let positions = unsafe { std::slice::from_raw_parts_mut(scratch.positions, n_queries) };
        for (i, position) in positions.iter_mut().enumerate() {
            *position = (segment.first_position + item.row - segment.rows.start + i / group) as u32;
        }
        let first_query = (item.kv_head * batch.tokens.len() + item.row) * group;
        AttendBlock {
            // SAFETY: the first phase has prepared the block's queries.
            q: unsafe { self.queries.ptr::<f32>().add(first_query * head_dim) },
            n_queries,
            head_dim,
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
            pages: segment.pages[self.cache.group_of(step.cache)],
            span: item.span,
            k: head.keys,
            v: head.values,
            page_stride: head.stride,
            next: [std::ptr::null(); PIECE_PAGES],
            scores: scratch.scores,
            result: scratch.total,
        }
    }

    /// The keys that an item begins with.
    fn keys(&self, step: &AttendStep, batch: &Batch<'_>, item: &AttendItem) -> [*const u8; PIECE_PAGES] {
        let head = self.cache.head(step.cache, item.kv_head);
        let pages = batch.segments[item.segment].pages[self.cache.group_of(step.cache)];
        first_keys(pages, item.span, head.keys, head.stride)
    }

    /// Visits a block's span, piece by piece, and brings near what the thread will probably read `after` it.
    unsafe fn attend_pieces(
        &self,
        block: &AttendBlock<'_>,
        piece: &Partial,
        after: [*const u8; PIECE_PAGES],
    ) {
        let attend = self.kernels.attend(self.limits.cache_type);
        let n_pieces = block.span.1.div_ceil(PIECE_TOKENS) - block.span.0 / PIECE_TOKENS;
        for index in 0..n_pieces {
            let next = if index + 1 == n_pieces {
                after
            } else {
                first_keys(block.pages, nth_piece(block.span, index + 1), block.k, block.page_stride)
            };
            let result = if index == 0 { block.result } else { *piece };
            // SAFETY: the caller vouches for the block and for another result of its size.
            unsafe {
                attend(&AttendBlock { span: nth_piece(block.span, index), result, next, ..*block });
                if index > 0 {
                    (self.kernels.merge)(*piece, block.result, block.n_queries, block.head_dim);
                }
            }
        }
    }
}

/// The keys of the first pages of a span, `k` being those of page 0; null where there are none.
fn first_keys(
    pages: &[u32],
    (from, to): (usize, usize),
    k: *const u8,
    stride: usize,
) -> [*const u8; PIECE_PAGES] {
    let mut keys = [std::ptr::null(); PIECE_PAGES];
    let pages = &pages[from / PAGE_TOKENS..to.div_ceil(PAGE_TOKENS)];
    for (key, &page) in keys.iter_mut().zip(pages) {
        *key = k.wrapping_add(page as usize * stride);
    }
    keys
}
