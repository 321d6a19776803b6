//! The thread pool: one entry per forward pass, a spin barrier between operations, work handed out by atomic counters.
//!
//! Workers spin for a short while after a pass, so that the next token finds them awake, then park. A panic in a worker
//! is carried to the caller of [`Pool::run`] and leaves the pool unusable rather than hung.

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};

/// Spins before a waiting thread yields its core to others.
const SPINS_BEFORE_YIELD: u32 = 1 << 12;
/// Spins before an idle worker parks: about 100 microseconds on current cores.
const SPINS_BEFORE_PARK: u32 = 1 << 12;

/// Keeps neighbouring values out of one cache line.
#[repr(align(128))]
struct Padded<T>(T);

type Job<'a> = &'a (dyn Fn(&Worker<'_>) + Sync);

struct Shared {
    n_threads: usize,
    /// Counts passes; a change tells the workers that `job` is set.
    generation: Padded<AtomicU32>,
    /// Workers that have not finished the current pass.
    running: Padded<AtomicUsize>,
    barrier_count: Padded<AtomicUsize>,
    barrier_phase: Padded<AtomicUsize>,
    /// Items handed out in the current phase.
    counter: Padded<AtomicUsize>,
    /// Items handed out of each thread's own share.
    own: Vec<Padded<AtomicUsize>>,
    job: Mutex<Option<Job<'static>>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    poisoned: AtomicBool,
    quit: AtomicBool,
}

impl Shared {
    fn reset_counters(&self) {
        self.counter.0.store(0, Ordering::Relaxed);
        for counter in &self.own {
            counter.0.store(0, Ordering::Relaxed);
        }
    }
}

/// What a thread inside a pass sees.
pub(crate) struct Worker<'a> {
    shared: &'a Shared,
    /// This thread, below the pool's size.
    pub(crate) index: usize,
    phase: std::cell::Cell<usize>,
    /// Shares that are used up in this phase, from this thread's own on.
    finished: std::cell::Cell<usize>,
}

impl<'a> Worker<'a> {
    fn new(shared: &'a Shared, index: usize) -> Worker<'a> {
        Worker { shared, index, phase: std::cell::Cell::new(0), finished: std::cell::Cell::new(0) }
    }

    /// Takes the next `chunk` items of this phase out of `n`; empty when none are left. Every thread of a phase must
    /// call it with the same arguments.
    pub(crate) fn take(&self, n: usize, chunk: usize) -> std::ops::Range<usize> {
        let start = self.shared.counter.0.fetch_add(chunk, Ordering::Relaxed);
        start.min(n)..(start + chunk).min(n)
    }

    /// Takes the next of `n` items: of this thread's share, which is in one piece, and then of the others'. Every thread of a
    /// phase must call it with the same argument.
    pub(crate) fn take_own(&self, n: usize) -> Option<usize> {
        let n_threads = self.shared.n_threads;
        while self.finished.get() < n_threads {
            let share = self.share(n, (self.index + self.finished.get()) % n_threads);
            let counter = &self.shared.own[(self.index + self.finished.get()) % n_threads].0;
            let item = share.start + counter.fetch_add(1, Ordering::Relaxed);
            if item < share.end {
                return Some(item);
            }
            self.finished.set(self.finished.get() + 1);
        }
        None
    }

    /// The share of `n` items that [`Worker::take_own`] gives a thread first.
    fn share(&self, n: usize, thread: usize) -> std::ops::Range<usize> {
        let n_threads = self.shared.n_threads;
        thread * n / n_threads..(thread + 1) * n / n_threads
    }

    /// Ends a phase: returns once every thread has called it. Writes made before it are seen by all after it.
    pub(crate) fn barrier(&self) {
        let shared = self.shared;
        let phase = self.phase.get();
        self.phase.set(phase + 1);
        self.finished.set(0);
        if shared.barrier_count.0.fetch_add(1, Ordering::AcqRel) + 1 == shared.n_threads {
            shared.barrier_count.0.store(0, Ordering::Relaxed);
            // Everyone has left this phase and nobody enters the next before the store below.
            shared.reset_counters();
            shared.barrier_phase.0.store(phase + 1, Ordering::Release);
            return;
        }
        let mut spins = 0u32;
        while shared.barrier_phase.0.load(Ordering::Acquire) != phase + 1 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                if shared.poisoned.load(Ordering::Relaxed) {
                    // Another thread has panicked and will never arrive.
                    std::panic::resume_unwind(Box::new("another thread of the pool panicked"));
                }
                std::thread::yield_now();
            }
        }
    }
}

/// A fixed set of threads. The caller of [`Pool::run`] is one of them.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    threads: Vec<Thread>,
}

impl Pool {
    /// The cores that this process may use: its affinity mask and its cgroup's quota are respected.
    pub(crate) fn available_threads() -> usize {
        std::thread::available_parallelism().map_or(1, |n| n.get())
    }

