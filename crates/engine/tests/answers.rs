//! Shapes of answers: whatever a grammar lets a model write is read back as calls with arguments that the schemas allow.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use serde_json::{Map, Value, json};
use whit_engine::{AnswerShape, CallChoice, Calls, Grammar, Thoughts};
use whit_sample::{GrammarState, GrammarVocabulary};
use whit_text::tools::{AnswerPart, AnswerReader, ThinkSplitter, ThinkTags, ToolFormat, ToolParser};
use whit_text::{Tokenizer, VocabSpec};

/// Every format, with the markers that may be control tokens.
const FORMATS: [(ToolFormat, &[&str]); 14] = [
    (ToolFormat::Hermes, &["<tool_call>", "</tool_call>"]),
    (ToolFormat::Tags, &["<tool_call>", "</tool_call>"]),
    (ToolFormat::Llama3, &["<|python_tag|>"]),
    (ToolFormat::Mistral, &["[TOOL_CALLS]"]),
    (ToolFormat::MistralNamed, &["[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"]),
    (ToolFormat::Phi4, &["<|tool_call|>", "<|/tool_call|>"]),
    (ToolFormat::Granite3, &["<|tool_call|>"]),
    (ToolFormat::FunctionGemma, &["<start_function_call>", "<end_function_call>", "<escape>"]),
    (ToolFormat::Gemma4, &["<|tool_call>", "<tool_call|>", "<|\"|>"]),
    (ToolFormat::Lfm2, &["<|tool_call_start|>", "<|tool_call_end|>"]),
    (
        ToolFormat::DeepSeek,
        &[
            "<｜tool▁calls▁begin｜>",
            "<｜tool▁call▁begin｜>",
            "<｜tool▁sep｜>",
            "<｜tool▁call▁end｜>",
            "<｜tool▁calls▁end｜>",
        ],
    ),
    (ToolFormat::Cohere, &["<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"]),
    (ToolFormat::Nemotron, &["<TOOLCALL>", "</TOOLCALL>"]),
    (ToolFormat::Json, &[]),
];
/// Texts that end what is free.
const ENDS: [&str; 4] = ["\n</parameter>\n", "</think>", "```", "<b>"];
const EOS: &str = "<|end|>";

/// Bytes as tokens, then `markers`, as control tokens or as text, then texts that end things, then the end.
struct Words {
    tokenizer: Tokenizer,
    vocabulary: GrammarVocabulary,
}

impl Words {
    fn new(markers: &[&str], are_control: bool) -> Words {
        // GPT-2's spelling of bytes: printable Latin-1 as itself, the others from U+0100 on.
        let mut shifted = 0x100u32;
        let mut texts: Vec<String> = (0..=255u32)
            .map(|byte| {
                let is_plain = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
                shifted += u32::from(!is_plain);
                char::from_u32(if is_plain { byte } else { shifted - 1 }).unwrap().to_string()
            })
            .collect();
        let mut kinds = vec![1; 256];
        for marker in markers {
            texts.push((*marker).to_owned());
            kinds.push(if are_control { 3 } else { 4 });
        }
        texts.extend(ENDS.iter().map(|text| (*text).to_owned()));
        kinds.extend([4; ENDS.len()]);
        texts.push(EOS.to_owned());
        kinds.push(3);
        let mut spec = VocabSpec::new("gpt2", texts.iter().map(|text| text.as_bytes()));
        spec.pre = Some("gpt-2");
        spec.kinds = kinds;
        spec.special.eos = Some(texts.len() as u32 - 1);
        let tokenizer = Tokenizer::new(spec).unwrap();
        let tokens: Vec<_> = (0..tokenizer.n_tokens() as u32)
            .map(|id| {
                let mut bytes = Vec::new();
                tokenizer.token_bytes(id, &mut bytes).unwrap();
                (id, bytes, tokenizer.is_control(id))
            })
            .collect();
        let eos = &tokenizer.special_ids().end_of_generation;
        let vocabulary = GrammarVocabulary::new(tokens.len(), tokens, eos).unwrap();
        Words { tokenizer, vocabulary }
    }

    fn start(&self, shape: &AnswerShape) -> GrammarState {
        self.vocabulary.start(&shape.grammar(&self.tokenizer).unwrap().unwrap()).unwrap()
    }

