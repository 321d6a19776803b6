//! Chat templates: the model's own Jinja, rendered as `transformers` renders it.
//!
//! The engine is minijinja, set up like the sandbox of `transformers.utils.chat_template_utils`: `trim_blocks` and
//! `lstrip_blocks`, loop controls, Python's string, list and dict methods, `raise_exception`, `strftime_now`, `tojson`
//! without HTML escapes, and values printed as Python prints them. `{% generation %}` marks training data and is read as
//! a plain block. A template comes with a model file, that is, from anywhere: its steps, its recursion and its output are
//! limited, and it runs on a stack that its steps cannot exhaust. Left out: nothing bounds the memory of a string that a
//! template doubles again and again (`x ~ x`), for the engine offers no hook there.

mod guard;
mod message;
mod python;

use std::borrow::Cow;
use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, ErrorKind};

pub(crate) use guard::MARK;
pub use message::{ChatInput, Message};

use crate::TextError;
use crate::tokenizer::Tokenizer;

const NAME: &str = "chat_template";
/// Stack of the thread that renders; address space only, until it is used. A template may nest a value once every five
/// steps or so, and such a value is printed, compared and dropped by recursion: all that
/// [`TemplateLimits::max_steps`] can build must fit.
#[cfg(not(target_family = "wasm"))]
const STACK_BYTES: usize = 512 << 20;

/// What a template may use up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TemplateLimits {
    /// Steps (virtual-machine instructions) before anything of the conversation is counted.
    pub steps: u64,
    /// Further steps for each kilobyte of the conversation.
    pub steps_per_kb: u64,
    /// No more steps than this, however long the conversation.
    pub max_steps: u64,
    /// Depth of nested blocks and macro calls.
    pub recursion: usize,
    /// Bytes of output before anything of the conversation is counted.
    pub output: usize,
    /// Further bytes of output for each byte of the conversation.
    pub output_per_byte: usize,
}

impl Default for TemplateLimits {
    /// The real templates tried need some 20 steps a message and print everything once.
    fn default() -> Self {
        Self {
            steps: 100_000,
            steps_per_kb: 10_000,
            max_steps: 1_000_000,
            recursion: 100,
            output: 1 << 20,
            output_per_byte: 8,
        }
    }
}

/// Spellings of the tokens that templates mention by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TemplateTokens {
    /// `bos_token`
    pub bos: Option<String>,
    /// `eos_token`
    pub eos: Option<String>,
    /// `unk_token`
    pub unk: Option<String>,
    /// `pad_token`
    pub pad: Option<String>,
}

/// A prompt in which the template's control tokens are told apart from look-alikes in the messages.
///
/// Made by [`ChatTemplate::prompt`], read by [`Tokenizer::encode_prompt`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    guarded: String,
}