    /// A pool of `n_threads` threads, the caller's included.
    pub(crate) fn new(n_threads: usize) -> std::io::Result<Pool> {
        let n_threads = n_threads.max(1);
        let shared = Arc::new(Shared {
            n_threads,
            generation: Padded(AtomicU32::new(0)),
            running: Padded(AtomicUsize::new(0)),
            barrier_count: Padded(AtomicUsize::new(0)),
            barrier_phase: Padded(AtomicUsize::new(0)),
            counter: Padded(AtomicUsize::new(0)),
            own: (0..n_threads).map(|_| Padded(AtomicUsize::new(0))).collect(),
            job: Mutex::new(None),
            panic: Mutex::new(None),
            poisoned: AtomicBool::new(false),
            quit: AtomicBool::new(false),
        });
        let mut pool = Pool { shared, workers: Vec::new(), threads: Vec::new() };
        for index in 1..n_threads {
            let shared = pool.shared.clone();
            let worker = std::thread::Builder::new()
                .name(format!("whit-{index}"))
                .spawn(move || worker_loop(&shared, index))?;
            pool.threads.push(worker.thread().clone());
            pool.workers.push(worker);
        }
        Ok(pool)
    }

    /// Runs `job` on every thread and returns when all are done.
    ///
    /// # Panics
    /// With a worker's panic, and always after one.
    pub(crate) fn run(&mut self, job: Job<'_>) {
        let shared = &*self.shared;
        assert!(!shared.poisoned.load(Ordering::Relaxed), "the thread pool stopped after a panic");
        shared.barrier_phase.0.store(0, Ordering::Relaxed);
        shared.barrier_count.0.store(0, Ordering::Relaxed);
        shared.reset_counters();
        // SAFETY: the reference outlives its use: this function does not return before `running` is zero, and a worker
        // reads `job` only between the generation's change and its decrement of `running`.
        let job_static = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        *lock(&shared.job) = Some(job_static);
        shared.running.0.store(shared.n_threads - 1, Ordering::Relaxed);
        shared.generation.0.fetch_add(1, Ordering::Release);
        for thread in &self.threads {
            thread.unpark();
        }
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            job(&Worker::new(shared, 0));
        }));
        if own.is_err() {
            shared.poisoned.store(true, Ordering::Relaxed);
        }
        let mut spins = 0u32;
        while shared.running.0.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins < SPINS_BEFORE_YIELD {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        *lock(&shared.job) = None;
        let worker_panic = lock(&shared.panic).take();
        match (own, worker_panic) {
            (_, Some(payload)) | (Err(payload), None) => std::panic::resume_unwind(payload),
            (Ok(()), None) => {}
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.quit.store(true, Ordering::Relaxed);
        self.shared.generation.0.fetch_add(1, Ordering::Release);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panic has already been reported by `run`.
            let _ = worker.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn worker_loop(shared: &Shared, index: usize) {
    let mut seen = 0u32;
    loop {
        let mut spins = 0u32;
        while shared.generation.0.load(Ordering::Acquire) == seen {
            spins += 1;
            if spins < SPINS_BEFORE_PARK {
                std::hint::spin_loop();
            } else {
                std::thread::park();
            }
        }
        seen = seen.wrapping_add(1);
        if shared.quit.load(Ordering::Relaxed) {
            return;
        }
        let job = *lock(&shared.job);
        if let Some(job) = job {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                job(&Worker::new(shared, index));
            }));
            if let Err(payload) = result {
                shared.poisoned.store(true, Ordering::Relaxed);
                lock(&shared.panic).get_or_insert(payload);
            }
        }
        shared.running.0.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_item_is_taken_once_in_every_phase() {
        for n_threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(n_threads).unwrap();
            for _ in 0..20 {
                let counts: Vec<AtomicUsize> = (0..4 * 100).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|worker| {
                    for phase in 0..4 {
                        loop {
                            let range = worker.take(100, 7);
                            if range.is_empty() {
                                break;
                            }
                            for item in range {
                                counts[phase * 100 + item].fetch_add(1, Ordering::Relaxed);
                            }
                        }
                        worker.barrier();
                        // Everything of this phase is done once the barrier opens.
                        let done = counts[phase * 100..(phase + 1) * 100].iter();
                        assert!(done.map(|c| c.load(Ordering::Relaxed)).all(|c| c == 1));
                    }
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn every_item_is_some_threads_own() {
        for n_threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(n_threads).unwrap();
            for n in [0, 1, 4, 100] {
                let counts: Vec<AtomicUsize> = (0..2 * n).map(|_| AtomicUsize::new(0)).collect();
                pool.run(&|worker| {
                    for phase in 0..2 {
                        while let Some(item) = worker.take_own(n) {
                            counts[phase * n + item].fetch_add(1, Ordering::Relaxed);
                        }
                        worker.barrier();
                    }
                });
                assert!(counts.iter().all(|c| c.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_worker_panic_reaches_the_caller() {
        let mut pool = Pool::new(2).unwrap();
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|worker| assert!(worker.index != 1, "worker one fails"));
        }));
        assert!(caught.is_err());
    }
}
