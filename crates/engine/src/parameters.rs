//! Settings of a request by the names that Ollama gave them: `temperature`, `num_predict`, `stop`. Models bring them along
//! (Modelfiles, registries), users and clients set them; all are read here. Defaults are those of
//! [`SamplerConfig::default`].

use serde_json::{Map, Value};
use whit_sample::SamplerConfig;

use crate::EngineError;

/// What is asked of sampling and length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// How tokens are chosen.
    pub sampling: SamplerConfig,
    /// Texts at which to stop.
    pub stop: Vec<String>,
    /// `num_predict`. `None`: no limit.
    pub max_tokens: Option<usize>,
    /// `num_keep`. `None`: the system message.
    pub n_keep: Option<usize>,
    /// `num_ctx`. `None`: the usual.
    pub n_ctx: Option<usize>,
    /// `draft_num_predict`: most tokens drafted for one step, 0 for none. `None`: as the engine is set.
    pub max_draft: Option<usize>,
    /// What to do when the context is full, in the words of who runs the model.
    pub overflow: Option<String>,
    /// Names that nobody knows.
    pub unknown: Vec<String>,
}

/// Known, and without effect here: settings of loading that are not a request's, and what Ollama itself ignores.
const WITHOUT_EFFECT: [&str; 16] = [
    "f16_kv",
    "logits_all",
    "low_vram",
    "main_gpu",
    "mirostat",
    "mirostat_eta",
    "mirostat_tau",
    "num_batch",
    "num_gpu",
    "num_gqa",
    "num_thread",
    "numa",
    "penalize_newline",
    "use_mlock",
    "use_mmap",
    "vocab_only",
];

/// The first number beyond an `i64`.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

