//! Modelfiles: what a model is made from, and what it brings of its own, in lines that people write.
//!
//! ```text
//! # what stands behind a hash is left out
//! FROM smollm2
//! PARAMETER temperature 0.2
//! SYSTEM """You are brief.
//! You are kind."""
//! ```
//!
//! The language is Ollama's (its documentation of the Modelfile, and how its version 0.32 reads one): keywords in any
//! case, a value to the end of its line, or over several lines between quotes or triple quotes, without escapes. Text is
//! UTF-8, or UTF-16 that begins with a byte order mark. Left out: several FROM in one file. What only Ollama's own
//! engine understands (RENDERER, PARSER, DRAFT, REQUIRES) is read and named, for the caller to tell.

use serde_json::{Map, Value, json};

use crate::HubError;
use crate::extras::{Extras, MAX_EXTRA, parameter_value};

/// The roles that a message may have.
const ROLES: [&str; 3] = ["system", "user", "assistant"];

/// A Modelfile that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Modelfile {
    /// What the model is made from, and the line that says so: a model's name, or a path.
    pub from: (usize, String),
    /// Options and their values, as they were written, each with its line.
    pub parameters: Vec<(usize, String, String)>,
    /// An adapter on top of the weights, and its line.
    pub adapter: Option<(usize, String)>,
    /// Lines with instructions that say nothing to this program, and their keywords.
    pub unused: Vec<(usize, &'static str)>,
    /// Template, system message, messages and licences. Its parameters are those of [`parameters`](Self::parameters).
    pub extras: Extras,
}

impl Modelfile {
    /// Reads a Modelfile.
    pub fn read(bytes: &[u8]) -> Result<Modelfile, HubError> {
        if bytes.len() as u64 > MAX_EXTRA {
            return Err(wrong(1, format!("the file has more than {MAX_EXTRA} bytes, and is hardly one")));
        }
        Modelfile::parse(&decode(bytes)?)
    }

    fn parse(text: &str) -> Result<Modelfile, HubError> {
        let mut file = Modelfile::default();
        let mut stops: Vec<Value> = Vec::new();
        let mut from = None;
        let mut lines = (1..).zip(text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)));
        while let Some((line, text)) = lines.next() {
            let text = text.trim_start();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (keyword, rest) = word(text);
            let keyword = keyword.to_ascii_uppercase();
            let (what, rest) = match &*keyword {
                "PARAMETER" | "MESSAGE" => word(rest),
                _ => ("", rest),
            };
            let mut value = rest.to_owned();
            let value = loop {
                if let Some(whole) = unquote(value.trim()) {
                    break whole.to_owned();
                }
                let (_, more) =
                    lines.next().ok_or_else(|| wrong(line, "its quotes are never closed".to_owned()))?;
                value.push('\n');
                value.push_str(more);
            };
            if rest.trim().is_empty() && known(&keyword) {
                return Err(wrong(line, format!("{keyword} needs a value behind it")));
            }
            match &*keyword {
                "FROM" => match from.replace((line, value)) {
                    None => {}
                    Some(_) => {
                        return Err(wrong(line, "a second FROM; a model is made from one file".to_owned()));
                    }
                },
                "PARAMETER" => {
                    let name = what.to_ascii_lowercase();
                    if name == "stop" {
                        stops.push(value.clone().into());
                    } else {
                        file.extras.parameters.insert(name.clone(), parameter_value(&value));
                    }
                    file.parameters.push((line, name, value));
                }
                "TEMPLATE" => file.extras.set_template(value),
                "SYSTEM" => file.extras.system = Some(value),
                "LICENSE" => file.extras.licenses.push(value),
                "ADAPTER" => file.adapter = Some((line, value)),
                "MESSAGE" => match ROLES.iter().find(|role| what.eq_ignore_ascii_case(role)) {
                    Some(role) => file.extras.messages.push(json!({"role": role, "content": value})),
                    None => {
                        let problem =
                            format!("`{what}` is no role; a message is of `system`, `user` or `assistant`");
                        return Err(wrong(line, problem));
                    }
                },
                "REQUIRES" => file.unused.push((line, "REQUIRES")),
                "RENDERER" => file.unused.push((line, "RENDERER")),
                "PARSER" => file.unused.push((line, "PARSER")),
                "DRAFT" => file.unused.push((line, "DRAFT")),
                _ => {
                    let problem = format!(
                        "`{}` is no instruction; there are FROM, PARAMETER, TEMPLATE, SYSTEM, ADAPTER, MESSAGE and LICENSE",
                        keyword.escape_debug()
                    );
                    return Err(wrong(line, problem));
                }
            }
        }
        if !stops.is_empty() {
            file.extras.parameters.insert("stop".to_owned(), stops.into());
        }
        file.from = from.ok_or_else(|| {
            wrong(1, "no line says FROM; begin with `FROM NAME`, or `FROM ./model.gguf`".to_owned())
        })?;
        Ok(file)
    }

    /// A Modelfile that says this. What the language cannot hold is left out, and a comment in its place says so.
    pub fn write(from: &str, extras: &Extras) -> String {
        let mut text = format!("FROM {from}\n");
        let mut line = |instruction: &str, value: Option<String>| {
            match value {
            Some(value) => text.push_str(&format!("{instruction} {value}\n")),
            None => text.push_str(&format!(
                "# {instruction} is left out: one of its lines ends with triple quotes, which no Modelfile can hold\n"
            )),
        }
        };
        if let Some(template) = extras.template.as_ref().or(extras.go_template.as_ref()) {
            line("TEMPLATE", fenced(template));
        }
        if let Some(system) = &extras.system {
            line("SYSTEM", fenced(system));
        }
        for (name, value) in &extras.parameters {
            for value in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
                let value = match value {
                    Value::String(text) => quoted(text),
                    value => Some(value.to_string()),
                };
                line(&format!("PARAMETER {name}"), value);
            }
        }
        for message in &extras.messages {
            let (role, content) = (message["role"].as_str(), message["content"].as_str());
            if let (Some(role), Some(content)) = (role, content) {
                line(&format!("MESSAGE {role}"), quoted(content));
            }
        }
        for license in &extras.licenses {
            line("LICENSE", fenced(license));
        }
        text
    }
}

