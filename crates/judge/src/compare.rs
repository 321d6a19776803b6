//! Whether one model is worse than another, by what both made of the same documents: the difference of each pair tells far more
//! than two scores with their errors.
//!
//! McNemar's test is the exact one, of the pairs of which one is right and one wrong (Q. McNemar 1947; exact form: a
//! two-sided binomial test). The bootstrap draws documents anew 10,000 times (B. Efron 1979; percentile interval), always with the
//! same random numbers. From a handful of pairs that differ it would learn too little; there the interval is that of A. Agresti and Y. Min
//! (2005), who add half a pair of each kind.

use std::collections::HashMap;

use whit_sample::Rng;

use crate::JudgeError;
use crate::eval::TaskResult;

const RESAMPLES: usize = 10_000;
/// So many pairs of right and wrong must there be for the bootstrap.
const ENOUGH: usize = 10;
/// Below this, a difference is taken for one.
const LEVEL: f64 = 0.05;

/// Two models on one metric of one task.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// The task.
    pub task: String,
    /// The metric. Of a perplexity, the values are mean log-probabilities.
    pub metric: String,
    /// Documents that both were asked.
    pub n_documents: usize,
    /// The mean of the first...
    pub a: f64,
    /// ...and of the second.
    pub b: f64,
    /// The second less the first.
    pub difference: f64,
    /// Standard error of the difference, by pairs.
    pub error: f64,
    /// Where the difference lies with 95 % confidence.
    pub interval: (f64, f64),
    /// Documents that the first alone got right, and the second alone, where values are right or wrong.
    pub disagreements: Option<(usize, usize)>,
    /// How likely so great a difference is where there is none: by McNemar's test where values are right or wrong, else by
    /// the bootstrap.
    pub p: f64,
}

/// What a comparison comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The second is worse.
    Worse,
    /// The second is better.
    Better,
    /// No difference shows.
    NoDifference,
}

impl Comparison {
    /// Worse or better, if chance explains the difference in fewer than one of twenty cases.
    pub fn verdict(&self) -> Verdict {
        match self.p < LEVEL {
            true if self.difference < 0.0 => Verdict::Worse,
            true if self.difference > 0.0 => Verdict::Better,
            _ => Verdict::NoDifference,
        }
    }
}

/// Compares two results of one task, metric by metric.
///
/// # Errors
/// Results of different tasks or of tasks run differently, and results that have no document in common.
pub fn compare(a: &TaskResult, b: &TaskResult) -> Result<Vec<Comparison>, JudgeError> {
    let setting = |result: &TaskResult| (result.version.clone(), result.n_examples, result.framing.clone());
    if a.task != b.task || setting(a) != setting(b) || a.metrics.len() != b.metrics.len() {
        return Err(JudgeError::OtherTask { task: a.task.clone() });
    }
    // A document may be there twice: the first of one goes with the first of the other.
    let mut of_b: HashMap<u64, Vec<&[f64]>> = HashMap::new();
    for document in b.documents.iter().rev() {
        of_b.entry(document.id).or_default().push(&document.scores);
    }
    let pairs: Vec<(&[f64], &[f64])> = a
        .documents
        .iter()
        .filter_map(|document| Some((&document.scores[..], of_b.get_mut(&document.id)?.pop()?)))
        .collect();
    if pairs.is_empty() {
        return Err(JudgeError::NothingInCommon { task: a.task.clone() });
    }
    let column = |index: usize| pairs.iter().map(|(a, b)| (a[index], b[index])).collect::<Vec<_>>();
    let names = a.metrics.iter().map(|metric| metric.name.clone()).enumerate();
    Ok(names.map(|(index, name)| of_pairs(&a.task, name, &column(index))).collect())
}

fn of_pairs(task: &str, metric: String, pairs: &[(f64, f64)]) -> Comparison {
    let n = pairs.len() as f64;
    let (a, b) =
        (pairs.iter().map(|(a, _)| a).sum::<f64>() / n, pairs.iter().map(|(_, b)| b).sum::<f64>() / n);
    let differences: Vec<f64> = pairs.iter().map(|(a, b)| b - a).collect();
    let difference = differences.iter().sum::<f64>() / n;
    let squares: f64 = differences.iter().map(|one| (one - difference).powi(2)).sum();
    let means = resample(&differences);
    let at = |part: f64| means[((part * means.len() as f64) as usize).min(means.len() - 1)];
    let is_binary = pairs.iter().all(|(a, b)| [*a, *b].iter().all(|value| *value == 0.0 || *value == 1.0));
    let count = |wanted: (f64, f64)| pairs.iter().filter(|pair| **pair == wanted).count();
    let disagreements = is_binary.then(|| (count((1.0, 0.0)), count((0.0, 1.0))));
    let p = match disagreements {
        Some((only_a, only_b)) => mcnemar(only_a, only_b),
        None => {
            let below = means.iter().filter(|mean| **mean <= 0.0).count();
            let above = means.iter().filter(|mean| **mean >= 0.0).count();
            (2.0 * below.min(above) as f64 / means.len() as f64).min(1.0)
        }
    };
    Comparison {
        task: task.to_owned(),
        metric,
        n_documents: pairs.len(),
        a,
        b,
        difference,
        error: if pairs.len() > 1 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 },
        interval: match disagreements {
            Some((only_a, only_b)) if only_a + only_b < ENOUGH => agresti_min(pairs.len(), only_a, only_b),
            _ => (at(0.025), at(0.975)),
        },
        disagreements,
        p,
    }
}

