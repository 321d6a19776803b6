//! Hands sources to the parser, guarded: in bounds, on a stack that is deep enough, panics turned into errors.

use std::panic::AssertUnwindSafe;

use llguidance::api::{GrammarInit, GrammarWithLexer, ParserLimits, TopLevelGrammar};
use llguidance::panic_utils::catch_unwind;

use crate::SampleError;

/// Brackets within brackets that a grammar may have.
const MAX_NESTING: usize = 64;
/// The parser descends into rules of rules; a chain as long as a grammar may be fits into this. It is address space:
/// only what is touched becomes memory.
const STACK: usize = 256 << 20;

/// What a grammar may cost. A step is bounded to some tens of milliseconds, where a usual one takes tens of microseconds;
/// a compiled grammar to some tens of megabytes.
pub(super) fn limits() -> ParserLimits {
    ParserLimits {
        max_items_in_row: 2_000,
        initial_lexer_fuel: 1_000_000,
        step_lexer_fuel: 200_000,
        step_max_items: 50_000,
        max_lexer_states: 50_000,
        max_grammar_size: 200_000,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

/// Compiles the first of `parts`, which may refer to the others by name. The error says why not.
pub(super) fn compile(parts: Vec<GrammarWithLexer>) -> Result<GrammarInit, String> {
    let source = TopLevelGrammar { grammars: parts, max_tokens: None };
    guarded(move || {
        catch_unwind(AssertUnwindSafe(|| GrammarInit::Serialized(source).to_internal(None, limits())))
            .map(|(grammar, lexer)| GrammarInit::Internal(grammar, lexer))
            .map_err(|error| tidy(&format!("{error:#}")))
    })
}

/// Runs `work` on a stack of [`STACK`] bytes.
#[cfg(not(target_family = "wasm"))]
pub(super) fn guarded<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("grammar".into()).stack_size(STACK);
        let handle =
            thread.spawn_scoped(scope, work).map_err(|error| format!("no thread for it: {error}"))?;
        handle.join().unwrap_or_else(|_| Err("the parser broke down on it".into()))
    })
}

/// Runs `work`: there is one thread.
#[cfg(target_family = "wasm")]
pub(super) fn guarded<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    work()
}

/// What the parser says, less what is for its developers.
pub(super) fn tidy(message: &str) -> String {
    const MOST: usize = 600;
    let end = ["\n<backtrace>", "\n<state>", "\n<non-verbose", "\n<grammar>"]
        .iter()
        .filter_map(|mark| message.find(mark))
        .min()
        .unwrap_or(message.len());
    let mut message = message[..end].trim_end().to_owned();
    // Of a regular expression, it repeats all before it comes to the point.
    if let Some((echo, rest)) = message.split_once("\nerror: ")
        && let Some((place, _)) = echo.split_once('"')
    {
        message = format!("{}: {}", place.trim_end(), rest.lines().next().unwrap_or_default());
    }
    if message.len() > MOST {
        // The head says where, the tail what.
        let (head, tail) =
            (message.floor_char_boundary(MOST / 2), message.ceil_char_boundary(message.len() - MOST / 2));
        message.replace_range(head..tail, " ... ");
    }
    message
}

/// Refuses brackets nested deeper than any sensible grammar has them. Counts those in strings too, which only a grammar
/// for brackets would have in such numbers.
pub(super) fn check_nesting(kind: &'static str, text: &str) -> Result<(), SampleError> {
    let (mut depth, mut deepest) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    if deepest <= MAX_NESTING {
        return Ok(());
    }
    Err(SampleError::GrammarTooLarge { kind, what: "nested brackets", got: deepest, most: MAX_NESTING })
}
