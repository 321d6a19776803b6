//! The divergence of a model's predictions when some of its tensors alone are rounded.

use std::collections::BTreeMap;

use whit_base::{Bytes, DType};
use whit_engine::{Engine, EngineOptions, Evaluation, Model};
use whit_files::{Gguf, GgufWriter};

use super::super::encode::{self, Job};
use super::super::source::{Source, Tensor};
use crate::ShrinkError;

/// A model, and what it predicts on a text.
pub(super) struct Probe<'a> {
    gguf: &'a Gguf,
    tokens: &'a [u32],
    options: EngineOptions,
    n_vocab: usize,
    /// Log-probabilities of the second half of the text, position by position.
    expected: Vec<f32>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(
        gguf: &'a Gguf,
        tokens: &'a [u32],
        options: &EngineOptions,
    ) -> Result<Probe<'a>, ShrinkError> {
        let options = EngineOptions { ctx: Some(tokens.len()), ..options.clone() };
        let mut probe = Probe { gguf, tokens, options, n_vocab: 0, expected: Vec::new() };
        let mut expected = Vec::new();
        let mut engine = Engine::new(Model::from_gguf(gguf.clone())?, &probe.options)?;
        probe.n_vocab = engine.n_vocab();
        probe.run(&mut engine, &mut |row| expected.extend(log_probabilities(row)))?;
        probe.expected = expected;
        Ok(probe)
    }

    fn run(&self, engine: &mut Engine, sink: &mut dyn FnMut(&[f32])) -> Result<(), ShrinkError> {
        let n = self.tokens.len();
        let input = Evaluation { tokens: self.tokens, outputs: n / 2..n };
        Ok(engine.evaluate(&[input], &mut |_, _, row| sink(row))?)
    }

    /// The mean divergence from the source, with these tensors, of whose columns it is known what they count, rounded to `format` and
    /// back. What runs has floats, so that nothing but the weights differs.
    pub(super) fn divergence<'t>(
        &self,
        tensors: impl Iterator<Item = (&'t Tensor, &'t [f32])>,
        format: DType,
        n_threads: usize,
    ) -> Result<f64, ShrinkError> {
        let mut rounded = BTreeMap::new();
        for (tensor, importance) in tensors {
            let n_cols = tensor.shape().last().copied().unwrap_or(1);
            let (name, from, bytes) = (tensor.name(), tensor.dtype(), tensor.bytes());
            let job = Job { name, bytes: &bytes, from, to: format, n_cols, importance: Some(importance) };
            let encoded = encode::encode(&job, n_threads)?;
            let job = Job { name, bytes: &encoded, from: format, to: DType::F16, n_cols, importance: None };
            rounded.insert(name, Bytes::from_vec(encode::encode(&job, n_threads)?));
        }
        let Source { head, tensors, .. } = Source::of(self.gguf);
        let (mut writer, mut data): (GgufWriter, Vec<Bytes>) = (head, Vec::new());
        for (tensor, info) in tensors.iter().zip(self.gguf.tensors()) {
            let changed = rounded.remove(tensor.name());
            writer.declare(
                tensor.name(),
                if changed.is_some() { DType::F16 } else { tensor.dtype() },
                tensor.shape(),
            );
            data.push(changed.unwrap_or_else(|| self.gguf.tensor_bytes(info)));
        }
        let gguf = writer.assemble(self.gguf.path(), self.gguf.n_bytes(), data)?;
        let mut engine = Engine::new(Model::from_gguf(gguf)?, &self.options)?;
        let (mut sum, mut n) = (0.0, 0);
        let mut expected = self.expected.chunks_exact(self.n_vocab);
        self.run(&mut engine, &mut |row| {
            let Some(expected) = expected.next() else { return };
            sum += divergence(expected, &log_probabilities(row));
            n += 1;
        })?;
        Ok(sum / f64::from(n.max(1)))
    }
}

fn log_probabilities(logits: &[f32]) -> Vec<f32> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - max).exp()).sum();
    let log_sum = sum.ln() as f32;
    logits.iter().map(|logit| logit - max - log_sum).collect()
}

/// Kullback-Leibler, in nats, of `got` from `expected`.
fn divergence(expected: &[f32], got: &[f32]) -> f64 {
    let term = |(p, q): (&f32, &f32)| f64::from(*p).exp() * f64::from(p - q);
    // Rounding may leave a hair below zero.
    expected.iter().zip(got).filter(|(p, _)| **p > -30.0).map(term).sum::<f64>().max(0.0)
}
