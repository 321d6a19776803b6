//! The text around calls: finds where one may begin, and gives back what was none.

use serde_json::Value;

use super::body::{Body, Turn};
use super::format::{Opener, ToolFormat, find, undecided};
use super::{Tool, ToolEvent, emit};

/// Finds the calls in an answer that comes in pieces.
#[derive(Clone, Debug)]
pub struct ToolParser {
    format: ToolFormat,
    shared: Shared,
    /// What was not yet decided on.
    pending: String,
    /// The call being read.
    body: Option<Body>,
    /// Nothing but white space came so far: the answer may yet be a bare call.
    at_start: bool,
    /// The last that came was a call: white space after it is dropped.
    after_call: bool,
}

/// What the parser and the call in it both know.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) tools: Vec<Tool>,
    /// Calls so far.
    pub(super) n_calls: usize,
    /// Calls are given as soon as their name is known, else when they are whole.
    pub(super) streams: bool,
}

impl Shared {
    pub(super) fn knows(&self, name: &str) -> bool {
        self.tools.iter().any(|tool| tool.name == name)
    }

    pub(super) fn start(&mut self, name: String, out: &mut Vec<ToolEvent>) {
        emit(out, ToolEvent::ToolCallStart { index: self.n_calls, name });
        self.n_calls += 1;
    }
}

impl ToolParser {
    /// A parser of one answer. `tools` are the definitions that the model was given, as in the OpenAI API; a call without
    /// markers counts only if it names one of them.
    pub fn new(format: ToolFormat, tools: &[Value]) -> ToolParser {
        let tools = tools.iter().filter_map(Tool::read).collect();
        ToolParser {
            format,
            shared: Shared { tools, n_calls: 0, streams: true },
            pending: String::new(),
            body: None,
            at_start: true,
            after_call: false,
        }
    }

    /// Gives every call at once, when it is whole: for callers who need the arguments parsed.
    #[must_use]
    pub fn whole_calls(mut self) -> ToolParser {
        self.shared.streams = false;
        self
    }

    /// Calls begun so far.
    pub fn n_calls(&self) -> usize {
        self.shared.n_calls
    }

    /// Takes the next piece and appends to `out` what became certain.
    pub fn push(&mut self, text: &str, out: &mut Vec<ToolEvent>) {
        self.pending.push_str(text);
        while self.advance(out) {}
    }

    /// Whether a call may begin with this control token.
    pub fn begins_with(&self, spelling: &str) -> bool {
        self.format.openers().iter().any(|opener| opener.marker == spelling)
    }

    /// Takes a control token, as it is spelled. It parts what stands before it from what comes, and is never text.
    pub fn control(&mut self, spelling: &str, out: &mut Vec<ToolEvent>) {
        if self.body.as_mut().is_some_and(|body| body.control(spelling)) {
            return;
        }
        self.end_body(out);
        let opener = self.format.openers().iter().find(|opener| opener.marker == spelling);
        let is_blank = self.pending.trim().is_empty();
        let text = std::mem::take(&mut self.pending);
        match opener {
            Some(&opener) => {
                self.content(text.trim_end().to_owned(), out);
                self.open(Body::marked(opener, String::new()));
            }
            // Nothing was said yet, or since the last call.
            None if is_blank && (self.at_start || self.after_call) => self.pending = text,
            None => self.content(text, out),
        }
    }

    /// Ends the answer: what is held back comes out.
    pub fn finish(&mut self, out: &mut Vec<ToolEvent>) {
        self.end_body(out);
        let text = std::mem::take(&mut self.pending);
        if !(self.after_call && text.trim().is_empty()) {
            self.content(text, out);
        }
        self.at_start = true;
        self.after_call = false;
    }

    /// Ends the call being read; what was none of it is pending.
    fn end_body(&mut self, out: &mut Vec<ToolEvent>) {
        let Some(body) = self.body.take() else { return };
        let n_before = self.shared.n_calls;
        let text = body.finish(&mut self.shared, out);
        self.after_call |= self.shared.n_calls > n_before;
        self.pending.insert_str(0, &text);
    }

    /// One step; false when more text is needed.
    fn advance(&mut self, out: &mut Vec<ToolEvent>) -> bool {
        let Some(body) = &mut self.body else { return self.find_opener(out) };
        let pending = std::mem::take(&mut self.pending);
        for (at, c) in pending.char_indices() {
            match body.push(c, &mut self.shared, out) {
                Turn::More => {}
                Turn::Closed => {
                    self.pending = pending[at + c.len_utf8()..].to_owned();
                    self.after_call = true;
                }
                Turn::Left(text) => {
                    // What came after the call may be the next.
                    self.pending = text + &pending[at..];
                    self.after_call = true;
                }
                Turn::Broken(mut text) => {
                    // White space may belong to a call that begins here.
                    self.pending = text.split_off(text.trim_end().len()) + &pending[at..];
                    self.at_start = false;
                    self.body = None;
                    self.content(text, out);
                    return true;
                }
            }
            if self.after_call {
                self.body = None;
                return true;
            }
        }
        false
    }

    /// Looks for the beginning of a call in what is pending.
    fn find_opener(&mut self, out: &mut Vec<ToolEvent>) -> bool {
        let openers = self.format.openers();
        let markers = || openers.iter().map(|opener| opener.marker);
        if self.at_start {
            let text = self.pending.trim_start();
            let bracket = text.starts_with(['{', '[']);
            if text.is_empty()
                || (bracket && markers().any(|marker| marker.len() > text.len() && marker.starts_with(text)))
            {
                return false;
            }
            if bracket && !self.shared.tools.is_empty() && !markers().any(|marker| text.starts_with(marker)) {
                let space = self.pending.len() - text.len();
                let rest = self.pending.split_off(space);
                let space = std::mem::replace(&mut self.pending, rest);
                self.open(Body::bare(space));
                return true;
            }
        }
        if let Some((at, which)) = find(&self.pending, markers()) {
            let Opener { marker, .. } = openers[which];
            let rest = self.pending.split_off(at + marker.len());
            let mut text = std::mem::replace(&mut self.pending, rest);
            // White space before a call goes with it.
            let opening = text.split_off(text[..at].trim_end().len());
            self.content(text, out);
            self.open(Body::marked(openers[which], opening));
            return true;
        }
        let certain = &self.pending[..undecided(&self.pending, markers())];
        let rest = self.pending.split_off(certain.trim_end().len());
        let text = std::mem::replace(&mut self.pending, rest);
        self.content(text, out);
        false
    }

    fn open(&mut self, body: Body) {
        self.body = Some(body);
        self.at_start = false;
        self.after_call = false;
    }

    fn content(&mut self, text: String, out: &mut Vec<ToolEvent>) {
        if !text.is_empty() {
            self.at_start &= text.trim().is_empty();
            self.after_call = false;
            emit(out, ToolEvent::Content(text));
        }
    }
}
