//! Whit: base. Block formats with scalar code as the truth, and the Plan that a model file emits and a backend
//! executes.
//!
//! Invariant: knows no file format, no model and no backend.
#![forbid(unsafe_code)]

mod backend;
mod bytes;
mod dtype;
mod plan;
pub mod quant;
pub mod reference;

pub use backend::{
    Backend, BackendError, Batch, CacheType, Executor, ExecutorLimits, NO_PAGE, PAGE_TOKENS, Pooling, Segment,
};
pub use bytes::Bytes;
pub use dtype::DType;
pub use plan::{
    Activation, AttendSpec, Buffer, BufferId, CacheGroup, CacheId, CacheLayer, Expert, ExpertsSpec, HeadNorm,
    History, HistoryId, LinearPart, LogitsSpec, NormKind, Op, Plan, PlanBuilder, PlanError, PoolKind,
    PoolOutput, Rope, RopeId, RopeStyle, Rows, Sharpening, Sight, Slots, Weight, WeightId, assign_slots,
    fuse,
};
