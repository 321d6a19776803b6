//! An opened model file: what it is and how it reads and writes text. Weights are mapped and not touched.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use serde_json::{Map, Value};
use whit_base::{DType, Weight};
use whit_files::Gguf;
use whit_models::ModelInfo;
use whit_sample::GrammarVocabulary;
use whit_text::{ChatInput, ChatTemplate, EncodeOptions, Message, Tokenizer};

use crate::memory::Sizing;
use crate::{EngineError, EngineOptions, MemoryEstimate, Prompt, Request};

/// A model file, opened. Cloning shares.
#[derive(Clone, Debug)]
pub struct Model {
    inner: Arc<Inner>,
    /// In place of the file's own.
    template: Option<Arc<ChatTemplate>>,
}

#[derive(Debug)]
struct Inner {
    gguf: Gguf,
    info: ModelInfo,
    tokenizer: OnceLock<Tokenizer>,
    grammar_vocabulary: OnceLock<GrammarVocabulary>,
    /// `None`: the file has none.
    template: OnceLock<Option<ChatTemplate>>,
}

/// A prompt as the model gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepared {
    /// Token ids.
    pub tokens: Vec<u32>,
    /// Messages were given, but the model has no chat template: their text goes in as it is, and the model will
    /// continue it rather than answer.
    pub raw: bool,
}

impl Model {
    /// Opens a GGUF file (of a split one, any part), or a folder as the Hugging Face Hub keeps models.
    ///
    /// # Errors
    /// A file that cannot be read, and an architecture that is not supported.
    pub fn open(path: impl AsRef<Path>) -> Result<Model, EngineError> {
        Model::from_gguf(whit_models::open(path)?)
    }

    /// As [`open`](Self::open), for a file that is open already.
    ///
    /// # Errors
    /// An architecture that is not supported.
    pub fn from_gguf(gguf: Gguf) -> Result<Model, EngineError> {
        let info = whit_models::describe(&gguf)?;
        let inner = Inner {
            gguf,
            info,
            tokenizer: OnceLock::new(),
            grammar_vocabulary: OnceLock::new(),
            template: OnceLock::new(),
        };
        Ok(Model { inner: Arc::new(inner), template: None })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.inner.info
    }

    /// The file: metadata and tensors.
    pub fn gguf(&self) -> &Gguf {
        &self.inner.gguf
    }

    /// Where the file lies.
    pub fn path(&self) -> &Path {
        self.inner.gguf.path()
    }

    /// The tokenizer, built on first use.
    ///
    /// # Errors
    /// A file without a vocabulary, or with one that is broken or of an unknown kind.
    pub fn tokenizer(&self) -> Result<&Tokenizer, EngineError> {
        if let Some(tokenizer) = self.inner.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = whit_models::vocab::tokenizer(self.gguf())?;
        let (n_tokens, n_vocab) = (tokenizer.n_tokens(), self.info().n_vocab);
        if n_vocab < n_tokens {
            return Err(EngineError::VocabularyMismatch { n_tokens, n_vocab });
        }
        Ok(self.inner.tokenizer.get_or_init(|| tokenizer))
    }

    /// The vocabulary as grammars need it, built on first use: requests without a grammar never pay for it.
    ///
    /// # Errors
    /// As for [`tokenizer`](Self::tokenizer), and a vocabulary too large.
    pub fn grammar_vocabulary(&self) -> Result<&GrammarVocabulary, EngineError> {
        if let Some(vocabulary) = self.inner.grammar_vocabulary.get() {
            return Ok(vocabulary);
        }
        let tokenizer = self.tokenizer()?;
        let token = |id: u32| {
            let mut bytes = Vec::new();
            tokenizer.token_bytes(id, &mut bytes).map(|()| (id, bytes, tokenizer.is_control(id)))
        };
        let tokens = (0..tokenizer.n_tokens() as u32).map(token).collect::<Result<Vec<_>, _>>()?;
        let eos = &tokenizer.special_ids().end_of_generation;
        let vocabulary = GrammarVocabulary::new(self.info().n_vocab, tokens, eos)?;
        Ok(self.inner.grammar_vocabulary.get_or_init(|| vocabulary))
    }

