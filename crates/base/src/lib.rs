//! Whit: base. Block formats with scalar code as the truth, and the Plan that a model file emits and a backend
//! executes.
//!
//! Invariant: knows no file format, no model and no backend.
#![forbid(unsafe_code)]

mod backend;
mod bytes;
mod cache_type;
mod dtype;
mod plan;
pub mod quant;
pub mod reference;

pub use backend::{
    Backend, BackendError, Batch, Executor, ExecutorLimits, NO_PAGE, Observer, PAGE_TOKENS, Pooling,
    ProductInput, Segment,
};
pub use bytes::Bytes;
pub use cache_type::{CACHE_BLOCK, CacheType, UnknownCacheType, rotate, rotation_span};
pub use dtype::DType;
pub use plan::{
    Activation, AttendSpec, Buffer, BufferId, CacheGroup, CacheId, CacheLayer, Expert, ExpertsSpec, HeadNorm,
    History, HistoryId, LinearPart, LogitsSpec, NormKind, Op, Plan, PlanBuilder, PlanError, PoolKind,
    PoolOutput, Rope, RopeId, RopeStyle, Rows, Sharpening, Sight, Slots, Weight, WeightId, assign_slots,
    fuse,
};
