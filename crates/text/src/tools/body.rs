//! A call from its first character to its last: objects, lists of them, or text that is read when it is whole.
//!
//! Everything read is kept until a call is certain, so that it can be given back.

use serde_json::Value;

use super::format::{Opener, Syntax};
use super::parser::Shared;
use super::scan::{Mark, Scanner};
use super::{Tool, ToolEvent, emit, markup, python};

/// The first line of a fenced block is no longer than this if it announces a call.
const MAX_INFO: usize = 16;
const MAX_NAME: usize = 128;
const NAME_KEYS: [&str; 3] = ["name", "tool_name", "function"];
const ARGUMENT_KEYS: [&str; 4] = ["arguments", "parameters", "args", "input"];
/// Other keys that an object may have which is a call.
const OTHER_KEYS: [&str; 4] = ["type", "id", "tool_call_id", "tool_calls"];

/// What came of a character.
pub(super) enum Turn {
    /// The call goes on.
    More,
    /// The call is over, and the character was its last.
    Closed,
    /// The call was over before: this text and the character follow it.
    Left(String),
    /// This is no call: the text goes back, and the character was not taken.
    Broken(String),
}

/// A call, or several with nothing between.
#[derive(Clone, Debug)]
pub(super) struct Body {
    /// As the model wrote it, since the last call that was certain.
    original: String,
    syntax: Syntax,
    closer: &'static str,
    /// Without a marker: the name has to be known.
    strict: bool,
    in_list: bool,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    /// The first line of a fenced block, so far.
    Info(String),
    /// Before the first object.
    Open,
    /// In a name, so far.
    Name(String),
    /// Between a name and its arguments.
    Bridge(String),
    /// In an object.
    Object(Box<Object>),
    /// Behind an object; so much of the closer has come.
    After { n_closer: usize },
    /// Behind a separator.
    Next,
    /// In text that is read when it is whole, so far.
    Raw(String),
}

/// One object.
#[derive(Clone, Debug)]
struct Object {
    scanner: Scanner,
    name: Option<String>,
    /// The arguments, once they are whole.
    arguments: Option<String>,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// The object is a call, of which not enough is known.
    Unknown,
    /// The object is the arguments alone, and nothing of them was given yet.
    Arguments,
    /// Arguments are being given; `all`: to the end of the object.
    Streaming { all: bool },
    /// All arguments were given.
    Streamed,
}

impl Body {
    /// Behind a marker; `opening` is the marker and the white space before it.
    pub(super) fn marked(opener: Opener, opening: String) -> Body {
        let stage = match opener.syntax {
            Syntax::Fence => Stage::Info(String::new()),
            Syntax::Named => Stage::Name(String::new()),
            Syntax::Json | Syntax::JsonOrPython | Syntax::JsonOrNamed | Syntax::JsonOrTags => Stage::Open,
            // The marker is the first tag itself.
            Syntax::Tags => Stage::Raw(opener.marker.to_owned()),
            Syntax::Markers | Syntax::Notation => Stage::Raw(String::new()),
        };
        let Opener { syntax, closer, .. } = opener;
        Body { original: opening, syntax, closer, strict: syntax == Syntax::Fence, in_list: false, stage }
    }

    /// Without a marker, after `space`.
    pub(super) fn bare(space: String) -> Body {
        let syntax = Syntax::JsonOrPython;
        Body { original: space, syntax, closer: "", strict: true, in_list: false, stage: Stage::Open }
    }

