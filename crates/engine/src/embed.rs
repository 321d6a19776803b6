//! Vectors of texts.

use std::collections::HashMap;

use crate::{EmbedRequest, Engine, EngineError, Event, RequestId, Usage};

/// The vector of a text.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// As wide as the model, of length 1.
    pub vector: Vec<f32>,
    /// Its tokens.
    pub usage: Usage,
}

impl Engine {
    /// Puts a request for a vector in line. It moves on with each [`step`](Self::step), in the same batches as requests
    /// for text; its events are [`Event::Embedding`] and [`Event::Done`].
    ///
    /// # Errors
    /// A model that gives no vectors; a text that cannot be tokenized, is empty or too long.
    pub fn submit_embedding(&mut self, request: EmbedRequest) -> Result<RequestId, EngineError> {
        let (sequence, _) = self.intake.accept_embedding(request)?;
        let id = sequence.id;
        self.enqueue(sequence);
        Ok(id)
    }

    /// The vectors of several texts, in their order. Requests that were submitted beside them move on with them.
    ///
    /// # Errors
    /// As for [`submit_embedding`](Self::submit_embedding), and failures of the backend. A request that was cancelled gives
    /// an empty vector.
    pub fn embed(
        &mut self,
        requests: impl IntoIterator<Item = EmbedRequest>,
    ) -> Result<Vec<Embedding>, EngineError> {
        let mut places = HashMap::new();
        let mut all = Vec::new();
        let mut result = Ok(());
        for request in requests {
            match self.submit_embedding(request) {
                Ok(id) => {
                    places.insert(id, all.len());
                    all.push(Embedding { vector: Vec::new(), usage: Usage::default() });
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let mut left = places.len();
        while result.is_ok() && left > 0 {
            let mut others = Vec::new();
            let stepped = self.step(&mut |id, item| match (places.get(&id), item) {
                (Some(&at), Ok(Event::Embedding(vector))) => all[at].vector = vector,
                (Some(&at), Ok(Event::Done(done))) => {
                    all[at].usage = done.usage;
                    left -= 1;
                }
                (Some(_), Err(error)) => result = Err(error),
                (Some(_), Ok(_)) => {}
                (None, item) => others.push((id, item)),
            });
            others.into_iter().for_each(|(id, item)| self.post(id, item));
            result = result.and(stepped);
        }
        if result.is_err() {
            places.keys().for_each(|&id| self.remove(id));
        }
        result.map(|()| all)
    }
}
