//! What a line that begins with a slash means.

use std::str::FromStr;

use whit_engine::Overflow;

use crate::commands::run::Settings;

pub(super) const HELP: &str = r#"/set system TEXT          tell the model something before all else; without TEXT, nothing
/set parameter NAME VALUE change a setting: see /show parameters
/set verbose, /set quiet  print times and speeds, or not
/show info                the model
/show system | parameters | template | history
/clear                    forget what was said
/bye                      end; also Ctrl-D
/help                     this

"""                       begins and ends a text of several lines
Ctrl-C                    stops an answer
"#;

/// A line that is not for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Bye,
    Help,
    Clear,
    System(Option<String>),
    Parameter(String, String),
    Verbose(bool),
    Show(Topic),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Info,
    System,
    Parameters,
    Template,
    History,
}

impl Command {
    /// `None`: the line is for the model.
    pub(super) fn parse(line: &str) -> Option<Result<Command, String>> {
        let line = line.trim();
        let first = line.split_whitespace().next()?;
        // A path or a comment may begin with a slash too.
        let name = first.strip_prefix('/')?;
        if name.contains('/') || name.starts_with('*') {
            return None;
        }
        let rest = line.strip_prefix(first).unwrap_or_default().trim();
        let (word, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let after = after.trim();
        Some(match (name, word) {
            ("bye" | "exit" | "quit", _) => Ok(Command::Bye),
            ("help" | "?", _) => Ok(Command::Help),
            ("clear", _) => Ok(Command::Clear),
            ("set", "system") => Ok(Command::System(unquote(after).map(str::to_owned))),
            ("set", "parameter") => match after.split_once(char::is_whitespace) {
                Some((name, value)) => {
                    Ok(Command::Parameter(name.replace('-', "_"), value.trim().to_owned()))
                }
                None => Err("/set parameter needs a name and a value".to_owned()),
            },
            ("set", "verbose") => Ok(Command::Verbose(true)),
            ("set", "quiet") => Ok(Command::Verbose(false)),
            ("set", _) => Err("/set what: system, parameter, verbose or quiet".to_owned()),
            ("show", "" | "info") => Ok(Command::Show(Topic::Info)),
            ("show", "system") => Ok(Command::Show(Topic::System)),
            ("show", "parameters") => Ok(Command::Show(Topic::Parameters)),
            ("show", "template") => Ok(Command::Show(Topic::Template)),
            ("show", "history") => Ok(Command::Show(Topic::History)),
            ("show", _) => Err("/show what: info, system, parameters, template or history".to_owned()),
            _ => Err(format!("there is no command `/{name}`")),
        })
    }
}

/// The text between quotes, if it has them; `None` if nothing is left.
fn unquote(text: &str) -> Option<&str> {
    let inner = |quote: &str| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let text = inner("\"\"\"").or_else(|| inner("\"")).unwrap_or(text).trim();
    (!text.is_empty()).then_some(text)
}

/// Changes a setting by its name.
pub(super) fn set(settings: &mut Settings, name: &str, value: &str) -> Result<(), String> {
    let mut new = settings.clone();
    let s = &mut new.sampling;
    match name {
        "temperature" => s.temperature = number(name, value)?,
        "top_k" => s.top_k = number(name, value)?,
        "top_p" => s.top_p = number(name, value)?,
        "min_p" => s.min_p = number(name, value)?,
        "typical_p" => s.typical_p = number(name, value)?,
        "repeat_penalty" => s.repeat_penalty = number(name, value)?,
        "repeat_last_n" => s.repeat_last_n = number(name, value)?,
        "presence_penalty" => s.presence_penalty = number(name, value)?,
        "frequency_penalty" => s.frequency_penalty = number(name, value)?,
        "seed" if value == "random" => s.seed = None,
        "seed" => s.seed = Some(number(name, value)?),
        "max_tokens" if value == "none" => new.max_tokens = None,
        "max_tokens" => new.max_tokens = Some(number(name, value)?),
        "stop" if value == "none" => new.stop.clear(),
        "stop" => new.stop = vec![unquote(value).unwrap_or(value).to_owned()],
        "overflow" if value == "shift" => new.overflow = Overflow::Shift,
        "overflow" if value == "error" => new.overflow = Overflow::Error,
        "overflow" => return Err("overflow can be error or shift".to_owned()),
        "ctx" | "num_ctx" => {
            return Err("the context is set when the program begins: whit run --ctx N".to_owned());
        }
        _ => return Err(format!("there is no parameter `{name}`; /show parameters lists them")),
    }
    new.sampling.validate().map_err(|error| error.to_string())?;
    *settings = new;
    Ok(())
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("`{value}` is no number that {name} can be"))
}

/// Names and values of what `set` changes.
pub(super) fn parameters(settings: &Settings) -> Vec<(&'static str, String)> {
    let s = &settings.sampling;
    vec![
        ("temperature", s.temperature.to_string()),
        ("top_k", s.top_k.to_string()),
        ("top_p", s.top_p.to_string()),
        ("min_p", s.min_p.to_string()),
        ("typical_p", s.typical_p.to_string()),
        ("repeat_penalty", s.repeat_penalty.to_string()),
        ("repeat_last_n", s.repeat_last_n.to_string()),
        ("presence_penalty", s.presence_penalty.to_string()),
        ("frequency_penalty", s.frequency_penalty.to_string()),
        ("seed", s.seed.map_or("random".to_owned(), |seed| seed.to_string())),
        ("max_tokens", settings.max_tokens.map_or("none".to_owned(), |n| n.to_string())),
        ("stop", if settings.stop.is_empty() { "none".to_owned() } else { format!("{:?}", settings.stop) }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let system = |text: &str| Command::System(Some(text.to_owned()));
        let parameter = |name: &str, value: &str| Command::Parameter(name.to_owned(), value.to_owned());
        for (line, expected) in [
            ("hello", None),
            ("", None),
            ("what is / for?", None),
            ("/usr/bin/env is a path", None),
            ("/* a comment */", None),
            ("/bye", Some(Ok(Command::Bye))),
            ("  /bye  ", Some(Ok(Command::Bye))),
            ("/?", Some(Ok(Command::Help))),
            ("/clear", Some(Ok(Command::Clear))),
            ("/set system Be  brief.", Some(Ok(system("Be  brief.")))),
            ("/set system \"Be brief.\"", Some(Ok(system("Be brief.")))),
            ("/set system \"\"\"Be\nbrief.\"\"\"", Some(Ok(system("Be\nbrief.")))),
            ("/set system", Some(Ok(Command::System(None)))),
            ("/set parameter top-k 5", Some(Ok(parameter("top_k", "5")))),
            ("/set parameter top_k", Some(Err(()))),
            ("/set", Some(Err(()))),
            ("/set verbose", Some(Ok(Command::Verbose(true)))),
            ("/show", Some(Ok(Command::Show(Topic::Info)))),
            ("/show history", Some(Ok(Command::Show(Topic::History)))),
            ("/show nothing", Some(Err(()))),
            ("/quti", Some(Err(()))),
        ] {
            assert_eq!(Command::parse(line).map(|result| result.map_err(|_| ())), expected, "{line}");
        }
    }

    #[test]
    fn parameters_change_and_stay_in_range() {
        let mut settings = Settings {
            sampling: whit_engine::SamplerConfig::default(),
            max_tokens: None,
            stop: Vec::new(),
            grammar: None,
            overflow: Overflow::Error,
            system: None,
            raw: false,
            verbose: false,
        };
        for (name, _) in parameters(&settings) {
            let value = if name == "stop" { "END" } else { "1" };
            set(&mut settings, name, value).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            let shown = parameters(&settings).into_iter().find(|(known, _)| *known == name);
            assert!(shown.is_some_and(|(_, shown)| shown.contains(value)), "{name}");
        }
        for (name, value) in
            [("temperature", "-1"), ("top_p", "2"), ("top_k", "x"), ("ctx", "9"), ("speed", "9")]
        {
            assert!(set(&mut settings, name, value).is_err(), "{name}");
        }
        assert_eq!(settings.sampling.temperature, 1.0);
    }
}