    /// Takes one character.
    pub(super) fn push(&mut self, c: char, shared: &mut Shared, out: &mut Vec<ToolEvent>) -> Turn {
        let taken = match &mut self.stage {
            Stage::Info(info) => {
                if c == '\n' {
                    let syntax = match info.trim() {
                        "" | "json" | "tool_call" | "tool_calls" => Syntax::JsonOrPython,
                        "tool_code" => Syntax::JsonOrPython,
                        _ => return self.broken(),
                    };
                    self.syntax = syntax;
                    self.stage = Stage::Open;
                    true
                } else {
                    info.push(c);
                    info.len() <= MAX_INFO && (c.is_ascii_alphabetic() || matches!(c, '_' | ' ' | '\r'))
                }
            }
            Stage::Open => self.begin(c),
            Stage::Name(name) => match c {
                '(' if self.syntax == Syntax::JsonOrPython => {
                    if self.strict && !shared.knows(name) && name != "print" {
                        return self.broken();
                    }
                    self.stage = Stage::Raw(format!("{}{name}(", if self.in_list { "[" } else { "" }));
                    true
                }
                '>' if self.syntax == Syntax::Named => {
                    self.stage = Stage::Bridge(std::mem::take(name));
                    true
                }
                '[' | '{' | ' ' | '\n' if self.syntax == Syntax::JsonOrNamed => {
                    let name = std::mem::take(name);
                    self.stage = if c == '{' { arguments(name, c) } else { Stage::Bridge(name) };
                    if c == '{' {
                        self.announce(shared, out);
                    }
                    true
                }
                c => {
                    name.push(c);
                    name.len() <= MAX_NAME && (c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
                }
            },
            // `[ARGS]`, `[CALL_ID]abc[ARGS]`, or nothing.
            Stage::Bridge(name) => {
                if c == '{' {
                    self.stage = arguments(std::mem::take(name), c);
                    self.announce(shared, out);
                    true
                } else {
                    c.is_whitespace()
                        || self.syntax == Syntax::JsonOrNamed
                            && self.original.len() < 2 * MAX_NAME
                            && (c.is_ascii_alphanumeric() || matches!(c, '[' | ']' | '_'))
                }
            }
            Stage::Object(_) => return self.object(c, shared, out),
            Stage::After { .. } => return self.after(c),
            Stage::Next => match c {
                '{' => {
                    self.stage = object(c);
                    true
                }
                c => c.is_whitespace(),
            },
            Stage::Raw(text) => {
                text.push(c);
                let end = text.len().saturating_sub(self.closer.len());
                if !self.closer.is_empty()
                    && text.ends_with(self.closer)
                    && !markup::is_open(self.syntax, &text[..end])
                {
                    let whole = std::mem::take(text);
                    // A tag that closes may belong to what is read.
                    let n_own = if self.syntax == Syntax::Tags { 0 } else { self.closer.len() };
                    return match self.read(&whole[..whole.len() - n_own], true, shared, out) {
                        Some(_) => Turn::Closed,
                        None => self.broken(),
                    };
                }
                true
            }
        };
        if !taken {
            return self.broken();
        }
        self.original.push(c);
        Turn::More
    }

    /// A control token: whether the call goes on behind it. If not, it ends here, whole or not.
    pub(super) fn control(&mut self, spelling: &str) -> bool {
        let separates = self.syntax == Syntax::JsonOrNamed && matches!(spelling, "[ARGS]" | "[CALL_ID]");
        match &mut self.stage {
            Stage::Name(name) if separates => {
                self.stage = Stage::Bridge(std::mem::take(name));
                true
            }
            Stage::Bridge(_) => separates,
            Stage::Raw(text) if markup::INNER.contains(&spelling) => {
                text.push_str(spelling);
                true
            }
            _ => false,
        }
    }

    /// The end of the answer. What is given back is text.
    pub(super) fn finish(mut self, shared: &mut Shared, out: &mut Vec<ToolEvent>) -> String {
        match std::mem::replace(&mut self.stage, Stage::Next) {
            Stage::Object(object) => {
                if matches!(object.progress, Progress::Streaming { .. } | Progress::Streamed) {
                    emit(out, ToolEvent::ToolCallEnd);
                }
            }
            Stage::Raw(text) => {
                if let Some(rest) = self.read(&text, false, shared, out) {
                    return rest;
                }
            }
            Stage::After { n_closer: 0 } => self.original.clear(),
            _ => {}
        }
        self.original
    }

    fn broken(&mut self) -> Turn {
        Turn::Broken(std::mem::take(&mut self.original))
    }

    /// The first character that is no space decides what this is. Whether it was taken.
    fn begin(&mut self, c: char) -> bool {
        match c {
            '{' => self.stage = object(c),
            '[' if !self.in_list => self.in_list = true,
            c if c.is_alphabetic() || c == '_' => match self.syntax {
                Syntax::JsonOrPython => self.stage = Stage::Name(c.into()),
                Syntax::JsonOrNamed if !self.in_list => self.stage = Stage::Name(c.into()),
                _ => return false,
            },
            '<' if self.syntax == Syntax::JsonOrTags => self.stage = Stage::Raw(c.into()),
            c => return c.is_whitespace(),
        }
        true
    }

    /// Arguments without an object around them: the call is certain.
    fn announce(&mut self, shared: &mut Shared, out: &mut Vec<ToolEvent>) {
        let Stage::Object(object) = &mut self.stage else { return };
        if shared.streams
            && let Some(name) = object.name.take()
        {
            shared.start(name, out);
            emit(out, ToolEvent::ToolCallArguments("{".to_owned()));
            object.progress = Progress::Streaming { all: true };
            self.original.clear();
        }
    }

    fn object(&mut self, c: char, shared: &mut Shared, out: &mut Vec<ToolEvent>) -> Turn {
        let Stage::Object(object) = &mut self.stage else { return self.broken() };
        let before = object.scanner.text().len();
        let mark = object.scanner.push(c);
        if mark == Mark::Broken {
            if matches!(object.progress, Progress::Streaming { .. } | Progress::Streamed) {
                emit(out, ToolEvent::ToolCallEnd);
                self.original.clear();
            }
            return self.broken();
        }
        if let Progress::Streaming { all } = object.progress {
            emit(out, ToolEvent::ToolCallArguments(object.scanner.text()[before..].to_owned()));
            if !all && mark == Mark::ValueEnds {
                object.progress = Progress::Streamed;
            }
        } else {
            self.original.push(c);
        }
        let known_key = |key: &str, keys: &[&str]| keys.contains(&key);
        match mark {
            Mark::Key if object.progress == Progress::Unknown && self.strict => {
                let key = object.scanner.key();
                if ![&NAME_KEYS[..], &ARGUMENT_KEYS, &OTHER_KEYS].iter().any(|keys| known_key(key, keys)) {
                    return self.broken_behind(c);
                }
            }
            Mark::ValueBegins if c == '{' && object.progress == Progress::Unknown && shared.streams => {
                if known_key(object.scanner.key(), &ARGUMENT_KEYS)
                    && let Some(name) = object.name.take()
                {
                    shared.start(name, out);
                    emit(out, ToolEvent::ToolCallArguments("{".to_owned()));
                    object.progress = Progress::Streaming { all: false };
                    self.original.clear();
                }
            }
            Mark::ValueEnds if object.progress == Progress::Unknown => {
                let (key, value) = (object.scanner.key(), object.scanner.value());
                if known_key(key, &NAME_KEYS) && value.starts_with('"') {
                    let name: String = serde_json::from_str(value).unwrap_or_default();
                    if name.is_empty() || self.strict && !shared.knows(&name) {
                        return self.broken_behind(c);
                    }
                    object.name = Some(name);
                } else if known_key(key, &ARGUMENT_KEYS) && value.starts_with('{') {
                    object.arguments = Some(value.to_owned());
                }
            }
            Mark::Done => {
                match object.progress {
                    Progress::Streaming { .. } | Progress::Streamed => emit(out, ToolEvent::ToolCallEnd),
                    Progress::Arguments => {
                        let name = object.name.take().unwrap_or_default();
                        whole(name, object.scanner.text().to_owned(), shared, out);
                    }
                    Progress::Unknown => {
                        let Some(calls) = object
                            .calls()
                            .filter(|calls| !self.strict || calls.iter().all(|call| shared.knows(&call.0)))
                        else {
                            return self.broken_behind(c);
                        };
                        for (name, arguments) in calls {
                            whole(name, arguments, shared, out);
                        }
                    }
                }
                self.original.clear();
                self.stage = Stage::After { n_closer: 0 };
            }
            _ => {}
        }
        Turn::More
    }

    /// No call, though the character could be read: it was kept already, and comes again.
    fn broken_behind(&mut self, c: char) -> Turn {
        debug_assert!(self.original.ends_with(c));
        self.original.pop();
        self.broken()
    }

    fn after(&mut self, c: char) -> Turn {
        let Stage::After { n_closer } = &mut self.stage else { return self.broken() };
        if self.closer[*n_closer..].starts_with(c) {
            *n_closer += c.len_utf8();
            self.original.push(c);
            return if *n_closer == self.closer.len() { Turn::Closed } else { Turn::More };
        }
        if *n_closer > 0 {
            return Turn::Left(std::mem::take(&mut self.original));
        }
        match c {
            c if c.is_whitespace() => {}
            ']' if self.in_list => self.in_list = false,
            ',' if self.in_list => self.stage = Stage::Next,
            ';' if !self.in_list => self.stage = Stage::Next,
            '{' => self.stage = object(c),
            _ => return Turn::Left(std::mem::take(&mut self.original)),
        }
        self.original.push(c);
        Turn::More
    }

    /// Gives the calls in `text`; the text behind them, or nothing if there are none. `closed`: nothing may be behind.
    fn read(
        &mut self,
        text: &str,
        closed: bool,
        shared: &mut Shared,
        out: &mut Vec<ToolEvent>,
    ) -> Option<String> {
        let (calls, rest) = match self.syntax {
            Syntax::JsonOrTags | Syntax::Tags => (markup::tags(text, &shared.tools)?, ""),
            Syntax::Markers => (markup::markers(text)?, ""),
            Syntax::Notation => (markup::notation(text)?, ""),
            _ => self.python(text, closed, shared)?,
        };
        for (name, arguments) in calls {
            whole(name, Value::Object(arguments).to_string(), shared, out);
        }
        self.original.clear();
        Some(rest.to_owned())
    }

    fn python<'t>(
        &self,
        code: &'t str,
        closed: bool,
        shared: &Shared,
    ) -> Option<(Vec<markup::Call>, &'t str)> {
        let (calls, rest) = python::calls(code).filter(|(_, rest)| !closed || rest.trim().is_empty())?;
        let mut ready = Vec::with_capacity(calls.len());
        for mut call in calls {
            let tool = shared.tools.iter().find(|tool| tool.name == call.name);
            if self.strict && tool.is_none() {
                return None;
            }
            let names = tool.map_or(&[][..], |Tool { parameters, .. }| parameters);
            if call.positional.len() > names.len() {
                return None;
            }
            for (name, value) in names.iter().zip(call.positional) {
                call.named.insert(name.clone(), value);
            }
            ready.push((call.name, call.named));
        }
        Some((ready, rest))
    }
}

