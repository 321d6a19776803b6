//! Counters, and how Prometheus reads them (text format 0.0.4). What engines count themselves is asked of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::manager::Loaded;

/// Upper bounds of the buckets, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

#[derive(Default)]
pub(crate) struct Metrics {
    /// Requests by route and status.
    requests: Mutex<BTreeMap<(String, u16), u64>>,
    first_token: Histogram,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    drafted_tokens: AtomicU64,
    accepted_tokens: AtomicU64,
    cancelled: AtomicU64,
}

#[derive(Default)]
struct Histogram {
    counts: [AtomicU64; BUCKETS.len()],
    n: AtomicU64,
    sum_micros: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        for (bound, count) in BUCKETS.iter().zip(&self.counts) {
            if seconds <= *bound {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.n.fetch_add(1, Ordering::Relaxed);
        self.sum_micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Metrics {
    /// A request was answered; `route` is its pattern, not its path, so that labels stay few.
    pub(crate) fn request(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry((route.to_owned(), status)).or_default() += 1;
    }

    /// The first token of an answer came `time` after the request.
    pub(crate) fn first_token(&self, time: Duration) {
        self.first_token.observe(time);
    }

    /// An answer ended.
    pub(crate) fn answer(&self, usage: &whit_engine::Usage) {
        self.prompt_tokens.fetch_add(usage.prompt_tokens as u64, Ordering::Relaxed);
        self.cached_tokens.fetch_add(usage.cached_tokens as u64, Ordering::Relaxed);
        self.generated_tokens.fetch_add(usage.generated_tokens as u64, Ordering::Relaxed);
        self.drafted_tokens.fetch_add(usage.drafted_tokens as u64, Ordering::Relaxed);
        self.accepted_tokens.fetch_add(usage.accepted_tokens as u64, Ordering::Relaxed);
    }

    /// An answer was given up before its end.
    pub(crate) fn cancelled(&self) {
        self.cancelled.fetch_add(1, Ordering::Relaxed);
    }

    /// Everything, as Prometheus reads it.
    pub(crate) fn render(&self, loaded: &[Loaded], n_waiting: usize) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "# HELP whit_{name} {help}\n# TYPE whit_{name} {kind}");
        };
        head(&mut out, "requests_total", "counter", "Requests answered.");
        for ((route, status), n) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ =
                writeln!(out, "whit_requests_total{{route=\"{}\",status=\"{status}\"}} {n}", label(route));
        }
        for (name, help, counter) in [
            ("prompt_tokens_total", "Tokens in prompts of answers that ended.", &self.prompt_tokens),
            ("cached_tokens_total", "Tokens of these prompts found in the cache.", &self.cached_tokens),
            ("generated_tokens_total", "Tokens generated in answers that ended.", &self.generated_tokens),
            ("draft_tokens_total", "Tokens drafted and verified for these answers.", &self.drafted_tokens),
            ("draft_tokens_accepted_total", "Tokens of these drafts accepted.", &self.accepted_tokens),
            ("cancelled_total", "Answers given up before their end.", &self.cancelled),
        ] {
            head(&mut out, name, "counter", help);
            let _ = writeln!(out, "whit_{name} {}", counter.load(Ordering::Relaxed));
        }
        let name = "time_to_first_token_seconds";
        head(&mut out, name, "histogram", "From the request to its first token, loading included.");
        for (bound, count) in BUCKETS.iter().zip(&self.first_token.counts) {
            let _ = writeln!(out, "whit_{name}_bucket{{le=\"{bound}\"}} {}", count.load(Ordering::Relaxed));
        }
        let n = self.first_token.n.load(Ordering::Relaxed);
        let sum = Duration::from_micros(self.first_token.sum_micros.load(Ordering::Relaxed)).as_secs_f64();
        let _ = writeln!(
            out,
            "whit_{name}_bucket{{le=\"+Inf\"}} {n}\nwhit_{name}_sum {sum}\nwhit_{name}_count {n}"
        );
        head(&mut out, "models_loaded", "gauge", "Models in memory.");
        let _ = writeln!(out, "whit_models_loaded {}", loaded.len());
        let name = "requests_waiting_for_models";
        head(&mut out, name, "gauge", "Requests that wait for their model, for room or to be loaded.");
        let _ = writeln!(out, "whit_{name} {n_waiting}");
        let stats: Vec<_> =
            loaded.iter().map(|model| (label(&model.entry.name), model.service.stats())).collect();
        head(&mut out, "requests_running", "gauge", "Requests that generate or read their prompt.");
        for (model, stats) in &stats {
            let _ = writeln!(out, "whit_requests_running{{model=\"{model}\"}} {}", stats.running);
        }
        head(&mut out, "requests_queued", "gauge", "Requests that wait for a place.");
        for (model, stats) in &stats {
            let _ = writeln!(out, "whit_requests_queued{{model=\"{model}\"}} {}", stats.queued);
        }
        out
    }
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