impl Parameters {
    /// Names that have an effect, as users are told them.
    pub const NAMES: [&str; 16] = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "num_predict",
        "num_ctx",
        "num_keep",
        "draft_num_predict",
        "stop",
        "overflow",
    ];

    /// Reads `layers`, later ones over earlier ones. Values are checked by their type; the range of those for sampling is
    /// [`SamplerConfig::validate`]'s.
    ///
    /// # Errors
    /// [`EngineError::ParameterType`].
    pub fn read(layers: &[&Map<String, Value>]) -> Result<Parameters, EngineError> {
        Parameters::read_over(SamplerConfig::default(), layers)
    }

    /// The same, with other defaults.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn read_over(
        sampling: SamplerConfig,
        layers: &[&Map<String, Value>],
    ) -> Result<Parameters, EngineError> {
        let mut parameters = Parameters { sampling, ..Parameters::default() };
        for (name, value) in layers.iter().flat_map(|layer| layer.iter()) {
            if !value.is_null() {
                parameters.set(name, value)?;
            }
        }
        Ok(parameters)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), EngineError> {
        let wrong = |kind: &'static str| EngineError::ParameterType { name: name.to_owned(), kind };
        let float = || value.as_f64().map(|number| number as f32).ok_or_else(|| wrong("float32"));
        // Clients write whole numbers as 5.0 too.
        let integer = || {
            let is_whole = |x: &f64| x.fract() == 0.0 && (-TWO_TO_63..TWO_TO_63).contains(x);
            let whole = value.as_i64().or_else(|| value.as_f64().filter(is_whole).map(|x| x as i64));
            whole.ok_or_else(|| wrong("integer"))
        };
        // Zero and less are "as you like".
        let count = || integer().map(|n| usize::try_from(n).ok().filter(|&n| n > 0));
        let sampling = &mut self.sampling;
        match name {
            "temperature" => sampling.temperature = float()?,
            "top_k" => sampling.top_k = u32::try_from(integer()?.max(0)).unwrap_or(u32::MAX),
            "top_p" => sampling.top_p = float()?,
            "min_p" => sampling.min_p = float()?,
            "typical_p" => sampling.typical_p = float()?,
            "repeat_last_n" => sampling.repeat_last_n = integer()?.clamp(-1, 1 << 24) as i32,
            "repeat_penalty" => sampling.repeat_penalty = float()?,
            "presence_penalty" => sampling.presence_penalty = float()?,
            "frequency_penalty" => sampling.frequency_penalty = float()?,
            "seed" => {
                sampling.seed = match value.as_u64() {
                    Some(seed) => Some(seed),
                    None => u64::try_from(integer()?).ok(),
                };
            }
            "num_predict" => self.max_tokens = count()?,
            "draft_num_predict" => self.max_draft = usize::try_from(integer()?).ok(),
            "num_keep" => self.n_keep = count()?,
            "num_ctx" => self.n_ctx = count()?.map(|n| n.max(4)),
            "stop" => {
                self.stop = match value {
                    Value::String(text) => vec![text.clone()],
                    Value::Array(texts) => texts
                        .iter()
                        .map(|text| text.as_str().map(str::to_owned).ok_or_else(|| wrong("array of strings")))
                        .collect::<Result<_, _>>()?,
                    _ => return Err(wrong("array of strings")),
                };
                self.stop.retain(|text| !text.is_empty());
            }
            "overflow" => self.overflow = Some(value.as_str().ok_or_else(|| wrong("string"))?.to_owned()),
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ => self.unknown.push(name.to_owned()),
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(layers: &[Value]) -> Result<Parameters, String> {
        let layers: Vec<&Map<String, Value>> =
            layers.iter().map(|layer| layer.as_object().unwrap()).collect();
        Parameters::read(&layers).map_err(|error| error.to_string())
    }

    #[test]
    fn later_layers_win() {
        let parameters = read(&[
            json!({"temperature": 0.1, "stop": ["a"], "num_predict": 5}),
            json!({"temperature": 1, "stop": "b", "num_predict": -1, "num_ctx": 8192.0, "seed": 7, "top_k": null}),
        ])
        .unwrap();
        let sampling = SamplerConfig { temperature: 1.0, seed: Some(7), ..SamplerConfig::default() };
        let stop = vec!["b".to_owned()];
        assert_eq!(parameters, Parameters { sampling, stop, n_ctx: Some(8192), ..Parameters::default() });
    }

    #[test]
    fn numbers_are_clamped() {
        let parameters = read(&[
            json!({"top_k": -5, "repeat_last_n": -99, "seed": -1, "num_ctx": 1, "num_keep": -1, "num_predict": 1e18}),
        ])
        .unwrap();
        assert_eq!(
            (parameters.sampling.top_k, parameters.sampling.repeat_last_n, parameters.sampling.seed),
            (0, -1, None)
        );
        assert_eq!((parameters.n_ctx, parameters.n_keep), (Some(4), None));
        assert_eq!(read(&[json!({"top_k": 99_999_999_999i64})]).unwrap().sampling.top_k, u32::MAX);
        assert_eq!(read(&[json!({"seed": u64::MAX})]).unwrap().sampling.seed, Some(u64::MAX));
    }

    #[test]
    fn wrong_types_and_unknown_names() {
        for (parameters, expected) in [
            (json!({"temperature": "hot"}), Err("option \"temperature\" must be of type float32")),
            (json!({"num_ctx": 1.5}), Err("option \"num_ctx\" must be of type integer")),
            (json!({"top_k": 1u64 << 63}), Err("option \"top_k\" must be of type integer")),
            (json!({"stop": [1]}), Err("option \"stop\" must be of type array of strings")),
            (json!({"overflow": 1}), Err("option \"overflow\" must be of type string")),
            (json!({"tempreature": 1}), Ok(1)),
            (json!({"num_gpu": 1}), Ok(0)),
        ] {
            let got = read(std::slice::from_ref(&parameters)).map(|read| read.unknown.len());
            assert_eq!(
                got.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| *text),
                "{parameters}"
            );
        }
        for name in Parameters::NAMES {
            let value = match name {
                "stop" | "overflow" => json!("x"),
                _ => json!(2),
            };
            let read = Parameters::read(&[&Map::from_iter([(name.to_owned(), value)])]).unwrap();
            assert!(read.unknown.is_empty() && read != Parameters::default(), "{name}");
        }
    }
}
