//! JSON Schema: whatever is drawn at random under a schema is valid by an independent validator (the crate `jsonschema`),
//! and what cannot be enforced is refused with its place.
#![expect(clippy::unwrap_used, reason = "a test may")]

use serde_json::{Value, json};
use whit_sample::{Grammar, GrammarVocabulary, Rng, SampleError};

const EOS: u32 = 256;

/// One token per byte, one to end with, and some longer ones as real vocabularies have them.
fn tokens() -> Vec<Vec<u8>> {
    let longer = [
        "\": ", "\", \"", "\"}", "{\"", "\"]", "[]", "{}", "},", "true", "false", "null", "12", "00", "0.",
        "-1", "a", "name", "é", "\\\"", "\\u00", " \"", "\n  ", "2024-", "T1", "@", "://",
    ];
    let mut tokens: Vec<Vec<u8>> = (0..=255u8).map(|byte| vec![byte]).collect();
    tokens.push(Vec::new());
    tokens.extend(longer.map(|text| text.as_bytes().to_vec()));
    tokens
}

fn vocabulary(tokens: &[Vec<u8>]) -> GrammarVocabulary {
    GrammarVocabulary::new(tokens.len(), (0..).zip(tokens).map(|(id, token)| (id, token, false)), &[EOS])
        .unwrap()
}

/// Draws a text. What closes becomes likelier with every step, so that it ends.
fn draw(vocabulary: &GrammarVocabulary, tokens: &[Vec<u8>], grammar: &Grammar, seed: u64) -> String {
    let mut rng = Rng::new(seed);
    let mut state = vocabulary.start(grammar).unwrap();
    let mut text = Vec::new();
    let mut weights = vec![0.0; tokens.len()];
    for step in 0..4_000 {
        let mask = state.mask().unwrap();
        for (id, weight) in weights.iter_mut().enumerate() {
            let closes = id == EOS as usize || matches!(tokens[id].as_slice(), [b'"' | b'}' | b']']);
            let allowed = mask[id / 32] >> (id % 32) & 1 == 1;
            *weight = match (allowed, closes) {
                (false, _) => 0.0,
                (true, false) => 1.0,
                (true, true) => 1.0 + 0.2 * f64::from(step),
            };
        }
        let mut goal = rng.next_f64() * weights.iter().sum::<f64>();
        let reaches = |weight: &f64| {
            goal -= weight;
            *weight > 0.0 && goal <= 0.0
        };
        let id = weights.iter().position(reaches).unwrap_or(EOS as usize);
        state.accept(id as u32).unwrap();
        text.extend_from_slice(&tokens[id]);
        if state.is_complete() {
            return String::from_utf8(text).unwrap();
        }
    }
    panic!("no end: {}", String::from_utf8_lossy(&text));
}

