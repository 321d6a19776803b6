//! The settings that chat and plain completions share, with OpenAI's defaults: temperature 1, nothing cut off.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use whit_engine::{Parameters, SamplerConfig};

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
    keep_alive: Option<Value>,
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = StopTexts)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Settings {
    pub(super) fn n_choices(&self) -> Result<usize, ApiError> {
        match self.n.unwrap_or(1) {
            n @ 1..=MAX_CHOICES => Ok(n),
            n => Err(ApiError::BadRequest(format!("n is {n}, but must be from 1 to {MAX_CHOICES}"))),
        }
    }

    /// Puts the settings into a job, those of the model's own where the request has none; `choice` is the how-manieth
    /// answer, of which each has a seed of its own.
    pub(super) fn apply(
        &self,
        job: &mut Job,
        choice: usize,
        of_model: &Map<String, Value>,
    ) -> Result<(), ApiError> {
        let defaults = SamplerConfig {
            repeat_last_n: -1,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            ..SamplerConfig::default()
        };
        let own = Parameters::read_over(defaults, &[of_model])?;
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
            repeat_last_n: own.sampling.repeat_last_n,
            temperature: self.temperature.unwrap_or(own.sampling.temperature),
            top_p: self.top_p.unwrap_or(own.sampling.top_p),
            top_k: self.top_k.map_or(own.sampling.top_k, top_k),
            min_p: self.min_p.unwrap_or(own.sampling.min_p),
            typical_p: self.typical_p.unwrap_or(own.sampling.typical_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(own.sampling.repeat_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(own.sampling.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(own.sampling.frequency_penalty),
            seed: self
                .seed
                .map(i64::cast_unsigned)
                .or(own.sampling.seed)
                .map(|seed| seed.wrapping_add(choice as u64)),
            logprobs: job.sampling.logprobs,
        };
        job.stop = match self.stop.clone() {
            None => own.stop,
            Some(OneOrMany::One(text)) => vec![text],
            Some(OneOrMany::Many(texts)) => texts,
        };
        if job.stop.len() > MAX_STOPS {
            let text = format!("stop has {} texts, but may have at most {MAX_STOPS}", job.stop.len());
            return Err(ApiError::BadRequest(text));
        }
        job.ignore_eos = self.ignore_eos.unwrap_or(false);
        let overflow = own.overflow.map(|policy| OverflowPolicy::parse(&policy)).transpose()?;
        job.overflow = self.overflow.or(overflow);
        job.max_tokens = own.max_tokens;
        job.n_keep = own.n_keep;
        job.n_ctx = own.n_ctx;
        job.max_draft = own.max_draft;
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

    fn apply_over(of_model: Value, settings: Value) -> Result<Job, ApiError> {
        let settings: Settings = serde_json::from_value(settings).unwrap();
        let mut job = Job::new("m", Input::Text("x".to_owned()));
        settings.apply(&mut job, 2, of_model.as_object().unwrap())?;
        Ok(job)
    }

    fn apply(settings: Value) -> Result<Job, ApiError> {
        apply_over(json!({}), settings)
    }

    #[test]
    fn a_models_own_settings_come_before_the_defaults() {
        let of_model =
            json!({"temperature": 0.2, "stop": ["END"], "num_predict": 7, "num_ctx": 100, "seed": 1});
        let job = apply_over(of_model.clone(), json!({})).unwrap();
        assert_eq!((job.sampling.temperature, job.sampling.top_p, job.sampling.seed), (0.2, 1.0, Some(3)));
        assert_eq!((job.stop, job.max_tokens, job.n_ctx), (vec!["END".to_owned()], Some(7), Some(100)));
        let job = apply_over(of_model, json!({"temperature": 0.5, "stop": "x", "seed": 5})).unwrap();
        assert_eq!((job.sampling.temperature, job.sampling.seed), (0.5, Some(7)));
        assert_eq!(job.stop, ["x"]);
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
