//! The settings that chat and plain completions share, with OpenAI's defaults: temperature 1, nothing cut off.

use std::collections::BTreeMap;

use serde::Deserialize;
use utoipa::ToSchema;
use whit_engine::SamplerConfig;

use crate::config::{KeepAlive, OverflowPolicy};
use crate::error::ApiError;
use crate::generate::{Job, top_k};
use crate::openapi::Time;

/// Most answers to one request.
const MAX_CHOICES: usize = 128;
/// Most texts at which to stop.
const MAX_STOPS: usize = 64;
/// Most of the likeliest tokens that are told of.
pub(super) const MAX_TOP: usize = 20;

/// Settings by their names in the API; those from `top_k` on are not OpenAI's, but other servers have them.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[schema(as = OpenAiSettings)]
pub(super) struct Settings {
    /// 0: always the likeliest token.
    #[schema(minimum = 0, maximum = 2, default = 1.0)]
    temperature: Option<f32>,
    /// Keep the likeliest tokens that together have this probability.
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    top_p: Option<f32>,
    #[schema(default = 0.0)]
    presence_penalty: Option<f32>,
    #[schema(default = 0.0)]
    frequency_penalty: Option<f32>,
    /// The same seed gives the same answer.
    seed: Option<i64>,
    /// Where the answer ends.
    stop: Option<OneOrMany>,
    /// How many answers.
    #[schema(minimum = 1, maximum = 128, default = 1)]
    n: Option<usize>,
    /// Token id to what is added to its logit, from -100 to 100.
    logit_bias: Option<BTreeMap<String, f32>>,
    /// Keep this many of the likeliest tokens; 0 or less: all.
    #[schema(default = 0)]
    top_k: Option<i64>,
    /// Keep tokens at least this likely, measured against the likeliest.
    #[schema(minimum = 0, maximum = 1, default = 0.0)]
    min_p: Option<f32>,
    #[schema(minimum = 0, maximum = 1, default = 1.0)]
    typical_p: Option<f32>,
    #[serde(alias = "repetition_penalty")]
    #[schema(default = 1.0)]
    repeat_penalty: Option<f32>,
    /// Go on after the token that ends an answer.
    #[schema(default = false)]
    ignore_eos: Option<bool>,
    /// What happens when the context is full. Default: as the server is set.
    overflow: Option<OverflowPolicy>,
    #[schema(value_type = Option<Time>)]
    keep_alive: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = StopTexts)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Settings {
    /// As it was asked for, or OpenAI's.
    pub(super) fn temperature(&self) -> f32 {
        self.temperature.unwrap_or(1.0)
    }

    /// As it was asked for, or OpenAI's.
    pub(super) fn top_p(&self) -> f32 {
        self.top_p.unwrap_or(1.0)
    }

    pub(super) fn n_choices(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n @ 1..=MAX_CHOICES => Ok(n),
            n => Err(ApiError::BadRequest(format!("n is {n}, but must be from 1 to {MAX_CHOICES}"))),
        }
    }

    /// Puts the settings into a job; `choice` is the how-manieth answer, of which each has a seed of its own.
    pub(super) fn apply(&self, job: &mut Job, choice: usize) -> Result<(), ApiError> {
        let mut logit_bias = Vec::new();
        for (token, bias) in self.logit_bias.iter().flatten() {
            let Ok(id) = token.parse() else {
                return Err(ApiError::BadRequest(format!(
                    "logit_bias names `{token}`, which is no token id"
                )));
            };
            logit_bias.push((id, bias.clamp(-100.0, 100.0)));
        }
        if let Some(temperature) = self.temperature.filter(|t| !(0.0..=2.0).contains(t)) {
            let text = format!("temperature is {temperature}, but must be from 0 to 2");
            return Err(ApiError::BadRequest(text));
        }
        job.sampling = SamplerConfig {
            logit_bias,
            repeat_last_n: -1,
            temperature: self.temperature(),
            top_p: self.top_p(),
            top_k: top_k(self.top_k.unwrap_or(0)),
            min_p: self.min_p.unwrap_or(0.0),
            typical_p: self.typical_p.unwrap_or(1.0),
            repeat_penalty: self.repeat_penalty.unwrap_or(1.0),
            presence_penalty: self.presence_penalty.unwrap_or(0.0),
            frequency_penalty: self.frequency_penalty.unwrap_or(0.0),
            seed: self.seed.map(|seed| seed.cast_unsigned().wrapping_add(choice as u64)),
            logprobs: job.sampling.logprobs,
        };
        job.stop = match self.stop.clone() {
            None => Vec::new(),
            Some(OneOrMany::One(text)) => vec![text],
            Some(OneOrMany::Many(texts)) => texts,
        };
        if job.stop.len() > MAX_STOPS {
            let text = format!("stop has {} texts, but may have at most {MAX_STOPS}", job.stop.len());
            return Err(ApiError::BadRequest(text));
        }
        job.ignore_eos = self.ignore_eos.unwrap_or(false);
        job.overflow = self.overflow;
        job.keep_alive = match &self.keep_alive {
            None => None,
            Some(value) => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                Some(KeepAlive::parse(&text).map_err(|error| ApiError::BadRequest(error.to_string()))?)
            }
        };
        Ok(())
    }
}

/// Checks how many tokens are wanted.
pub(super) fn max_tokens(wanted: Option<i64>, name: &str) -> Result<Option<usize>, ApiError> {
    match wanted {
        None => Ok(None),
        Some(n) if n >= 1 => Ok(Some(usize::try_from(n).unwrap_or(usize::MAX))),
        Some(n) => Err(ApiError::BadRequest(format!("{name} is {n}, but must be at least 1"))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::prompt::Input;
    use serde_json::json;

    fn apply(settings: serde_json::Value) -> Result<Job, ApiError> {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let mut job = Job::new("m", Input::Text("x".to_owned()));
        settings.apply(&mut job, 2)?;
        Ok(job)
    }

    #[test]
    fn defaults_are_openais() {
        let sampling = apply(json!({})).unwrap().sampling;
        assert_eq!((sampling.temperature, sampling.top_p, sampling.top_k), (1.0, 1.0, 0));
        assert_eq!(sampling.seed, None);
    }

    #[test]
    fn settings_and_refusals() {
        let job =
            apply(json!({"seed": -1, "stop": ["a", "b"], "logit_bias": {"5": -300}, "temperature": null}))
                .unwrap();
        assert_eq!(job.sampling.seed, Some(1));
        assert_eq!(job.stop, ["a", "b"]);
        assert_eq!(job.sampling.logit_bias, [(5, -100.0)]);
        for (wrong, word) in [
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"temperature": -0.1}), "temperature"),
            (json!({"logit_bias": {"x": 1}}), "logit_bias"),
            (json!({"stop": vec!["x"; 65]}), "stop"),
            (json!({"keep_alive": "soon"}), "keep_alive"),
        ] {
            assert!(apply(wrong).is_err_and(|error| error.to_string().contains(word)), "{word}");
        }
        for n in [0, 129] {
            assert!(Settings { n: Some(n), ..Settings::default() }.n_choices().is_err());
        }
    }
}
