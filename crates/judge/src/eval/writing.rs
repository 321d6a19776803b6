//! Answers that a model writes, likeliest token by likeliest token, many at a time.

use std::collections::HashMap;

use whit_engine::{Engine, Event, Prompt, Request, SamplerConfig};

use crate::JudgeError;

/// An answer to be written.
#[derive(Clone, Debug)]
pub(super) struct Writing {
    pub(super) prompt: Vec<u32>,
    pub(super) stop: Vec<String>,
    pub(super) max_tokens: usize,
}

/// Writes all of them. Of a prompt that leaves no room for the answer, the first tokens are left out.
pub(super) fn write(engine: &mut Engine, writings: Vec<Writing>) -> Result<Vec<String>, JudgeError> {
    let n_ctx = engine.n_ctx();
    let mut texts = vec![String::new(); writings.len()];
    let mut places = HashMap::new();
    for (place, writing) in writings.into_iter().enumerate() {
        let Writing { mut prompt, stop, max_tokens } = writing;
        // An answer as long as the context would leave no room for a question.
        let room = n_ctx.saturating_sub(max_tokens).max(n_ctx / 2).max(1);
        prompt.drain(..prompt.len().saturating_sub(room));
        let request = Request {
            sampling: SamplerConfig::greedy(),
            max_tokens: Some(max_tokens),
            stop,
            ..Request::new(Prompt::Tokens(prompt))
        };
        places.insert(engine.submit(request)?, place);
    }
    let mut failed = None;
    while !places.is_empty() && failed.is_none() {
        engine.step(&mut |id, item| match item {
            Ok(Event::Token { text, .. }) => {
                if let Some(&place) = places.get(&id) {
                    texts[place].push_str(&text);
                }
            }
            Ok(Event::Done(_)) => {
                places.remove(&id);
            }
            Ok(_) => {}
            Err(error) => failed = Some(error),
        })?;
    }
    for id in places.into_keys() {
        engine.remove(id);
    }
    failed.map_or(Ok(texts), |error| Err(error.into()))
}
