//! The executor of a Plan on the CPU.
//!
//! Loading fuses the plan, maps its buffers onto reused memory and resolves every operation to a [`Step`] of plain
//! pointers and sizes. A run walks the steps inside one entry into the thread pool. Each step is one or more *phases*;
//! within a phase threads take disjoint items, and a barrier ends it.

mod attend;
mod convolve;
mod experts;
mod linear;
mod pooling;
mod run;
mod step;
mod streams;
mod watch;

use std::sync::atomic::AtomicUsize;

use whit_base::{
    Backend, BackendError, Batch, CacheGroup, Executor, ExecutorLimits, NO_PAGE, Observer, PAGE_TOKENS, Plan,
    PoolOutput, assign_slots, fuse,
};

use crate::cache::Cache;
use crate::kernels::{Kernels, gemm_scratch_bytes};
use crate::level::{Level, LevelError};
use crate::memory::Memory;
use crate::pool::Pool;
use attend::{CutLimits, GroupItems};
use convolve::KeptRows;
use experts::Gathered;
use step::{Buf, RopeTable, Step};
use watch::Watch;

/// How the CPU backend is set up. The default takes what the host offers.
#[derive(Clone, Copy, Debug, Default)]
pub struct CpuConfig {
    /// Threads; `None` takes every core that this process may use.
    pub threads: Option<usize>,
    /// Kernel level; `None` takes the best.
    pub level: Option<Level>,
}

/// The CPU as a [`Backend`].
#[derive(Clone, Copy, Debug)]
pub struct CpuBackend {
    threads: usize,
    level: Level,
}

impl CpuBackend {
    /// A backend for this host.
    ///
    /// # Errors
    /// When the host cannot run the level that `config` asks for.
    pub fn new(config: CpuConfig) -> Result<CpuBackend, LevelError> {
        let level = config.level.unwrap_or_else(Level::detect);
        if !level.is_supported() {
            return Err(LevelError::Unsupported(level));
        }
        let threads = config.threads.unwrap_or_else(Pool::available_threads).max(1);
        Ok(CpuBackend { threads, level })
    }

    /// Threads that executors will use.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// The kernel level.
    pub fn level(&self) -> Level {
        self.level
    }
}

impl Backend for CpuBackend {
    fn describe(&self) -> String {
        format!("cpu ({}, {} threads)", self.level, self.threads)
    }

    fn load(&self, plan: Plan, limits: ExecutorLimits) -> Result<Box<dyn Executor>, BackendError> {
        Ok(Box::new(CpuExecutor::new(plan, limits, *self)?))
    }
}

/// Blocks of attention that one batch may cut.
const MAX_CUTS: usize = 1 << 10;

/// Scratch of one thread: a multiplication's tiles, or an attention block.
pub(crate) struct Scratch {
    memory: Memory,
}

/// A loaded plan. See the module text.
pub(crate) struct CpuExecutor {
    /// Taken out while a pass runs.
    pool: Option<Pool>,
    threads: usize,
    pub(crate) kernels: &'static Kernels,
    pub(crate) steps: Vec<Step>,
    pub(crate) ropes: Vec<RopeTable>,
    pub(crate) cache: Cache,
    /// By history.
    kept: Vec<KeptRows>,
    windows: Vec<Option<usize>>,
    limits: ExecutorLimits,
    n_vocab: usize,
    /// Positions must stay below: the shortest table of learned ones, or no limit.
    n_positions: usize,
    /// Types of tokens likewise.
    n_types: usize,
    /// Whether every segment must be a whole sequence.
    reads_whole: bool,
    has_logits: bool,
    pool_output: Option<PoolOutput>,
    /// The rows of the current batch that are selected.
    pub(crate) selected: Vec<usize>,
    pub(crate) scratch: Vec<Scratch>,
    /// Queries of the current attention, normalized, rotated and scaled: `(kv_head, row, head in group, head_dim)`.
    pub(crate) queries: Memory,
    /// Results of the pieces of cut attention blocks, and how many of each block are done; see `attend`.
    pub(crate) partials: Memory,
    pub(crate) split_done: Vec<AtomicUsize>,
    /// Attention items of the current batch.
    items: Vec<GroupItems>,
    /// What goes into experts and comes out of them.
    pub(crate) gathered: Option<Gathered>,
    /// Owns the memory behind the steps' pointers, and the weights.
    buffers: Vec<Memory>,
    /// Fused: an operation for each step.
    plan: Plan,
}

