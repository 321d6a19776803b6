//! What an engine has done and is doing, in numbers.

use std::time::Duration;

/// Numbers of an engine. Counts are since it was loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests that wait for a place.
    pub waiting: usize,
    /// Requests that run.
    pub running: usize,
    /// Tokens of prompts, of requests that have begun.
    pub prompt_tokens: u64,
    /// Of these, found in the cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Tokens drafted and verified...
    pub drafted_tokens: u64,
    /// ...and of these, accepted: they came without a step of their own.
    pub accepted_tokens: u64,
    /// Times that a running request had to wait again because the cache was full.
    pub preemptions: u64,
    /// Batches run.
    pub steps: u64,
    /// Time that they took.
    pub step_time: Duration,
    /// Time that the last one took.
    pub last_step: Duration,
    /// Cache pages that hold nothing. Those that hold reusable prefixes are not free, but give way.
    pub free_pages: usize,
    /// Cache pages.
    pub total_pages: usize,
}
