//! The meaning of a Plan: an executor in plain scalar code. Slow on purpose; tests compare every backend with it.

mod executor;
pub mod ops;

pub use executor::ReferenceBackend;
