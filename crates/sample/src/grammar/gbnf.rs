//! Turns llama.cpp's GBNF into Lark.
//!
//! GBNF has no lexer: a rule matches characters. The parser has one, which takes the longest terminal, so whatever is
//! regular becomes one terminal, exactly: all of a grammar without recursion; else a rule that refers to nothing recursive,
//! and a run of regular items within a rule that does. A rule that may be empty (blanks, mostly) is left to the parser
//! character by character, for a terminal would take what is meant for the next. Syntax: llama.cpp's `grammars/README.md` (rules, literals, classes, `.`, groups, alternatives,
//! `* + ? {m} {m,} {m,n}`, comments). Left out, and refused: references to tokens (`<think>`, `<[7]>`).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::SampleError;

const KIND: &str = "GBNF grammar";
const MAX_RULES: usize = 2_000;
const MAX_NESTING: usize = 64;
const MAX_REPEAT: u32 = 4_096;

/// Alternatives, each a sequence.
type Choices = Vec<Vec<Item>>;

/// A part of a sequence, and how often it stands there.
struct Item {
    what: What,
    least: u32,
    /// `None`: without end.
    most: Option<u32>,
}

enum What {
    /// Text as it is.
    Literal(String),
    /// A class of characters, as a regular expression.
    Class(String),
    Rule(String),
    Group(Choices),
}

/// The grammar in Lark.
pub(super) fn to_lark(grammar: &str) -> Result<String, SampleError> {
    let rules = Reader { rest: grammar, line: 1, depth: 0 }.rules()?;
    let Some((root_line, _)) = rules.get("root") else {
        return Err(refuse(1, "there is no rule root, where it would begin"));
    };
    for (line, choices) in rules.values() {
        let missing = names(choices).into_iter().find(|name| !rules.contains_key(*name));
        if let Some(name) = missing {
            return Err(refuse(*line, format!("there is no rule {name}")));
        }
    }
    if !ending(&rules).contains("root") {
        return Err(refuse(*root_line, "no text of root ever ends: its rules always need themselves again"));
    }
    let mut regular = regular(&rules);
    let nullable = nullable(&rules);
    if !regular.contains("root") {
        regular = grow(&rules, |name, choices, known| {
            !nullable.contains(name) && names(choices).iter().all(|name| known.contains(name))
        });
    }
    let numbers = rules.keys().map(String::as_str).zip(0..).collect();
    let mut writer = Writer { regular, nullable, made: Vec::new(), numbers };
    let mut lark = format!("start: {}\n", writer.name("root"));
    for (name, (_, choices)) in &rules {
        let body = if writer.regular.contains(name.as_str()) {
            writer.terminal(choices)
        } else {
            writer.rule(choices, writer.nullable.contains(name.as_str()))
        };
        _ = writeln!(lark, "{}: {body}", writer.name(name));
    }
    writer.made.iter().for_each(|terminal| _ = writeln!(lark, "{terminal}"));
    Ok(lark)
}

fn refuse(line: usize, reason: impl std::fmt::Display) -> SampleError {
    SampleError::Grammar { kind: KIND, reason: format!("line {line}: {reason}") }
}

/// Rules by name, each with its line.
type Rules = BTreeMap<String, (usize, Choices)>;

/// The rules that a rule names.
fn names(choices: &Choices) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    for item in choices.iter().flatten() {
        match &item.what {
            What::Rule(name) => _ = found.insert(name.as_str()),
            What::Group(choices) => found.extend(names(choices)),
            What::Literal(_) | What::Class(_) => {}
        }
    }
    found
}

/// The rules of which some text is finite.
fn ending(rules: &Rules) -> BTreeSet<&str> {
    grow(rules, |_, choices, known| some_text(choices, known, true))
}

/// The rules of which some text is empty.
fn nullable(rules: &Rules) -> BTreeSet<&str> {
    grow(rules, |_, choices, known| some_text(choices, known, false))
}

/// Whether some text can be made of `known` rules, and of `characters` if they are allowed.
fn some_text(choices: &Choices, known: &BTreeSet<&str>, characters: bool) -> bool {
    choices.iter().any(|sequence| sequence.iter().all(|item| is_nullable(item, known, characters)))
}

