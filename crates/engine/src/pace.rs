//! How much of the waiting prompts a step may read while answers are being generated, so that these never stall: learnt
//! from how long steps take.

use std::time::Duration;

use crate::PromptRows;

/// Fewer rows than these are hardly cheaper: each step reads all weights once.
const MIN_ROWS: f64 = 8.0;
/// Where learning begins.
const FIRST_ROWS: f64 = 32.0;
/// Gaps that nobody notices need no shortening, in seconds.
const UNNOTICED: f64 = 0.010;
/// A step with prompts beside answers aims at this many times one without, so that gaps stay even...
const EVEN: f64 = 2.5;
/// ...and is not held to less than this, or prompts would never be read where steps are slow.
const LEAST: f64 = 1.5;

#[derive(Debug)]
pub(crate) struct Pace {
    rule: PromptRows,
    max_rows: f64,
    rows: f64,
    /// Seconds of a step that only generates, smoothed.
    generating: Option<f64>,
}

impl Pace {
    pub(crate) fn new(rule: PromptRows, max_rows: usize) -> Pace {
        let max_rows = (max_rows as f64).max(1.0);
        Pace { rule, max_rows, rows: FIRST_ROWS.min(max_rows), generating: None }
    }

    /// Prompt rows for a step that also generates.
    pub(crate) fn rows(&self) -> usize {
        match self.rule {
            PromptRows::AtMost(rows) => rows.max(1),
            PromptRows::Adaptive { .. } => self.rows as usize,
        }
    }

    /// Learns from a step that took `time`, with `n_prompt` rows of prompts and `n_generating` of answers.
    pub(crate) fn record(&mut self, n_prompt: usize, n_generating: usize, time: Duration) {
        let PromptRows::Adaptive { gap } = self.rule else { return };
        let time = time.as_secs_f64().max(1e-6);
        if n_prompt == 0 {
            if n_generating > 0 {
                self.generating = Some(self.generating.map_or(time, |known| known + 0.2 * (time - known)));
            }
            return;
        }
        let gap = gap.as_secs_f64();
        let target = match self.generating {
            None => gap,
            Some(step) => (EVEN * step).max(UNNOTICED).min(gap).max(LEAST * step),
        };
        let wanted = n_prompt as f64 * target / time;
        // A few rows say nothing of how many there could be: most of their time went into the weights.
        if wanted < n_prompt as f64 || 2.0 * n_prompt as f64 >= self.rows {
            let wanted = wanted.clamp(self.rows / 2.0, self.rows * 2.0);
            let least = MIN_ROWS.min(self.max_rows);
            self.rows = ((self.rows + wanted) / 2.0).clamp(least, self.max_rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine on which a step costs `fixed` and each prompt row `row` more, in milliseconds.
    fn settle(gap: u64, fixed: f64, row: f64) -> (usize, f64) {
        let mut pace = Pace::new(PromptRows::Adaptive { gap: Duration::from_millis(gap) }, 512);
        let time = |rows: usize| fixed + row * rows as f64;
        for step in 0..200 {
            let rows = if step % 2 == 0 { 0 } else { pace.rows() };
            pace.record(rows, 4, Duration::from_secs_f64(time(rows) / 1e3));
        }
        (pace.rows(), time(pace.rows()))
    }

    #[test]
    fn steps_settle_at_their_target() {
        // (gap, fixed, per row; expected step in ms)
        let cases = [
            (100, 20.0, 1.0, 50.0),   // 2.5 times a step without prompts
            (100, 2.0, 0.1, 10.0),    // nobody notices 10 ms
            (100, 60.0, 1.0, 100.0),  // the gap that was asked for
            (100, 200.0, 5.0, 300.0), // slower than the gap in any case
        ];
        for (gap, fixed, row, expected) in cases {
            let (rows, time) = settle(gap, fixed, row);
            let error = (time - expected).abs();
            assert!(error <= row.max(0.05 * expected), "{rows} rows take {time} ms, not {expected}");
        }
        // Rows that cost next to nothing, and rows that cost all.
        assert_eq!(settle(100, 20.0, 0.001).0, 512);
        assert_eq!(settle(100, 20.0, 1000.0).0, MIN_ROWS as usize);
    }

    #[test]
    fn a_fixed_number_is_kept() {
        let mut pace = Pace::new(PromptRows::AtMost(17), 512);
        pace.record(17, 3, Duration::from_secs(5));
        assert_eq!(pace.rows(), 17);
        assert_eq!(Pace::new(PromptRows::AtMost(0), 512).rows(), 1);
    }

    #[test]
    fn the_rest_of_a_prompt_teaches_nothing() {
        let mut pace = Pace::new(PromptRows::Adaptive { gap: Duration::from_millis(100) }, 512);
        pace.record(32, 1, Duration::from_millis(50));
        let rows = pace.rows();
        for _ in 0..50 {
            pace.record(1, 1, Duration::from_millis(20));
        }
        assert_eq!(pace.rows(), rows);
    }
}
