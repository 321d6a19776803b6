//! Whit: judge. How good a model is, by published protocols, so that the numbers can be compared with those of others.
//!
//! [`perplexity`] says how well a model predicts a text, [`divergence`] how far its predictions lie from those of another,
//! [`evaluate`] how it does on task sets such as HellaSwag or GSM8K, and [`compare`] whether one model did worse there than another.
#![forbid(unsafe_code)]

mod compare;
mod data;
mod divergence;
mod error;
mod estimate;
mod eval;
mod kl_base;
mod logprob;
mod perplexity;
mod report;
mod tasks;
mod windows;

pub use compare::{Comparison, Verdict, compare};
pub use data::{TASK_PACKAGE, TASK_PACKAGE_SHA256, TaskData, is_task_file};
pub use divergence::{Divergence, divergence, divergence_from, divergence_of_tokens};
pub use error::JudgeError;
pub use estimate::{Estimate, Spread};
pub use eval::{
    DocumentScores, EvalOptions, EvalProgress, Framing, GroupResult, MetricResult, TaskResult,
    engine_options, evaluate,
};
pub use kl_base::KlBase;
pub use perplexity::{
    Perplexity, PerplexityOptions, Progress, Protocol, TextPerplexity, perplexity, perplexity_of_tokens,
    save_kl_base, save_kl_base_of_tokens,
};
pub use report::{ModelReport, Report, Speed};
pub use tasks::{Aggregation, Metric, Score, TASKS, Task, own_task, tasks};
