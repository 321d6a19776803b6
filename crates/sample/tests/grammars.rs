//! Regular expressions, Lark and GBNF: what they allow, and what is refused.
#![expect(clippy::unwrap_used, reason = "a test may")]

use whit_sample::{Grammar, GrammarState, GrammarVocabulary, Mark, Pattern, SampleError};

/// One token per byte, a few longer ones, a control token that spells `a`, and two tokens that end.
fn vocabulary() -> GrammarVocabulary {
    let longer: [&[u8]; 6] = [b"ab", b"</", b"think", b">\n\n", b">4", b"\"}"];
    let bytes = (0..=255u8).map(|byte| (u32::from(byte), vec![byte], false));
    let longer = (256..).zip(longer).map(|(id, token)| (id, token.to_vec(), false));
    let control = [(CONTROL, b"a".to_vec(), true)];
    GrammarVocabulary::new(N_VOCAB, bytes.chain(longer).chain(control), &EOS).unwrap()
}

const N_VOCAB: usize = 300;
const CONTROL: u32 = 270;
const EOS: [u32; 2] = [280, 281];

fn allows(state: &mut GrammarState, token: u32) -> bool {
    state.mask().unwrap()[token as usize / 32] >> (token % 32) & 1 == 1
}

/// Feeds `text` byte by byte. `Err(n)`: byte `n` is not allowed; else whether the text may end there.
fn feed(grammar: &Grammar, text: &str) -> Result<bool, usize> {
    let mut state = vocabulary().start(grammar).unwrap();
    for (n, byte) in text.bytes().enumerate() {
        if !allows(&mut state, u32::from(byte)) {
            assert!(state.clone().accept(u32::from(byte)).is_err(), "the mask and accept differ");
            return Err(n);
        }
        assert!(!allows(&mut state, CONTROL), "a control token is allowed");
        state.accept(u32::from(byte)).unwrap();
    }
    let may_end = state.may_end().unwrap();
    for eos in EOS {
        assert_eq!(allows(&mut state, eos), may_end, "the end token and the grammar differ after {text:?}");
    }
    if may_end {
        state.accept(EOS[1]).unwrap();
        assert!(state.is_complete());
    }
    Ok(may_end)
}

#[test]
fn regular_expressions() {
    for (regex, text, expected) in [
        ("[0-9]{2}", "12", Ok(true)),
        ("[0-9]{2}", "1", Ok(false)),
        ("[0-9]{2}", "123", Err(2)),
        ("^a+$", "aaa", Ok(true)),
        ("^a|b$", "b", Ok(true)),
        (r"cost \$", "cost $", Ok(true)),
        (r"\\$", "\\", Ok(true)),
        ("a/b", "a/b", Ok(true)),
        ("a\nb", "a\nb", Ok(true)),
        ("é+", "éé", Ok(true)),
        (r"(?i)yes|no", "YES", Ok(true)),
        ("yes|no", "maybe", Err(0)),
        (".*", "anything", Ok(true)),
        (".*", "a\n", Err(1)),
        ("(a|b)*c", "abac", Ok(true)),
    ] {
        assert_eq!(feed(&Grammar::regex(regex).unwrap(), text), expected, "{regex} {text:?}");
    }
}

#[test]
fn lark() {
    const SUM: &str = "start: sum\nsum: sum \"+\" NUMBER | NUMBER\nNUMBER: /[0-9]+/\n%ignore / /";
    for (text, expected) in
        [("1", Ok(true)), ("1+", Ok(false)), ("12 + 3", Ok(true)), ("+", Err(0)), ("1+2+", Ok(false))]
    {
        assert_eq!(feed(&Grammar::lark(SUM).unwrap(), text), expected, "{text:?}");
    }
}

