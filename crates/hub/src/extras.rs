//! What a model brings beside its weights: system message, template, parameters, first messages, licences. Registries carry
//! each in a layer of its own; the store keeps them in the model's manifest, or in a recipe.

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

    /// Sets the chat template, by the language that it is written in.
    pub fn set_template(&mut self, template: String) {
        if is_go_template(&template) {
            self.go_template = Some(template);
        } else {
            self.template = Some(template);
        }
    }

    /// These, and in their place what `over` says. A system message that is empty is none.
    #[must_use]
    pub fn with(mut self, over: Extras) -> Extras {
        self.system = over.system.or(self.system).filter(|system| !system.is_empty());
        if over.template.is_some() || over.go_template.is_some() {
            // A template in Go changes nothing of what is used.
            self.template = over.template.or(self.template).filter(|template| !template.is_empty());
            self.go_template = over.go_template;
        }
        self.parameters.extend(over.parameters);
        if !over.messages.is_empty() {
            self.messages = over.messages;
        }
        if !over.licenses.is_empty() {
            self.licenses = over.licenses;
        }
        self
    }
}

/// The value of an option that is written as text: a number or a truth value where it reads as one.
pub fn parameter_value(text: &str) -> Value {
    let float = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        _ => text
            .parse::<i64>()
            .map(Value::from)
            .or_else(|_| text.parse::<u64>().map(Value::from))
            .ok()
            .or_else(|| float(text))
            .unwrap_or_else(|| Value::String(text.to_owned())),
    }
}

/// Whether a template is written in the language of Go, as Ollama's are, and not in Jinja: its actions begin with a field, a
/// variable or a keyword, which in Jinja stand between `{%` and `%}`.
pub fn is_go_template(template: &str) -> bool {
    const KEYWORDS: [&str; 8] = ["if", "range", "with", "end", "else", "block", "define", "template"];
    template.match_indices("{{").any(|(at, _)| {
        let action = template[at + 2..].trim_start_matches('-').trim_start();
        let word: &str = action.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        action.starts_with(['.', '$']) || (!template.contains("{%") && KEYWORDS.contains(&word))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_told_apart() {
        for (template, expected) in [
            // As Ollama's registry has them.
            ("{{ .Prompt }}", true),
            ("{{- range $i, $_ := .Messages }}{{ .Content }}{{ end }}", true),
            ("{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}", true),
            ("{{- $last := eq 1 1 }}", true),
            ("{% for message in messages %}{{ message.content }}{% endfor %}", false),
            ("{{- bos_token }}{% if tools %}{{ end }}{% endif %}", false),
            ("{{ messages[0].content }}", false),
            ("no actions", false),
        ] {
            assert_eq!(is_go_template(template), expected, "{template}");
        }
    }

    #[test]
    fn texts_become_values() {
        for (text, expected) in [
            ("1", json!(1)),
            ("-1", json!(-1)),
            ("0.5", json!(0.5)),
            ("18446744073709551615", json!(u64::MAX)),
            ("true", json!(true)),
            ("false", json!(false)),
            ("shift", json!("shift")),
            ("inf", json!("inf")),
            ("", json!("")),
        ] {
            assert_eq!(parameter_value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_comes_later_wins() {
        let base = Extras {
            system: Some("a".to_owned()),
            template: Some("{{ messages }}".to_owned()),
            parameters: Map::from_iter([("top_k".to_owned(), json!(1)), ("seed".to_owned(), json!(1))]),
            licenses: vec!["MIT".to_owned()],
            ..Extras::default()
        };
        let over = Extras {
            system: Some(String::new()),
            go_template: Some("{{ .Prompt }}".to_owned()),
            parameters: Map::from_iter([("seed".to_owned(), json!(2))]),
            messages: vec![json!({"role": "user", "content": "hi"})],
            ..Extras::default()
        };
        let both = base.clone().with(over.clone());
        assert_eq!(
            (both.system, both.template, both.go_template),
            (None, base.template.clone(), over.go_template)
        );
        assert_eq!(Value::Object(both.parameters), json!({"top_k": 1, "seed": 2}));
        assert_eq!((both.messages, both.licenses), (over.messages, base.licenses.clone()));
        assert_eq!(base.clone().with(Extras::default()), base);
    }
}
