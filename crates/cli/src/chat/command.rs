//! What a line that begins with a slash means.

use whit_engine::Parameters;
use whit_hub::parameter_value;

use crate::settings::{Settings, Think};

pub(super) const HELP: &str = r#"/set ...             change a setting: /? set lists them
/show ...            the model, and what is set: /? show lists the topics
/load MODEL          talk to another model; what was said is forgotten
/save MODEL          keep settings and conversation as a model of this name
/list                the models that are here
/clear               forget what was said
/bye                 end; also Ctrl-D
/?, /help            this; /? shortcuts: keys

"""                  begins and ends a text of several lines
@notes.txt           puts a file's text into what you say; @"a name.txt" has blanks in it
"#;

const HELP_SET: &str = r#"/set system TEXT          tell the model something before all else; without TEXT, nothing
/set parameter NAME VALUE see /show parameters; `stop` takes several values, each between quotes
/set format json          answers are JSON
/set noformat             they are free again
/set think [HOW]          let the model think, also low, medium or high
/set nothink              or not
/set verbose, quiet       print times and speeds, or not
/set wordwrap, nowordwrap break lines between words, or not
/set history, nohistory   remember what you type for later chats, or not
"#;

const HELP_SHOW: &str = r#"/show info        the model
/show parameters  what answers are made with
/show system      what the model is told before all else
/show template    how a conversation is put to it
/show modelfile   a Modelfile that makes this model, with what is set
/show license     its licence
/show history     what was said
"#;

const HELP_SHORTCUTS: &str = r#"Ctrl-C   stops an answer, or drops the line
Ctrl-D   ends, on an empty line
Tab      completes commands, models, and files after @
Up, Down what you typed before; Ctrl-R searches it
Ctrl-A, Ctrl-E, Alt-B, Alt-F   to the beginning, the end, a word back, a word on
Ctrl-K, Ctrl-U, Ctrl-W         delete to the end, to the beginning, the word before
Ctrl-L   clears the screen
"#;

/// Commands as Tab completes them; a blank behind one that takes more.
pub(super) const COMPLETIONS: [&str; 28] = [
    "/bye",
    "/clear",
    "/help",
    "/help set",
    "/help shortcuts",
    "/help show",
    "/list",
    "/load ",
    "/save ",
    "/set format json",
    "/set history",
    "/set noformat",
    "/set nohistory",
    "/set nothink",
    "/set nowordwrap",
    "/set parameter ",
    "/set quiet",
    "/set system ",
    "/set think",
    "/set verbose",
    "/set wordwrap",
    "/show history",
    "/show info",
    "/show license",
    "/show modelfile",
    "/show parameters",
    "/show system",
    "/show template",
];

/// A line that is not for the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Bye,
    Help(&'static str),
    Clear,
    List,
    Load(String),
    Save(String),
    Set(Setting),
    Show(Topic),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Setting {
    System(Option<String>),
    Parameter(String, String),
    Format(bool),
    Think(Think),
    Verbose(bool),
    Wrap(bool),
    History(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Info,
    Licence,
    Modelfile,
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
        let named = |make: fn(String) -> Command| match word {
            "" => Err(format!("/{name} needs the name of a model")),
            word => Ok(make(word.to_owned())),
        };
        Some(match name {
            "bye" | "exit" | "quit" => Ok(Command::Bye),
            "help" | "?" => match word {
                "set" | "/set" => Ok(Command::Help(HELP_SET)),
                "show" | "/show" => Ok(Command::Help(HELP_SHOW)),
                "shortcuts" => Ok(Command::Help(HELP_SHORTCUTS)),
                _ => Ok(Command::Help(HELP)),
            },
            "clear" => Ok(Command::Clear),
            "list" | "ls" => Ok(Command::List),
            "load" => named(Command::Load),
            "save" => named(Command::Save),
            "set" => setting(word, after).map(Command::Set),
            "show" => topic(word).map(Command::Show),
            _ => Err(format!("there is no command `/{name}`")),
        })
    }
}

fn setting(word: &str, after: &str) -> Result<Setting, String> {
    Ok(match word {
        "system" => Setting::System(unquote(after).map(str::to_owned)),
        "parameter" => match after.split_once(char::is_whitespace) {
            Some((name, value)) => Setting::Parameter(name.replace('-', "_"), value.trim().to_owned()),
            None => return Err("/set parameter needs a name and a value".to_owned()),
        },
        "format" if after == "json" => Setting::Format(true),
        "format" => {
            return Err(
                "/set format can be json; a schema is given at the beginning: whit run --schema FILE"
                    .to_owned(),
            );
        }
        "noformat" => Setting::Format(false),
        "think" => Setting::Think(Think::parse(after)?),
        "nothink" => Setting::Think(Think::Off),
        "verbose" => Setting::Verbose(true),
        "quiet" => Setting::Verbose(false),
        "wordwrap" => Setting::Wrap(true),
        "nowordwrap" => Setting::Wrap(false),
        "history" => Setting::History(true),
        "nohistory" => Setting::History(false),
        "" => return Err("/set what".to_owned()),
        word => return Err(format!("there is no setting `{word}`")),
    })
}

fn topic(word: &str) -> Result<Topic, String> {
    Ok(match word {
        "" | "info" => Topic::Info,
        "license" | "licence" => Topic::Licence,
        "modelfile" => Topic::Modelfile,
        "system" => Topic::System,
        "parameters" => Topic::Parameters,
        "template" => Topic::Template,
        "history" => Topic::History,
        word => return Err(format!("there is nothing called `{word}` to show")),
    })
}

/// The text between quotes, if it has them; `None` if nothing is left.
fn unquote(text: &str) -> Option<&str> {
    let inner = |quote: &str| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let text = inner("\"\"\"").or_else(|| inner("\"")).unwrap_or(text).trim();
    (!text.is_empty()).then_some(text)
}

/// Changes a parameter. Nothing changes where the value makes no sense.
pub(super) fn set(settings: &mut Settings, name: &str, value: &str) -> Result<(), String> {
    // As the command line calls them.
    let name = match name {
        "max_tokens" => "num_predict",
        "ctx" => "num_ctx",
        name => name,
    };
    if !Parameters::NAMES.contains(&name) {
        return Err(format!("there is no parameter `{name}`; there are {}", Parameters::NAMES.join(", ")));
    }
    let value = match (name, value) {
        ("stop", "none") => Vec::<String>::new().into(),
        ("stop", text) => texts(text).into(),
        ("seed" | "num_predict", "none" | "random") => (-1).into(),
        (_, text) => parameter_value(text),
    };
    let before = settings.given.parameters.insert(name.to_owned(), value);
    let checked = settings.parameters();
    if checked.is_err() {
        match before {
            Some(before) => settings.given.parameters.insert(name.to_owned(), before),
            None => settings.given.parameters.shift_remove(name),
        };
    }
    checked.map(drop).map_err(|error| error.to_string())
}

/// Several texts, each between quotes, or one.
fn texts(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('"').collect();
    let between = parts.iter().step_by(2).all(|gap| gap.trim().is_empty());
    if parts.len() > 2 && parts.len() % 2 == 1 && between {
        return parts.iter().skip(1).step_by(2).map(|&text| text.to_owned()).collect();
    }
    vec![text.to_owned()]
}

/// Names and values of what `set` changes.
pub(super) fn parameters(parameters: &Parameters, n_ctx: usize, shift: bool) -> Vec<(&'static str, String)> {
    let s = &parameters.sampling;
    let number = |n: Option<usize>, none: &str| n.map_or(none.to_owned(), |n| n.to_string());
    let stop = if parameters.stop.is_empty() { "none".to_owned() } else { format!("{:?}", parameters.stop) };
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
        ("draft_num_predict", number(parameters.max_draft, "as many as pay")),
        ("num_predict", number(parameters.max_tokens, "none")),
        ("num_ctx", n_ctx.to_string()),
        ("num_keep", number(parameters.n_keep, "the system message")),
        ("stop", stop),
        ("overflow", if shift { "shift" } else { "error" }.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let set = |setting| Some(Ok(Command::Set(setting)));
        let system = |text: &str| set(Setting::System(Some(text.to_owned())));
        for (line, expected) in [
            ("hello", None),
            ("", None),
            ("what is / for?", None),
            ("/usr/bin/env is a path", None),
            ("/* a comment */", None),
            ("/bye", Some(Ok(Command::Bye))),
            ("  /bye  ", Some(Ok(Command::Bye))),
            ("/?", Some(Ok(Command::Help(HELP)))),
            ("/? shortcuts", Some(Ok(Command::Help(HELP_SHORTCUTS)))),
            ("/help set", Some(Ok(Command::Help(HELP_SET)))),
            ("/clear", Some(Ok(Command::Clear))),
            ("/load gemma3:270m", Some(Ok(Command::Load("gemma3:270m".to_owned())))),
            ("/save", Some(Err(()))),
            ("/set system Be  brief.", system("Be  brief.")),
            ("/set system \"Be brief.\"", system("Be brief.")),
            ("/set system \"\"\"Be\nbrief.\"\"\"", system("Be\nbrief.")),
            ("/set system", set(Setting::System(None))),
            ("/set parameter top-k 5", set(Setting::Parameter("top_k".to_owned(), "5".to_owned()))),
            ("/set parameter top_k", Some(Err(()))),
            ("/set", Some(Err(()))),
            ("/set verbose", set(Setting::Verbose(true))),
            ("/set nowordwrap", set(Setting::Wrap(false))),
            ("/set format json", set(Setting::Format(true))),
            ("/set format xml", Some(Err(()))),
            ("/set think", set(Setting::Think(Think::On))),
            ("/set think low", set(Setting::Think(Think::Effort("low".to_owned())))),
            ("/set nothink", set(Setting::Think(Think::Off))),
            ("/show", Some(Ok(Command::Show(Topic::Info)))),
            ("/show license", Some(Ok(Command::Show(Topic::Licence)))),
            ("/show nothing", Some(Err(()))),
            ("/quti", Some(Err(()))),
        ] {
            assert_eq!(Command::parse(line).map(|result| result.map_err(|_| ())), expected, "{line}");
        }
    }

    #[test]
    fn what_tab_completes_is_understood() {
        for line in COMPLETIONS {
            let whole = match line {
                "/set parameter " => "/set parameter top_k 1".to_owned(),
                line if line.ends_with(' ') => format!("{line}x"),
                line => line.to_owned(),
            };
            assert!(matches!(Command::parse(&whole), Some(Ok(_))), "{line}");
        }
    }

    #[test]
    fn parameters_change_and_stay_in_range() {
        let mut settings = Settings::default();
        let shown = |settings: &Settings, name: &str| {
            let read = settings.parameters().unwrap_or_else(|error| panic!("{error}"));
            let shift = read.overflow.as_deref() == Some("shift");
            let all = parameters(&read, read.n_ctx.unwrap_or_default(), shift);
            all.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value).unwrap_or_default()
        };
        for name in Parameters::NAMES {
            let value = match name {
                "stop" => "END",
                "overflow" => "shift",
                "num_ctx" => "9",
                _ => "1",
            };
            set(&mut settings, name, value).unwrap_or_else(|problem| panic!("{name}: {problem}"));
            assert!(shown(&settings, name).contains(value), "{name}");
        }
        for (name, value) in
            [("temperature", "-1"), ("top_p", "2"), ("top_k", "x"), ("overflow", "never"), ("speed", "9")]
        {
            assert!(set(&mut settings, name, value).is_err(), "{name}");
        }
        assert_eq!(shown(&settings, "temperature"), "1");
        for (value, expected) in [
            ("\"User:\" \"\\n\"", "[\"User:\", \"\\\\n\"]"),
            ("a b", "[\"a b\"]"),
            ("say \"x\"", "[\"say \\\"x\\\"\"]"),
            ("none", "none"),
        ] {
            set(&mut settings, "stop", value).unwrap_or_else(|problem| panic!("{value}: {problem}"));
            assert_eq!(shown(&settings, "stop"), expected, "{value}");
        }
        set(&mut settings, "seed", "random").unwrap_or_else(|problem| panic!("{problem}"));
        assert_eq!(shown(&settings, "seed"), "random");
    }
}
