//! How long an idle model stays loaded, as clients and settings write it: seconds, or a duration as Go writes it.

use std::time::Duration;

use serde_json::Value;

use super::ConfigError;

/// How long an idle model stays loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepAlive {
    /// For this long after its last request.
    For(Duration),
    /// Until the server stops.
    Forever,
}

impl Default for KeepAlive {
    /// Five minutes, as with Ollama.
    fn default() -> Self {
        KeepAlive::For(Duration::from_secs(300))
    }
}

impl KeepAlive {
    /// Reads a number of seconds or a duration such as `10m` or `1h30m`; negative is forever.
    ///
    /// # Errors
    /// [`ConfigError::Value`] for anything else.
    pub fn parse(text: &str) -> Result<KeepAlive, ConfigError> {
        let bad = || ConfigError::Value {
            name: "keep_alive".to_owned(),
            got: text.to_owned(),
            wanted: "a number of seconds, or a duration such as `10m` or `1h30m`; negative is forever",
        };
        let (negative, digits) = match text.trim().strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.trim()),
        };
        let seconds = match digits.parse::<f64>() {
            Ok(seconds) => seconds,
            Err(_) => go_duration(digits).ok_or_else(bad)?,
        };
        if !seconds.is_finite() {
            return Err(bad());
        }
        Ok(KeepAlive::of_seconds(if negative { -seconds } else { seconds }))
    }

    /// As [`parse`](Self::parse), from a JSON number or string.
    pub(crate) fn from_json(value: &Value) -> Result<KeepAlive, ConfigError> {
        match value {
            Value::Number(number) => Ok(KeepAlive::of_seconds(number.as_f64().unwrap_or(-1.0))),
            Value::String(text) => KeepAlive::parse(text),
            other => KeepAlive::parse(&other.to_string()),
        }
    }

    fn of_seconds(seconds: f64) -> KeepAlive {
        if seconds < 0.0 {
            return KeepAlive::Forever;
        }
        // A hundred years are as good as forever.
        Duration::try_from_secs_f64(seconds)
            .ok()
            .filter(|time| time.as_secs() < 3_153_600_000)
            .map_or(KeepAlive::Forever, KeepAlive::For)
    }
}

/// Seconds of a duration as Go writes it: `1h30m`, `1.5s`, `300ms`.
fn go_duration(text: &str) -> Option<f64> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        };
        total += number * unit;
        rest = &rest[end..];
    }
    (!text.is_empty()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alives() {
        let seconds = |s: f64| Some(KeepAlive::For(Duration::from_secs_f64(s)));
        for (json, expected) in [
            (serde_json::json!(0), seconds(0.0)),
            (serde_json::json!(30), seconds(30.0)),
            (serde_json::json!(1.5), seconds(1.5)),
            (serde_json::json!(-1), Some(KeepAlive::Forever)),
            (serde_json::json!("10m"), seconds(600.0)),
            (serde_json::json!("1h30m"), seconds(5400.0)),
            (serde_json::json!("300ms"), seconds(0.3)),
            (serde_json::json!("60"), seconds(60.0)),
            (serde_json::json!("-1m"), Some(KeepAlive::Forever)),
            (serde_json::json!(1e300), Some(KeepAlive::Forever)),
            (serde_json::json!("soon"), None),
            (serde_json::json!("5"), seconds(5.0)),
            (serde_json::json!("inf"), None),
            (serde_json::json!(""), None),
            (serde_json::json!(true), None),
        ] {
            assert_eq!(KeepAlive::from_json(&json).ok(), expected, "{json}");
        }
    }
}