impl Prompt {
    /// The prompt as a person would read it.
    pub fn text(&self) -> Cow<'_, str> {
        guard::lift(&self.guarded)
    }

    /// Appends a text, in which no control token is read.
    pub fn push(&mut self, text: &str, tokenizer: &Tokenizer) {
        self.guarded.push_str(&guard::lower(tokenizer, text.to_owned()));
    }

    /// Takes away the white space at the end.
    pub fn trim_end(&mut self) {
        self.guarded.truncate(self.guarded.trim_end().len());
    }
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: TemplateTokens,
    limits: TemplateLimits,
    source: String,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`TextError::BrokenTemplate`] with the line, if it is not Jinja.
    pub fn new(source: &str, tokens: TemplateTokens) -> Result<Self, TextError> {
        Self::with_limits(source, tokens, TemplateLimits::default())
    }

    /// The same, with other limits.
    ///
    /// # Errors
    /// As [`ChatTemplate::new`].
    pub fn with_limits(
        source: &str,
        tokens: TemplateTokens,
        limits: TemplateLimits,
    ) -> Result<Self, TextError> {
        let broken =
            |e: &minijinja::Error| TextError::BrokenTemplate { line: e.line().unwrap_or(1), what: words(e) };
        let mut environment = Environment::new();
        let syntax =
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(|e| broken(&e))?;
        environment.set_syntax(syntax);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_recursion_limit(limits.recursion);
        environment.set_debug(false);
        environment.set_unknown_method_callback(python::method);
        python::install(&mut environment);
        environment
            .add_template_owned(NAME, without_generation_tags(source).into_owned())
            .map_err(|e| broken(&e))?;
        Ok(Self { environment, tokens, limits, source: source.to_owned() })
    }

    /// The template as it was given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the template looks at tools at all.
    pub fn mentions_tools(&self) -> bool {
        self.source.contains("tools")
    }

    /// Renders a conversation to text, in which messages and template can no longer be told apart. For showing and
    /// comparing; to run a model use [`ChatTemplate::prompt`].
    ///
    /// # Errors
    /// What the template raises, where it fails, and its limits.
    pub fn render(&self, input: &ChatInput<'_>) -> Result<String, TextError> {
        self.render_values(input, |text| text)
    }

    /// Renders a conversation to a prompt for `tokenizer`: whatever in the messages and tools spells a control token is
    /// marked as text.
    ///
    /// # Errors
    /// As [`ChatTemplate::render`].
    pub fn prompt(&self, input: &ChatInput<'_>, tokenizer: &Tokenizer) -> Result<Prompt, TextError> {
        let guarded = self.render_values(input, |text| guard::lower(tokenizer, text))?;
        Ok(Prompt { guarded })
    }

    /// Renders on a thread with stack enough for whatever the template builds.
    #[cfg(not(target_family = "wasm"))]
    fn render_values(
        &self,
        input: &ChatInput<'_>,
        protect: impl Fn(String) -> String + Send + Sync,
    ) -> Result<String, TextError> {
        std::thread::scope(|scope| {
            let builder =
                std::thread::Builder::new().name("chat template".to_owned()).stack_size(STACK_BYTES);
            let thread = builder.spawn_scoped(scope, || self.render_here(input, &protect)).map_err(|_| {
                TextError::TemplateLimit {
                    limit: format!("{STACK_BYTES} bytes of stack, which this system denies"),
                }
            })?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// WebAssembly has no thread to spare; its own stack ends in a trap.
    #[cfg(target_family = "wasm")]
    fn render_values(
        &self,
        input: &ChatInput<'_>,
        protect: impl Fn(String) -> String,
    ) -> Result<String, TextError> {
        self.render_here(input, &protect)
    }

    fn render_here(
        &self,
        input: &ChatInput<'_>,
        protect: &dyn Fn(String) -> String,
    ) -> Result<String, TextError> {
        let (context, bytes) = input.context(&self.tokens, protect);
        let for_bytes = (bytes as u64 / 1024 + 1).saturating_mul(self.limits.steps_per_kb);
        let steps = self.limits.steps.saturating_add(for_bytes).min(self.limits.max_steps);
        let max_bytes = self.limits.output.saturating_add(bytes.saturating_mul(self.limits.output_per_byte));
        // Fuel belongs to an environment; a clone of one shares its templates.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(steps));
        let now = input.now;
        environment.add_function("strftime_now", move |format: &str| python::strftime(now, format));
        let failed =
            |e: &minijinja::Error| TextError::TemplateFailed { line: e.line().unwrap_or(1), what: words(e) };
        let template = environment.get_template(NAME).map_err(|e| failed(&e))?;
        let mut out = Bounded { bytes: Vec::new(), max_bytes, over: false };
        let result = template.render_captured_to(context, &mut out).map(drop);
        match result {
            Ok(()) => Ok(String::from_utf8(out.bytes)
                .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())),
            Err(_) if out.over => {
                Err(TextError::TemplateLimit { limit: format!("{max_bytes} bytes of output") })
            }
            Err(e) => Err(match python::refusal(&e) {
                Some(message) => TextError::TemplateRefused { message },
                None if e.kind() == ErrorKind::OutOfFuel => {
                    TextError::TemplateLimit { limit: format!("{steps} steps") }
                }
                None if e.detail().is_some_and(|detail| detail.contains("recursion limit")) => {
                    TextError::TemplateLimit { limit: format!("{} nested calls", self.limits.recursion) }
                }
                None => failed(&e),
            }),
        }
    }
}

/// The error with its causes, in one line.
fn words(error: &minijinja::Error) -> String {
    let mut text = match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    };
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(" ({inner})"));
        cause = inner.source();
    }
    text
}

/// An output that ends.
struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    over: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.max_bytes {
            self.over = true;
            return Err(io::Error::other("too much output"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `{% generation %}` and `{% endgeneration %}`, which mark the answers for training, as `{% if true %}` and `{% endif %}`.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, tag) = rest.split_at(open);
        out.push_str(before);
        let Some(close) = tag.find("%}") else {
            rest = tag;
            break;
        };
        let (tag, after) = tag.split_at(close + 2);
        let name = tag[2..tag.len() - 2].trim_matches(|c: char| c == '-' || c == '+' || c.is_whitespace());
        out.push_str(&match name {
            "generation" => tag.replace("generation", "if true"),
            "endgeneration" => tag.replace("endgeneration", "endif"),
            _ => tag.to_owned(),
        });
        rest = after;
    }
    out.push_str(rest);
    Cow::Owned(out)
}

impl Tokenizer {
    /// The spellings that a chat template may ask for.
    pub fn template_tokens(&self) -> TemplateTokens {
        let ids = self.special_ids();
        let spelled = |id: Option<u32>| {
            id.and_then(|id| self.token_text(id)).map(|text| String::from_utf8_lossy(text).into_owned())
        };
        TemplateTokens {
            bos: spelled(ids.bos),
            eos: spelled(ids.eos),
            unk: spelled(ids.unk),
            pad: spelled(ids.pad),
        }
    }

    /// Encodes a rendered prompt. Control tokens of the template are read as such, those of the messages as text. BOS is
    /// added where the model wants it and the template did not; EOS never, for the answer is still to come.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, prompt: &Prompt) -> Result<Vec<u32>, TextError> {
        self.encode_guarded(&prompt.guarded, MARK, guard::lift)
    }
}
