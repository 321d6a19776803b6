//! `options` of a request: Ollama's names and defaults. What a recipe sets comes before the defaults, what a request sets
//! before both.

use serde_json::{Map, Value};
use whit_engine::{Parameters, SamplerConfig};

use crate::config::OverflowPolicy;
use crate::error::ApiError;
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
    pub(crate) max_draft: Option<usize>,
    pub(crate) overflow: Option<OverflowPolicy>,
}

impl Options {
    /// What a request asks for, over what the model's recipe sets.
    pub(super) fn of(
        state: &AppState,
        entry: &Entry,
        asked: Option<&Map<String, Value>>,
    ) -> Result<Options, ApiError> {
        let recipe = entry.recipe.as_ref().map(|recipe| &recipe.extras.parameters);
        let layers: Vec<_> = recipe.into_iter().chain(asked).collect();
        Options::read(&layers, state.config.strict)
    }

    /// Reads `layers`, later ones over earlier ones. Unknown names are refused in `strict` mode, else logged; values out
    /// of range are refused always.
    pub(crate) fn read(layers: &[&Map<String, Value>], strict: bool) -> Result<Options, ApiError> {
        let Parameters { sampling, stop, max_tokens, n_keep, n_ctx, max_draft, overflow, unknown } =
            Parameters::read(layers)?;
        for name in unknown {
            if strict {
                return Err(ApiError::BadRequest(format!("invalid option \"{name}\"")));
            }
            tracing::warn!(option = name, "invalid option provided");
        }
        sampling.validate()?;
        let overflow = overflow.map(|policy| OverflowPolicy::parse(&policy)).transpose()?;
        Ok(Options { sampling, stop, max_tokens, n_keep, n_ctx, max_draft, overflow })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (options, strict, expected) in [
            (json!({"temperature": "hot"}), false, Some("option \"temperature\" must be of type float32")),
            (json!({"typical_p": -1}), false, Some("typical_p is -1, but must be a number from 0 to 1")),
            (json!({"tempreature": 1}), true, Some("invalid option \"tempreature\"")),
            (json!({"tempreature": 1}), false, None),
            (json!({"num_gpu": 1}), true, None),
            (json!({"overflow": "shift"}), true, None),
            (
                json!({"overflow": "never"}),
                false,
                Some("overflow is `never`; give `error`, `drop_oldest` or `shift`"),
            ),
        ] {
            let got = Options::read(&[options.as_object().unwrap()], strict);
            assert_eq!(got.err().map(|error| error.to_string()).as_deref(), expected, "{options}");
        }
    }
}
