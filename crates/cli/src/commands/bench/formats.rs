//! `whit bench --formats`: what each block format costs and gives here, by one made-up model written in each of them.
//!
//! The model is of Llama's family, with TinyLlama's widths and as many layers as make it outgrow the last-level cache: so
//! generating waits for memory, as it does with models of usual sizes. Every format gets the layers that take about the same
//! number of bytes, so that the cache keeps the same part of each. The weights are some rows of random numbers over and
//! over; what they say does not change how long they take. Formats take turns, round by round, in the same memory.
//!
//! A format that costs fewer bytes should be as much faster in generation, so what counts there is bytes per second, and
//! `SHARE` is that of Q4_0. In prompts, where the weights are unpacked once for many tokens, it is multiplications per second
//! against Q8_0, which has nothing to unpack.

use std::fs;
use std::io::{self, Write as _};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use serde_json::json;
use whit_base::quant::encode_row;
use whit_base::{Bytes, DType};
use whit_cpu::CpuBackend;
use whit_engine::{Engine, EngineOptions, Model};
use whit_files::{Gguf, GgufWriter};
use whit_sample::Rng;

use super::measure::{Kind, Test};
use super::{Arguments, backend, summary};
use crate::output;

const GENERATE: Test = Test { kind: Kind::Generate, n: 24, depth: 0, parallel: 1 };
const PROMPT: Test = Test { kind: Kind::Prompt, n: 128, depth: 0, parallel: 1 };
/// What others are held against.
const BY_BYTES: DType = DType::Q4_0;
const BY_PROMPT: DType = DType::Q8_0;
/// Taken where the system does not tell.
const LAST_LEVEL_CACHE: usize = 32 << 20;
/// A model is about this many times as large as the last-level cache.
const OUTGROWS: usize = 6;
/// But no larger than this.
const MAX_BYTES: usize = 1 << 30;
/// Rows of random numbers that the weights repeat.
const N_ROWS: usize = 16;

/// A model's sizes.
#[derive(Clone, Copy)]
struct Shape {
    n_vocab: usize,
    n_embd: usize,
    n_ff: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_layers: usize,
}

impl Shape {
    /// TinyLlama's widths, with a small vocabulary, in so many layers.
    fn new(n_layers: usize) -> Shape {
        Shape { n_vocab: 4096, n_embd: 2048, n_ff: 5632, n_heads: 32, n_kv_heads: 4, n_layers }
    }

    /// As many layers as outgrow a cache of so many bytes.
    fn beyond(cache: usize, dtype: DType) -> Shape {
        let bytes = |n_layers| Shape::new(n_layers).n_bytes(dtype);
        let layer = bytes(1) - bytes(0);
        let wanted = (OUTGROWS * cache).min(MAX_BYTES).saturating_sub(bytes(0));
        Shape::new(((wanted + layer / 2) / layer).max(2))
    }

    /// The matrices: name, rows and columns.
    fn matrices(&self) -> Vec<(String, usize, usize)> {
        let Shape { n_vocab, n_embd, n_ff, n_heads, n_kv_heads, n_layers } = *self;
        let n_kv = n_embd / n_heads * n_kv_heads;
        let mut list = vec![("token_embd.weight".to_owned(), n_vocab, n_embd)];
        for layer in 0..n_layers {
            let parts = [
                ("attn_q", n_embd, n_embd),
                ("attn_k", n_kv, n_embd),
                ("attn_v", n_kv, n_embd),
                ("attn_output", n_embd, n_embd),
                ("ffn_gate", n_ff, n_embd),
                ("ffn_up", n_ff, n_embd),
                ("ffn_down", n_embd, n_ff),
            ];
            list.extend(parts.map(|(name, n, width)| (format!("blk.{layer}.{name}.weight"), n, width)));
        }
        list
    }

    fn n_weights(&self) -> usize {
        self.matrices().iter().map(|(_, n, width)| n * width).sum()
    }

    /// Bytes of the matrices, each begun at a multiple of a cache line.
    fn n_bytes(&self, dtype: DType) -> usize {
        let bytes = |(_, n, width): &(String, usize, usize)| matrix_bytes(dtype, *n, *width);
        self.matrices().iter().map(bytes).sum()
    }

