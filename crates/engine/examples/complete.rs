//! Answers one message: `cargo run --release -p whit-engine --example complete -- model.gguf "Why is the sky blue?"`

use std::io::Write as _;

use whit_engine::{Engine, EngineError, EngineOptions, Event, Message, Prompt, Request, SamplerConfig};

fn main() -> Result<(), EngineError> {
    let mut arguments = std::env::args().skip(1);
    let (Some(path), Some(text)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: complete MODEL.gguf TEXT");
        return Ok(());
    };
    let mut engine = Engine::load(path, &EngineOptions::default())?;
    eprintln!(
        "{} on {}, loaded in {:?}",
        engine.model().path().display(),
        engine.backend(),
        engine.load_time()
    );
    let request = Request {
        sampling: SamplerConfig::greedy(),
        max_tokens: Some(200),
        ..Request::new(Prompt::Chat(vec![Message::user(text)]))
    };
    for event in engine.generate(request)? {
        match event? {
            Event::Token { text, .. } => {
                print!("{text}");
                let _ = std::io::stdout().flush();
            }
            Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => {
                let (prompt, generated) = (
                    done.timings.prompt_tokens_per_second(&done.usage),
                    done.timings.generated_tokens_per_second(&done.usage),
                );
                eprintln!("\n{:?}: prompt {prompt:.0}, generation {generated:.0} tokens/s", done.reason);
            }
        }
    }
    Ok(())
}
