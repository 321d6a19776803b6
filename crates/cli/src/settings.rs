//! What every answer of a run has in common: what the model brings, what the command line says, and what the user set since.

use anyhow::Result;
use serde_json::{Map, Value};
use whit_engine::{Grammar, Message, Model, Overflow, Parameters};
use whit_hub::Extras;
use whit_text::tools::{ThinkTags, think_switches};

use crate::failure::Usage;

/// Settings of a run. What was [given](Self::given) comes before what is [of the model](Self::of_model).
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// What the model brings.
    pub(crate) of_model: Extras,
    /// What the user says: on the command line, or in the chat.
    pub(crate) given: Extras,
    pub(crate) logit_bias: Vec<(u32, f32)>,
    pub(crate) logprobs: Option<usize>,
    pub(crate) grammar: Option<Grammar>,
    pub(crate) raw: bool,
    pub(crate) verbose: bool,
    pub(crate) think: Think,
    /// Leave thoughts out of what is printed.
    pub(crate) hide_thinking: bool,
    /// Break lines between words, in a terminal.
    pub(crate) wrap: bool,
}

/// Whether a model shall think before it answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Think {
    /// As its template has it.
    #[default]
    Usual,
    On,
    Off,
    /// And how hard: `low`, `medium` or `high`.
    Effort(String),
}

impl Think {
    pub(crate) fn parse(text: &str) -> Result<Think, String> {
        match text {
            "" | "true" | "on" => Ok(Think::On),
            "false" | "off" | "none" => Ok(Think::Off),
            "low" | "medium" | "high" => Ok(Think::Effort(text.to_owned())),
            _ => Err("choose true, false, low, medium or high".to_owned()),
        }
    }
}

/// How a model thinks, as far as its template says.
pub(crate) struct Thinking {
    /// The tags around its thoughts; `None`: it has none.
    pub(crate) tags: Option<ThinkTags>,
    /// What its template is told.
    pub(crate) variables: Map<String, Value>,
}

impl Settings {
    /// All that holds: the model's, and what was given in its place.
    pub(crate) fn extras(&self) -> Extras {
        self.of_model.clone().with(self.given.clone())
    }

    /// The system message, if there is one.
    pub(crate) fn system(&self) -> Option<&str> {
        let system = self.given.system.as_ref().or(self.of_model.system.as_ref());
        system.map(String::as_str).filter(|text| !text.is_empty())
    }

    /// What the model brings to the beginning of a conversation.
    pub(crate) fn beginning(&self) -> Vec<Message> {
        let message = |message: &Value| serde_json::from_value(message.clone()).ok();
        self.of_model.messages.iter().filter_map(message).collect()
    }

    /// The parameters, checked.
    pub(crate) fn parameters(&self) -> Result<Parameters> {
        let mut parameters = Parameters::read(&[&self.of_model.parameters, &self.given.parameters])?;
        parameters.sampling.logit_bias.clone_from(&self.logit_bias);
        parameters.sampling.logprobs = self.logprobs;
        parameters.sampling.validate().map_err(|error| Usage(error.to_string()))?;
        overflow(&parameters)?;
        Ok(parameters)
    }

    /// How this model is to think.
    pub(crate) fn thinking(&self, model: &Model) -> Result<Thinking> {
        let template = model.template()?.map(|template| template.source()).unwrap_or_default();
        let (tags, switches) = (ThinkTags::detect(template), think_switches(template));
        let mut variables = Map::new();
        let wanted = match &self.think {
            Think::Usual => return Ok(Thinking { tags, variables }),
            Think::On | Think::Effort(_) => true,
            Think::Off => false,
        };
        if wanted && tags.is_none() && switches.is_empty() {
            return Err(
                Usage("this model does not think; leave out --think, or say /set nothink".into()).into()
            );
        }
        variables.extend(switches.into_iter().map(|switch| (switch.to_owned(), Value::Bool(wanted))));
        if let Think::Effort(effort) = &self.think {
            variables.insert("reasoning_effort".to_owned(), effort.as_str().into());
        }
        Ok(Thinking { tags, variables })
    }
}

/// What to do when the context is full. A chat in the terminal drops no messages: what would, forgets the older half.
pub(crate) fn overflow(parameters: &Parameters) -> Result<Overflow, Usage> {
    match parameters.overflow.as_deref() {
        None | Some("error") => Ok(Overflow::Error),
        Some("shift" | "drop_oldest") => Ok(Overflow::Shift),
        Some(_) => Err(Usage("overflow can be error or shift".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_given_comes_before_what_the_model_brings() {
        let parameters = |value: Value| value.as_object().cloned().unwrap_or_default();
        let mut settings = Settings {
            of_model: Extras {
                system: Some("model's".to_owned()),
                parameters: parameters(json!({"temperature": 0.1, "num_ctx": 100, "stop": ["a"]})),
                ..Extras::default()
            },
            given: Extras { parameters: parameters(json!({"temperature": 0.5})), ..Extras::default() },
            ..Settings::default()
        };
        let read = settings.parameters().expect("sound parameters");
        assert_eq!((read.sampling.temperature, read.n_ctx), (0.5, Some(100)));
        assert_eq!((read.stop, settings.system()), (vec!["a".to_owned()], Some("model's")));
        settings.given.system = Some(String::new());
        assert_eq!((settings.system(), settings.extras().system), (None, None));
        for wrong in [json!({"temperature": -1}), json!({"overflow": "never"}), json!({"top_k": "x"})] {
            settings.given.parameters = parameters(wrong.clone());
            assert!(settings.parameters().is_err(), "{wrong}");
        }
    }

    #[test]
    fn degrees_of_thinking() {
        for (text, expected) in [
            ("", Some(Think::On)),
            ("true", Some(Think::On)),
            ("false", Some(Think::Off)),
            ("low", Some(Think::Effort("low".to_owned()))),
            ("a lot", None),
        ] {
            assert_eq!(Think::parse(text).ok(), expected, "{text}");
        }
    }
}
