//! What a model needs in memory, context by context and format by format, and what of it this machine has room for.

use std::io::{self, Write as _};

use anyhow::Result;
use whit_base::DType;
use whit_engine::{CacheType, Engine, EngineOptions, MemoryEstimate, Model};

use crate::machine::{self, Memory};
use crate::{output, units};

/// Contexts that are told of, as far as the model was trained for them.
const CONTEXTS: [usize; 8] = [2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144];
/// A context for learning what does not depend on it.
const LEAST_CTX: usize = 512;
const CACHES: [CacheType; 3] = [CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];
/// Formats that are told of, the greatest first.
const FORMATS: [DType; 8] =
    [DType::F16, DType::Q8_0, DType::Q6_K, DType::Q5_K, DType::Q4_K, DType::Q4_0, DType::Q3_K, DType::Q2_K];

/// Prints both tables, the second for a context of `ctx`.
pub(crate) fn print(model: &Model, ctx: Option<usize>) -> Result<()> {
    let memory = machine::memory();
    let trained = model.info().n_ctx_train;
    let usual = ctx.unwrap_or(trained.min(4096));
    let options = |ctx: usize, cache_type: CacheType| EngineOptions {
        ctx: Some(ctx),
        cache_type,
        ..EngineOptions::default()
    };
    // What the backend makes for itself it tells only once it is there; a context costs nothing until it is used.
    let buffers =
        Engine::new(model.clone(), &options(trained.min(LEAST_CTX), CacheType::F16))?.allocated().buffers;
    let total = |estimate: MemoryEstimate| MemoryEstimate { buffers, ..estimate }.total() as u64;
    let mut out = io::stdout().lock();
    let now = model.estimate(&options(usual, CacheType::F16))?;
    writeln!(
        out,
        "weights {}, buffers {}",
        units::memory(now.weights as u64),
        units::memory(now.buffers as u64)
    )?;
    match &memory {
        Some(memory) => writeln!(
            out,
            "this machine has {}, of which {} are free\n",
            units::memory(memory.total),
            units::memory(memory.available)
        )?,
        None => writeln!(out, "this system does not tell how much memory it has\n")?,
    }

    let mut contexts: Vec<usize> =
        CONTEXTS.into_iter().filter(|ctx| *ctx < trained).chain([trained, usual]).collect();
    contexts.sort_unstable();
    contexts.dedup();
    let mut head = vec!["CONTEXT".to_owned()];
    head.extend(
        CACHES.iter().flat_map(|cache| [format!("CACHE {cache}"), "ALL".to_owned(), "FITS".to_owned()]),
    );
    let mut rows = vec![head];
    for ctx in contexts {
        let mut row = vec![ctx.to_string()];
        for cache_type in CACHES {
            let estimate = model.estimate(&options(ctx, cache_type))?;
            row.push(units::memory(estimate.kv_cache as u64));
            row.push(units::memory(total(estimate)));
            row.push(fits(memory.as_ref(), total(estimate)).to_owned());
        }
        rows.push(row);
    }
    let right: Vec<bool> = (0..1 + 3 * CACHES.len()).map(|column| column % 3 != 0 || column == 0).collect();
    output::table(&mut out, &right, &rows)?;

    writeln!(out, "\nmatrices in another format, at a context of {usual}:\n")?;
    let mut rows = vec![["FORMAT", "BITS", "WEIGHTS", "ALL", "FITS"].map(str::to_owned).to_vec()];
    for format in FORMATS {
        let estimate = model.estimate_as(format, &options(usual, CacheType::F16))?;
        rows.push(vec![
            format.to_string(),
            format!("{:.2}", format.bits_per_weight()),
            units::memory(estimate.weights as u64),
            units::memory(total(estimate)),
            fits(memory.as_ref(), total(estimate)).to_owned(),
        ]);
    }
    Ok(output::table(&mut out, &[false, true, true, true, false], &rows)?)
}

/// Whether there is room for so many bytes.
pub(crate) fn fits(memory: Option<&Memory>, n_bytes: u64) -> &'static str {
    match memory {
        Some(memory) if n_bytes <= memory.available => "yes",
        Some(memory) if n_bytes <= memory.total => "when other programs end",
        Some(_) => "no",
        None => "?",
    }
}
