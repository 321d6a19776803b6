//! Arguments that are no JSON object, by the properties of their schema: tags, Python, Google's notation.
//!
//! The properties that are required come first, the others behind them, each in the order of the schema.

use serde_json::{Map, Value};
use whit_sample::{Mark, Pattern, SampleError};
use whit_text::tools::is_text;

/// Objects in objects that notation has.
const MAX_DEPTH: usize = 16;
/// Optional properties without a required one before them; a pattern for each that may come first.
const MAX_OPTIONAL: usize = 24;
/// What only JSON can be bound to.
const OF_TEXT: [&str; 5] = ["pattern", "format", "minLength", "maxLength", "contentEncoding"];

fn refuse<T>(place: &str, reason: &str) -> Result<T, SampleError> {
    Err(SampleError::Schema { place: place.to_owned(), reason: reason.to_owned() })
}

/// A property: its name, its schema by itself, and whether it is required.
struct Property<'s> {
    name: &'s str,
    schema: Value,
    required: bool,
}

/// The properties of an object, the required ones first; nothing if it may have any.
fn properties<'s>(schema: &'s Value) -> Result<Option<Vec<Property<'s>>>, SampleError> {
    const PLAIN: [&str; 9] = [
        "type",
        "properties",
        "required",
        "additionalProperties",
        "$defs",
        "definitions",
        "title",
        "description",
        "$schema",
    ];
    let Some(map) = schema.as_object() else { return Ok(None) };
    if map.get("additionalProperties") != Some(&Value::Bool(false)) && !map.contains_key("properties") {
        return Ok(None);
    }
    if let Some(key) = map.keys().find(|key| !PLAIN.contains(&key.as_str())) {
        return refuse(
            "#",
            &format!("`{key}` cannot be enforced in the way in which this model writes arguments"),
        );
    }
    let names: Vec<&str> = map
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let all = map.get("properties").and_then(Value::as_object);
    if let Some(name) = names.iter().find(|name| !all.is_some_and(|all| all.contains_key(**name))) {
        return refuse("#/required", &format!("`{name}` is required, but is not among the properties"));
    }
    let property = |(name, inner): (&'s String, &'s Value)| Property {
        name,
        schema: with_definitions(inner, schema),
        required: names.contains(&name.as_str()),
    };
    let mut found: Vec<Property<'s>> = all.into_iter().flatten().map(property).collect();
    found.sort_by_key(|property| !property.required);
    Ok(Some(found))
}

/// A part of a schema by itself: references count from the root.
fn with_definitions(part: &Value, root: &Value) -> Value {
    let mut part = part.clone();
    if let Value::Object(map) = &mut part {
        for place in ["$defs", "definitions"] {
            if let Some(definitions) = root.get(place) {
                map.entry(place).or_insert_with(|| definitions.clone());
            }
        }
    }
    part
}

/// Whether a value is written as text; if so, the texts that the schema lists, if it lists them.
fn text(schema: &Value) -> Option<Option<Vec<&str>>> {
    is_text(schema).then(|| match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(values)), _) => Some(values.iter().filter_map(Value::as_str).collect()),
        (_, Some(value)) => Some(value.as_str().into_iter().collect()),
        _ => None,
    })
}

/// Free text, or one of those that the schema lists, and the mark behind it.
fn text_until(schema: &Value, listed: Option<Vec<&str>>, end: Mark) -> Result<Pattern, SampleError> {
    if let Some(key) = OF_TEXT.iter().find(|key| schema.get(**key).is_some()) {
        return refuse(
            "#",
            &format!("`{key}` cannot be enforced in the way in which this model writes text"),
        );
    }
    Ok(match listed {
        None => Pattern::Until(end),
        Some(texts) => Pattern::Sequence(vec![
            Pattern::Choice(texts.into_iter().map(Pattern::text).collect()),
            Pattern::Mark(end),
        ]),
    })
}

/// The parts, each optional one as it may be there or not, with `separator` between.
fn separated(parts: Vec<(Pattern, bool)>, separator: &str) -> Result<Pattern, SampleError> {
    let n_optional = parts.iter().filter(|part| !part.1).count();
    let with_separator = |part: &(Pattern, bool)| {
        let pattern = Pattern::Sequence(vec![Pattern::text(separator), part.0.clone()]);
        if part.1 { pattern } else { pattern.optional() }
    };
    let chain = |parts: &[(Pattern, bool)]| {
        let Some((first, rest)) = parts.split_first() else { return Pattern::Blank(0) };
        Pattern::Sequence([first.0.clone()].into_iter().chain(rest.iter().map(with_separator)).collect())
    };
    if n_optional < parts.len() {
        return Ok(chain(&parts));
    }
    if n_optional > MAX_OPTIONAL {
        return refuse(
            "#/properties",
            &format!("more than {MAX_OPTIONAL} properties, none of them required"),
        );
    }
    let mut starts: Vec<Pattern> = (0..parts.len()).map(|at| chain(&parts[at..])).collect();
    starts.push(Pattern::Blank(0));
    Ok(Pattern::Choice(starts))
}