/// Options as lines of a name and a value, which is how Ollama shows them.
pub fn parameter_lines(parameters: &Map<String, Value>) -> String {
    let lines = parameters.iter().flat_map(|(name, value)| {
        let values = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
        values.iter().map(move |value| format!("{name:<30} {value}"))
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn wrong(line: usize, problem: String) -> HubError {
    HubError::Modelfile { line, problem }
}

fn known(keyword: &str) -> bool {
    const ALL: [&str; 11] = [
        "FROM",
        "PARAMETER",
        "TEMPLATE",
        "SYSTEM",
        "LICENSE",
        "ADAPTER",
        "MESSAGE",
        "REQUIRES",
        "RENDERER",
        "PARSER",
        "DRAFT",
    ];
    ALL.contains(&keyword)
}

/// The first word, and what follows it.
fn word(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once([' ', '\t']).unwrap_or((text.trim_end(), ""));
    (word, rest.trim_start_matches([' ', '\t']))
}

/// The text between quotes, or the text where it has none; `None` while quotes are open.
fn unquote(text: &str) -> Option<&str> {
    for quote in ["\"\"\"", "\""] {
        if let Some(rest) = text.strip_prefix(quote) {
            return rest.strip_suffix(quote);
        }
    }
    Some(text)
}

/// Between triple quotes; `None` where a line would end them.
fn fenced(text: &str) -> Option<String> {
    let mut before_last = text.rsplit('\n').skip(1);
    // A first line that is nothing but quotes closes what opens just before it.
    let ends = before_last.any(|line| line.trim_end().ends_with("\"\"\""));
    (!ends).then(|| format!("\"\"\"{text}\"\"\""))
}

/// As it is where that reads back as the same, else between quotes.
fn quoted(text: &str) -> Option<String> {
    let is_plain =
        !text.is_empty() && text.trim() == text && !text.starts_with('"') && !text.contains(['\n', '\r']);
    if is_plain {
        return Some(text.to_owned());
    }
    if text.contains(['\n', '\r', '"']) { fenced(text) } else { Some(format!("\"{text}\"")) }
}

/// UTF-8, or UTF-16 behind a byte order mark.
fn decode(bytes: &[u8]) -> Result<String, HubError> {
    let units = |from: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.get(2..).unwrap_or_default().as_chunks::<2>();
        let text = String::from_utf16(&pairs.iter().map(|pair| from(*pair)).collect::<Vec<u16>>()).ok();
        text.filter(|_| rest.is_empty())
            .ok_or_else(|| wrong(1, "it begins as UTF-16, and is none; save it as UTF-8".to_owned()))
    };
    match bytes {
        [0xff, 0xfe, ..] => units(u16::from_le_bytes),
        [0xfe, 0xff, ..] => units(u16::from_be_bytes),
        _ => {
            let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
            String::from_utf8(bytes.to_vec()).map_err(|error| {
                let before = &bytes[..error.utf8_error().valid_up_to()];
                let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
                wrong(line, "it is not UTF-8; save the file as UTF-8".to_owned())
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(text: &str) -> Modelfile {
        Modelfile::read(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_people_write_is_read() {
        let file = read(
            "# a comment\r\n\nFrom  smollm2:135m \r\nparameter temperature 0.2\nPARAMETER num_ctx 4096\n\
             PARAMETER stop \"User: \"\nPARAMETER stop <|end|>\nPARAMETER use_mmap true\n\
             SYSTEM \"\"\"You are \"kind\".\n\n# no comment\n\"\"\"\n  TEMPLATE {% for m in messages %}{{ m.content }}{% endfor %}\n\
             MESSAGE user Is it  # good? \nMESSAGE assistant \"\"\"Yes.\"\"\"\nLICENSE \"two\nlines\"\nLICENSE MIT\n\
             REQUIRES 0.14.0\n",
        );
        assert_eq!(file.from, (3, "smollm2:135m".to_owned()));
        let extras = &file.extras;
        let parameters =
            json!({"temperature": 0.2, "num_ctx": 4096, "use_mmap": true, "stop": ["User: ", "<|end|>"]});
        assert_eq!(Value::Object(extras.parameters.clone()), parameters);
        assert_eq!(extras.system.as_deref(), Some("You are \"kind\".\n\n# no comment\n"));
        assert_eq!(extras.template.as_deref(), Some("{% for m in messages %}{{ m.content }}{% endfor %}"));
        let messages = [
            json!({"role": "user", "content": "Is it  # good?"}),
            json!({"role": "assistant", "content": "Yes."}),
        ];
        assert_eq!(extras.messages, messages);
        assert_eq!(extras.licenses, ["two\nlines", "MIT"]);
        assert_eq!(file.unused, [(19, "REQUIRES")]);
        assert_eq!(file.parameters[1], (5, "num_ctx".to_owned(), "4096".to_owned()));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, line, problem) in [
            ("", 1, "no line says FROM"),
            ("SYSTEM hi", 1, "no line says FROM"),
            ("FROM a\n\nFORM b", 3, "`FORM` is no instruction"),
            ("FROM a\nFROM b", 2, "a second FROM"),
            ("FROM a\nSYSTEM \"\"\"x\ny", 2, "quotes are never closed"),
            ("FROM a\nSYSTEM \"\"\"", 2, "quotes are never closed"),
            ("FROM a\nSYSTEM", 2, "SYSTEM needs a value"),
            ("FROM a\nPARAMETER stop", 2, "PARAMETER needs a value"),
            ("FROM a\nMESSAGE robot x", 2, "`robot` is no role"),
        ] {
            match Modelfile::read(text.as_bytes()) {
                Err(HubError::Modelfile { line: got, problem: said }) => {
                    assert!(got == line && said.contains(problem), "{text:?}: line {got}: {said}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(Modelfile::read(b"FROM a\nSYSTEM \xff"), Err(HubError::Modelfile { line: 2, .. })));
        assert!(matches!(Modelfile::read(b"\xff\xfeF"), Err(HubError::Modelfile { line: 1, .. })));
    }

    #[test]
    fn utf_16_is_read_behind_its_mark() {
        let text = "FROM a\nSYSTEM é𝄞";
        let units = |to: fn(u16) -> [u8; 2]| {
            std::iter::once(0xfeff).chain(text.encode_utf16()).flat_map(to).collect::<Vec<u8>>()
        };
        for bytes in
            [units(u16::to_le_bytes), units(u16::to_be_bytes), format!("\u{feff}{text}").into_bytes()]
        {
            let file = Modelfile::read(&bytes).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((file.from.1.as_str(), file.extras.system.as_deref()), ("a", Some("é𝄞")));
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for text in [
            "plain",
            "two\nlines",
            "\n leading",
            "trailing \n\n",
            "\"quoted\"",
            "ends with \"",
            "\"\"\"",
            "\"\"\" a",
            " ",
            "# not a comment",
            "a # b",
            "tab\t",
            "\"",
            "FROM x\nFROM y",
        ] {
            let extras = Extras {
                system: Some(text.to_owned()),
                template: Some(text.to_owned()),
                parameters: Map::from_iter([
                    ("stop".to_owned(), json!([text, "x"])),
                    ("top_p".to_owned(), json!(0.5)),
                ]),
                messages: vec![json!({"role": "assistant", "content": text})],
                licenses: vec![text.to_owned()],
                go_template: None,
            };
            let written = Modelfile::write("some:model", &extras);
            let file = read(&written);
            assert_eq!((file.from.1.as_str(), &file.extras), ("some:model", &extras), "{text:?}: {written}");
        }
        let go = Extras { go_template: Some("{{ .Prompt }}".to_owned()), ..Extras::default() };
        assert_eq!(read(&Modelfile::write("a", &go)).extras, go);
        let system = Some("ends\nthe \"\"\"\ntext".to_owned());
        let written = Modelfile::write("a", &Extras { system, ..Extras::default() });
        assert!(written.contains("# SYSTEM is left out") && read(&written).extras.is_empty(), "{written}");
    }

    #[test]
    fn options_are_shown_in_columns() {
        let parameters =
            Map::from_iter([("stop".to_owned(), json!(["a", "b"])), ("top_k".to_owned(), json!(4))]);
        let stop = |text: &str| format!("stop{:27}\"{text}\"", "");
        assert_eq!(parameter_lines(&parameters), format!("{}\n{}\ntop_k{:26}4", stop("a"), stop("b"), ""));
    }
}
