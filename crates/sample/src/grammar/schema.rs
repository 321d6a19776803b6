//! Looks through a JSON schema before the parser gets it: what it would misread, or refuse without saying where.
//!
//! Keywords: JSON Schema draft 2020-12 (<https://json-schema.org/draft/2020-12>).

use std::collections::BTreeMap;

use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value, json};

use super::compile;
use crate::SampleError;

/// Values in a schema, of every kind.
const MAX_VALUES: usize = 20_000;
/// Bytes in keys and strings of a schema.
const MAX_BYTES: usize = 1 << 20;
/// Levels of a schema, as a value.
const MAX_DEPTH: usize = 64;
/// Bytes of a `pattern`.
const MAX_PATTERN: usize = 4 << 10;
/// Integers up to which a double, which the parser reckons with, is exact.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// Between tokens of JSON: a space, or a line end and an indentation.
const WHITESPACE: &str = r"[\x20]|\r?\n[\x20\x09]{0,40}";

/// Keywords that constrain, and that cannot be enforced.
const REFUSED: [&str; 16] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
    "contentSchema",
];
const FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
/// Formats that the parser has too loosely, as patterns: RFC 3339 with its days of each month and year, without leap seconds.
const DATE: &str = r"([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)-02-29)";
const TIME: &str =
    r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,9})?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])";
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// The schema as the parser takes it.
pub(super) fn check(schema: &Value) -> Result<Value, SampleError> {
    let mut size = Size::default();
    size.count(schema, 0)?;
    let mut checker = Checker { root: schema, place: "#".to_owned() };
    let mut normal = match checker.schema(schema)? {
        Value::Object(map) => map,
        Value::Bool(true) => Map::new(),
        _ => return Err(fault("#", "false allows nothing")),
    };
    if !is_finite(schema) {
        let reason = "every value would have to hold another like it, without end, or what false forbids; make something \
                      in it optional";
        return Err(fault("#", reason));
    }
    normal.insert("x-guidance".into(), json!({ "whitespace_pattern": WHITESPACE }));
    Ok(Value::Object(normal))
}

/// Finds the innermost part that the parser refuses by itself, and puts its place in the error.
pub(super) fn blame(schema: &Value, body: &GrammarWithLexer, error: SampleError) -> SampleError {
    const MOST_TRIES: usize = 200;
    let SampleError::Grammar { reason, .. } = error else { return error };
    let mut found = ("#".to_owned(), reason);
    let mut tries = 0;
    let root = body.json_schema.as_ref().unwrap_or(schema);
    let mut parts = children(root, "#");
    while let Some((place, part)) = parts.pop() {
        if tries == MOST_TRIES {
            break;
        }
        // By itself, a reference leads nowhere.
        if !part.is_object() || has_reference(part) {
            parts.extend(children(part, &place));
            continue;
        }
        tries += 1;
        if let Err(reason) = compile::compile(vec![GrammarWithLexer::from_json_schema(part.clone())]) {
            parts = children(part, &place);
            found = (place, reason);
        }
    }
    SampleError::Schema { place: found.0, reason: found.1 }
}

fn fault(place: &str, reason: impl Into<String>) -> SampleError {
    SampleError::Schema { place: place.to_owned(), reason: reason.into() }
}

/// How much of a schema there is.
#[derive(Default)]
struct Size {
    values: usize,
    bytes: usize,
}

impl Size {
    fn count(&mut self, value: &Value, depth: usize) -> Result<(), SampleError> {
        self.values += 1;
        let too_much =
            |what, got, most| Err(SampleError::GrammarTooLarge { kind: "JSON schema", what, got, most });
        if depth > MAX_DEPTH {
            return too_much("levels", depth, MAX_DEPTH);
        }
        if self.values > MAX_VALUES {
            return too_much("values", self.values, MAX_VALUES);
        }
        match value {
            Value::String(text) => self.bytes += text.len(),
            Value::Array(items) => items.iter().try_for_each(|item| self.count(item, depth + 1))?,
            Value::Object(map) => {
                for (key, value) in map {
                    self.bytes += key.len();
                    self.count(value, depth + 1)?;
                }
            }
            _ => {}
        }
        if self.bytes > MAX_BYTES { too_much("bytes of text", self.bytes, MAX_BYTES) } else { Ok(()) }
    }
}

