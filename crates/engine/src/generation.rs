//! One request at a time: an iterator over its events.

use std::collections::VecDeque;

use crate::engine::Item;
use crate::{Engine, EngineError, Event, Request, RequestId};

/// What the prompt of a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptReport {
    /// Tokens in the prompt.
    pub n_tokens: usize,
    /// Messages were given, but the model has no chat template: see [`Prepared::raw`](crate::Prepared::raw).
    pub raw: bool,
}

/// The events of one request, made as they are asked for. Dropping it ends the request.
#[derive(Debug)]
pub struct Generation<'e> {
    engine: &'e mut Engine,
    id: RequestId,
    prompt: PromptReport,
    ready: VecDeque<Item>,
    ended: bool,
}

impl Engine {
    /// Generates: an iterator whose last item is [`Event::Done`] or an error.
    ///
    /// Requests that were submitted beside this one move on with it; their events come with the next
    /// [`step`](Engine::step).
    ///
    /// # Errors
    /// As for [`submit`](Engine::submit).
    pub fn generate(&mut self, request: Request) -> Result<Generation<'_>, EngineError> {
        let (sequence, prompt) = self.intake.accept(request)?;
        let id = sequence.id;
        self.enqueue(sequence);
        Ok(Generation { engine: self, id, prompt, ready: VecDeque::new(), ended: false })
    }
}

impl Generation<'_> {
    /// What the prompt came to.
    pub fn prompt(&self) -> PromptReport {
        self.prompt
    }
}

impl Iterator for Generation<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        while self.ready.is_empty() {
            if self.ended {
                return None;
            }
            let (id, ready) = (self.id, &mut self.ready);
            let mut others = Vec::new();
            let result = self.engine.step(&mut |owner, item| {
                if owner == id { ready.push_back(item) } else { others.push((owner, item)) }
            });
            others.into_iter().for_each(|(owner, item)| self.engine.post(owner, item));
            if let Err(error) = result {
                self.ready.push_back(Err(error));
            }
        }
        let item = self.ready.pop_front();
        self.ended |= matches!(item, Some(Ok(Event::Done(_)) | Err(_)));
        item
    }
}

impl Drop for Generation<'_> {
    fn drop(&mut self) {
        // After an error of the backend it may still wait in line.
        self.engine.remove(self.id);
    }
}
