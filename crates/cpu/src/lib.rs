//! Whit: cpu. Thread pool, SIMD kernels, and the executor of a Plan on the CPU.
//!
//! Invariant: all SIMD and nearly all `unsafe` of the house is here. Kernels are reached through one table, filled for
//! the host's level once.

mod cache;
mod executor;
mod kernels;
mod level;
mod memory;
mod peak;
mod pool;
mod simd;

pub use executor::{CpuBackend, CpuConfig};
pub use level::{Level, LevelError};
pub use peak::integer_peak;