/// Walks the schema; `place` is where it stands.
struct Checker<'s> {
    root: &'s Value,
    place: String,
}

impl Checker<'_> {
    fn fail<T>(&self, reason: impl Into<String>) -> Result<T, SampleError> {
        Err(fault(&self.place, reason))
    }

    /// Does `work` one step further down.
    fn at<T>(
        &mut self,
        key: &str,
        work: impl FnOnce(&mut Self) -> Result<T, SampleError>,
    ) -> Result<T, SampleError> {
        let n = self.place.len();
        self.place.push('/');
        self.place.push_str(&escape(key));
        let result = work(self)?;
        self.place.truncate(n);
        Ok(result)
    }

    fn schema(&mut self, schema: &Value) -> Result<Value, SampleError> {
        let map = match schema {
            Value::Bool(_) => return Ok(schema.clone()),
            Value::Object(map) => map,
            _ => return self.fail("a schema is an object, true or false"),
        };
        let mut normal = Map::new();
        for (key, value) in map {
            if let Some(value) = self.at(key, |checker| checker.keyword(key, value))? {
                normal.insert(key.clone(), value);
            }
        }
        self.check_counts(map)?;
        let pattern = match map.get("format").and_then(Value::as_str) {
            Some("date") => Some(format!("^{DATE}$")),
            Some("time") => Some(format!("^{TIME}$")),
            Some("date-time") => Some(format!("^{DATE}[tT]{TIME}$")),
            _ => None,
        };
        if let Some(pattern) = pattern {
            let all = normal.entry("allOf").or_insert_with(|| json!([]));
            if let Value::Array(all) = all {
                all.push(json!({ "pattern": pattern }));
            }
        }
        Ok(Value::Object(normal))
    }

    /// The keyword's value as the parser takes it; `None`: it is left out.
    fn keyword(&mut self, key: &str, value: &Value) -> Result<Option<Value>, SampleError> {
        let unchanged = Ok(Some(value.clone()));
        match key {
            "properties" | "patternProperties" | "$defs" | "definitions" => {
                let Value::Object(map) = value else { return self.fail("an object of schemas is needed") };
                let mut normal = Map::new();
                for (name, schema) in map {
                    if key == "patternProperties" {
                        self.at(name, |checker| checker.pattern(name))?;
                    }
                    normal.insert(name.clone(), self.at(name, |checker| checker.schema(schema))?);
                }
                Ok(Some(Value::Object(normal)))
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => self.list(value),
            "items" if value.is_array() => self.list(value),
            "items" | "additionalProperties" | "additionalItems" => Ok(Some(self.schema(value)?)),
            "const" => {
                self.exact(value)?;
                unchanged
            }
            "enum" => match value.as_array() {
                Some(values) if !values.is_empty() => {
                    values.iter().try_for_each(|value| self.exact(value))?;
                    unchanged
                }
                _ => self.fail("a list of at least one value is needed"),
            },
            "type" => {
                let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
                let holds = match value {
                    Value::Array(types) => !types.is_empty() && types.iter().all(is_type),
                    _ => is_type(value),
                };
                if holds {
                    unchanged
                } else {
                    self.fail(format!("{value} is no type; there are {}", TYPES.join(" ")))
                }
            }
            "required" => {
                let is_list = value.as_array().is_some_and(|names| names.iter().all(Value::is_string));
                if is_list { unchanged } else { self.fail("a list of names is needed") }
            }
            "pattern" => match value.as_str() {
                Some(pattern) => self.pattern(pattern).and(unchanged),
                None => self.fail("a string is needed"),
            },
            "format" => match value.as_str() {
                Some("date" | "time" | "date-time") => Ok(None),
                Some(format) if FORMATS.contains(&format) => unchanged,
                _ => self.fail(format!(
                    "the format {value} cannot be enforced, only {}; leave it out, or write a pattern",
                    FORMATS.join(" ")
                )),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" => match value {
                Value::Number(_) => self.exact(value).and(unchanged),
                // Draft 4.
                Value::Bool(_) if key.starts_with("exclusive") => unchanged,
                _ => self.fail("a number is needed"),
            },
            "multipleOf" => match value.as_f64() {
                Some(number) if number > 0.0 => self.exact(value).and(unchanged),
                _ => self.fail("a number above 0 is needed"),
            },
            "minItems" | "maxItems" | "minLength" | "maxLength" | "minProperties" | "maxProperties" => {
                match value.as_u64() {
                    Some(_) => unchanged,
                    None => self.fail("a whole number, 0 or more, is needed"),
                }
            }
            "$ref" => match value.as_str() {
                Some(reference) => self.reference(reference).and(unchanged),
                None => self.fail("a string is needed"),
            },
            // Without effect, these need no enforcing.
            "uniqueItems" if *value == Value::Bool(false) => Ok(None),
            "uniqueItems" => {
                self.fail("uniqueItems cannot be enforced; leave it out, and remove doubles from the answer")
            }
            "x-guidance" => self.fail("options of the parser are not for schemas; leave them out"),
            _ if REFUSED.contains(&key) => {
                self.fail(format!("{key} cannot be enforced; say it by other keywords"))
            }
            "$schema" | "title" | "description" | "default" | "examples" | "$comment" | "$id" | "id" => {
                Ok(None)
            }
            // An annotation.
            _ => Ok(None),
        }
    }

    fn list(&mut self, value: &Value) -> Result<Option<Value>, SampleError> {
        let Some(schemas) = value.as_array().filter(|list| !list.is_empty()) else {
            return self.fail("a list of at least one schema is needed");
        };
        let normal = schemas
            .iter()
            .enumerate()
            .map(|(index, schema)| self.at(&index.to_string(), |checker| checker.schema(schema)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Some(Value::Array(normal)))
    }

    fn check_counts(&self, map: &Map<String, Value>) -> Result<(), SampleError> {
        let count = |key: &str| map.get(key).and_then(Value::as_u64);
        for (min, max) in
            [("minItems", "maxItems"), ("minLength", "maxLength"), ("minProperties", "maxProperties")]
        {
            if let (Some(least), Some(most)) = (count(min), count(max))
                && least > most
            {
                return self.fail(format!("{min} {least} is more than {max} {most}"));
            }
        }
        // The parser does not compare names that it makes up, so it could give one twice.
        let n_required = map.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        if count("minProperties").is_some_and(|least| least > n_required.max(1)) {
            return self.fail("minProperties cannot be enforced beyond the number of required properties");
        }
        Ok(())
    }

    /// Refuses numbers that the parser would round.
    fn exact(&self, value: &Value) -> Result<(), SampleError> {
        match value {
            Value::Number(number) => match number.as_f64() {
                Some(float) if float.abs() < MAX_EXACT => Ok(()),
                _ => self.fail(format!("{number} is beyond the whole numbers that are exact, up to 2^53")),
            },
            Value::Array(items) => items.iter().try_for_each(|item| self.exact(item)),
            Value::Object(map) => map.values().try_for_each(|value| self.exact(value)),
            _ => Ok(()),
        }
    }

    fn pattern(&self, pattern: &str) -> Result<(), SampleError> {
        if pattern.len() > MAX_PATTERN {
            return self.fail(format!(
                "the pattern has {} bytes, but at most {MAX_PATTERN} are allowed",
                pattern.len()
            ));
        }
        Ok(())
    }

    fn reference(&self, reference: &str) -> Result<(), SampleError> {
        let is_plain = reference == "#" || reference.starts_with("#/");
        if !is_plain || reference.contains(['~', '%']) {
            return self.fail(format!(
                "{reference} cannot be followed: only references within the schema can (#/$defs/name), without escapes"
            ));
        }
        match resolve(self.root, reference) {
            Some(Value::Object(_) | Value::Bool(_)) => Ok(()),
            _ => self.fail(format!("there is no schema at {reference}")),
        }
    }
}

/// A key as a JSON pointer has it.
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

fn resolve<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    match reference.strip_prefix('#')? {
        "" | "/" => Some(root),
        pointer => root.pointer(pointer),
    }
}

