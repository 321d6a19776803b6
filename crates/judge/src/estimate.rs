//! Means with their standard errors, and the distribution of what was measured.

/// A value, and one standard error of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The value.
    pub value: f64,
    /// Its standard error.
    pub error: f64,
}

/// Sums from which a mean and its error come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    pub(crate) n: usize,
    sum: f64,
    sum_of_squares: f64,
}

impl Moments {
    pub(crate) fn add(&mut self, value: f64) {
        self.n += 1;
        self.sum += value;
        self.sum_of_squares += value * value;
    }

    pub(crate) fn merge(&mut self, other: Moments) {
        self.n += other.n;
        self.sum += other.sum;
        self.sum_of_squares += other.sum_of_squares;
    }

    /// The covariance of this mean and another, of the same sample, by the sum of products.
    pub(crate) fn covariance_of_means(&self, other: &Moments, products: f64) -> f64 {
        let n = self.n as f64;
        let covariance = products / n - (self.sum / n) * (other.sum / n);
        if self.n > 1 { covariance / (n - 1.0) } else { 0.0 }
    }

    /// The mean and its error, as llama.cpp calculates them: the error is that of a sample, and 0 where it cannot be known.
    pub(crate) fn mean(&self) -> Estimate {
        let n = self.n as f64;
        let value = self.sum / n;
        let variance = self.sum_of_squares / n - value * value;
        let error = if variance > 0.0 && self.n > 1 { (variance / (n - 1.0)).sqrt() } else { 0.0 };
        Estimate { value, error }
    }

    /// `exp` of the mean, with the error that follows.
    pub(crate) fn exp_of_mean(&self) -> Estimate {
        let Estimate { value, error } = self.mean();
        Estimate { value: value.exp(), error: value.exp() * error }
    }
}

/// Values, one for each prediction, as a distribution.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    /// The mean.
    pub mean: Estimate,
    /// In ascending order.
    values: Vec<f32>,
}

impl Spread {
    pub(crate) fn new(mean: Estimate, mut values: Vec<f32>) -> Spread {
        values.sort_unstable_by(f32::total_cmp);
        Spread { mean, values }
    }

    /// The value below which this part of all lies, from 0 (the least) to 1 (the greatest); between two neighbours, in
    /// proportion. 0 where there are none.
    pub fn quantile(&self, part: f64) -> f64 {
        let place = part.clamp(0.0, 1.0) * self.values.len().saturating_sub(1) as f64;
        let at = |index: usize| self.values.get(index).copied().map_or(0.0, f64::from);
        let (low, share) = (place as usize, place.fract());
        let high = if share > 0.0 { at(low + 1) } else { at(low) };
        (1.0 - share) * at(low) + share * high
    }

    /// The middle one.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_neighbours() {
        let spread = Spread::new(Estimate::default(), vec![4.0, 1.0, 3.0, 2.0]);
        for (part, expected) in [(0.0, 1.0), (1.0, 4.0), (0.5, 2.5), (0.9, 3.7), (-1.0, 1.0), (2.0, 4.0)] {
            let got = spread.quantile(part);
            assert!((got - expected).abs() < 1e-12, "{part}: {got}");
        }
        assert_eq!(Spread::new(Estimate::default(), vec![]).median(), 0.0);
    }

    #[test]
    fn errors_are_those_of_a_sample() {
        let mut moments = Moments::default();
        [1.0, 2.0, 4.0].into_iter().for_each(|value| moments.add(value));
        // Standard deviation of the sample over the root of its size.
        let expected = (7.0f64 / 3.0).sqrt() / 3f64.sqrt();
        let got = moments.mean();
        assert!((got.value - 7.0 / 3.0).abs() < 1e-12 && (got.error - expected).abs() < 1e-12, "{got:?}");
    }
}