    /// A text as tokens: markers where they stand, else bytes.
    fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let special = (256..self.tokenizer.n_tokens() as u32).find_map(|id| {
                let spelling = std::str::from_utf8(self.tokenizer.token_text(id)?).ok()?;
                Some((id, rest.strip_prefix(spelling)?))
            });
            (rest, _) = match special {
                Some((id, rest)) => (rest, ids.push(id)),
                None => {
                    let c = rest.chars().next().unwrap();
                    (&rest[c.len_utf8()..], ids.extend(rest[..c.len_utf8()].bytes().map(u32::from)))
                }
            };
        }
        ids
    }

    /// Whether the grammar takes a text. `Err`: what it took of it.
    fn takes(&self, shape: &AnswerShape, text: &str) -> Result<bool, String> {
        let mut state = self.start(shape);
        let mut taken = Vec::new();
        for id in self.encode(text) {
            if state.accept(id).is_err() {
                return Err(String::from_utf8_lossy(&taken).into_owned());
            }
            self.tokenizer.token_bytes(id, &mut taken).unwrap();
        }
        Ok(state.may_end().unwrap())
    }

    /// What a reader makes of tokens, and their text.
    fn read(&self, mut reader: AnswerReader, ids: &[u32]) -> (Vec<AnswerPart>, String) {
        let (mut parts, mut text, mut held) = (Vec::new(), Vec::new(), Vec::new());
        for &id in ids {
            self.tokenizer.token_bytes(id, &mut text).unwrap();
            if self.tokenizer.is_control(id) {
                let spelling = std::str::from_utf8(self.tokenizer.token_text(id).unwrap()).unwrap();
                parts.extend(reader.control(spelling));
                continue;
            }
            self.tokenizer.token_bytes(id, &mut held).unwrap();
            if let Ok(whole) = std::str::from_utf8(&held) {
                parts.extend(reader.push(whole));
                held.clear();
            }
        }
        parts.extend(reader.finish());
        (parts, String::from_utf8_lossy(&text).into_owned())
    }
}

fn tools() -> Vec<Value> {
    let tool = |name: &str, parameters: Value| json!({"type": "function", "function": {"name": name, "parameters": parameters}});
    vec![
        tool(
            "weather",
            json!({"type": "object", "properties": {
            "unit": {"enum": ["C", "F"]}, "city": {"type": "string"}, "days": {"type": "integer"}, "on": {"type": "boolean"},
        }, "required": ["city", "days"]}),
        ),
        tool(
            "weather_now",
            json!({"type": "object", "properties": {
            "spot": {"$ref": "#/$defs/spot"}, "tags": {"type": "array", "items": {"type": "integer"}},
        }, "$defs": {"spot": {"type": "string", "enum": ["a b", "c"]}}}),
        ),
        tool("now", json!({"type": "object", "properties": {}})),
    ]
}

/// Whether arguments are what [`tools`] allow.
fn is_valid(name: &str, arguments: &Map<String, Value>) -> bool {
    let all = |check: &dyn Fn(&str, &Value) -> bool| arguments.iter().all(|(key, value)| check(key, value));
    match name {
        "weather" => {
            arguments.contains_key("city")
                && arguments.contains_key("days")
                && all(&|key, value| match key {
                    "unit" => value == "C" || value == "F",
                    "city" => value.is_string(),
                    "days" => {
                        value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
                    }
                    "on" => value.is_boolean(),
                    _ => false,
                })
        }
        "weather_now" => all(&|key, value| match key {
            "spot" => value == "a b" || value == "c",
            "tags" => value.as_array().is_some_and(|items| items.iter().all(Value::is_number)),
            _ => false,
        }),
        "now" => arguments.is_empty(),
        _ => false,
    }
}

fn shape(format: ToolFormat, choice: CallChoice, parallel: bool) -> AnswerShape {
    let calls = Calls { format, tools: tools(), choice, parallel };
    AnswerShape { calls: Some(calls), ..AnswerShape::default() }
}

/// A name and arguments.
type Call = (String, Map<String, Value>);

