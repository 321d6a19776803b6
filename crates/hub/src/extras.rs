//! What a model brings beside its weights: system message, template, parameters, first messages, licences. Registries carry
//! each in a layer of its own; the store keeps them in the model's manifest.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The most bytes of one of these.
pub(crate) const MAX_EXTRA: u64 = 4 << 20;
/// The most layers of a model.
pub(crate) const MAX_LAYERS: usize = 64;

/// What a model brings beside its weights.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Extras {
    /// Said to the model before every conversation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
    /// A chat template, in Jinja, in place of the one in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// A chat template in the language of Go, as Ollama's registry has them. It is shown, and passed on by a push, and not
    /// used: the file's own template is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub go_template: Option<String>,
    /// Default options, by Ollama's names.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// Said before every conversation: objects with `role` and `content`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Value>,
    /// Licence texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub licenses: Vec<String>,
}

impl Extras {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        *self == Extras::default()
    }
}
