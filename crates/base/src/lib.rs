//! Whit: base. Block formats with scalar code as the truth, and the Plan that a model file emits and a backend
//! executes. Knows no file format and no backend.
#![forbid(unsafe_code)]

mod bytes;
mod dtype;
pub mod quant;

pub use bytes::Bytes;
pub use dtype::DType;