/// The calls of an answer; text beside them.
fn calls(parts: &[AnswerPart]) -> (Vec<Call>, String) {
    let (mut calls, mut text) = (Vec::<(String, String)>::new(), String::new());
    for part in parts {
        match part {
            AnswerPart::CallStart { name, .. } => calls.push((name.clone(), String::new())),
            AnswerPart::CallArguments(more) => calls.last_mut().unwrap().1.push_str(more),
            AnswerPart::Text(more) => text.push_str(more),
            AnswerPart::Thinking(_) | AnswerPart::CallEnd => {}
        }
    }
    let read = |(name, arguments): (String, String)| {
        (name, serde_json::from_str(&arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}")))
    };
    (calls.into_iter().map(read).collect(), text)
}

/// A writer that knows nothing: any token that may come, at last those that end things.
fn babble(state: &mut GrammarState, words: &Words, seed: u64) -> Vec<u32> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n as u64) as usize
    };
    let mut ids = Vec::new();
    while !state.is_complete() {
        assert!(ids.len() < 5_000, "without end");
        let mask = state.mask().unwrap();
        let n = words.tokenizer.n_tokens() as u32;
        let allowed: Vec<u32> = (0..n).filter(|&id| mask[id as usize / 32] >> (id % 32) & 1 == 1).collect();
        let (ends, rest): (Vec<u32>, Vec<u32>) =
            allowed.into_iter().partition(|&id| id >= 256 || b"\"}]),:".contains(&(id as u8)));
        // Bytes of no character, and of characters beyond ASCII, only seldom: whole ones are rare.
        let plain: Vec<u32> =
            rest.iter().copied().filter(|&id| (32..127).contains(&id) || id == 10).collect();
        let from = match () {
            () if ids.len() > 40 && !ends.is_empty() => &ends,
            () if !plain.is_empty() && next(3) > 0 || ends.is_empty() && !plain.is_empty() => &plain,
            () if !ends.is_empty() => &ends,
            () => &rest,
        };
        let id = from[next(from.len())];
        state.accept(id).unwrap();
        if words.tokenizer.is_end_of_generation(id) {
            break;
        }
        ids.push(id);
    }
    ids
}

#[test]
fn whatever_must_be_a_call_is_read_as_one() {
    let mut n = 0;
    for (format, markers) in FORMATS {
        for are_control in [true, false] {
            let words = Words::new(markers, are_control);
            for (choice, parallel) in [
                (CallChoice::Must, true),
                (CallChoice::Must, false),
                (CallChoice::MustBe("weather".into()), false),
            ] {
                let shape = shape(format, choice.clone(), parallel);
                let start = words.start(&shape);
                for seed in 0..12 {
                    let ids = babble(&mut start.clone(), &words, seed);
                    let reader = AnswerReader::new(None, Some(ToolParser::new(format, &tools())));
                    let (parts, text) = words.read(reader, &ids);
                    let (calls, beside) = calls(&parts);
                    let what = format!("{format:?} {are_control} {choice:?}: {text:?} gives {parts:?}");
                    assert!(!calls.is_empty() && beside.trim().is_empty(), "{what}");
                    assert!(parallel || calls.len() == 1, "{what}");
                    for (name, arguments) in &calls {
                        assert!(is_valid(name, arguments), "{what}");
                        assert!(choice == CallChoice::Must || name == "weather", "{what}");
                    }
                    n += calls.len();
                }
            }
        }
    }
    println!("{n} calls");
}

