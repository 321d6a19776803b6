//! The settings of a sampler, with the defaults that users of Ollama expect.
//!
//! Left out: mirostat, DRY, XTC and top-n-sigma, which the peers offer and leave off.

use crate::SampleError;

/// How to choose a token. Stages run in the order of the fields from `logit_bias` down to `temperature`.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerConfig {
    /// Added to the logit of a token before all else; `-inf` forbids it. Several for one token add up.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the last accepted tokens the penalties look at. 0: none, -1: all.
    pub repeat_last_n: i32,
    /// Divides positive and multiplies negative logits of tokens seen. 1.0: off.
    pub repeat_penalty: f32,
    /// Subtracted once from the logit of each token seen. 0.0: off.
    pub presence_penalty: f32,
    /// Subtracted once per occurrence from the logit of each token seen. 0.0: off.
    pub frequency_penalty: f32,
    /// Keep the `top_k` likeliest. 0: all.
    pub top_k: u32,
    /// Keep those whose surprise is nearest to the expected one until their probabilities exceed this. 1.0: off.
    pub typical_p: f32,
    /// Keep the likeliest until their probabilities reach this. 1.0: off; 0.0: the likeliest alone.
    pub top_p: f32,
    /// Keep those at least this fraction as likely as the likeliest. 0.0: off.
    pub min_p: f32,
    /// Divides the logits that remain. 0.0: take the likeliest after bias and penalties (the lowest id of equals),
    /// with no stage between.
    pub temperature: f32,
    /// Where the random numbers start. `None`: somewhere new each time; [`Sampler::seed`](crate::Sampler::seed) tells.
    pub seed: Option<u64>,
    /// `Some(n)`: give the chosen token's log-probability and those of the `n` likeliest, before any stage.
    pub logprobs: Option<usize>,
}

impl Default for SamplerConfig {
    /// Ollama's defaults: temperature 0.8, top-k 40, top-p 0.9, no penalties, a new seed.
    fn default() -> Self {
        Self {
            logit_bias: Vec::new(),
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            top_k: 40,
            typical_p: 1.0,
            top_p: 0.9,
            min_p: 0.0,
            temperature: 0.8,
            seed: None,
            logprobs: None,
        }
    }
}

impl SamplerConfig {
    /// The likeliest token each time: temperature 0.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every setting that can be checked without knowing the vocabulary.
    ///
    /// # Errors
    /// The first setting out of range, by name.
    pub fn validate(&self) -> Result<(), SampleError> {
        let setting = |name, value: f32, holds: bool, wanted| {
            let value = f64::from(value);
            if holds { Ok(()) } else { Err(SampleError::Setting { name, value, wanted }) }
        };
        let fraction =
            |name, value: f32| setting(name, value, (0.0..=1.0).contains(&value), "a number from 0 to 1");
        let finite = |name, value: f32| setting(name, value, value.is_finite(), "a finite number");
        let t = self.temperature;
        setting("temperature", t, t.is_finite() && t >= 0.0, "a finite number, 0 or more")?;
        fraction("top_p", self.top_p)?;
        fraction("min_p", self.min_p)?;
        fraction("typical_p", self.typical_p)?;
        let r = self.repeat_penalty;
        setting("repeat_penalty", r, r.is_finite() && r > 0.0, "a finite number above 0 (1 is off)")?;
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        if self.repeat_last_n < -1 {
            return Err(SampleError::Setting {
                name: "repeat_last_n",
                value: f64::from(self.repeat_last_n),
                wanted: "0 or more, or -1 for all tokens",
            });
        }
        match self.logit_bias.iter().find(|(_, value)| value.is_nan() || *value == f32::INFINITY) {
            Some(&(token, value)) => Err(SampleError::BiasValue { token, value }),
            None => Ok(()),
        }
    }

    /// Whether any penalty can change a logit.
    pub(crate) fn penalizes(&self) -> bool {
        self.repeat_last_n != 0
            && (self.repeat_penalty != 1.0 || self.presence_penalty != 0.0 || self.frequency_penalty != 0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let d = SamplerConfig::default;
        let cases: Vec<(SamplerConfig, Option<&str>)> = vec![
            (d(), None),
            (SamplerConfig::greedy(), None),
            (SamplerConfig { temperature: -0.1, ..d() }, Some("temperature")),
            (SamplerConfig { temperature: f32::NAN, ..d() }, Some("temperature")),
            (SamplerConfig { temperature: f32::INFINITY, ..d() }, Some("temperature")),
            (SamplerConfig { top_p: 1.01, ..d() }, Some("top_p")),
            (SamplerConfig { top_p: 0.0, ..d() }, None),
            (SamplerConfig { min_p: -0.5, ..d() }, Some("min_p")),
            (SamplerConfig { typical_p: f32::NAN, ..d() }, Some("typical_p")),
            (SamplerConfig { repeat_penalty: 0.0, ..d() }, Some("repeat_penalty")),
            (SamplerConfig { presence_penalty: f32::INFINITY, ..d() }, Some("presence_penalty")),
            (SamplerConfig { frequency_penalty: f32::NAN, ..d() }, Some("frequency_penalty")),
            (SamplerConfig { repeat_last_n: -2, ..d() }, Some("repeat_last_n")),
            (SamplerConfig { repeat_last_n: -1, ..d() }, None),
            (SamplerConfig { logit_bias: vec![(3, f32::NAN)], ..d() }, Some("logit_bias")),
            (SamplerConfig { logit_bias: vec![(3, f32::INFINITY)], ..d() }, Some("logit_bias")),
            (SamplerConfig { logit_bias: vec![(3, f32::NEG_INFINITY)], ..d() }, None),
        ];
        for (config, wrong) in cases {
            match (config.validate(), wrong) {
                (Ok(()), None) => {}
                (Err(error), Some(name)) => {
                    let message = error.to_string();
                    assert!(message.starts_with(name), "{message}");
                }
                (got, expected) => panic!("{config:?}: expected {expected:?}, got {got:?}"),
            }
        }
    }
}
