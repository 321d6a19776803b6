//! Answers as the families write them, cut at every place.
//!
//! The texts follow the families' chat templates and model cards; the ways in which they go wrong are those that users of
//! other servers reported.

use serde_json::json;

use super::*;
use ToolFormat::{
    Cohere, DeepSeek, FunctionGemma, Gemma, Gemma4, Granite3, Hermes, Json, Lfm2, Llama3, Mistral,
    MistralNamed, Nemotron, Phi4, Tags,
};

fn tools() -> Vec<Value> {
    let tool = |name: &str, required: &[&str], properties: &[&str]| {
        let properties: serde_json::Map<String, Value> =
            properties.iter().map(|name| ((*name).to_owned(), json!({"type": "string"}))).collect();
        json!({"type": "function", "function": {"name": name, "parameters":
            {"type": "object", "properties": properties, "required": required}}})
    };
    vec![tool("get_weather", &["city"], &["days", "city"]), tool("now", &[], &[])]
}

/// An event list in short: text as it is, calls as `name(arguments)`, with `..` if the end did not come.
fn show(events: &[ToolEvent]) -> Vec<String> {
    let mut shown: Vec<String> = Vec::new();
    let mut n_calls = 0;
    let mut in_text = false;
    for event in events {
        match event {
            ToolEvent::Content(text) if in_text => {
                if let Some(last) = shown.last_mut() {
                    last.push_str(text);
                }
            }
            ToolEvent::Content(text) => shown.push(text.clone()),
            ToolEvent::ToolCallStart { index, name } => {
                assert_eq!(*index, n_calls);
                n_calls += 1;
                shown.push(format!("CALL {name} "));
            }
            ToolEvent::ToolCallArguments(text) => {
                let last = shown.last_mut();
                last.expect("arguments belong to a call").push_str(text);
            }
            ToolEvent::ToolCallEnd => shown.last_mut().expect("an end belongs to a call").push('.'),
        }
        in_text = matches!(event, ToolEvent::Content(_));
    }
    shown
}

fn parse(mut parser: ToolParser, pieces: &[&str]) -> Vec<String> {
    let mut events = Vec::new();
    for piece in pieces {
        // Events come one push at a time, as a server takes them.
        let mut some = Vec::new();
        parser.push(piece, &mut some);
        events.extend(some);
    }
    parser.finish(&mut events);
    show(&events)
}

/// Checks an answer cut in two at every place, and character by character, streamed and in whole calls.
fn check(format: ToolFormat, text: &str, expected: &[&str]) {
    check_whole(format, text, expected, expected);
}

fn check_whole(format: ToolFormat, text: &str, expected: &[&str], expected_whole: &[&str]) {
    let tools = tools();
    let characters: Vec<&str> = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
    for (parser, expected) in [
        (ToolParser::new(format, &tools), expected),
        (ToolParser::new(format, &tools).whole_calls(), expected_whole),
    ] {
        assert_eq!(parse(parser.clone(), &[text]), expected, "{format:?} {text:?}");
        assert_eq!(parse(parser.clone(), &characters), expected, "{format:?} {text:?} by character");
        for cut in (0..=text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            assert_eq!(
                parse(parser.clone(), &[&text[..cut], &text[cut..]]),
                expected,
                "{format:?} {text:?} at {cut}"
            );
        }
    }
}

