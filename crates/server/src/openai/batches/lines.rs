//! The input of a batch: one request a line, each with an id of its own. All of it is checked before any of it is answered.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};

use serde_json::{Map, Value};

use super::BatchError;

/// Requests of a batch, as with OpenAI.
const MAX_REQUESTS: usize = 50_000;
/// Wrong lines that are told of.
const MAX_ERRORS: usize = 100;
/// Characters of an id.
const ID_LENGTH: usize = 512;

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    /// Counted from 1.
    pub(super) number: usize,
    pub(super) custom_id: String,
    pub(super) body: Value,
}

/// Reads requests.
pub(super) struct Lines {
    reader: BufReader<File>,
    number: usize,
    /// Bytes of a line, as of the body of a live request.
    limit: usize,
}

/// What a line is.
enum Read {
    End,
    TooLong,
    Text(Vec<u8>),
}

impl Lines {
    pub(super) fn new(file: File, limit: usize) -> Lines {
        Lines { reader: BufReader::new(file), number: 0, limit }
    }

    /// The next request of a file that was checked.
    pub(super) fn next(&mut self, endpoint: &str) -> io::Result<Option<Line>> {
        match self.read()? {
            Read::End => Ok(None),
            Read::TooLong => Err(io::Error::other("a line that was checked is too long")),
            Read::Text(text) => match parse(&text, endpoint, self.number) {
                Ok(line) => Ok(Some(line)),
                Err(error) => Err(io::Error::other(error.message)),
            },
        }
    }

    /// The next line that is not empty.
    fn read(&mut self) -> io::Result<Read> {
        loop {
            let mut text = Vec::new();
            let n = self.reader.by_ref().take(self.limit as u64 + 1).read_until(b'\n', &mut text)?;
            self.number += 1;
            if n == 0 {
                return Ok(Read::End);
            }
            if n > self.limit {
                return Ok(Read::TooLong);
            }
            let text =
                if self.number == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text) } else { &text };
            if !text.iter().all(u8::is_ascii_whitespace) {
                return Ok(Read::Text(text.to_vec()));
            }
        }
    }
}

/// How many requests there are, or what is wrong with them.
pub(super) fn check(mut lines: Lines, endpoint: &str) -> io::Result<Result<usize, Vec<BatchError>>> {
    let mut ids = HashSet::new();
    let mut errors = Vec::new();
    let mut n_lines = 0;
    while errors.len() < MAX_ERRORS {
        let text = match lines.read()? {
            Read::End => break,
            Read::Text(text) => text,
            Read::TooLong => {
                let text = format!("This line is longer than {} bytes.", lines.limit);
                errors.push(wrong("line_too_long", text, None, Some(lines.number)));
                break;
            }
        };
        n_lines += 1;
        if n_lines > MAX_REQUESTS {
            let text = format!("The input file has more than {MAX_REQUESTS} requests.");
            errors.push(wrong("too_many_tasks", text, None, None));
            break;
        }
        match parse(&text, endpoint, lines.number) {
            Err(error) => errors.push(error),
            Ok(line) => {
                if !ids.insert(line.custom_id) {
                    let text =
                        "The custom_id of this request is that of another one. It must be unique in a batch.";
                    let place = (Some("custom_id"), Some(lines.number));
                    errors.push(wrong("duplicate_custom_id", text, place.0, place.1));
                }
            }
        }
    }
    if n_lines == 0 && errors.is_empty() {
        let text = "The input file is empty. Please ensure that the batch contains at least one request.";
        errors.push(wrong("empty_file", text, None, None));
    }
    Ok(if errors.is_empty() { Ok(n_lines) } else { Err(errors) })
}

pub(super) fn wrong(
    code: &str,
    message: impl Into<String>,
    param: Option<&str>,
    line: Option<usize>,
) -> BatchError {
    BatchError { code: code.to_owned(), message: message.into(), param: param.map(str::to_owned), line }
}