/// `<function=name><parameter=key>value</parameter></function>`
pub(super) fn tags(name: &str, schema: &Value) -> Result<Pattern, SampleError> {
    // The line end before it is the writer's, and no part of the value.
    let end = || Mark::Text("</parameter>".to_owned());
    let line = || Pattern::text("\n");
    let mut parts = vec![Pattern::text(format!("<function={name}>\n"))];
    match properties(schema)? {
        None => {
            let key = Pattern::Opening {
                before: "<parameter=[a-zA-Z0-9_.-]{1,64}".to_owned(),
                mark: ">\n".to_owned(),
            };
            let one = Pattern::Sequence(vec![key, Pattern::Until(end()), line()]);
            parts.push(one.repeated());
        }
        Some(properties) => {
            for property in properties {
                let open = Pattern::text(format!("<parameter={}>\n", property.name));
                let value = match text(&property.schema) {
                    None => Pattern::Sequence(vec![
                        Pattern::Json(property.schema.clone()),
                        line(),
                        Pattern::Mark(end()),
                    ]),
                    Some(listed @ Some(_)) => {
                        text_until(&property.schema, listed, Mark::Text("\n</parameter>".to_owned()))?
                    }
                    Some(None) => text_until(&property.schema, None, end())?,
                };
                let one = Pattern::Sequence(vec![open, value, line()]);
                parts.push(if property.required { one } else { one.optional() });
            }
        }
    }
    parts.push(Pattern::text("</function>"));
    Ok(Pattern::Sequence(parts))
}

/// `name(key=value, key=value)`, the values in JSON, which Python reads but for three words.
/// Nothing for arguments of any name.
pub(super) fn python(name: &str, schema: &Value) -> Result<Option<Pattern>, SampleError> {
    let Some(properties) = properties(schema)? else { return Ok(None) };
    let mut parts = Vec::with_capacity(properties.len());
    for property in properties {
        if property.name.is_empty() || !property.name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            return refuse(
                "#/properties",
                &format!("`{}` is no name of an argument in Python", property.name),
            );
        }
        let value = Pattern::Json(property.schema);
        let one = Pattern::Sequence(vec![Pattern::text(format!("{}=", property.name)), value]);
        parts.push((one, property.required));
    }
    let list = separated(parts, ", ")?;
    Ok(Some(Pattern::Sequence(vec![Pattern::text(format!("{name}(")), list, Pattern::text(")")])))
}

/// Google's notation: `call:name{key:<escape>text<escape>,other:1}`.
pub(super) struct Notation {
    /// What stands around text.
    pub(super) quote: Mark,
}

impl Notation {
    pub(super) fn call(&self, name: &str, schema: &Value) -> Result<Pattern, SampleError> {
        Ok(Pattern::Sequence(vec![Pattern::text(format!("call:{name}")), self.object(schema, 0)?]))
    }

    fn object(&self, schema: &Value, depth: usize) -> Result<Pattern, SampleError> {
        let Some(properties) = properties(schema)? else { return Ok(self.any()) };
        let mut parts = Vec::with_capacity(properties.len());
        for property in properties {
            if property.name.contains([':', ',', '{', '}']) {
                return refuse("#/properties", &format!("`{}` is no name in the notation", property.name));
            }
            let value = self.value(&property.schema, depth + 1)?;
            let one = Pattern::Sequence(vec![Pattern::text(format!("{}:", property.name)), value]);
            parts.push((one, property.required));
        }
        let list = separated(parts, ",")?;
        Ok(Pattern::Sequence(vec![Pattern::text("{"), list, Pattern::text("}")]))
    }

    /// An object of any properties that are text, numbers, `true`, `false` or `null`.
    fn any(&self) -> Pattern {
        let quote = || Pattern::Mark(self.quote.clone());
        let scalar = serde_json::json!({"type": ["number", "boolean", "null"]});
        let text = Pattern::Sequence(vec![quote(), Pattern::Until(self.quote.clone())]);
        let name = Pattern::Opening { before: "[a-zA-Z0-9_.-]{1,64}".to_owned(), mark: ":".to_owned() };
        let pair = Pattern::Sequence(vec![name, Pattern::Choice(vec![Pattern::Json(scalar), text])]);
        let more = Pattern::Sequence(vec![Pattern::text(","), pair.clone()]).repeated();
        let pairs = Pattern::Sequence(vec![pair, more]).optional();
        Pattern::Sequence(vec![Pattern::text("{"), pairs, Pattern::text("}")])
    }

    fn value(&self, schema: &Value, depth: usize) -> Result<Pattern, SampleError> {
        if depth > MAX_DEPTH {
            return refuse("#", "objects are nested too deeply for the notation of this model");
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| schema.pointer(pointer));
            let Some(target) = target.filter(|target| target.is_object()) else {
                return refuse("#", "a reference leads nowhere");
            };
            return self.value(&with_definitions(target, schema), depth + 1);
        }
        if let Some(listed) = text(schema) {
            let rest = text_until(schema, listed, self.quote.clone())?;
            return Ok(Pattern::Sequence(vec![Pattern::Mark(self.quote.clone()), rest]));
        }
        match schema.get("type").and_then(Value::as_str) {
            Some("integer" | "number" | "boolean" | "null") => Ok(Pattern::Json(schema.clone())),
            Some("object") => self.object(schema, depth),
            Some("array") => {
                const PLAIN: [&str; 4] = ["type", "items", "description", "title"];
                let keys = schema.as_object().into_iter().flat_map(Map::keys);
                let unknown = keys
                    .map(String::as_str)
                    .find(|key| !PLAIN.contains(key) && !["$defs", "definitions"].contains(key));
                let Some(items) = schema.get("items").filter(|_| unknown.is_none()) else {
                    return refuse("#", "this list cannot be enforced in the notation of this model");
                };
                let item = self.value(items, depth + 1)?;
                let more = Pattern::Sequence(vec![Pattern::text(","), item.clone()]).repeated();
                let items = Pattern::Sequence(vec![item, more]).optional();
                Ok(Pattern::Sequence(vec![Pattern::text("["), items, Pattern::text("]")]))
            }
            _ => refuse("#", "a value of several types cannot be enforced in the notation of this model"),
        }
    }
}
