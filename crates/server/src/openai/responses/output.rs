//! Output items, built from the parts of an answer, and the events that tell of them as they grow: each item is opened,
//! filled and closed before the next. Streamed or not, the items are the same.

use serde_json::{Value, json};

use crate::openai::answer::Part;
use crate::openai::new_id;

/// The items of an answer.
#[derive(Debug, Default)]
pub(super) struct Output {
    /// All of them; the last may still be open.
    pub(super) items: Vec<Value>,
    open: Option<Open>,
    /// Events that nobody has taken yet.
    events: Vec<Value>,
    /// At most one call.
    single_call: bool,
    n_calls: usize,
}

/// What the open item is, and its text until now.
#[derive(Debug)]
struct Open {
    kind: Kind,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Message,
    Reasoning,
    Call,
}

impl Kind {
    /// Begins the names of the events of its text.
    fn event(self) -> &'static str {
        match self {
            Kind::Message => "response.output_text",
            Kind::Reasoning => "response.reasoning_text",
            Kind::Call => "response.function_call_arguments",
        }
    }

    /// The one part of its content; calls have none.
    fn part(self, text: &str) -> Option<Value> {
        match self {
            Kind::Message => {
                Some(json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []}))
            }
            Kind::Reasoning => Some(json!({"type": "reasoning_text", "text": text})),
            Kind::Call => None,
        }
    }
}

impl Output {
    pub(super) fn new(single_call: bool) -> Output {
        Output { single_call, ..Output::default() }
    }

    /// What has happened since this was asked.
    pub(super) fn take_events(&mut self) -> Vec<Value> {
        std::mem::take(&mut self.events)
    }