fn is_nullable(item: &Item, known: &BTreeSet<&str>, characters: bool) -> bool {
    item.least == 0
        || match &item.what {
            What::Rule(name) => known.contains(name.as_str()),
            What::Group(choices) => some_text(choices, known, characters),
            What::Literal(text) => characters || text.is_empty(),
            What::Class(_) => characters,
        }
}

/// The rules that name none but regular ones.
fn regular(rules: &Rules) -> BTreeSet<&str> {
    grow(rules, |_, choices, known| names(choices).iter().all(|name| known.contains(name)))
}

/// The least set of rules of which `belongs` holds, given those found before.
fn grow<'r>(
    rules: &'r Rules,
    belongs: impl Fn(&str, &'r Choices, &BTreeSet<&'r str>) -> bool,
) -> BTreeSet<&'r str> {
    let mut known = BTreeSet::new();
    loop {
        let n = known.len();
        for (name, (_, choices)) in rules {
            if !known.contains(name.as_str()) && belongs(name, choices, &known) {
                known.insert(name.as_str());
            }
        }
        if known.len() == n {
            return known;
        }
    }
}

struct Reader<'g> {
    rest: &'g str,
    line: usize,
    depth: usize,
}

impl<'g> Reader<'g> {
    fn fail<T>(&self, reason: impl std::fmt::Display) -> Result<T, SampleError> {
        Err(refuse(self.line, reason))
    }

    fn rules(mut self) -> Result<Rules, SampleError> {
        let mut rules = Rules::new();
        self.blank(true);
        while !self.rest.is_empty() {
            let line = self.line;
            let Some(name) = self.word() else {
                return self.fail(format!("a rule is needed (name ::= ...), not {:?}", self.glimpse()));
            };
            self.blank(false);
            if !self.take("::=") {
                return self.fail(format!("::= is needed after {name}, not {:?}", self.glimpse()));
            }
            self.blank(true);
            let choices = self.choices()?;
            if rules.insert(name.to_owned(), (line, choices)).is_some() {
                return self.fail(format!("the rule {name} is there twice"));
            }
            if rules.len() > MAX_RULES {
                let (got, most) = (rules.len(), MAX_RULES);
                return Err(SampleError::GrammarTooLarge { kind: KIND, what: "rules", got, most });
            }
            self.blank(true);
        }
        Ok(rules)
    }

    fn choices(&mut self) -> Result<Choices, SampleError> {
        self.depth += 1;
        if self.depth > MAX_NESTING {
            let (got, most) = (self.depth, MAX_NESTING);
            return Err(SampleError::GrammarTooLarge { kind: KIND, what: "nested groups", got, most });
        }
        let mut choices = vec![self.sequence()?];
        while self.take("|") {
            self.blank(true);
            choices.push(self.sequence()?);
        }
        self.depth -= 1;
        Ok(choices)
    }

    fn sequence(&mut self) -> Result<Vec<Item>, SampleError> {
        let mut items = Vec::new();
        loop {
            // A line end ends a rule, but not a group; and not where the next line goes on with `|`.
            self.blank(self.depth > 1);
            let Some(next) = self.rest.chars().next() else { return Ok(items) };
            let what = match next {
                '"' => What::Literal(self.literal()?),
                '[' => What::Class(self.class()?),
                '.' => {
                    self.rest = &self.rest[1..];
                    What::Class("(?s:.)".to_owned())
                }
                '(' => {
                    self.rest = &self.rest[1..];
                    self.blank(true);
                    let choices = self.choices()?;
                    if !self.take(")") {
                        return self.fail(format!("a group is not closed before {:?}", self.glimpse()));
                    }
                    What::Group(choices)
                }
                '<' => return self.fail("references to tokens are not supported; write the text"),
                '\n' | '\r' => {
                    let (rest, line) = (self.rest, self.line);
                    self.blank(true);
                    if !self.rest.starts_with('|') {
                        (self.rest, self.line) = (rest, line);
                    }
                    return Ok(items);
                }
                '|' | ')' => return Ok(items),
                _ => match self.word() {
                    Some(name) => What::Rule(name.to_owned()),
                    None => return self.fail(format!("{:?} is not understood", self.glimpse())),
                },
            };
            let (least, most) = self.repeat()?;
            items.push(Item { what, least, most });
        }
    }