#[test]
fn hermes() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    let call = "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
    check(Hermes, call, &[bern]);
    check(Hermes, &format!("I'll look.\n\n{call}"), &["I'll look.", bern]);
    check(Hermes, &format!("{call}\n{call}\n"), &[bern, bern]);
    check(Hermes, &format!("{call}\nDone."), &[bern, "\nDone."]);
    check(Hermes, &format!("a{call} b {call}"), &["a", bern, " b", bern]);
    // No end, no line breaks, no arguments, name behind, arguments as text.
    check(Hermes, "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}", &[bern]);
    check(Hermes, "<tool_call>{\"name\":\"now\"}</tool_call>", &["CALL now {}."]);
    check(
        Hermes,
        "<tool_call>{\"arguments\": {\"city\": \"Bern\"}, \"name\": \"get_weather\"}</tool_call>",
        &[bern],
    );
    check(
        Hermes,
        "<tool_call>{\"name\":\"get_weather\",\"arguments\":\"{\\\"city\\\": \\\"Bern\\\"}\"}</tool_call>",
        &[bern],
    );
    // Two in one.
    check(
        Hermes,
        "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
        &["CALL now {}.", "CALL now {}."],
    );
    // Braces, quotes and markers inside a string; a raw line break.
    check(
        Hermes,
        "<tool_call>{\"name\":\"f\",\"arguments\":{\"code\":\"a}{\\\"</tool_call>\nb\"}}</tool_call>",
        &["CALL f {\"code\":\"a}{\\\"</tool_call>\\nb\"}."],
    );
    check(
        Hermes,
        "<tool_call>{\"name\":\"f\",\"arguments\":{\"a\":[{\"b\":null}],\"c\":-1.5e3}, \"id\": 7}</tool_call>",
        &["CALL f {\"a\":[{\"b\":null}],\"c\":-1.5e3}."],
    );
    // None at all.
    for text in [
        "plain text",
        "a < b, <tool_cal and <tool_ x",
        "<tool_call>",
        "<tool_call>\nnothing here\n</tool_call>",
        "<tool_call>{\"city\": \"Bern\"}</tool_call>",
        "<tool_call>{\"name\": \"f\", \"arguments\": [1]}</tool_call>",
        "<tool_call>{name: 'x'}</tool_call>",
        "<tool_call>{\"name\": \"\"}</tool_call>",
        "  \n ",
        "{\"name\": \"Bob\", \"age\": 3}",
        "{\"name\": \"unknown_tool\", \"arguments\": {}}",
        "{\"answer\": [1, 2]}",
        "[1, 2]",
        "```json\n{\"name\": \"Bob\"}\n```",
        "```python\nget_weather(city=\"Bern\")\n```",
        "日本語 `code` and ``` a fence",
    ] {
        check(Hermes, text, &[text]);
    }
    check(Hermes, "", &[]);
    check(Hermes, &format!("<tool_call>\n{call}"), &["<tool_call>", bern]);
    // Qwen2.5-Coder leaves the markers away.
    check(Hermes, "```json\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n```", &[bern]);
    check(Hermes, "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}", &[bern]);
    check(
        Hermes,
        "To see:\n```json\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n```\nWait.",
        &["To see:", bern, "\nWait."],
    );
    // Broken off by a limit, and wrong in the middle.
    check_whole(
        Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x",
        &["CALL f {\"a\": \"x."],
        &["<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": \"x"],
    );
    check_whole(
        Hermes,
        "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": None}}</tool_call>",
        &["CALL f {\"a\": .", "None}}</tool_call>"],
        &["<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": None}}</tool_call>"],
    );
}

#[test]
fn llama() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    let call = "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\"}}";
    check(Llama3, call, &[bern]);
    check(Llama3, &format!("<|python_tag|>{call}<|eom_id|>"), &[bern]);
    check(Llama3, &format!("{call}; {call}"), &[bern, bern]);
    check(Llama3, &format!("{call}\n{call}"), &[bern, bern]);
    check(
        Llama3,
        "{\"type\": \"function\", \"name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\"}}",
        &[bern],
    );
    check(Llama3, "<function=get_weather>{\"city\": \"Bern\"}</function>", &[bern]);
    check(
        Llama3,
        "<|python_tag|>brave_search.call(query=\"Bern\")",
        &["CALL brave_search {\"query\":\"Bern\"}."],
    );
    check(
        Llama3,
        "[get_weather(city=\"Bern\", days=2), now()]",
        &["CALL get_weather {\"city\":\"Bern\",\"days\":2}.", "CALL now {}."],
    );
    for text in [
        "[other(city=\"Bern\")]",
        "[get_weather(city=Bern)]",
        "<function=>",
        "<function=x> y",
        "[a, b]",
        "{; }",
    ] {
        check(Llama3, text, &[text]);
    }
    check(Llama3, &format!("{call} is the call"), &[bern, " is the call"]);
    check(Llama3, &format!("{call}; done"), &[bern, "; done"]);
}