    /// Whether what came last is a thought.
    pub(super) fn is_thinking(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.kind == Kind::Reasoning)
    }

    /// Takes a part of the answer.
    pub(super) fn push(&mut self, part: Part) {
        match part {
            Part::Text(text) => self.text(Kind::Message, &text),
            Part::Thinking(text) => self.text(Kind::Reasoning, &text),
            Part::CallStart { name, .. } => {
                self.n_calls += 1;
                if self.is_wanted() {
                    let item = json!({"id": new_id("fc_"), "type": "function_call", "status": "in_progress",
                        "call_id": new_id("call_"), "name": name, "arguments": ""});
                    self.open(Kind::Call, item);
                }
            }
            Part::CallArguments(text) if self.is_wanted() => self.text(Kind::Call, &text),
            Part::CallEnd if self.is_wanted() => self.close("completed"),
            Part::CallArguments(_) | Part::CallEnd => {}
        }
    }

    fn is_wanted(&self) -> bool {
        !self.single_call || self.n_calls < 2
    }

    /// The end. An answer that says nothing is an empty message.
    pub(super) fn finish(&mut self, is_complete: bool) {
        if self.items.is_empty() {
            self.text(Kind::Message, "");
        }
        self.close(if is_complete { "completed" } else { "incomplete" });
    }

    fn open(&mut self, kind: Kind, item: Value) {
        self.close("completed");
        self.events.push(json!({"type": "response.output_item.added", "output_index": self.items.len(),
            "item": item}));
        self.items.push(item);
        self.open = Some(Open { kind, text: String::new() });
        if let Some(part) = kind.part("") {
            self.event("response.content_part.added".to_owned(), json!({"part": part}));
        }
    }

    fn text(&mut self, kind: Kind, text: &str) {
        if self.open.as_ref().is_none_or(|open| open.kind != kind) {
            let item = match kind {
                Kind::Message => json!({"id": new_id("msg_"), "type": "message", "status": "in_progress",
                    "role": "assistant", "content": []}),
                Kind::Reasoning => json!({"id": new_id("rs_"), "type": "reasoning", "status": "in_progress",
                    "summary": [], "content": []}),
                // Arguments come after the name of a call.
                Kind::Call => return,
            };
            self.open(kind, item);
        }
        let Some(open) = self.open.as_mut().filter(|_| !text.is_empty()) else { return };
        open.text.push_str(text);
        let mut event = json!({"delta": text});
        if kind == Kind::Message {
            event["logprobs"] = json!([]);
        }
        self.event(format!("{}.delta", kind.event()), event);
    }

    fn close(&mut self, status: &str) {
        let Some(Open { kind, text }) = self.open.take() else { return };
        let done = format!("{}.done", kind.event());
        match kind {
            Kind::Message => self.event(done, json!({"text": text, "logprobs": []})),
            Kind::Reasoning => self.event(done, json!({"text": text})),
            Kind::Call => {
                let name = self.items.last().map_or(Value::Null, |item| item["name"].clone());
                self.event(done, json!({"arguments": text, "name": name}));
            }
        }
        let part = kind.part(&text);
        if let Some(part) = &part {
            self.event("response.content_part.done".to_owned(), json!({"part": part}));
        }
        let Some(item) = self.items.last_mut() else { return };
        item["status"] = status.into();
        match part {
            Some(part) => item["content"] = json!([part]),
            None => item["arguments"] = text.into(),
        }
        let item = item.clone();
        self.events.push(json!({"type": "response.output_item.done", "output_index": self.items.len() - 1,
            "item": item}));
    }

    /// An event of the open item.
    fn event(&mut self, kind: String, mut event: Value) {
        let Some(item) = self.items.last() else { return };
        if item["type"] != "function_call" {
            event["content_index"] = 0.into();
        }
        event["item_id"] = item["id"].clone();
        event["output_index"] = (self.items.len() - 1).into();
        event["type"] = kind.into();
        self.events.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Part> {
        let text = |text: &str| text.to_owned();
        vec![
            Part::Thinking(text("h")),
            Part::Thinking(text("m")),
            Part::Text(text("Yes")),
            Part::CallStart { index: 0, name: text("f") },
            Part::CallArguments(text("{\"a\":")),
            Part::CallArguments(text("1}")),
            Part::CallEnd,
            Part::CallStart { index: 1, name: text("g") },
            Part::CallArguments(text("{}")),
            Part::CallEnd,
        ]
    }

    fn run(mut output: Output, parts: Vec<Part>, is_complete: bool) -> (Vec<Value>, Vec<Value>) {
        parts.into_iter().for_each(|part| output.push(part));
        output.finish(is_complete);
        (output.take_events(), output.items)
    }

    #[test]
    fn events_come_in_the_order_of_the_reference() {
        let (events, items) = run(Output::new(false), parts(), true);
        let names: Vec<(&str, u64)> = events
            .iter()
            .map(|event| {
                let name = event["type"].as_str().unwrap_or_default();
                (name.trim_start_matches("response."), event["output_index"].as_u64().unwrap_or_default())
            })
            .collect();
        let call = |at: u64, n: usize| {
            let mut events = vec![("output_item.added", at)];
            events.extend(vec![("function_call_arguments.delta", at); n]);
            events.extend([("function_call_arguments.done", at), ("output_item.done", at)]);
            events
        };
        let expected = [
            vec![
                ("output_item.added", 0),
                ("content_part.added", 0),
                ("reasoning_text.delta", 0),
                ("reasoning_text.delta", 0),
                ("reasoning_text.done", 0),
                ("content_part.done", 0),
                ("output_item.done", 0),
                ("output_item.added", 1),
                ("content_part.added", 1),
                ("output_text.delta", 1),
                ("output_text.done", 1),
                ("content_part.done", 1),
                ("output_item.done", 1),
            ],
            call(2, 2),
            call(3, 1),
        ];
        assert_eq!(names, expected.concat());
        // Every event of an item names it, and what is opened is what is closed.
        for event in &events {
            let id = event.get("item_id").unwrap_or(&event["item"]["id"]);
            let at = event["output_index"].as_u64().unwrap_or_default() as usize;
            assert_eq!(id, &items[at]["id"], "{event}");
        }
        let done: Vec<&Value> =
            events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
        assert!(done.iter().zip(&items).all(|(event, item)| event["item"] == *item));
        assert_eq!(items[0]["content"], json!([{"type": "reasoning_text", "text": "hm"}]));
        assert_eq!(items[1]["content"][0]["text"], "Yes");
        assert_eq!(
            (&items[2]["name"], &items[2]["arguments"], &items[3]["name"]),
            (&json!("f"), &json!("{\"a\":1}"), &json!("g"))
        );
        assert!(items.iter().all(|item| item["status"] == "completed"));
    }

    #[test]
    fn ends() {
        let (_, items) = run(Output::new(true), parts(), true);
        let names: Vec<&Value> = items.iter().map(|item| &item["type"]).collect();
        assert_eq!(names, ["reasoning", "message", "function_call"]);
        let (_, items) = run(Output::new(false), parts()[..3].to_vec(), false);
        let statuses: Vec<&Value> = items.iter().map(|item| &item["status"]).collect();
        assert_eq!(statuses, ["completed", "incomplete"]);
        let (events, items) = run(Output::new(false), Vec::new(), true);
        assert_eq!((items.len(), &items[0]["content"][0]["text"], events.len()), (1, &json!(""), 5));
    }
}