impl CpuExecutor {
    fn new(plan: Plan, limits: ExecutorLimits, backend: CpuBackend) -> Result<CpuExecutor, BackendError> {
        let unsupported = |what: String| BackendError::Unsupported { backend: backend.describe(), what };
        let kernels = Kernels::for_level(backend.level);
        let groups = plan.cache_groups();
        if limits.n_pages.len() != groups.len() {
            return Err(BackendError::InvalidBatch(format!(
                "page counts for {} cache groups, but the plan has {}",
                limits.n_pages.len(),
                groups.len()
            )));
        }
        let plan = fuse(plan);
        let cache = Cache::new(&plan, &groups, limits.cache_type, &limits.n_pages)?;

        let mut kept = Vec::new();
        for (id, history) in plan.histories.iter().enumerate() {
            let is_in = |group: &CacheGroup| group.histories.iter().any(|other| other.0 as usize == id);
            let group = groups.iter().position(is_in).unwrap_or(0);
            kept.push(KeptRows::new(history, group, limits.n_pages[group])?);
        }

        let slots = assign_slots(&plan);
        let mut buffers = Vec::new();
        let roundings = plan.act_groups();
        let slot_memory = slots
            .slots
            .iter()
            .enumerate()
            .map(|(slot, &(width, rows))| {
                let rounded =
                    (0..plan.buffers.len()).any(|b| slots.of_buffer[b] == slot && roundings[b].is_some());
                step::allocate_slot(width, rows, rounded, &limits, &mut buffers)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let bufs: Vec<Option<Buf>> = (0..plan.buffers.len())
            .map(|b| {
                let slot = slots.of_buffer[b];
                (slot != usize::MAX).then(|| {
                    slot_memory[slot].view(plan.buffers[b].width, plan.buffers[b].rows, roundings[b])
                })
            })
            .collect();
        let ropes = plan
            .ropes
            .iter()
            .map(|rope| RopeTable::new(rope, limits.max_rows))
            .collect::<Result<Vec<_>, _>>()?;
        let mut steps = step::compile(&plan, &bufs, kernels, limits.cache_type).map_err(unsupported)?;

        let mut items: Vec<GroupItems> = Vec::new();
        let mut shapes = Vec::new();
        for step in &mut steps {
            let Step::Attend(attend) = step else { continue };
            let (group, shape) = (cache.group_of(attend.cache), (attend.n_heads, attend.n_kv_heads));
            let alike = |items: &GroupItems| items.group == group && items.sight == attend.sight;
            attend.items = items.iter().position(alike).unwrap_or(items.len());
            if attend.items == items.len() {
                items.push(GroupItems::new(group, attend.sight));
                shapes.push(shape);
            } else if shapes[attend.items] != shape {
                return Err(unsupported(
                    "attention layers of one window with different head counts".to_owned(),
                ));
            }
        }
        let gathered = Gathered::new(&steps, &limits, &mut buffers)?;

        let mut max_queries = 16;
        let mut max_group = 1;
        let mut max_head_dim = 16;
        let mut max_cols = 0;
        for step in &steps {
            match step {
                Step::Attend(attend) => {
                    let dim = attend.padded;
                    max_queries = max_queries.max(limits.max_rows * attend.n_heads * dim);
                    max_group = max_group.max(attend.n_heads / attend.n_kv_heads);
                    max_head_dim = max_head_dim.max(dim);
                }
                Step::Linear(linear) => {
                    max_cols =
                        max_cols.max(linear.parts.iter().map(|part| part.weight.n_cols).max().unwrap_or(0));
                }
                Step::Gated(gated) => max_cols = max_cols.max(gated.gate.n_cols),
                Step::Experts(experts) => max_cols = max_cols.max(experts.max_cols()),
                Step::Logits(logits) => max_cols = max_cols.max(logits.weight.n_cols),
                _ => {}
            }
        }
        let scratch_bytes = linear::scratch_bytes(gemm_scratch_bytes(max_cols), limits.max_rows)
            .max(attend::scratch_bytes(max_group, max_head_dim));
        let scratch = (0..backend.threads)
            .map(|_| Ok(Scratch { memory: Memory::new(scratch_bytes, "thread scratch")? }))
            .collect::<Result<Vec<_>, BackendError>>()?;
        let n_partials = steps.iter().filter_map(|step| match step {
            Step::Attend(attend) => {
                let n_pages = limits.n_pages[cache.group_of(attend.cache)];
                Some(attend::max_partials(attend, n_pages, limits.max_rows))
            }
            _ => None,
        });
        let n_partials = n_partials.max().unwrap_or(0);
        let n_positions = steps.iter().filter_map(|step| match step {
            Step::EmbedPosition { table, .. } => Some(table.n_rows),
            _ => None,
        });
        let n_positions = n_positions.min();
        let n_types = steps.iter().filter_map(|step| match step {
            Step::EmbedType { table, .. } => Some(table.n_rows),
            _ => None,
        });
        let n_types = n_types.min();
        let pool =
            Pool::new(backend.threads).map_err(|error| unsupported(format!("starting threads: {error}")))?;
        Ok(CpuExecutor {
            pool: Some(pool),
            threads: backend.threads,
            kernels,
            steps,
            ropes,
            cache,
            kept,
            windows: groups.iter().map(|group| group.window).collect(),
            n_vocab: plan.n_vocab,
            n_positions: n_positions.unwrap_or(u32::MAX as usize),
            n_types: n_types.unwrap_or(usize::MAX),
            reads_whole: plan.reads_whole(),
            has_logits: plan.has_logits(),
            pool_output: plan.pool(),
            selected: Vec::new(),
            scratch,
            queries: Memory::of::<f32>(max_queries, "attention queries")?,
            partials: Memory::of::<f32>(n_partials, "attention partials")?,
            split_done: (0..MAX_CUTS).map(|_| AtomicUsize::new(0)).collect(),
            items,
            gathered,
            buffers,
            limits,
            plan,
        })
    }

    pub(crate) fn kept_rows(&self, history: usize) -> &KeptRows {
        &self.kept[history]
    }

    /// Checks everything about a batch that pointers will rely on.
    fn validate(&self, batch: &Batch<'_>, logits: &[f32], pooled: &[f32]) -> Result<(), BackendError> {
        let invalid = |what: String| Err(BackendError::InvalidBatch(what));
        let n_rows = batch.tokens.len();
        if n_rows == 0 || n_rows > self.limits.max_rows {
            return invalid(format!("{n_rows} rows; 1 to {} are possible", self.limits.max_rows));
        }
        if self.selected.len() > self.limits.max_outputs {
            return invalid(format!(
                "{} outputs; {} are possible",
                self.selected.len(),
                self.limits.max_outputs
            ));
        }
        if !batch.outputs.is_empty() && !self.has_logits {
            return invalid("logits of a model that has none".to_owned());
        }
        let width = self.pool_output.map_or(0, |pool| pool.width);
        if !batch.pools.is_empty() && width == 0 || pooled.len() != batch.pools.len() * width {
            return invalid(format!("{} values for {} vectors of {width}", pooled.len(), batch.pools.len()));
        }
        if batch.pools.iter().any(|pool| pool.segment >= batch.segments.len())
            || !batch.pools.is_sorted_by(|a, b| a.segment < b.segment)
        {
            return invalid("pools must be ascending segments of the batch".to_owned());
        }
        if logits.len() != batch.outputs.len() * self.n_vocab {
            return invalid(format!("{} logits for {} outputs", logits.len(), batch.outputs.len()));
        }
        if batch.outputs.iter().any(|&row| row >= n_rows) || !batch.outputs.is_sorted_by(|a, b| a < b) {
            return invalid("outputs must be ascending rows of the batch".to_owned());
        }
        if let Some(token) = batch.tokens.iter().find(|&&token| token as usize >= self.n_vocab) {
            return invalid(format!("token {token}, but the vocabulary has {}", self.n_vocab));
        }
        if !batch.types.is_empty() && batch.types.len() != n_rows {
            return invalid(format!("types of {} of {n_rows} rows", batch.types.len()));
        }
        if let Some(kind) = batch.types.iter().find(|&&kind| usize::from(kind) >= self.n_types) {
            return invalid(format!("a token of type {kind}, but the model has {}", self.n_types));
        }
        let mut next = 0;
        for segment in batch.segments {
            if segment.rows.start != next
                || segment.rows.is_empty()
                || segment.pages.len() != self.windows.len()
            {
                return invalid(
                    "segments must cover the rows in order, with one page table per group".to_owned(),
                );
            }
            if self.reads_whole && segment.first_position != 0 {
                return invalid("a sequence that sees all of itself must come whole".to_owned());
            }
            next = segment.rows.end;
            let end = segment.first_position + segment.rows.len();
            for ((pages, window), &n_pages) in
                segment.pages.iter().zip(&self.windows).zip(&self.limits.n_pages)
            {
                let first = window.map_or(0, |window| (segment.first_position + 1).saturating_sub(window));
                let needed = first / PAGE_TOKENS..end.div_ceil(PAGE_TOKENS);
                let present = pages.get(needed.clone()).is_some_and(|pages| {
                    pages.iter().all(|&page| page != NO_PAGE && (page as usize) < n_pages)
                });
                if !present {
                    return invalid(format!("positions {first}..{end} lack cache pages"));
                }
            }
            if end > self.n_positions {
                return invalid(format!("{end} positions; {} are possible", self.n_positions));
            }
        }
        if next != n_rows {
            return invalid(format!("segments cover {next} of {n_rows} rows"));
        }
        Ok(())
    }

    fn pass(
        &mut self,
        batch: &Batch<'_>,
        logits: &mut [f32],
        pooled: &mut [f32],
        observer: Option<&mut dyn Observer>,
    ) -> Result<(), BackendError> {
        batch.selected(self.pool_output.map(|pool| pool.kind), &mut self.selected);
        self.validate(batch, logits, pooled)?;
        let cuts = CutLimits {
            n_threads: self.threads,
            n_floats: self.partials.len() / size_of::<f32>(),
            n_counters: self.split_done.len(),
        };
        for (index, items) in self.items.iter_mut().enumerate() {
            let layers = self.steps.iter().filter_map(|step| match step {
                Step::Attend(attend) if attend.items == index => Some(&**attend),
                _ => None,
            });
            items.rebuild(batch, layers, self.windows[items.group], cuts);
        }
        let Some(mut pool) = self.pool.take() else {
            return Err(BackendError::InvalidBatch(
                "an earlier batch panicked; load the model again".to_owned(),
            ));
        };
        let watch = observer.map(|observer| Watch::new(observer, &self.plan));
        run::run(self, &mut pool, batch, logits, pooled, watch.as_ref());
        self.pool = Some(pool);
        Ok(())
    }
}

impl Executor for CpuExecutor {
    fn run(&mut self, batch: &Batch<'_>, logits: &mut [f32], pooled: &mut [f32]) -> Result<(), BackendError> {
        self.pass(batch, logits, pooled, None)
    }

    fn run_observed(
        &mut self,
        batch: &Batch<'_>,
        logits: &mut [f32],
        pooled: &mut [f32],
        observer: &mut dyn Observer,
    ) -> Result<(), BackendError> {
        self.pass(batch, logits, pooled, Some(observer))
    }

    fn copy_page(&mut self, group: usize, from: u32, to: u32, _n_tokens: usize) {
        self.cache.copy_page(group, from as usize, to as usize);
        for kept in self.kept.iter_mut().filter(|kept| kept.group == group) {
            kept.copy_page(from as usize, to as usize);
        }
    }

    fn memory(&self) -> usize {
        let buffers: usize = self.buffers.iter().map(Memory::len).sum();
        let scratch: usize = self.scratch.iter().map(|scratch| scratch.memory.len()).sum();
        let kept: usize = self.kept.iter().map(KeptRows::bytes).sum();
        buffers + scratch + self.cache.bytes() + kept + self.queries.len() + self.partials.len()
    }
}