#[test]
fn mistral() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    let call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}";
    check(Mistral, &format!("[TOOL_CALLS] [{call}]"), &[bern]);
    check(Mistral, &format!("[TOOL_CALLS][{call}, {call}]</s>"), &[bern, bern]);
    // The control token may not be part of the text.
    check(Mistral, &format!("[{call}]"), &[bern]);
    check(Mistral, "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bern\"}", &[bern]);
    check(
        Mistral,
        "[TOOL_CALLS]get_weather[CALL_ID]9aB[ARGS]{\"city\": \"Bern\"}[TOOL_CALLS]now{}",
        &[bern, "CALL now {}."],
    );
    check(Mistral, "Sure.[TOOL_CALLS]now[ARGS]{}", &["Sure.", "CALL now {}."]);
    for text in ["[TOOL_CALLS] none", "[TOOL", "[TOOL_CALLS][1]", "see [1] and [TOOL_X]"] {
        check(Mistral, text, &[text]);
    }
    check(Mistral, &format!("[TOOL_CALLS][{call}, oops]"), &[bern, ", oops]"]);
}

#[test]
fn phi_granite_lfm2() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    let call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}";
    check(Phi4, &format!("<|tool_call|>[{call}]<|/tool_call|>"), &[bern]);
    check(Phi4, &format!("<|tool_call|>[{call},{call}]<|/tool_call|>"), &[bern, bern]);
    check(Phi4, &format!("<|tool_call|>[{call}]"), &[bern]);
    check(Phi4, &format!("functools[{call}]"), &[bern]);
    check(Phi4, &format!("<tool_call>[{call}]"), &[bern]);
    check(Phi4, "functools is a module", &["functools is a module"]);
    check(
        Lfm2,
        "<|tool_call_start|>[get_weather(city=\"Bern\")]<|tool_call_end|>Checking.",
        &["CALL get_weather {\"city\":\"Bern\"}.", "Checking."],
    );
    check(
        Lfm2,
        "<|tool_call_start|>[get_weather(city=\"it's <|tool_call_end|> \\\" \")]<|tool_call_end|>",
        &["CALL get_weather {\"city\":\"it's <|tool_call_end|> \\\" \"}."],
    );
    check(
        Lfm2,
        "<|tool_call_start|>[x = 1]<|tool_call_end|>",
        &["<|tool_call_start|>[x = 1]<|tool_call_end|>"],
    );
}

#[test]
fn gemma() {
    let bern = "CALL get_weather {\"city\":\"Bern\"}.";
    check(Gemma, "```tool_code\nget_weather(city=\"Bern\")\n```", &[bern]);
    check(Gemma, "Okay.\n```tool_code\nprint(get_weather('Bern'))\n```\n", &["Okay.", bern]);
    check(Gemma, "```tool_code\nnow()\nnow()\n```", &["CALL now {}.", "CALL now {}."]);
    check(Gemma, "```json\n{\"name\": \"get_weather\", \"parameters\": {\"city\":\"Bern\"}}\n```", &[bern]);
    check(Gemma, "[get_weather(city='Bern')]", &[bern]);
    check(Gemma, "```tool_code\nnow()", &["CALL now {}."]);
    for text in [
        "```tool_code\nimport os\n```",
        "```tool_code\nget_weather(city=x)\n```",
        "```\n{}\n```",
        "``` and ```",
    ] {
        check(Gemma, text, &[text]);
    }
}