fn parse(text: &[u8], endpoint: &str, number: usize) -> Result<Line, BatchError> {
    let wrong = |code: &str, text: &str, param: Option<&str>| Err(wrong(code, text, param, Some(number)));
    let missing = |name: &str| {
        wrong("missing_required_parameter", &format!("Missing required parameter: '{name}'."), Some(name))
    };
    let Ok(Value::Object(mut request)) = serde_json::from_slice::<Value>(text) else {
        return wrong("invalid_json_line", "This line is not parseable as valid JSON.", None);
    };
    let word = |request: &Map<String, Value>, name: &str| {
        request.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let Some(custom_id) = word(&request, "custom_id") else { return missing("custom_id") };
    if custom_id.chars().count() > ID_LENGTH {
        let text = format!("The custom_id is longer than {ID_LENGTH} characters.");
        return wrong("string_above_max_length", &text, Some("custom_id"));
    }
    match word(&request, "method") {
        None => return missing("method"),
        Some(method) if method == "POST" => {}
        Some(_) => return wrong("invalid_method", "The method of a request must be POST.", Some("method")),
    }
    match word(&request, "url") {
        None => return missing("url"),
        Some(url) if url == endpoint => {}
        Some(_) => {
            let text = "The URL of this request is not the endpoint of the batch.";
            return wrong("url_mismatch", text, Some("url"));
        }
    }
    let Some(body) = request.get_mut("body").filter(|body| body.is_object()).map(Value::take) else {
        return missing("body");
    };
    if body.get("model").and_then(Value::as_str).is_none() {
        return missing("body.model");
    }
    if body.get("stream").is_some_and(|stream| stream != &Value::Bool(false) && !stream.is_null()) {
        return wrong("invalid_value", "Requests of a batch cannot be streamed.", Some("body.stream"));
    }
    Ok(Line { number, custom_id, body })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::io::{Seek as _, Write as _};

    use serde_json::json;

    use super::*;

    const URL: &str = "/v1/completions";

    fn lines(text: &str) -> Lines {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        Lines::new(file, 300)
    }

    fn line(id: &str) -> Value {
        json!({"custom_id": id, "method": "POST", "url": URL, "body": {"model": "m", "prompt": "p"}})
    }

    #[test]
    fn requests() {
        let text = format!("\u{feff}{}\n\n  \r\n{}", line("a"), line("b"));
        assert_eq!(check(lines(&text), URL).unwrap(), Ok(2));
        let mut lines = lines(&text);
        let body = json!({"model": "m", "prompt": "p"});
        for (number, id) in [(1, "a"), (4, "b")] {
            let expected = Line { number, custom_id: id.to_owned(), body: body.clone() };
            assert_eq!(lines.next(URL).unwrap(), Some(expected));
        }
        assert_eq!(lines.next(URL).unwrap(), None);
    }

    #[test]
    fn what_is_wrong() {
        let with = |place: &str, value: Value| {
            let mut line = line("a");
            *line.pointer_mut(place).unwrap() = value;
            line.to_string()
        };
        let long = format!("{}\n", "x".repeat(400));
        for (text, code, param, number) in [
            ("", "empty_file", None, None),
            ("\n \n", "empty_file", None, None),
            ("{\"custom_id\": ", "invalid_json_line", None, Some(1)),
            ("\n[1]\n", "invalid_json_line", None, Some(2)),
            (&long, "line_too_long", None, Some(1)),
            (&with("/custom_id", Value::Null), "missing_required_parameter", Some("custom_id"), Some(1)),
            (&with("/custom_id", json!("")), "missing_required_parameter", Some("custom_id"), Some(1)),
            (&with("/method", Value::Null), "missing_required_parameter", Some("method"), Some(1)),
            (&with("/method", json!("GET")), "invalid_method", Some("method"), Some(1)),
            (&with("/url", json!("/v1/embeddings")), "url_mismatch", Some("url"), Some(1)),
            (&with("/body", json!("x")), "missing_required_parameter", Some("body"), Some(1)),
            (&with("/body/model", Value::Null), "missing_required_parameter", Some("body.model"), Some(1)),
            (
                &with("/body/prompt", json!("x")).replace("\"prompt\":", "\"stream\":"),
                "invalid_value",
                Some("body.stream"),
                Some(1),
            ),
            (&format!("{}\n{}\n", line("a"), line("a")), "duplicate_custom_id", Some("custom_id"), Some(2)),
        ] {
            let errors = check(lines(text), URL).unwrap().unwrap_err();
            let got = (errors[0].code.as_str(), errors[0].param.as_deref(), errors[0].line);
            assert_eq!((errors.len(), got), (1, (code, param, number)), "{text}");
        }
        let many: String = (0..MAX_REQUESTS + 1).map(|n| format!("{}\n", line(&n.to_string()))).collect();
        assert_eq!(check(lines(&many), URL).unwrap().unwrap_err()[0].code, "too_many_tasks");
    }
}