    /// The model in this format; its matrices are written over `memory`.
    fn model(&self, dtype: DType, memory: &mut Arc<Vec<u8>>) -> Result<Model> {
        let block = Arc::get_mut(memory).context("the model before is still in use")?;
        let mut rng = Rng::new(1);
        let mut writer = self.metadata();
        let mut places = Vec::new();
        let (mut patterns, mut rest): (Vec<(usize, Vec<u8>)>, _) = (Vec::new(), 0);
        for (name, n, width) in self.matrices() {
            if !patterns.iter().any(|pattern| pattern.0 == width) {
                patterns.push((width, pattern(dtype, width, &mut rng)));
            }
            let pattern = patterns.iter().find(|pattern| pattern.0 == width).map_or(&[][..], |p| &p.1);
            let n_bytes = dtype.row_bytes(width).unwrap_or(0) * n;
            let place = rest..rest + n_bytes;
            for chunk in block[place.clone()].chunks_mut(pattern.len()) {
                chunk.copy_from_slice(&pattern[..chunk.len()]);
            }
            rest += matrix_bytes(dtype, n, width);
            writer.declare(&name, dtype, &[n, width]);
            places.push(place);
        }
        let mut data: Vec<Bytes> =
            places.into_iter().filter_map(|place| Bytes::new(memory.clone(), place)).collect();
        let ones = Bytes::from_vec(1f32.to_le_bytes().repeat(self.n_embd));
        let norms = (0..self.n_layers)
            .flat_map(|layer| ["attn", "ffn"].map(|part| format!("blk.{layer}.{part}_norm.weight")))
            .chain(["output_norm.weight".to_owned()]);
        for name in norms {
            writer.declare(&name, DType::F32, &[self.n_embd]);
            data.push(ones.clone());
        }
        let gguf: Gguf = writer.assemble(format!("a model in {dtype}"), memory.len(), data)?;
        Ok(Model::from_gguf(gguf)?)
    }

    fn metadata(&self) -> GgufWriter {
        let mut writer = GgufWriter::new();
        writer.set("general.architecture", "llama");
        for (key, n) in [
            ("vocab_size", self.n_vocab),
            ("context_length", 2048),
            ("embedding_length", self.n_embd),
            ("feed_forward_length", self.n_ff),
            ("block_count", self.n_layers),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
        ] {
            writer.set(&format!("llama.{key}"), n as u32);
        }
        writer.set("llama.attention.layer_norm_rms_epsilon", 1e-5f32);
        writer.set("tokenizer.ggml.model", "llama");
        writer.set_strings("tokenizer.ggml.tokens", (0..self.n_vocab).map(|id| format!("t{id}")));
        writer.set_numbers("tokenizer.ggml.scores", &vec![0f32; self.n_vocab]);
        writer.set_numbers("tokenizer.ggml.token_type", &vec![1i32; self.n_vocab]);
        writer
    }
}

fn matrix_bytes(dtype: DType, n: usize, width: usize) -> usize {
    (dtype.row_bytes(width).unwrap_or(0) * n).next_multiple_of(64)
}

/// Some rows of random numbers, of a size that keeps what is multiplied with them near its own.
fn pattern(dtype: DType, width: usize, rng: &mut Rng) -> Vec<u8> {
    let scale = (3.0 / width as f64).sqrt();
    let mut bytes = vec![0; N_ROWS * dtype.row_bytes(width).unwrap_or(0)];
    for row in bytes.chunks_mut(dtype.row_bytes(width).unwrap_or(1)) {
        let values: Vec<f32> = (0..width).map(|_| ((rng.next_f64() * 2.0 - 1.0) * scale) as f32).collect();
        encode_row(dtype, &values, None, row);
    }
    bytes
}

/// What was measured of a format: tokens per second.
struct Row {
    dtype: DType,
    shape: Shape,
    generate: Vec<f64>,
    prompt: Vec<f64>,
}

impl Row {
    /// Bytes of weights per second in generation.
    fn bytes_per_second(&self) -> f64 {
        summary(&self.generate).0 * self.shape.n_bytes(self.dtype) as f64
    }