#[test]
fn tags() {
    // Types come from the schema; what is of another type than it says stays text.
    let tools = [
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
        "text": {"type": "string"}, "n": {"type": "integer"}, "on": {"type": "boolean"},
        "list": {"type": "array"}, "kind": {"enum": ["1", "2"]}, "none": {"type": ["string", "null"]}}}}}),
    ];
    let all = "<tool_call>\n<function=f>\n<parameter=text>\n 12 <b>\n}\"\n</parameter>\n<parameter=n>\n12\n</parameter>\n\
        <parameter=on>\nTrue\n</parameter>\n<parameter=list>\n[1, \"é\"]\n</parameter>\n<parameter=kind>\n1\n</parameter>\n\
        <parameter=none>\nnull\n</parameter>\n</function>\n</tool_call>";
    let expected = "CALL f {\"text\":\" 12 <b>\\n}\\\"\",\"n\":12,\"on\":true,\"list\":[1,\"é\"],\"kind\":\"1\",\"none\":null}.";
    assert_eq!(parse(ToolParser::new(Tags, &tools), &[all]), [expected]);
    let wrong = "<tool_call><function=f><parameter=n>many</parameter></function></tool_call>";
    assert_eq!(parse(ToolParser::new(Tags, &tools), &[wrong]), ["CALL f {\"n\":\"many\"}."]);

    let bern = "CALL get_weather {\"city\":\"Bern\"}.";
    let inner = "<function=get_weather>\n<parameter=city>\nBern\n</parameter>\n</function>";
    let call = format!("<tool_call>\n{inner}\n</tool_call>");
    check(Tags, &call, &[bern]);
    check(Tags, &format!("Let me see.\n\n{call}\n{call}"), &["Let me see.", bern, bern]);
    check(
        Tags,
        &format!("<tool_call>\n{inner}\n<function=now></function></tool_call>"),
        &[bern, "CALL now {}."],
    );
    // The tag around is missing, the last parameter or the whole is not closed, JSON as Qwen 3 writes it.
    check(Tags, inner, &[bern]);
    check(Tags, "<tool_call><function=get_weather><parameter=city>Bern</function></tool_call>", &[bern]);
    check(Tags, "<tool_call>\n<function=get_weather>\n<parameter=city>\nBern\n", &[bern]);
    check(Tags, "<tool_call>{\"name\": \"now\", \"arguments\": {}}</tool_call>", &["CALL now {}."]);
    // What looks like the end, within a value.
    check(
        Tags,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\na</function> or </tool_call> b\n</parameter>\n</function>\n</tool_call>",
        &["CALL get_weather {\"city\":\"a</function> or </tool_call> b\"}."],
    );
    for text in [
        "<tool_call>nothing</tool_call>",
        "<tool_call><b>x</b></tool_call>",
        "<function= and <tool",
        "<tool_call><function=></function></tool_call>",
        "<tool_call><function=f>city=Bern</function></tool_call>",
    ] {
        check(Tags, text, &[text]);
    }
}

#[test]
fn deepseek() {
    let (open, close) = ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>");
    let one = |name: &str, arguments: &str| {
        format!(
            "<｜tool▁call▁begin｜>function<｜tool▁sep｜>{name}\n```json\n{arguments}\n```<｜tool▁call▁end｜>"
        )
    };
    let short = |name: &str, arguments: &str| {
        format!("<｜tool▁call▁begin｜>{name}<｜tool▁sep｜>{arguments}<｜tool▁call▁end｜>")
    };
    let city = "{\"city\": \"Bern\", \"note\": \"a ``` b\"}";
    let bern = "CALL get_weather {\"city\":\"Bern\",\"note\":\"a ``` b\"}.";
    for call in [one("get_weather", city), short("get_weather", city)] {
        check(DeepSeek, &format!("{open}{call}{close}"), &[bern]);
        check(DeepSeek, &format!("So.\n{open}{call}\n{call}{close}"), &["So.", bern, bern]);
        check(DeepSeek, &format!("{open}{call}"), &[bern]);
    }
    check(DeepSeek, &format!("{open}{}{close}", short("now", "{}")), &["CALL now {}."]);
    for broken in [one("now", "{"), short("now", "[1]"), short("", "{}"), "now()".to_owned()] {
        let text = format!("{open}{broken}{close}");
        check(DeepSeek, &text, &[&text]);
    }
}

#[test]
fn notation() {
    for (format, open, quote, close) in [
        (FunctionGemma, "<start_function_call>", "<escape>", "<end_function_call>"),
        (Gemma4, "<|tool_call>", "<|\"|>", "<tool_call|>"),
    ] {
        let call = |inner: &str| format!("{open}call:{}{close}", inner.replace('\'', quote));
        check(
            format,
            &call("get_weather{city:'Bern, \"é\" }'}"),
            &["CALL get_weather {\"city\":\"Bern, \\\"é\\\" }\"}."],
        );
        check(
            format,
            &format!("{}{}", call("now{}"), call("f{a:{b:[1,-2.5,'x'],c:true},'d e':null}")),
            &["CALL now {}.", "CALL f {\"a\":{\"b\":[1,-2.5,\"x\"],\"c\":true},\"d e\":null}."],
        );
        for broken in ["now", "now{", "now{a}", "{}", "now{} and more"] {
            let text = call(broken);
            check(format, &text, &[&text]);
        }
    }
}