/// The stage at the first brace of a call.
fn object(brace: char) -> Stage {
    let mut scanner = Scanner::new();
    scanner.push(brace);
    Stage::Object(Box::new(Object { scanner, name: None, arguments: None, progress: Progress::Unknown }))
}

/// The stage at the first brace of the arguments of `name`.
fn arguments(name: String, brace: char) -> Stage {
    let mut scanner = Scanner::new();
    scanner.push(brace);
    Stage::Object(Box::new(Object {
        scanner,
        name: Some(name),
        arguments: None,
        progress: Progress::Arguments,
    }))
}

fn whole(name: String, arguments: String, shared: &mut Shared, out: &mut Vec<ToolEvent>) {
    shared.start(name, out);
    emit(out, ToolEvent::ToolCallArguments(arguments));
    emit(out, ToolEvent::ToolCallEnd);
}

impl Object {
    /// The calls in an object that is whole.
    fn calls(&mut self) -> Option<Vec<(String, String)>> {
        if let (Some(name), Some(arguments)) = (self.name.take(), self.arguments.take()) {
            return Some(vec![(name, arguments)]);
        }
        let value: Value = serde_json::from_str(self.scanner.text()).ok()?;
        match value.get("tool_calls") {
            Some(Value::Array(calls)) if !calls.is_empty() => calls.iter().map(call).collect(),
            _ => call(&value).map(|call| vec![call]),
        }
    }
}

/// Reads `{"name": .., "arguments": ..}`, or `{"function": {..}}` around it.
fn call(value: &Value) -> Option<(String, String)> {
    if let Some(function @ Value::Object(_)) = value.get("function") {
        return call(function);
    }
    let name = NAME_KEYS.iter().find_map(|key| value.get(key)?.as_str()).filter(|name| !name.is_empty())?;
    let arguments = match ARGUMENT_KEYS.iter().find_map(|key| value.get(key)) {
        // Arguments as text, as the API of OpenAI writes them.
        Some(Value::String(text)) => {
            serde_json::from_str::<serde_json::Map<String, Value>>(text).ok()?;
            text.clone()
        }
        Some(object @ Value::Object(_)) => object.to_string(),
        None | Some(Value::Null) => "{}".to_owned(),
        Some(_) => return None,
    };
    Some((name.to_owned(), arguments))
}
