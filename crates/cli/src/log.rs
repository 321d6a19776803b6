//! What the crates below log, on standard error, one line for an event: as text, or as a JSON object with `ts` (seconds
//! since 1970), `level`, `target`, `message` and the fields of the event. Spans are not shown: an event says itself what
//! it is about.

use std::fmt::{self, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: a JSON object on each line.
    Json,
}

struct Lines<W> {
    most: Level,
    format: Format,
    write: W,
}

/// Shows events of our own crates up to `most`.
pub(crate) fn init(most: Level, format: Format) {
    // Fails only when called twice.
    let _ = tracing::subscriber::set_global_default(Lines { most, format, write: |line| note!("{line}") });
}

impl<W: Fn(String) + Send + Sync + 'static> Subscriber for Lines<W> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.most && metadata.target().starts_with("whit")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(self.most.into())
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        (self.write)(match self.format {
            Format::Text => {
                let mut line = Line::default();
                event.record(&mut line);
                format!("{level}: {}: {}{}", metadata.target(), line.message, line.fields)
            }
            Format::Json => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let mut object = Object(Map::new());
                object.0.insert("ts".to_owned(), json!(since.as_millis() as f64 / 1e3));
                object.0.insert("level".to_owned(), json!(level));
                object.0.insert("target".to_owned(), json!(metadata.target()));
                event.record(&mut object);
                Value::Object(object.0).to_string()
            }
        });
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        // What came from outside stays on its line.
        match value.contains(char::is_control) {
            true => self.record_debug(field, &value),
            false => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string cannot fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

struct Object(Map<String, Value>);

impl Visit for Object {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), json!(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), json!(format!("{value:?}")));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// The line of an event.
    fn lines(format: Format) -> Vec<String> {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&written);
        let lines = Lines { most: Level::INFO, format, write: move |line| sink.lock().unwrap().push(line) };
        tracing::subscriber::with_default(lines, || {
            let no_model: Option<&str> = None;
            tracing::info!(target: "whit_server", id = "r1", status = 200u64, model = no_model, who = "a\nb", "request");
            tracing::debug!(target: "whit_server", "too fine");
            tracing::error!(target: "somebody", "not ours");
        });
        written.lock().unwrap().clone()
    }

    #[test]
    fn text_is_one_line() {
        assert_eq!(lines(Format::Text), ["info: whit_server: request id=r1 status=200 who=\"a\\nb\""]);
    }

    #[test]
    fn json_is_one_object() {
        let lines = lines(Format::Json);
        assert_eq!(lines.len(), 1);
        let mut object: Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(object["ts"].as_f64().unwrap() > 1.7e9);
        object.as_object_mut().unwrap().remove("ts");
        let expected = json!({"level": "info", "target": "whit_server", "message": "request",
                              "id": "r1", "status": 200, "who": "a\nb"});
        assert_eq!(object, expected);
    }
}