    /// Multiplications per second in prompts.
    fn products_per_second(&self) -> f64 {
        summary(&self.prompt).0 * self.shape.n_weights() as f64
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let options = arguments.engine.options(Some(GENERATE.n_ctx().max(PROMPT.n_ctx())))?;
    let backend = backend(&options)?;
    let cache = last_level_cache();
    let rows = measure(|dtype| Shape::beyond(cache, dtype), &backend, &options, arguments.repeat)?;
    print(arguments.json, &backend, &rows)
}

fn measure(
    shape: impl Fn(DType) -> Shape,
    backend: &CpuBackend,
    options: &EngineOptions,
    n_rounds: usize,
) -> Result<Vec<Row>> {
    let formats = DType::ALL.into_iter().filter(|dtype| dtype.is_quantized());
    let row = |dtype| Row { dtype, shape: shape(dtype), generate: vec![], prompt: vec![] };
    let mut rows: Vec<Row> = formats.map(row).collect();
    let most = rows.iter().map(|row| row.shape.n_bytes(row.dtype)).max();
    let mut memory = Arc::new(vec![0u8; most.unwrap_or(0)]);
    for round in 1..=n_rounds {
        note!("round {round} of {n_rounds}");
        for row in &mut rows {
            let model = row.shape.model(row.dtype, &mut memory)?;
            let mut engine = Engine::with_backend(model, backend, options)?;
            for (test, samples) in [(GENERATE, &mut row.generate), (PROMPT, &mut row.prompt)] {
                test.warm_up(&mut engine)?;
                samples.push(test.measure(&mut engine)?);
            }
        }
    }
    Ok(rows)
}

fn print(as_json: bool, backend: &CpuBackend, rows: &[Row]) -> Result<()> {
    let of = |dtype| rows.iter().find(|row| row.dtype == dtype);
    let by_bytes = of(BY_BYTES).map_or(f64::NAN, Row::bytes_per_second);
    let by_prompt = of(BY_PROMPT).map_or(f64::NAN, Row::products_per_second);
    let mut out = io::stdout().lock();
    if as_json {
        let row = |row: &Row| {
            json!({
                "format": row.dtype.name(), "bytes_per_weight": row.dtype.bits_per_weight() / 8.0,
                "weights": row.shape.n_weights(), "bytes": row.shape.n_bytes(row.dtype),
                "generate": row.generate, "generate_bytes_per_second": row.bytes_per_second(),
                "generate_share": row.bytes_per_second() / by_bytes,
                "prompt": row.prompt, "prompt_products_per_second": row.products_per_second(),
                "prompt_share": row.products_per_second() / by_prompt,
            })
        };
        let object = json!({
            "whit": env!("CARGO_PKG_VERSION"), "threads": backend.threads(), "level": backend.level().name(),
            "formats": rows.iter().map(row).collect::<Vec<_>>(),
        });
        return Ok(writeln!(out, "{object}")?);
    }
    let head =
        ["FORMAT", "BYTES/WEIGHT", "WEIGHTS", "GENERATE", "GB/S", "SHARE", "PROMPT", "GMAC/S", "SHARE"];
    let mut lines = vec![head.map(str::to_owned).to_vec()];
    lines.extend(rows.iter().map(|row| {
        let (bytes, products) = (row.bytes_per_second(), row.products_per_second());
        vec![
            row.dtype.name().to_owned(),
            format!("{:.4}", row.dtype.bits_per_weight() / 8.0),
            crate::units::count(row.shape.n_weights() as u64),
            format!("{:.2}", summary(&row.generate).0),
            format!("{:.1}", bytes / 1e9),
            format!("{:.0} %", 100.0 * bytes / by_bytes),
            format!("{:.1}", summary(&row.prompt).0),
            format!("{:.0}", products / 1e9),
            format!("{:.0} %", 100.0 * products / by_prompt),
        ]
    }));
    let mut right = [true; 9];
    right[0] = false;
    output::table(&mut out, &right, &lines)?;
    note!(
        "{} threads, {}; models of about the same size; tokens per second, medians of {}; shares of the bytes per second of \
         {BY_BYTES}, and of the multiplications of {BY_PROMPT}",
        backend.threads(),
        backend.level(),
        rows.first().map_or(0, |row| row.generate.len()),
    );
    Ok(())
}

/// Bytes of the largest cache of this machine, where Linux tells.
fn last_level_cache() -> usize {
    let caches = fs::read_dir("/sys/devices/system/cpu/cpu0/cache").into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("size")).ok()?;
        text.trim().strip_suffix('K')?.parse::<usize>().ok()?.checked_mul(1024)
    };
    caches.filter_map(size).max().unwrap_or(LAST_LEVEL_CACHE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every format runs, with the bytes that it promises, and no number in the table is missing.
    #[test]
    fn every_format_is_measured() -> Result<()> {
        let shape = Shape { n_vocab: 64, n_embd: 256, n_ff: 512, n_heads: 4, n_kv_heads: 2, n_layers: 2 };
        let options = EngineOptions { threads: Some(1), ctx: Some(256), ..EngineOptions::default() };
        let rows = measure(|_| shape, &backend(&options)?, &options, 1)?;
        assert_eq!(rows.len(), DType::ALL.iter().filter(|dtype| dtype.is_quantized()).count());
        for row in rows {
            let expected = shape.n_weights() as f64 * row.dtype.bits_per_weight() / 8.0;
            let n_bytes = shape.n_bytes(row.dtype);
            assert!((n_bytes as f64 / expected - 1.0).abs() < 0.02, "{}: {n_bytes}", row.dtype);
            for speed in row.generate.iter().chain(&row.prompt) {
                assert!(speed.is_finite() && *speed > 0.0, "{}", row.dtype);
            }
        }
        Ok(())
    }

    #[test]
    fn models_outgrow_the_cache_by_about_the_same() {
        for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
            for (cache, most) in
                [(32 << 20, (OUTGROWS * 32) << 20), (96 << 20, (OUTGROWS * 96) << 20), (1 << 40, MAX_BYTES)]
            {
                let share = Shape::beyond(cache, dtype).n_bytes(dtype) as f64 / most as f64;
                assert!((0.85..1.15).contains(&share), "{dtype}, {cache}: {share}");
            }
            assert_eq!(Shape::beyond(1 << 10, dtype).n_layers, 2, "{dtype}");
        }
    }
}