#[test]
fn lists_between_other_markers() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    let call = "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}";
    check(Nemotron, &format!("Yes.\n<TOOLCALL>[{call}, {call}]</TOOLCALL>"), &["Yes.", bern, bern]);
    check(Granite3, &format!("<|tool_call|>[{call}]"), &[bern]);
    check(MistralNamed, "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Bern\"}", &[bern]);
    let call =
        "{\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Bern\"}}";
    check(Cohere, &format!("<|START_ACTION|>[\n    {call},\n    {call}\n]<|END_ACTION|>"), &[bern, bern]);
}

#[test]
fn json_without_markers() {
    let bern = "CALL get_weather {\"city\": \"Bern\"}.";
    for text in [
        "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}",
        " [{\"name\": \"get_weather\", \"args\": {\"city\": \"Bern\"}}] ",
        "{\"function\": \"get_weather\", \"input\": {\"city\": \"Bern\"}}",
        "```\n{\"tool_name\": \"get_weather\", \"arguments\": {\"city\": \"Bern\"}}\n```",
    ] {
        check(Json, text, &[bern]);
    }
    check(
        Json,
        "{\"tool_calls\": [{\"function\": {\"name\": \"now\", \"arguments\": {}}}, {\"name\": \"now\"}]}",
        &["CALL now {}.", "CALL now {}."],
    );
    // Without a known name an answer in JSON is an answer.
    let mut parser = ToolParser::new(Json, &[]);
    let mut out = Vec::new();
    parser.push("{\"name\": \"now\", \"arguments\": {", &mut out);
    assert_eq!(show(&out), ["{\"name\": \"now\", \"arguments\": {"]);
}

#[test]
fn gives_arguments_as_they_come() {
    let mut parser = ToolParser::new(Hermes, &tools());
    for (piece, expected) in [
        ("Hi", vec![ToolEvent::Content("Hi".into())]),
        (" there ", vec![ToolEvent::Content(" there".into())]),
        ("<tool_call>{\"na", vec![]),
        ("me\": \"f\", \"arguments\": ", vec![]),
        (
            "{\"a\": ",
            vec![
                ToolEvent::ToolCallStart { index: 0, name: "f".into() },
                ToolEvent::ToolCallArguments("{\"a\": ".into()),
            ],
        ),
        ("\"b", vec![ToolEvent::ToolCallArguments("\"b".into())]),
        ("\"}", vec![ToolEvent::ToolCallArguments("\"}".into())]),
        ("}", vec![ToolEvent::ToolCallEnd]),
        ("</tool_call>", vec![]),
    ] {
        let mut out = Vec::new();
        parser.push(piece, &mut out);
        assert_eq!(out, expected, "{piece}");
    }
}

mod any_text {
    use super::*;
    use proptest::prelude::*;

    fn pieces() -> impl Strategy<Value = Vec<String>> {
        let piece = prop_oneof![
            prop::sample::select(vec![
                "<tool_call>",
                "</tool_call>",
                "[TOOL_CALLS]",
                "```",
                "json\n",
                "tool_code\n",
                "<|python_tag|>",
                "<function=",
                "</function>",
                "<parameter=",
                "<｜tool▁calls▁begin｜>",
                "<｜tool▁sep｜>",
                "<|tool_call>call:",
                "<tool_call|>",
                "{\"name\": \"",
                "now",
                "\", \"arguments\": {",
                "}",
                "]",
                "[",
                "now(",
                ")",
                "\"",
                "\n",
                ";",
                ",",
            ])
            .prop_map(str::to_owned),
            "[a-z{}\\[\\]\"\\\\ <é]{0,4}",
        ];
        prop::collection::vec(piece, 0..12)
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter_and_text_is_kept(pieces in pieces()) {
            let text = pieces.concat();
            let borrowed: Vec<&str> = pieces.iter().map(String::as_str).collect();
            for format in [Hermes, Llama3, Mistral, Phi4, Gemma, Lfm2, Json, Tags, DeepSeek, Gemma4] {
                for parser in [ToolParser::new(format, &tools()), ToolParser::new(format, &tools()).whole_calls()] {
                    let whole = parse(parser.clone(), &[&text]);
                    prop_assert_eq!(&parse(parser.clone(), &borrowed), &whole, "{:?} {:?}", format, text);
                    if !whole.iter().any(|shown| shown.starts_with("CALL ")) {
                        prop_assert_eq!(whole.concat(), text.clone(), "{:?}", format);
                    }
                }
            }
        }
    }
}