    fn repeat(&mut self) -> Result<(u32, Option<u32>), SampleError> {
        let mut range = (1, Some(1));
        let mut n_marks = 0;
        loop {
            self.blank_in_line();
            range = match self.rest.chars().next() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let Some(end) = self.rest.find('}') else { return self.fail("{ is not closed") };
                    let inner = &self.rest[1..end];
                    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&n| n <= MAX_REPEAT);
                    let range = match inner.split_once(',') {
                        None => number(inner).map(|n| (n, Some(n))),
                        Some((least, "")) => number(least).map(|least| (least, None)),
                        Some((least, most)) => number(least).zip(number(most).map(Some)),
                    };
                    let Some(range) = range.filter(|&(least, most)| most.is_none_or(|most| least <= most))
                    else {
                        return self
                            .fail(format!("{{{inner}}} is no repetition; at most {MAX_REPEAT} are allowed"));
                    };
                    self.rest = &self.rest[end..];
                    range
                }
                _ => return Ok(range),
            };
            self.rest = &self.rest[1..];
            n_marks += 1;
            if n_marks > 1 {
                return self.fail("something is repeated twice; use a group");
            }
        }
    }

    fn literal(&mut self) -> Result<String, SampleError> {
        self.rest = &self.rest[1..];
        let mut text = String::new();
        loop {
            match self.character()? {
                ('"', false) => return Ok(text),
                (c, _) => text.push(c),
            }
        }
    }

    /// A class, as a regular expression of code points: nothing in it is left to be escaped.
    fn class(&mut self) -> Result<String, SampleError> {
        self.rest = &self.rest[1..];
        let mut regex = String::from("[");
        if self.take("^") {
            regex.push('^');
        }
        let mut is_empty = true;
        loop {
            let first = match self.character()? {
                (']', false) => break,
                (c, _) => c,
            };
            is_empty = false;
            let mut last = first;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.rest = &self.rest[1..];
                last = self.character()?.0;
            }
            if last < first {
                return self.fail(format!("the range {first:?} to {last:?} is backwards"));
            }
            _ = write!(regex, "\\x{{{:x}}}-\\x{{{:x}}}", u32::from(first), u32::from(last));
        }
        match (is_empty, regex.len()) {
            (false, _) => Ok(regex + "]"),
            (true, 1) => self.fail("an empty class allows nothing"),
            (true, _) => Ok("(?s:.)".to_owned()),
        }
    }

    /// The next character of a literal or class, and whether it was escaped.
    fn character(&mut self) -> Result<(char, bool), SampleError> {
        let mut chars = self.rest.chars();
        let open = "a literal or class is not closed in its line";
        match chars.next() {
            None | Some('\n') => self.fail(open),
            Some('\\') => {
                let Some(kind) = chars.next() else { return self.fail(open) };
                self.rest = chars.as_str();
                let n_digits = match kind {
                    'n' => return Ok(('\n', true)),
                    'r' => return Ok(('\r', true)),
                    't' => return Ok(('\t', true)),
                    '\\' | '"' | '[' | ']' | '-' | '^' | '/' | '.' => return Ok((kind, true)),
                    'x' => 2,
                    'u' => 4,
                    'U' => 8,
                    _ => return self.fail(format!("\\{kind} is not understood")),
                };
                let digits = self.rest.get(..n_digits);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                let Some(c) = code.and_then(char::from_u32) else {
                    return self.fail(format!("\\{kind} needs {n_digits} digits of a character's number"));
                };
                self.rest = &self.rest[n_digits..];
                Ok((c, true))
            }
            Some(c) => {
                self.rest = chars.as_str();
                Ok((c, false))
            }
        }
    }

    fn word(&mut self) -> Option<&'g str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let n = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(n);
        self.rest = rest;
        Some(word).filter(|word| !word.is_empty())
    }

    fn take(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn blank_in_line(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    /// Passes over blanks and comments, and over line ends too if `lines`.
    fn blank(&mut self, lines: bool) {
        loop {
            self.blank_in_line();
            if self.rest.starts_with('#') {
                self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
            }
            match self.rest.strip_prefix("\r\n").or(self.rest.strip_prefix('\n')) {
                Some(rest) if lines => {
                    self.rest = rest;
                    self.line += 1;
                }
                _ => return,
            }
        }
    }

    fn glimpse(&self) -> &'g str {
        let line = self.rest.lines().next().unwrap_or_default();
        &line[..line.floor_char_boundary(20)]
    }
}