#[test]
fn gbnf() {
    const LIST: &str = r#"
# llama.cpp's list.gbnf
root ::= item+
item ::= "- " [^\r\n\x0b\x0c\x85\u2028\u2029]+ "\n"
"#;
    const ARITHMETIC: &str = r#"
root  ::= (expr "=" ws term "\n")+
expr  ::= term ([-+*/] term)*
term  ::= ident | num | "(" ws expr ")" ws
ident ::= [a-z] [a-z0-9_]* ws
num   ::= [0-9]+ ws
ws    ::= [ \t\n]*
"#;
    const JSON: &str = r#"
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws
array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws
string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws
number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws
ws ::= | " " | "\n" [ \t]{0,20}
"#;
    for (grammar, text, expected) in [
        (LIST, "- one\n- two\n", Ok(true)),
        (LIST, "- one", Ok(false)),
        (LIST, "-one", Err(1)),
        (LIST, "- \n", Err(2)),
        (ARITHMETIC, "1+2=3\n", Ok(true)),
        (ARITHMETIC, "x_1 *( 2 -y)= 3\n", Ok(true)),
        (ARITHMETIC, "1+=", Err(2)),
        (JSON, r#"{"a": [1, -2.5e3, {"b": null}], "c": "\u00e9\n"}"#, Ok(true)),
        (JSON, "{}", Ok(true)),
        (JSON, "[]", Err(0)),
        (JSON, r#"{"a": 01"#, Err(7)),
        (JSON, r#"{"a":tru}"#, Err(8)),
        ("root ::= \"a\"{2,3} | b\nb ::= \"b\"{2,}\n", "aaa", Ok(true)),
        ("root ::= \"a\"{2,3} | b\nb ::= \"b\"{2,}\n", "b", Ok(false)),
        ("root ::= \"a\"{2,3} | b\nb ::= \"b\"{2,}\n", "bbbb", Ok(true)),
        ("root ::= \"a\"\n  | \"b\"\n", "b", Ok(true)),
        ("root ::= [^\"]+ \"\\\"\"", "x\"", Ok(true)),
        ("root ::= . .", "é\n", Ok(true)),
        ("root ::= \"(\" root? \")\"", "(())", Ok(true)),
        ("root ::= \"(\" root? \")\"", "(()", Ok(false)),
        ("root ::= [a-z]* \"end\"", "bend", Ok(true)),
        ("root ::= [a\\]-]+", "a]-", Ok(true)),
    ] {
        assert_eq!(feed(&Grammar::gbnf(grammar).unwrap(), text), expected, "{grammar} {text:?}");
    }
}

#[test]
fn refused() {
    let deep = |open: &str, close: &str, n: usize| format!("{}a{}", open.repeat(n), close.repeat(n));
    let cases: Vec<(Result<Grammar, SampleError>, &str)> = vec![
        (Grammar::regex(""), "allows no text"),
        (Grammar::regex("a("), "unclosed group"),
        (Grammar::regex(r"(?=a)b"), "look-around"),
        (Grammar::regex(r"(a)\1"), "backreferences"),
        (Grammar::regex(&"a".repeat(20_000)), "20000 bytes"),
        (Grammar::regex(&deep("(", ")", 5_000)), "nest"),
        (Grammar::lark("start: missing"), "missing"),
        (Grammar::lark("begin: \"a\""), "start"),
        (Grammar::lark("start: \"a"), "1("),
        (Grammar::lark(""), "start"),
        (Grammar::lark(&format!("start: {}", deep("(", ")", 100_000))), "nested brackets"),
        (Grammar::lark("start: @other"), "other"),
        (Grammar::lark("start: <|im_end|>"), ""),
        (Grammar::lark("start: %json { \"x-guidance\": 1, \"not\": {} }"), ""),
        (Grammar::gbnf("root ::= \"a\"\nroot ::= \"b\""), "line 2: the rule root is there twice"),
        (Grammar::gbnf("root ::= a"), "line 1: there is no rule a"),
        (Grammar::gbnf("a ::= \"x\""), "no rule root"),
        (Grammar::gbnf("root ::= \"a\" root"), "no text of root ever ends"),
        (Grammar::gbnf("root ::= <think>"), "references to tokens"),
        (Grammar::gbnf("root ::= \"a"), "line 1: a literal or class is not closed"),
        (Grammar::gbnf("root ::= [z-a]"), "backwards"),
        (Grammar::gbnf("root ::= (\"a\""), "group is not closed"),
        (Grammar::gbnf("root ::= \"a\"{9999999}"), "no repetition"),
        (Grammar::gbnf("root = \"a\""), "::= is needed"),
        (Grammar::gbnf("root ::= []"), "empty class"),
        (
            Grammar::gbnf(&format!("root ::= {}", deep("(", ")", 9_000).replace('a', "\"a\""))),
            "nested groups",
        ),
    ];
    for (index, (result, expected)) in cases.into_iter().enumerate() {
        match result {
            Ok(grammar) => assert!(vocabulary().start(&grammar).is_err(), "case {index} was taken"),
            Err(error) => {
                let message = error.to_string();
                assert!(message.contains(expected), "case {index}: {message}");
            }
        }
    }
}

/// As long as a grammar may be, each rule in the one before.
#[test]
fn long_chains_do_not_overflow_the_stack() {
    for (from, kind) in [("r", "a rule"), ("T", "a terminal")] {
        let mut text = format!("start: {from}0\n");
        for n in 0..12_000 {
            text += &format!("{from}{n}: \"x\" {from}{}\n", n + 1);
        }
        text += &format!("{from}12000: \"x\"\n");
        // Taken or refused, but answered.
        if let Ok(grammar) = Grammar::lark(&text) {
            drop(vocabulary().start(&grammar));
        }
        assert!(text.len() < 256 << 10, "{kind}");
    }
}

#[test]
fn after_free_text() {
    let grammar = Grammar::regex("[0-9]{2}").unwrap().after(Mark::Text("</think>".into())).unwrap();
    for (text, expected) in [
        ("so </b> it is</think>42", Ok(true)),
        ("</think>\n\n42", Ok(true)),
        ("</think>x", Err(8)),
        ("still thinking", Ok(false)),
        ("</think>\n\n4</think>", Err(11)),
    ] {
        assert_eq!(feed(&grammar, text), expected, "{text:?}");
    }
    // Tokens that reach over the end.
    let vocabulary = vocabulary();
    for (tokens, rest) in [([b'x'.into(), 257, 258, 259], "42"), ([b'x'.into(), 257, 258, 260], "2")] {
        let mut state = vocabulary.start(&grammar).unwrap();
        for token in tokens {
            assert!(allows(&mut state, token), "{token}");
            state.accept(token).unwrap();
        }
        for byte in rest.bytes() {
            state.accept(byte.into()).unwrap();
        }
        assert!(state.is_complete());
    }
    assert!(Grammar::json().unwrap().after(Mark::Text(String::new())).is_err());
}

#[test]
fn a_state_is_its_own() {
    let vocabulary = vocabulary();
    let grammar = Grammar::regex("ab|ba").unwrap();
    let mut first = vocabulary.start(&grammar).unwrap();
    first.accept(b'a'.into()).unwrap();
    let mut second = vocabulary.start(&grammar).unwrap();
    let fork = first.clone();
    second.accept(b'b'.into()).unwrap();
    first.accept(b'b'.into()).unwrap();
    assert!(first.is_complete() && !second.is_complete() && !fork.is_complete());
    assert!(allows(&mut first, EOS[0]) && !allows(&mut first, b'a'.into()));
    assert!(matches!(second.accept(b'b'.into()), Err(SampleError::GrammarStuck { n_tokens: 1, .. })));
}

#[test]
fn vocabularies() {
    let none: [(u32, &[u8], bool); 0] = [];
    assert!(matches!(GrammarVocabulary::new(0, none, &[]), Err(SampleError::Vocabulary { .. })));
    assert!(matches!(GrammarVocabulary::new(usize::MAX, none, &[]), Err(SampleError::Vocabulary { .. })));
    assert!(matches!(
        GrammarVocabulary::new(2, [(2, b"a", false)], &[]),
        Err(SampleError::GrammarVocabulary { .. })
    ));
    assert!(matches!(GrammarVocabulary::new(2, none, &[2]), Err(SampleError::GrammarVocabulary { .. })));
    let long = vec![b'a'; 100_000];
    let odd = [(0, &long[..], false), (1, b"\xff<x>", false), (2, b"a", false)];
    let vocabulary = GrammarVocabulary::new(40, odd, &[]).unwrap();
    let mut state = vocabulary.start(&Grammar::regex("a*").unwrap()).unwrap();
    assert_eq!(state.mask().unwrap(), [0b100, 0]);
    // It cannot write this.
    assert!(matches!(vocabulary.start(&Grammar::regex("b").unwrap()), Err(SampleError::Grammar { .. })));
}

/// Feeds bytes, and control tokens where there is a `!`. `Err(n)`: what comes at `n` is not allowed.
fn feed_tokens(state: &mut GrammarState, text: &str) -> Result<bool, usize> {
    for (n, byte) in text.bytes().enumerate() {
        let token = if byte == b'!' { CONTROL } else { u32::from(byte) };
        if !allows(state, token) {
            assert!(state.clone().accept(token).is_err(), "the mask and accept differ at {n} of {text:?}");
            return Err(n);
        }
        state.accept(token).unwrap();
    }
    let may_end = state.may_end().unwrap();
    assert_eq!(allows(state, EOS[0]), may_end, "the end token and the grammar differ after {text:?}");
    Ok(may_end)
}

#[test]
fn patterns() {
    let digits = || Pattern::Grammar(Grammar::regex("[0-9]{2}").unwrap());
    let sequence = |parts: &[Pattern]| Pattern::Sequence(parts.to_vec());
    let token = || Mark::Token(CONTROL);
    let text = Pattern::text;
    let object = || Pattern::Json(serde_json::json!({"const": {"a": 1}}));
    let opening = || Pattern::Opening { before: "[ ]{0,2}".to_owned(), mark: "<c>".to_owned() };
    let lazily = || {
        let marked = sequence(&[Pattern::Until(Mark::Text("<c>".to_owned())), digits()]);
        Pattern::Choice(vec![Pattern::Free, marked])
    };
    let by_token = || {
        let marked = sequence(&[Pattern::Until(token()), object()]);
        Pattern::Choice(vec![Pattern::Free, marked])
    };
    for (pattern, texts) in [
        (text("a\"\\\n/é"), vec![("a\"\\\n/é", Ok(true)), ("a\"", Ok(false)), ("b", Err(0))]),
        (Pattern::Free, vec![("any <c> text", Ok(true)), ("", Ok(true)), ("a!", Err(1))]),
        (
            sequence(&[Pattern::Blank(2), text("a")]),
            vec![("a", Ok(true)), (" \na", Ok(true)), ("   a", Err(2))],
        ),
        (Pattern::Until(token()), vec![("x!", Ok(true)), ("!", Ok(true)), ("x", Ok(false)), ("x!y", Err(2))]),
        // Bound from the first mark on.
        (
            lazily(),
            vec![
                ("no mark", Ok(true)),
                ("a <c", Ok(true)),
                ("a <c>", Ok(false)),
                ("a <c>12", Ok(true)),
                ("a <c>x", Err(5)),
                ("<c>123", Err(5)),
                ("a <c><c>", Err(5)),
            ],
        ),
        (
            by_token(),
            vec![
                ("no mark", Ok(true)),
                ("a!{\"a\":1}", Ok(true)),
                ("!{\"a\": 1}", Ok(true)),
                ("a!b", Err(2)),
                ("a!!", Err(2)),
            ],
        ),
        // The opening wins over free text that begins alike.
        (
            Pattern::Choice(vec![Pattern::Free, sequence(&[opening(), digits()])]),
            vec![(" <c>12", Ok(true)), (" <c>x", Err(4)), ("   <c>x", Ok(true)), ("<b>", Ok(true))],
        ),
        (
            sequence(&[text("a"), text("b").optional(), text("c").repeated()]),
            vec![("a", Ok(true)), ("abcc", Ok(true)), ("acb", Err(2))],
        ),
        (
            Pattern::Repeat { what: Box::new(text("ab")), least: 2, most: Some(3) },
            vec![("ab", Ok(false)), ("ababab", Ok(true)), ("abababa", Err(6))],
        ),
        // Thoughts, then one of both.
        (
            sequence(&[
                sequence(&[opening(), Pattern::Until(Mark::Text("</c>".to_owned())), Pattern::Blank(4)])
                    .optional(),
                Pattern::Choice(vec![object(), sequence(&[Pattern::Mark(token()), digits()])]),
            ]),
            vec![
                ("<c>hm</c>\n\n{\"a\":1}", Ok(true)),
                ("<c>hm!", Err(5)),
                ("<c>hm</c> !12", Ok(true)),
                ("!12", Ok(true)),
                ("{\"a\":1}", Ok(true)),
                ("hm", Err(0)),
            ],
        ),
    ] {
        let grammar = Grammar::pattern(&pattern).unwrap();
        for (text, expected) in texts {
            let mut state = vocabulary().start(&grammar).unwrap();
            assert_eq!(feed_tokens(&mut state, text), expected, "{text:?} of {pattern:?}");
        }
    }
    // What patterns make can be put into patterns.
    let inner = Pattern::Grammar(Grammar::pattern(&by_token()).unwrap());
    let outer = Grammar::pattern(&sequence(&[text("ok "), inner])).unwrap();
    let mut state = vocabulary().start(&outer).unwrap();
    assert_eq!(feed_tokens(&mut state, "ok so!{\"a\":1}"), Ok(true));
}

#[test]
fn patterns_that_are_refused() {
    let deep = (0..40).fold(Pattern::Free, |inner, _| Pattern::Sequence(vec![inner]));
    let not = serde_json::json!({"type": "object", "properties": {"a": {"not": {}}}});
    for (pattern, place) in [
        (deep, "levels"),
        (Pattern::Choice(vec![]), "nothing"),
        (Pattern::Until(Mark::Text(String::new())), "1 to 256"),
        (Pattern::Until(Mark::Text("x".repeat(300))), "1 to 256"),
        (Pattern::Json(not), "#/properties/a/not"),
    ] {
        let error = Grammar::pattern(&pattern).unwrap_err().to_string();
        assert!(error.contains(place), "{error}");
    }
    // A token that the vocabulary does not have.
    let beyond = Grammar::pattern(&Pattern::Mark(Mark::Token(4_000_000_000))).unwrap();
    assert!(vocabulary().start(&beyond).is_err());
}