    /// The chat template: the one given by [`with_template`](Self::with_template), else the file's own, else none.
    ///
    /// # Errors
    /// A template that is not valid, or a tokenizer that is not.
    pub fn template(&self) -> Result<Option<&ChatTemplate>, EngineError> {
        if let Some(template) = &self.template {
            return Ok(Some(template));
        }
        if let Some(template) = self.inner.template.get() {
            return Ok(template.as_ref());
        }
        let source = self.gguf().metadata().opt_str("tokenizer.chat_template")?;
        let template = match source {
            Some(source) => Some(ChatTemplate::new(source, self.tokenizer()?.template_tokens())?),
            None => None,
        };
        Ok(self.inner.template.get_or_init(|| template).as_ref())
    }

    /// The same model with another chat template (Jinja).
    ///
    /// # Errors
    /// A template that is not valid.
    pub fn with_template(self, source: &str) -> Result<Model, EngineError> {
        let template = ChatTemplate::new(source, self.tokenizer()?.template_tokens())?;
        Ok(Model { template: Some(Arc::new(template)), ..self })
    }

    /// Whether conversations can be put into a form that the model was taught.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some() || self.info().has_chat_template
    }

    /// Turns a prompt into tokens.
    ///
    /// # Errors
    /// Whatever the tokenizer or the chat template has to say.
    pub fn prepare(&self, prompt: &Prompt) -> Result<Prepared, EngineError> {
        self.prepare_with(prompt, &Map::new())
    }

    /// The same, with more variables for the chat template.
    ///
    /// # Errors
    /// As for [`prepare`](Self::prepare).
    pub fn prepare_with(
        &self,
        prompt: &Prompt,
        variables: &Map<String, Value>,
    ) -> Result<Prepared, EngineError> {
        match prompt {
            Prompt::Tokens(tokens) => Ok(Prepared { tokens: tokens.clone(), raw: false }),
            Prompt::Text(text) => Ok(Prepared { tokens: self.encode_beginning(text)?, raw: false }),
            Prompt::Chat(messages) => match self.template()? {
                Some(template) => {
                    let tokenizer = self.tokenizer()?;
                    let input = ChatInput { extra: variables.clone(), ..ChatInput::new(messages) };
                    let prompt = template.prompt(&input, tokenizer)?;
                    Ok(Prepared { tokens: tokenizer.encode_prompt(&prompt)?, raw: false })
                }
                None => {
                    let texts: Vec<&str> = messages.iter().filter_map(Message::text).collect();
                    Ok(Prepared { tokens: self.encode_beginning(&texts.join("\n\n"))?, raw: true })
                }
            },
        }
    }

    /// Turns what is to be embedded into tokens: at most `most` of them where `truncate` allows to leave out the end of a
    /// text (not the token that closes it).
    pub(crate) fn prepare_embedding(
        &self,
        input: &Prompt,
        truncate: bool,
        most: usize,
    ) -> Result<Vec<u32>, EngineError> {
        let Prompt::Text(text) = input else {
            let mut tokens = self.prepare(input)?.tokens;
            if truncate {
                tokens.truncate(most);
            }
            return Ok(tokens);
        };
        let tokenizer = self.tokenizer()?;
        let mut tokens = tokenizer.encode(text, EncodeOptions::TEXT)?;
        if tokens.is_empty() {
            return self.encode_beginning(text);
        }
        if truncate && tokens.len() > most {
            let plain = tokenizer.encode(text, EncodeOptions::PIECE)?;
            // What closes the text: whatever follows its last own token.
            let closes = tokens.last() != plain.last();
            let closing = tokens.last().copied().filter(|_| closes && most > 1);
            tokens.truncate(most - usize::from(closing.is_some()));
            tokens.extend(closing);
        }
        Ok(tokens)
    }

    /// Turns a query and a document into one sequence, and tells where the second type of tokens begins. Where `truncate` allows it, the
    /// document's end is left out (not the token that closes it) until no more than `most` tokens are left.
    pub(crate) fn prepare_pair(
        &self,
        query: &Prompt,
        document: &Prompt,
        truncate: bool,
        most: usize,
    ) -> Result<(Vec<u32>, Option<usize>), EngineError> {
        if let (Prompt::Text(query), Prompt::Text(document)) = (query, document) {
            let tokenizer = self.tokenizer()?;
            let query = tokenizer.encode(query, EncodeOptions::PIECE)?;
            let mut document = tokenizer.encode(document, EncodeOptions::PIECE)?;
            let (mut tokens, mut kinds) = tokenizer.join_pair(&query, &document);
            if truncate && tokens.len() > most {
                document.truncate(document.len().saturating_sub(tokens.len() - most));
                (tokens, kinds) = tokenizer.join_pair(&query, &document);
                tokens.truncate(most);
            }
            let second = kinds.iter().position(|&kind| kind > 0);
            return Ok((tokens, second));
        }
        let mut tokens = self.prepare(query)?.tokens;
        let second = tokens.len();
        tokens.extend(self.prepare(document)?.tokens);
        if truncate && tokens.len() > most {
            let closing = tokens.last().copied();
            tokens.truncate(most.saturating_sub(1));
            tokens.extend(closing);
        }
        Ok((tokens, Some(second)))
    }

    /// How many tokens at the beginning of a prepared conversation belong to its system message.
    pub(crate) fn n_system_tokens(
        &self,
        request: &Request,
        prepared: &Prepared,
    ) -> Result<usize, EngineError> {
        let Prompt::Chat(messages) = &request.prompt else { return Ok(0) };
        let Some(system) = messages.first().filter(|message| message.role == "system") else { return Ok(0) };
        let system = std::slice::from_ref(system);
        let alone = match self.template()? {
            None => self.encode_beginning(system[0].text().unwrap_or_default())?,
            Some(template) => {
                let tokenizer = self.tokenizer()?;
                let extra = request.variables.clone();
                let input = ChatInput { add_generation_prompt: false, extra, ..ChatInput::new(system) };
                // Some templates refuse a conversation that nobody has begun; then nothing is known of it.
                match template.prompt(&input, tokenizer) {
                    Ok(prompt) => tokenizer.encode_prompt(&prompt)?,
                    Err(_) => return Ok(0),
                }
            }
        };
        Ok(alone.iter().zip(&prepared.tokens).take_while(|(a, b)| a == b).count())
    }

    /// Text from which the model shall go on: BOS where the model wants it, but no EOS after it.
    fn encode_beginning(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let tokenizer = self.tokenizer()?;
        let bos = tokenizer.special_ids().bos.filter(|_| tokenizer.adds_bos());
        let mut tokens: Vec<u32> = bos.into_iter().collect();
        tokens.extend(tokenizer.encode(text, EncodeOptions::PIECE)?);
        if tokens.is_empty() {
            // A model that begins texts with nothing can still begin one with what ends the text before.
            tokens.extend(tokenizer.special_ids().bos.or(tokenizer.special_ids().eos));
        }
        Ok(tokens)
    }

    /// What the model alone would need in memory with these options if its matrices were stored in `format`: those whose rows are
    /// no whole number of its blocks in the format that llama.cpp takes in its place, or else in F16.
    ///
    /// # Errors
    /// As for loading it.
    pub fn estimate_as(&self, format: DType, options: &EngineOptions) -> Result<MemoryEstimate, EngineError> {
        options.validate()?;
        let longest_ctx = options.longest_ctx(self.info());
        let plan = whit_models::build(self.gguf(), longest_ctx)?.plan;
        let memory = Sizing::new(&plan, longest_ctx, options.n_sequences(self.info()), options).memory;
        let stored = |weight: &Weight| {
            let instead = match format {
                DType::Q2_K | DType::Q3_K | DType::IQ4_XS => DType::IQ4_NL,
                DType::Q4_K => DType::Q5_0,
                DType::Q5_K => DType::Q5_1,
                DType::Q6_K => DType::Q8_0,
                _ => DType::F16,
            };
            let of = |format: DType| format.row_bytes(weight.n_cols);
            let row = of(format).or(of(instead)).unwrap_or(weight.n_cols * DType::F16.block_bytes());
            if weight.n_rows == 1 { weight.data.len() } else { weight.n_rows * row }
        };
        Ok(MemoryEstimate { weights: plan.weights.iter().map(stored).sum(), ..memory })
    }

    /// What the model needs in memory with these options, its draft model included.
    ///
    /// # Errors
    /// As for loading it.
    pub fn estimate(&self, options: &EngineOptions) -> Result<MemoryEstimate, EngineError> {
        options.validate()?;
        let longest_ctx = options.longest_ctx(self.info());
        let built = whit_models::build(self.gguf(), longest_ctx)?;
        let memory = Sizing::new(&built.plan, longest_ctx, options.n_sequences(self.info()), options).memory;
        match &options.draft {
            Some(path) if !self.info().is_encoder => {
                let alone = EngineOptions { draft: None, ..options.clone() };
                Ok(memory.plus(Model::open(path)?.estimate(&alone)?))
            }
            _ => Ok(memory),
        }
    }
}
