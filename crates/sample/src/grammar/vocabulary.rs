//! The tokens of a model as a prefix tree, which the parser walks to find those that may come next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use llguidance::toktrie::{
    ApproximateTokEnv, INVALID_TOKEN, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{Matcher, ParserFactory};

use super::{Grammar, GrammarState, compile};
use crate::SampleError;

/// Ids that fit into a node of the tree.
const MAX_VOCAB: usize = (1 << 24) - 1;
/// Levels of the tree. The few longer tokens of some vocabularies (runs of blanks) are never allowed.
const MAX_TOKEN: usize = 1_000;

/// The vocabulary of a model, made ready for grammars. Cloning shares.
#[derive(Clone)]
pub struct GrammarVocabulary {
    factory: Arc<ParserFactory>,
    eos: Arc<[u32]>,
    n_vocab: usize,
    /// Among all vocabularies of the process.
    number: u64,
}

impl GrammarVocabulary {
    /// A vocabulary of `n_vocab` tokens, as many as a row has logits. `tokens`: id, the bytes that it stands for, and
    /// whether it is a control token, which no grammar ever allows. Ids that are not given have no text and are never
    /// allowed either. `eos`: the tokens that end an answer, allowed when it is complete; there may be none.
    ///
    /// Takes a while, and several times the size of the vocabulary: make one per model, when the first grammar comes.
    ///
    /// # Errors
    /// A vocabulary that is empty or too large, and an id outside of it.
    pub fn new<B: AsRef<[u8]>>(
        n_vocab: usize,
        tokens: impl IntoIterator<Item = (u32, B, bool)>,
        eos: &[u32],
    ) -> Result<GrammarVocabulary, SampleError> {
        if n_vocab == 0 || n_vocab > MAX_VOCAB {
            return Err(SampleError::Vocabulary { vocab_size: n_vocab });
        }
        let outside = |token| SampleError::GrammarVocabulary { token, vocab_size: n_vocab };
        let mut words = vec![Vec::new(); n_vocab];
        for (id, bytes, is_control) in tokens {
            let bytes = bytes.as_ref();
            let word = words.get_mut(id as usize).ok_or_else(|| outside(id))?;
            // 0xff never stands in text, and marks special tokens in the tree.
            if !is_control && bytes.len() <= MAX_TOKEN && !bytes.contains(&TokTrie::SPECIAL_TOKEN_MARKER) {
                *word = bytes.to_vec();
            }
        }
        for &id in eos {
            // Its text, if it has one, is not what it means.
            words.get_mut(id as usize).ok_or_else(|| outside(id))?.clear();
        }
        let first = eos.first().copied().unwrap_or(INVALID_TOKEN);
        let mut trie = TokTrie::from(&TokRxInfo::new(n_vocab as u32, first), &words);
        if eos.len() > 1 {
            trie = trie.with_eos_tokens(eos);
        }
        // Not canonical: forced text is left to the model to cut into tokens.
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory = ParserFactory::new_simple(&environment)
            .map_err(|error| SampleError::Grammar { kind: "vocabulary", reason: error.to_string() })?;
        factory.quiet();
        *factory.limits_mut() = compile::limits();
        debug_assert!(!InferenceCapabilities::default().ff_tokens);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Ok(GrammarVocabulary { factory: Arc::new(factory), eos: eos.into(), n_vocab, number })
    }

    /// Tokens in the vocabulary.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// The beginning of a text of `grammar`. The first time for a grammar costs more than the later ones.
    ///
    /// # Errors
    /// A grammar that is too costly with this vocabulary, or of which it cannot write even the beginning.
    pub fn start(&self, grammar: &Grammar) -> Result<GrammarState, SampleError> {
        let kind = grammar.kind();
        let matcher = grammar.begin(self.number, |init| {
            let made = compile::guarded(|| {
                let parser = self.factory.create_parser_from_init_default(init);
                let mut matcher = Matcher::new(parser);
                // Fails where nothing can come.
                matcher.compute_mask_or_eos().map_err(|error| compile::tidy(&error.to_string()))?;
                Ok(matcher)
            });
            made.map_err(|reason| SampleError::Grammar { kind, reason })
        })?;
        Ok(GrammarState::new(matcher, self.eos.clone(), self.n_vocab))
    }
}

impl std::fmt::Debug for GrammarVocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrammarVocabulary").field("n_vocab", &self.n_vocab).finish_non_exhaustive()
    }
}