#[test]
fn answers_as_the_families_write_them() {
    let object =
        |key: &str| format!("{{\"name\": \"weather\", \"{key}\": {{\"city\": \"Zürich\", \"days\": 2}}}}");
    for (format, answer) in [
        (ToolFormat::Hermes, format!("<tool_call>\n{}\n</tool_call>", object("arguments"))),
        (
            ToolFormat::Tags,
            "<tool_call>\n<function=weather>\n<parameter=city>\nZürich\n</parameter>\n<parameter=days>\n2\n</parameter>\n\
             </function>\n</tool_call>"
                .to_owned(),
        ),
        (ToolFormat::Llama3, object("parameters")),
        (ToolFormat::Mistral, format!("[TOOL_CALLS] [{}]", object("arguments"))),
        (ToolFormat::MistralNamed, "[TOOL_CALLS]weather[ARGS]{\"city\": \"Zürich\", \"days\": 2}".to_owned()),
        (
            ToolFormat::MistralNamed,
            "[TOOL_CALLS]weather[CALL_ID]aB3456789[ARGS]{\"city\": \"Zürich\", \"days\": 2}".to_owned(),
        ),
        (ToolFormat::Phi4, format!("<|tool_call|>[{}]<|/tool_call|>", object("arguments"))),
        (ToolFormat::Granite3, format!("<|tool_call|>[{}]", object("arguments"))),
        (
            ToolFormat::FunctionGemma,
            "<start_function_call>call:weather{city:<escape>Zürich<escape>,days:2}<end_function_call>".to_owned(),
        ),
        (ToolFormat::Gemma4, "<|tool_call>call:weather{city:<|\"|>Zürich<|\"|>,days:2}<tool_call|>".to_owned()),
        (
            ToolFormat::Lfm2,
            "<|tool_call_start|>[weather(city=\"Zürich\", days=2)]<|tool_call_end|>".to_owned(),
        ),
        (
            ToolFormat::DeepSeek,
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n\
             {\"city\": \"Zürich\", \"days\": 2}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>"
                .to_owned(),
        ),
        (
            ToolFormat::Cohere,
            "<|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"weather\", \
             \"parameters\": {\"city\": \"Zürich\", \"days\": 2}}\n]<|END_ACTION|>"
                .to_owned(),
        ),
        (ToolFormat::Nemotron, format!("<TOOLCALL>[{}]</TOOLCALL>", object("arguments"))),
        (ToolFormat::Json, object("arguments")),
    ] {
        let markers = FORMATS.iter().find(|one| one.0 == format).unwrap().1;
        // An id is only asked of a model that has the token for it.
        let kinds: &[bool] = if answer.contains("[CALL_ID]") { &[true] } else { &[true, false] };
        for &are_control in kinds {
            let words = Words::new(markers, are_control);
            let must = shape(format, CallChoice::Must, true);
            assert_eq!(words.takes(&must, &answer), Ok(true), "{format:?} {are_control}");
            let reader = AnswerReader::new(None, Some(ToolParser::new(format, &tools())));
            let (parts, _) = words.read(reader, &words.encode(&answer));
            let expected = json!({"city": "Zürich", "days": 2}).as_object().unwrap().clone();
            assert_eq!(calls(&parts), (vec![("weather".to_owned(), expected)], String::new()), "{format:?}");

            // One that may call may also talk, and is bound once it has begun to call.
            let may = shape(format, CallChoice::May, true);
            assert_eq!(words.takes(&may, "No <b>call</b> {\"name\": 1}."), Ok(true), "{format:?}");
            assert_eq!(words.takes(&may, &answer), Ok(true), "{format:?} {are_control}");
            let invented = answer.replace("weather", "weathers").replace("days", "hours");
            assert!(words.takes(&must, &invented).is_err(), "{format:?} {are_control}");
            if !matches!(format, ToolFormat::Json | ToolFormat::Llama3) {
                assert!(words.takes(&may, &invented).is_err(), "{format:?} {are_control}");
            }
            let wrong = answer.replace("days", "hours");
            assert!(words.takes(&may, &wrong).is_err(), "{format:?} {are_control}");
            assert_ne!(words.takes(&may, &answer[..answer.len() * 2 / 3]), Ok(true), "{format:?} {are_control}");
        }
    }
}

#[test]
fn one_call_or_several() {
    let call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let words = Words::new(&["<tool_call>", "</tool_call>"], false);
    for (choice, text, expected) in [
        (CallChoice::May, format!("{call}\n{call}"), true),
        (CallChoice::May, format!("So. {call}"), true),
        (CallChoice::Must, format!("So. {call}"), false),
        (CallChoice::MustBe("now".to_owned()), call.to_owned(), true),
        (CallChoice::MustBe("weather".to_owned()), call.to_owned(), false),
    ] {
        let taken = words.takes(&shape(ToolFormat::Hermes, choice.clone(), true), &text);
        assert_eq!(taken == Ok(true), expected, "{choice:?} {text:?}");
    }
    let single = shape(ToolFormat::Hermes, CallChoice::May, false);
    assert!(words.takes(&single, &format!("{call}\n{call}")).is_err());
    assert_eq!(words.takes(&single, call), Ok(true));
}

#[test]
fn thoughts_then_a_call_or_a_body() {
    let call = "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>";
    let object = "{\"a\": 1}";
    let body = Grammar::json_schema(&json!({"type": "object", "properties": {"a": {"type": "integer"}},
        "required": ["a"], "additionalProperties": false}))
    .unwrap();
    for (open, close) in [("<think>", "</think>"), ("[THINK]", "[/THINK]")] {
        let is_control = open == "[THINK]";
        let words = Words::new(&[open, close], is_control);
        let tags = ThinkTags { open: open.to_owned(), close: close.to_owned() };
        for begun in [false, true] {
            let thought =
                if begun { format!("hm {{\n{close}\n\n") } else { format!("{open}\nhm {{\n{close}\n\n") };
            let thoughts = Some(Thoughts { tags: tags.clone(), begun });
            let with = |choice: CallChoice, body: Option<Grammar>| AnswerShape {
                thoughts: thoughts.clone(),
                body,
                ..shape(ToolFormat::Hermes, choice, true)
            };
            for (shape, answer, expected) in [
                (with(CallChoice::May, Some(body.clone())), object, true),
                (with(CallChoice::May, Some(body.clone())), call, true),
                (with(CallChoice::May, Some(body.clone())), "words", false),
                (with(CallChoice::May, None), "words", true),
                (with(CallChoice::Must, Some(body.clone())), object, false),
                (with(CallChoice::Must, Some(body.clone())), call, true),
                (with(CallChoice::Must, None), "words", false),
                (AnswerShape { calls: None, ..with(CallChoice::May, Some(body.clone())) }, object, true),
                (AnswerShape { calls: None, ..with(CallChoice::May, Some(body.clone())) }, call, false),
            ] {
                let text = format!("{thought}{answer}");
                assert_eq!(words.takes(&shape, &text) == Ok(true), expected, "{begun} {text:?}");
                // Thoughts alone are no answer, and one that does not think is bound at once.
                assert_eq!(words.takes(&shape, &thought[..thought.len() - close.len() - 3]), Ok(false));
                if !begun {
                    assert_eq!(
                        words.takes(&shape, answer) == Ok(true),
                        expected,
                        "without thoughts: {answer:?}"
                    );
                }
            }
            let splitter = ThinkSplitter::new(tags.clone(), begun);
            let parser = ToolParser::new(ToolFormat::Hermes, &tools());
            let reader = AnswerReader::new(Some(splitter), Some(parser));
            let (parts, _) = words.read(reader, &words.encode(&format!("{thought}{call}")));
            let thinking: String = parts
                .iter()
                .filter_map(
                    |part| if let AnswerPart::Thinking(text) = part { Some(text.as_str()) } else { None },
                )
                .collect();
            assert_eq!(thinking, "hm {");
            assert_eq!(calls(&parts), (vec![("now".to_owned(), Map::new())], String::new()));
        }
    }
}

#[test]
fn schemas_that_cannot_be_enforced() {
    let words = Words::new(&["<tool_call>", "</tool_call>"], false);
    let grammar = |choice: CallChoice, format: ToolFormat, strict: bool| {
        let parameters = json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}});
        let tool = json!({"type": "function", "function": {"name": "f", "strict": strict, "parameters": parameters}});
        let calls = Calls { format, tools: vec![tool], choice, parallel: true };
        AnswerShape { calls: Some(calls), ..AnswerShape::default() }.grammar(&words.tokenizer)
    };
    for format in FORMATS.map(|one| one.0) {
        assert!(grammar(CallChoice::Must, format, false).is_err(), "{format:?}");
        assert!(grammar(CallChoice::May, format, true).is_err(), "{format:?}");
        assert!(grammar(CallChoice::May, format, false).is_ok(), "{format:?}");
    }
    let error = grammar(CallChoice::Must, ToolFormat::Hermes, false).unwrap_err().to_string();
    assert!(error.contains("#/properties/a/not"), "{error}");
    // Loosely bound arguments are still an object.
    let parameters = json!({"type": "object", "properties": {"a": {"not": {}}}});
    let tool = json!({"type": "function", "function": {"name": "f", "parameters": parameters}});
    let calls =
        Calls { format: ToolFormat::Hermes, tools: vec![tool], choice: CallChoice::May, parallel: true };
    let shape = AnswerShape { calls: Some(calls), ..AnswerShape::default() };
    let call =
        |arguments: &str| format!("<tool_call>{{\"name\": \"f\", \"arguments\": {arguments}}}</tool_call>");
    assert_eq!(words.takes(&shape, &call("{\"b\": [1]}")), Ok(true));
    assert!(words.takes(&shape, &call("[1]")).is_err());
}

#[test]
fn what_is_free_has_no_grammar() {
    let words = Words::new(&[], false);
    let tags = ThinkTags { open: "<think>".to_owned(), close: "</think>".to_owned() };
    let thoughts = Some(Thoughts { tags, begun: true });
    assert!(AnswerShape { thoughts, ..AnswerShape::default() }.grammar(&words.tokenizer).unwrap().is_none());
    let none = Calls { format: ToolFormat::Json, tools: vec![], choice: CallChoice::May, parallel: true };
    let shape = AnswerShape { calls: Some(none), ..AnswerShape::default() };
    assert!(shape.grammar(&words.tokenizer).unwrap().is_none());
}