/// The schemas directly within one, with their places.
fn children<'s>(schema: &'s Value, place: &str) -> Vec<(String, &'s Value)> {
    let mut found = Vec::new();
    let Some(map) = schema.as_object() else { return found };
    for (key, value) in map {
        let place = format!("{place}/{}", escape(key));
        match (key.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(map)) => {
                found.extend(map.iter().map(|(name, schema)| (format!("{place}/{}", escape(name)), schema)));
            }
            ("anyOf" | "oneOf" | "allOf" | "prefixItems" | "items", Value::Array(list)) => {
                found.extend(
                    list.iter().enumerate().map(|(index, schema)| (format!("{place}/{index}"), schema)),
                );
            }
            ("items" | "additionalProperties" | "additionalItems", schema) => found.push((place, schema)),
            _ => {}
        }
    }
    found
}

fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key("$ref") || map.values().any(has_reference),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

/// Whether some finite value can meet the schema, as far as its shape tells: a property that is required and needs the
/// whole again does not end.
fn is_finite(root: &Value) -> bool {
    // The references that are known to end; each round finds those that end by the ones found before.
    let mut ends = BTreeMap::new();
    loop {
        let n_known = ends.len();
        let root_ends = finite(root, root, &mut ends);
        if root_ends || ends.len() == n_known {
            return root_ends;
        }
    }
}

