//! `options` of a request: Ollama's names and defaults. What a recipe sets comes before the defaults, what a request sets
//! before both.

use serde_json::{Map, Value};
use whit_engine::SamplerConfig;

use crate::config::OverflowPolicy;
use crate::error::ApiError;
use crate::generate::top_k;
use crate::library::Entry;
use crate::state::AppState;

/// What a request asks of sampling and length.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) sampling: SamplerConfig,
    pub(crate) stop: Vec<String>,
    /// `None`: no limit.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) n_keep: Option<usize>,
    pub(crate) n_ctx: Option<usize>,
    pub(crate) overflow: Option<OverflowPolicy>,
}

/// Known, and without effect here: settings of loading that belong to the server, and what Ollama itself ignores.
const WITHOUT_EFFECT: [&str; 17] = [
    "draft_num_predict",
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

impl Options {
    /// What a request asks for, over what the model's recipe sets.
    pub(super) fn of(
        state: &AppState,
        entry: &Entry,
        asked: Option<&Map<String, Value>>,
    ) -> Result<Options, ApiError> {
        let recipe = entry.recipe.as_ref().map(|recipe| &recipe.parameters);
        let layers: Vec<_> = recipe.into_iter().chain(asked).collect();
        Options::read(&layers, state.config.strict)
    }

    /// Reads `layers`, later ones over earlier ones. Unknown names are refused in `strict` mode, else logged; values out
    /// of range are refused always.
    pub(crate) fn read(layers: &[&Map<String, Value>], strict: bool) -> Result<Options, ApiError> {
        let mut options = Options::default();
        for (name, value) in layers.iter().flat_map(|layer| layer.iter()) {
            if value.is_null() {
                continue;
            }
            options.set(name, value, strict)?;
        }
        options.sampling.validate()?;
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value, strict: bool) -> Result<(), ApiError> {
        let wrong = |kind: &str| ApiError::BadRequest(format!("option \"{name}\" must be of type {kind}"));
        let float = || value.as_f64().map(|number| number as f32).ok_or_else(|| wrong("float32"));
        // Clients write whole numbers as 5.0 too.
        let integer = || {
            let whole =
                value.as_i64().or_else(|| value.as_f64().filter(|x| x.fract() == 0.0).map(|x| x as i64));
            whole.ok_or_else(|| wrong("integer"))
        };
        // Zero and less are "as you like".
        let count = || integer().map(|n| usize::try_from(n).ok().filter(|&n| n > 0));
        let sampling = &mut self.sampling;
        match name {
            "temperature" => sampling.temperature = float()?,
            "top_k" => sampling.top_k = top_k(integer()?),
            "top_p" => sampling.top_p = float()?,
            "min_p" => sampling.min_p = float()?,
            "typical_p" => sampling.typical_p = float()?,
            "repeat_last_n" => sampling.repeat_last_n = integer()?.clamp(-1, 1 << 24) as i32,
            "repeat_penalty" => sampling.repeat_penalty = float()?,
            "presence_penalty" => sampling.presence_penalty = float()?,
            "frequency_penalty" => sampling.frequency_penalty = float()?,
            "seed" => sampling.seed = u64::try_from(integer()?).ok(),
            "num_predict" => self.max_tokens = count()?,
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
            "overflow" => {
                let policy = value.as_str().ok_or_else(|| wrong("string"))?;
                self.overflow = Some(OverflowPolicy::parse(policy)?);
            }
            name if WITHOUT_EFFECT.contains(&name) => {}
            _ if strict => return Err(ApiError::BadRequest(format!("invalid option \"{name}\""))),
            _ => tracing::warn!(option = name, "invalid option provided"),
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(layers: &[Value], strict: bool) -> Result<Options, String> {
        let layers: Vec<&Map<String, Value>> =
            layers.iter().map(|layer| layer.as_object().unwrap()).collect();
        Options::read(&layers, strict).map_err(|error| error.to_string())
    }

    #[test]
    fn later_layers_win() {
        let options = read(
            &[
                json!({"temperature": 0.1, "stop": ["a"], "num_predict": 5}),
                json!({"temperature": 1, "stop": "b", "num_predict": -1, "num_ctx": 8192.0, "seed": 7, "top_k": null}),
            ],
            true,
        )
        .unwrap();
        let sampling = SamplerConfig { temperature: 1.0, seed: Some(7), ..SamplerConfig::default() };
        let stop = vec!["b".to_owned()];
        assert_eq!(options, Options { sampling, stop, n_ctx: Some(8192), ..Options::default() });
    }

    #[test]
    fn numbers_are_clamped() {
        let options = read(
            &[json!({"top_k": -5, "repeat_last_n": -99, "seed": -1, "num_ctx": 1, "num_keep": -1, "num_predict": 1e18})],
            true,
        )
        .unwrap();
        assert_eq!(
            (options.sampling.top_k, options.sampling.repeat_last_n, options.sampling.seed),
            (0, -1, None)
        );
        assert_eq!((options.n_ctx, options.n_keep), (Some(4), None));
        assert_eq!(read(&[json!({"top_k": 99_999_999_999i64})], true).unwrap().sampling.top_k, u32::MAX);
    }

    #[test]
    fn wrong_types_and_unknown_names() {
        for (options, strict, expected) in [
            (json!({"temperature": "hot"}), false, Some("option \"temperature\" must be of type float32")),
            (json!({"num_ctx": 1.5}), false, Some("option \"num_ctx\" must be of type integer")),
            (json!({"stop": [1]}), false, Some("option \"stop\" must be of type array of strings")),
            (json!({"typical_p": -1}), false, Some("typical_p is -1, but must be a number from 0 to 1")),
            (json!({"tempreature": 1}), true, Some("invalid option \"tempreature\"")),
            (json!({"tempreature": 1}), false, None),
            (json!({"num_gpu": 1}), true, None),
            (
                json!({"overflow": "never"}),
                false,
                Some("overflow is `never`; give `error`, `drop_oldest` or `shift`"),
            ),
        ] {
            assert_eq!(read(std::slice::from_ref(&options), strict).err().as_deref(), expected, "{options}");
        }
    }
}