/// Means of as many values drawn anew, in ascending order.
fn resample(values: &[f64]) -> Vec<f64> {
    let mut random = Rng::new(1);
    let n = values.len();
    let mut mean = || (0..n).map(|_| values[(random.next_f64() * n as f64) as usize]).sum::<f64>() / n as f64;
    let mut means: Vec<f64> = (0..RESAMPLES).map(|_| mean()).collect();
    means.sort_unstable_by(f64::total_cmp);
    means
}

/// Where the difference of `n` pairs lies, of which so many are right on one side alone.
fn agresti_min(n: usize, only_a: usize, only_b: usize) -> (f64, f64) {
    let (n, a, b) = (n as f64 + 2.0, only_a as f64 + 0.5, only_b as f64 + 0.5);
    let middle = (b - a) / n;
    let half = 1.959_964 * (a + b - (b - a).powi(2) / n).sqrt() / n;
    (middle - half, middle + half)
}

/// How likely it is that of `a + b` throws of a coin so many or more fall on one side.
fn mcnemar(a: usize, b: usize) -> f64 {
    let (n, least) = (a + b, a.min(b));
    // ln of the binomial coefficients, one from the other.
    let mut ln_choose = 0.0;
    let mut sum = 0.0;
    for k in 0..=least {
        sum += (ln_choose - n as f64 * std::f64::consts::LN_2).exp();
        ln_choose += ((n - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    (2.0 * sum).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.binomtest(a, a + b).pvalue`.
    #[test]
    fn mcnemar_is_exact() {
        for (a, b, expected) in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (1, 9, 0.021484375),
            (10, 30, 0.00222143377323),
            (480, 520, 0.217448293204),
            (2000, 2200, 0.00213235567199),
        ] {
            for (a, b) in [(a, b), (b, a)] {
                let got = mcnemar(a, b);
                assert!((got / expected - 1.0).abs() < 1e-5, "{a} {b}: {got}");
            }
        }
    }

    #[test]
    fn verdicts() {
        let check = |pairs: &[(f64, f64)], expected: Verdict| {
            let got = of_pairs("t", "acc".to_owned(), pairs);
            assert_eq!(got.verdict(), expected, "{got:?}");
            assert!(got.interval.0 <= got.difference && got.difference <= got.interval.1, "{got:?}");
            got
        };
        let pairs = |n: [usize; 4]| {
            let kinds = [(1.0, 1.0), (0.0, 0.0), (1.0, 0.0), (0.0, 1.0)];
            n.iter().zip(kinds).flat_map(|(&n, kind)| std::iter::repeat_n(kind, n)).collect::<Vec<_>>()
        };
        let worse = check(&pairs([400, 500, 70, 30]), Verdict::Worse);
        assert_eq!((worse.disagreements, worse.n_documents), (Some((70, 30)), 1000));
        assert!((worse.difference + 0.04).abs() < 1e-12, "{worse:?}");
        // Of pairs that differ by -1, 0 and 1: the variance is that of the differences.
        assert!((worse.error - ((0.1f64 - 0.0016) / 999.0).sqrt()).abs() < 1e-9, "{worse:?}");
        let half = 1.96 * worse.error;
        assert!((worse.interval.0 - (worse.difference - half)).abs() < 0.003, "{worse:?}");
        check(&pairs([400, 500, 30, 70]), Verdict::Better);
        check(&pairs([400, 500, 48, 52]), Verdict::NoDifference);
        let none = check(&pairs([10, 10, 0, 0]), Verdict::NoDifference);
        // 1.96 / 22 to each side.
        assert!(
            (none.interval.1 - 0.089_089).abs() < 1e-5 && none.interval.0 == -none.interval.1,
            "{none:?}"
        );
        let few = check(&pairs([15, 20, 4, 1]), Verdict::NoDifference);
        assert!(
            (few.interval.0 + 0.18368).abs() < 1e-4 && (few.interval.1 - 0.04082).abs() < 1e-4,
            "{few:?}"
        );
        let values: Vec<(f64, f64)> =
            (0..200).map(|i| (-2.0 - f64::from(i % 7), -2.1 - f64::from(i % 7))).collect();
        check(&values, Verdict::Worse);
    }
}