/// What is between is refused by the validator, so the schemas are what they seem.
fn schemas() -> Vec<Value> {
    let object = |properties: Value, required: Value| json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false });
    vec![
        // Types.
        json!({ "type": "null" }),
        json!({ "type": "boolean" }),
        json!({ "type": "integer" }),
        json!({ "type": "number" }),
        json!({ "type": "string" }),
        json!({ "type": "array" }),
        json!({ "type": "object" }),
        json!({ "type": ["string", "null"] }),
        json!({ "type": ["integer", "boolean", "array"] }),
        json!(true),
        json!({}),
        json!({ "title": "anything", "description": "at all", "default": 1, "examples": [1], "x-order": 3, "nullable": true }),
        // Values.
        json!({ "enum": ["red", "green", "blue"] }),
        json!({ "enum": [1, "one", null, true, [1, 2], { "a": 1 }] }),
        json!({ "enum": ["a\"b", "c\\d", "é\n"] }),
        json!({ "const": "fixed" }),
        json!({ "const": 42 }),
        json!({ "const": -1.5 }),
        json!({ "const": { "a": [1, { "b": null }] } }),
        json!({ "type": "string", "enum": ["x", "y"] }),
        // Objects.
        object(json!({ "a": { "type": "integer" } }), json!(["a"])),
        object(json!({ "a": { "type": "integer" }, "b": { "type": "string" } }), json!(["b"])),
        object(json!({ "a": { "type": "integer" }, "b": { "type": "string" } }), json!([])),
        object(json!({}), json!([])),
        json!({ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] }),
        json!({ "type": "object", "additionalProperties": { "type": "integer" } }),
        json!({ "type": "object", "properties": { "a": { "type": "boolean" } }, "additionalProperties": { "type": "string" } }),
        json!({ "type": "object", "required": ["unnamed"] }),
        json!({ "type": "object", "required": ["unnamed"], "additionalProperties": { "type": "null" } }),
        json!({ "type": "object", "patternProperties": { "^n_": { "type": "number" } }, "additionalProperties": false }),
        json!({ "type": "object", "minProperties": 1 }),
        json!({ "type": "object", "maxProperties": 1, "additionalProperties": { "type": "integer" } }),
        json!({ "properties": { "a": { "type": "integer" } } }),
        object(
            json!({ "user": object(json!({ "name": { "type": "string" }, "tags": { "type": "array", "items": { "type": "string" } } }), json!(["name", "tags"])) }),
            json!(["user"]),
        ),
        object(
            json!({ "a": object(json!({ "b": object(json!({ "c": { "type": "null" } }), json!(["c"])) }), json!(["b"])) }),
            json!(["a"]),
        ),
        object(
            json!({ "ключ": { "type": "integer" }, "with \"quotes\"": { "type": "null" }, "a/b~c": { "type": "boolean" } }),
            json!(["ключ", "with \"quotes\"", "a/b~c"]),
        ),
        object(
            json!({ "title": { "type": "string" }, "default": { "type": "integer" }, "not": { "const": 1 }, "format": { "const": 2 } }),
            json!(["title", "default", "not", "format"]),
        ),
        // Arrays.
        json!({ "type": "array", "items": { "type": "integer" } }),
        json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2 }),
        json!({ "type": "array", "items": { "type": "integer" }, "maxItems": 2 }),
        json!({ "type": "array", "items": { "type": "boolean" }, "minItems": 3, "maxItems": 3 }),
        json!({ "type": "array", "minItems": 1, "maxItems": 4 }),
        json!({ "type": "array", "maxItems": 0 }),
        json!({ "type": "array", "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": false, "minItems": 2 }),
        json!({ "type": "array", "prefixItems": [{ "type": "integer" }], "items": { "type": "null" } }),
        json!({ "type": "array", "items": { "type": "array", "items": { "type": "number" }, "minItems": 1 }, "minItems": 1 }),
        json!({ "type": "array", "items": object(json!({ "id": { "type": "integer" } }), json!(["id"])), "uniqueItems": false }),
        // Choices.
        json!({ "anyOf": [{ "type": "integer" }, { "type": "string", "maxLength": 3 }] }),
        json!({ "anyOf": [object(json!({ "a": { "const": 1 } }), json!(["a"])), object(json!({ "b": { "const": 2 } }), json!(["b"]))] }),
        json!({ "oneOf": [{ "type": "integer" }, { "type": "string" }] }),
        json!({ "oneOf": [object(json!({ "kind": { "const": "cat" } }), json!(["kind"])), object(json!({ "kind": { "const": "dog" }, "age": { "type": "integer" } }), json!(["kind"]))] }),
        json!({ "allOf": [{ "type": "integer", "minimum": 3 }, { "maximum": 9 }] }),
        json!({ "allOf": [{ "type": "object", "properties": { "a": { "type": "integer" } }, "required": ["a"] }, { "type": "object", "properties": { "b": { "type": "null" } }, "required": ["b"] }] }),
        json!({ "type": "object", "properties": { "a": { "anyOf": [{ "type": "null" }, { "type": "integer", "maximum": 0 }] } }, "required": ["a"] }),
        // References.
        json!({ "$defs": { "id": { "type": "integer" } }, "$ref": "#/$defs/id" }),
        json!({ "definitions": { "p": object(json!({ "x": { "type": "number" } }), json!(["x"])) }, "type": "array", "items": { "$ref": "#/definitions/p" } }),
        json!({ "$defs": { "node": { "type": "object", "properties": { "value": { "type": "integer" }, "next": { "anyOf": [{ "$ref": "#/$defs/node" }, { "type": "null" }] } }, "required": ["value", "next"], "additionalProperties": false } }, "$ref": "#/$defs/node" }),
        json!({ "type": "object", "properties": { "children": { "type": "array", "items": { "$ref": "#" } } }, "required": ["children"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "first": { "type": "string", "enum": ["x"] }, "second": { "$ref": "#/properties/first" } }, "required": ["first", "second"] }),
        // Numbers.
        json!({ "type": "integer", "minimum": 0 }),
        json!({ "type": "integer", "minimum": -5, "maximum": 117 }),
        json!({ "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 3 }),
        json!({ "type": "integer", "minimum": -1_000_000, "maximum": -999 }),
        json!({ "type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 100_000 }),
        json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        json!({ "type": "number", "exclusiveMinimum": 0.5, "exclusiveMaximum": 0.75 }),
        json!({ "type": "number", "minimum": -273.15 }),
        json!({ "minimum": 10 }),
        // Strings.
        json!({ "type": "string", "minLength": 3 }),
        json!({ "type": "string", "maxLength": 5 }),
        json!({ "type": "string", "minLength": 2, "maxLength": 2 }),
        json!({ "type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$" }),
        json!({ "type": "string", "pattern": "^.{0,3}ab+c" }),
        json!({ "type": "string", "pattern": "^\\d{4}-\\w+$", "maxLength": 12 }),
        json!({ "type": "string", "pattern": "^(\\+|-)?[0-9]{1,3}(/[a-f\\\\\"]+)?$" }),
        json!({ "type": "string", "format": "date" }),
        json!({ "type": "string", "format": "time" }),
        json!({ "type": "string", "format": "date-time" }),
        json!({ "type": ["string", "null"], "format": "date", "pattern": "^2024-02-.*" }),
        json!({ "type": "string", "format": "hostname", "maxLength": 40 }),
        json!({ "type": "string", "format": "ipv6" }),
        json!({ "type": "string", "format": "duration" }),
        json!({ "type": "string", "format": "uuid" }),
        json!({ "type": "string", "format": "ipv4" }),
        json!({ "type": "string", "format": "email", "maxLength": 40 }),
        // As clients send them.
        json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Pet", "type": "object", "properties": {
            "name": { "type": "string", "description": "how it is called", "minLength": 1, "maxLength": 20 },
            "age": { "anyOf": [{ "type": "integer", "minimum": 0, "maximum": 40 }, { "type": "null" }], "default": null },
            "species": { "$ref": "#/$defs/Species" },
            "toys": { "type": "array", "items": { "type": "string", "maxLength": 8 }, "maxItems": 3 } },
            "$defs": { "Species": { "enum": ["cat", "dog"], "type": "string" } },
            "required": ["name", "species", "toys"], "additionalProperties": false }),
        json!({ "type": "object", "properties": { "steps": { "type": "array", "minItems": 1, "items": { "type": "object", "properties": { "explanation": { "type": "string" }, "output": { "type": "string" } }, "required": ["explanation", "output"], "additionalProperties": false } }, "final_answer": { "type": "string" } }, "required": ["steps", "final_answer"], "additionalProperties": false }),
    ]
}