struct Writer<'r> {
    regular: BTreeSet<&'r str>,
    nullable: BTreeSet<&'r str>,
    /// Terminals that have no name in GBNF.
    made: Vec<String>,
    numbers: BTreeMap<&'r str, usize>,
}

impl Writer<'_> {
    /// Upper case for a terminal, lower case for a rule: so Lark tells them apart.
    fn name(&self, rule: &str) -> String {
        let number = self.numbers.get(rule).copied().unwrap_or_default();
        if self.regular.contains(rule) { format!("T{number}") } else { format!("r{number}") }
    }

    fn is_regular(&self, item: &Item) -> bool {
        match &item.what {
            What::Rule(name) => self.regular.contains(name.as_str()),
            What::Group(choices) => choices.iter().flatten().all(|item| self.is_regular(item)),
            What::Literal(_) | What::Class(_) => true,
        }
    }

    /// The right side of a terminal.
    fn terminal(&self, choices: &Choices) -> String {
        let sequences = choices.iter().map(|sequence| self.run(sequence));
        sequences.collect::<Vec<_>>().join(" | ")
    }

    /// Items within a terminal.
    fn run(&self, items: &[Item]) -> String {
        if items.is_empty() {
            return "\"\"".to_owned();
        }
        let item = |item: &Item| {
            let what = match &item.what {
                What::Literal(text) => quote(text),
                What::Class(regex) => format!("/{regex}/"),
                What::Rule(name) => self.name(name),
                What::Group(choices) => format!("({})", self.terminal(choices)),
            };
            repeated(what, item)
        };
        items.iter().map(item).collect::<Vec<_>>().join(" ")
    }

    /// The right side of a rule; with every item by itself if `apart`.
    fn rule(&mut self, choices: &Choices, apart: bool) -> String {
        let mut sequences = Vec::with_capacity(choices.len());
        for sequence in choices {
            let mut parts = Vec::new();
            let together = |a: &Item, b: &Item| !apart && self.is_regular(a) && self.is_regular(b);
            let runs: Vec<&[Item]> = sequence.chunk_by(together).collect();
            for run in runs {
                if apart || !self.is_regular(&run[0]) || self.may_be_empty(run) {
                    parts.extend(run.iter().map(|item| self.item(item, apart)));
                } else {
                    parts.push(self.own_terminal(run));
                }
            }
            sequences.push(if parts.is_empty() { "\"\"".to_owned() } else { parts.join(" ") });
        }
        sequences.join(" | ")
    }

    /// An item within a rule.
    fn item(&mut self, item: &Item, apart: bool) -> String {
        match &item.what {
            What::Group(choices) => repeated(format!("({})", self.rule(choices, apart)), item),
            _ => self.run(std::slice::from_ref(item)),
        }
    }

    /// Makes a terminal of regular items: in a rule, each would be one of its own.
    fn own_terminal(&mut self, run: &[Item]) -> String {
        if let [Item { what: What::Rule(name), least: 1, most: Some(1) }] = run {
            return self.name(name);
        }
        let name = format!("M{}", self.made.len());
        let line = format!("{name}: {}", self.run(run));
        self.made.push(line);
        name
    }

    fn may_be_empty(&self, run: &[Item]) -> bool {
        run.iter().all(|item| is_nullable(item, &self.nullable, false))
    }
}

fn repeated(what: String, item: &Item) -> String {
    match (item.least, item.most) {
        (1, Some(1)) => what,
        (0, Some(1)) => format!("({what})?"),
        (0, None) => format!("({what})*"),
        (1, None) => format!("({what})+"),
        (least, None) => format!("({what}){{{least},}}"),
        (least, Some(most)) => format!("({what}){{{least},{most}}}"),
    }
}

/// A literal as Lark has it, which is as JSON has it.
fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f")
}