/// One round from `schema` down. References are looked up, and looked into once per round.
fn finite<'s>(root: &'s Value, schema: &'s Value, ends: &mut BTreeMap<String, ()>) -> bool {
    let mut references = Vec::new();
    collect_references(root, &mut references);
    for reference in references {
        if !ends.contains_key(reference)
            && resolve(root, reference).is_some_and(|target| ends_by(target, ends))
        {
            ends.insert(reference.to_owned(), ());
        }
    }
    ends_by(schema, ends)
}

fn collect_references<'s>(schema: &'s Value, found: &mut Vec<&'s str>) {
    match schema {
        Value::Object(map) => {
            if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
                found.push(reference);
            }
            map.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

/// Whether the schema ends if the references in `ends` do and no other does.
fn ends_by(schema: &Value, ends: &BTreeMap<String, ()>) -> bool {
    let map = match schema {
        Value::Bool(allows) => return *allows,
        Value::Object(map) => map,
        _ => return true,
    };
    if map.contains_key("const") || map.contains_key("enum") {
        return true;
    }
    if map.get("$ref").and_then(Value::as_str).is_some_and(|reference| !ends.contains_key(reference)) {
        return false;
    }
    let list = |key: &str| map.get(key).and_then(Value::as_array);
    if ["anyOf", "oneOf"]
        .iter()
        .any(|key| list(key).is_some_and(|all| !all.iter().any(|one| ends_by(one, ends))))
    {
        return false;
    }
    if list("allOf").is_some_and(|all| !all.iter().all(|one| ends_by(one, ends))) {
        return false;
    }
    // A value of another type would do where the type is open.
    let may_be_only = |name: &str| map.get("type").is_some_and(|one| one == name);
    if may_be_only("object") {
        let properties = map.get("properties").and_then(Value::as_object);
        let names = list("required").into_iter().flatten().filter_map(Value::as_str);
        for name in names {
            let schema = properties.and_then(|all| all.get(name)).or(map.get("additionalProperties"));
            if schema.is_some_and(|schema| !ends_by(schema, ends)) {
                return false;
            }
        }
    }
    if may_be_only("array") {
        let least = map.get("minItems").and_then(Value::as_u64).unwrap_or(0) as usize;
        let first = list("prefixItems").map_or(&[][..], Vec::as_slice);
        if first.iter().take(least).any(|item| !ends_by(item, ends)) {
            return false;
        }
        if least > first.len() && map.get("items").is_some_and(|item| !ends_by(item, ends)) {
            return false;
        }
    }
    true
}