#[test]
fn what_is_drawn_is_valid() {
    let tokens = tokens();
    let vocabulary = vocabulary(&tokens);
    let schemas = schemas();
    assert!(schemas.len() >= 60);
    let mut wrong = Vec::new();
    for (number, schema) in schemas.iter().enumerate() {
        let validator = jsonschema::options().should_validate_formats(true).build(schema).unwrap();
        let grammar = match Grammar::json_schema(schema) {
            Ok(grammar) => grammar,
            Err(error) => {
                wrong.push(format!("{schema}\n  refused: {error}"));
                continue;
            }
        };
        for seed in 0..12 {
            let text = draw(&vocabulary, &tokens, &grammar, seed * 1_000 + number as u64);
            match serde_json::from_str::<Value>(&text) {
                Ok(value) if validator.is_valid(&value) => {}
                // RFC 8259 sets numbers no range; this reader does.
                Err(error) if error.to_string().starts_with("number out of range") => {}
                Ok(_) => wrong.push(format!("{schema}\n  allowed {text}")),
                Err(error) => wrong.push(format!("{schema}\n  is no JSON ({error}): {text}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn json_is_an_object() {
    let tokens = tokens();
    let vocabulary = vocabulary(&tokens);
    let grammar = Grammar::json().unwrap();
    for seed in 0..20 {
        let text = draw(&vocabulary, &tokens, &grammar, seed);
        assert!(serde_json::from_str::<Value>(&text).unwrap().is_object(), "{text}");
    }
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let property = |schema: Value| json!({ "type": "object", "properties": { "a/b": schema } });
    let cases: Vec<(Value, &str, &str)> = vec![
        (json!(false), "#", "false allows nothing"),
        (json!(7), "#", "a schema is an object"),
        (json!("object"), "#", "a schema is an object"),
        (json!({ "type": "strin" }), "#/type", "no type"),
        (json!({ "type": [] }), "#/type", "no type"),
        (json!({ "enum": [] }), "#/enum", "at least one value"),
        (json!({ "anyOf": [] }), "#/anyOf", "at least one schema"),
        (json!({ "anyOf": [{}, { "not": {} }] }), "#/anyOf/1/not", "not cannot be enforced"),
        (property(json!({ "if": {} })), "#/properties/a~1b/if", "cannot be enforced"),
        (
            property(json!({ "type": "array", "uniqueItems": true })),
            "#/properties/a~1b/uniqueItems",
            "cannot be enforced",
        ),
        (json!({ "type": "array", "contains": { "type": "integer" } }), "#/contains", "cannot be enforced"),
        (json!({ "propertyNames": { "pattern": "a" } }), "#/propertyNames", "cannot be enforced"),
        (json!({ "dependentRequired": { "a": ["b"] } }), "#/dependentRequired", "cannot be enforced"),
        (json!({ "unevaluatedProperties": false }), "#/unevaluatedProperties", "cannot be enforced"),
        (json!({ "type": "string", "format": "iri" }), "#/format", "leave it out"),
        (json!({ "type": "string", "format": "unknown" }), "#/format", "leave it out"),
        (json!({ "type": "string", "pattern": "a(" }), "#", "unclosed group"),
        (property(json!({ "type": "string", "pattern": "(?=a)" })), "#/properties/a~1b", "look-around"),
        (json!({ "type": "string", "pattern": "a".repeat(9_000) }), "#/pattern", "9000 bytes"),
        (json!({ "type": "string", "pattern": 3 }), "#/pattern", "a string"),
        (json!({ "type": "string", "minLength": -1 }), "#/minLength", "whole number"),
        (json!({ "type": "string", "minLength": 3, "maxLength": 2 }), "#", "more than maxLength 2"),
        (json!({ "type": "integer", "minimum": 3, "maximum": 2 }), "#", ""),
        (json!({ "type": "integer", "exclusiveMinimum": 2, "exclusiveMaximum": 3 }), "#", ""),
        (property(json!({ "type": "number", "minimum": "3" })), "#/properties/a~1b/minimum", "a number"),
        (json!({ "multipleOf": 0 }), "#/multipleOf", "above 0"),
        (json!({ "const": 9_007_199_254_740_993u64 }), "#/const", "2^53"),
        (json!({ "type": "object", "minProperties": 2 }), "#", "minProperties"),
        (json!({ "required": "a" }), "#/required", "list of names"),
        (json!({ "properties": [] }), "#/properties", "object of schemas"),
        (json!({ "properties": { "a": 1 } }), "#/properties/a", "a schema is an object"),
        (json!({ "$ref": "#/$defs/missing" }), "#/$ref", "no schema at"),
        (json!({ "$ref": "https://example.com/schema.json" }), "#/$ref", "only references within"),
        (json!({ "$ref": "other.json#/a" }), "#/$ref", "only references within"),
        (
            json!({ "type": "object", "properties": { "a": { "$ref": "#" } }, "required": ["a"] }),
            "#",
            "without end",
        ),
        (json!({ "type": "array", "items": { "$ref": "#" }, "minItems": 1 }), "#", "without end"),
        (
            json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } }, "$ref": "#/$defs/a" }),
            "#",
            "without end",
        ),
        (json!({ "allOf": [{ "type": "integer" }, { "type": "string" }] }), "#", ""),
        (json!({ "type": "string", "const": 3 }), "#", ""),
        (json!({ "x-guidance": { "lenient": true }, "not": {} }), "#/x-guidance", "leave them out"),
        (json!({ "oneOf": [{ "type": "integer" }, { "minimum": 3 }] }), "#", "oneOf"),
        (json!({ "type": "object", "required": ["a"], "additionalProperties": false }), "#", ""),
    ];
    for (schema, expected_place, expected) in cases {
        match Grammar::json_schema(&schema) {
            Err(SampleError::Schema { place, reason }) => {
                assert_eq!(place, expected_place, "{schema}: {reason}");
                assert!(reason.contains(expected), "{schema}: {reason}");
                assert!(!reason.contains("backtrace") && reason.len() < 800, "{reason}");
            }
            other => panic!("{schema}: {other:?}"),
        }
    }
}

#[test]
fn schemas_have_limits() {
    let mut deep = json!({ "type": "integer" });
    for _ in 0..200 {
        deep = json!({ "type": "array", "items": deep });
    }
    let wide = json!({ "enum": (0..30_000).collect::<Vec<i32>>() });
    let long = json!({ "const": "x".repeat(2 << 20) });
    for (schema, expected) in [(&deep, "levels"), (&wide, "values"), (&long, "bytes of text")] {
        match Grammar::json_schema(schema) {
            Err(SampleError::GrammarTooLarge { what, .. }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

/// Schemas that would make the parser busy for long end in an error, in bounded time.
#[test]
fn costly_schemas_end() {
    let tokens = tokens();
    let vocabulary = vocabulary(&tokens);
    let chain = |n: usize| {
        let definitions = (0..n).map(|i| (format!("d{i}"), json!({ "anyOf": [{ "$ref": format!("#/$defs/d{}", i + 1) }, { "$ref": format!("#/$defs/d{}", i + 1) }] })));
        let mut all: serde_json::Map<String, Value> = definitions.collect();
        all.insert(format!("d{n}"), json!({ "type": "integer" }));
        json!({ "$defs": all, "$ref": "#/$defs/d0" })
    };
    let ambiguous = json!({ "anyOf": (0..200).map(|n| json!({ "type": "array", "items": { "type": "string", "minLength": n } })).collect::<Vec<_>>() });
    let repeats = json!({ "type": "string", "pattern": "^((a{1,50}){1,50}){1,50}b$" });
    let counted = json!({ "type": "array", "minItems": 1_000_000_000, "items": { "type": "string", "minLength": 1_000_000_000 } });
    for (name, schema) in
        [("chain", chain(2_000)), ("ambiguous", ambiguous), ("repeats", repeats), ("counted", counted)]
    {
        let start = std::time::Instant::now();
        let result = Grammar::json_schema(&schema).and_then(|grammar| {
            let mut state = vocabulary.start(&grammar)?;
            for byte in b"[\"aaaaaaaaaaaaaaaaaaaaaaaa" {
                state.mask()?;
                if state.accept(u32::from(*byte)).is_err() {
                    break;
                }
            }
            Ok(())
        });
        let time = start.elapsed();
        assert!(time.as_secs() < 20, "{name} took {time:?}: {result:?}");
    }
}
