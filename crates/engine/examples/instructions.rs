//! Runs each hot kernel once at a fixed shape, on one thread. `cargo xtask instructions` runs this under valgrind and counts
//! what each of them executes: a number that no load of the machine changes.
//!
//! Kernels are reached through plans of one operation, as a model reaches them, so that they may change their form freely. The
//! names are printed in the order of the runs.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "shapes are fixed here; a failure is a bug to be seen")]

use whit_base::quant::encode_row;
use whit_base::{
    Activation, AttendSpec, Backend, Batch, Bytes, CacheLayer, CacheType, DType, ExecutorLimits, PAGE_TOKENS,
    Plan, PlanBuilder, Rope, RopeStyle, Segment, Sight, Weight, WeightId,
};
use whit_cpu::{CpuBackend, CpuConfig, Level};
use whit_sample::{Rng, Sampler, SamplerConfig};

/// Columns and rows of the matrices.
const WIDTH: usize = 2048;
const N_OUT: usize = 128;
/// Rows that meet them: one that is generated, a few at once, a prompt.
const BATCHES: [usize; 3] = [1, 8, 64];
/// Attention as in SmolLM2.
const N_HEADS: usize = 9;
const N_KV_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
/// Gemma 3's vocabulary.
const N_VOCAB: usize = 262_144;

fn main() {
    let level = std::env::var("WHIT_CPU_LEVEL").ok().map(|name| name.parse::<Level>().unwrap());
    let backend = CpuBackend::new(CpuConfig { threads: Some(1), level }).unwrap();
    for dtype in DType::ALL {
        for n in BATCHES {
            count(&format!("{dtype} x {n}"), &backend, linear(dtype), n, 0);
        }
    }
    count("attention of 1 token at 1024", &backend, attend(), 1, 1024);
    count("attention of 64 tokens at 0", &backend, attend(), 64, 0);
    count("norm", &backend, norm(), 8, 0);
    count("rope", &backend, rope(), 8, 0);
    count("gated activation", &backend, glu(), 8, 0);
    // As a model's: the likeliest token has half of the probability or more, and the rest is a long tail.
    let logits: Vec<f32> = random(N_VOCAB).map(|x| -2.0 * (x.abs() + 1e-7).ln()).collect();
    for (name, config) in [
        ("the likeliest of 262144", SamplerConfig::greedy()),
        ("top-k and top-p of 262144", SamplerConfig::default()),
        ("top-p of 262144", SamplerConfig { top_k: 0, ..SamplerConfig::default() }),
    ] {
        let mut sampler = Sampler::new(SamplerConfig { seed: Some(1), ..config }, N_VOCAB).unwrap();
        sampler.sample(&logits).unwrap();
        println!("{name}");
        measured(&mut || drop(sampler.sample(&logits).unwrap()));
    }
}

/// What is counted: valgrind knows this function by its name, and its end by something that follows the call.
#[inline(never)]
fn measured(run: &mut dyn FnMut()) {
    run();
    std::hint::black_box(&run);
}

/// Counts a step of `n` tokens of one sequence, of which `depth` are there before.
fn count(name: &str, backend: &CpuBackend, plan: Plan, n: usize, depth: usize) {
    let n_pages = (depth + n).div_ceil(PAGE_TOKENS);
    let n_groups = plan.cache_groups().len();
    let limits = ExecutorLimits {
        cache_type: CacheType::F16,
        max_rows: n,
        max_outputs: 1,
        n_pages: vec![n_pages; n_groups],
    };
    let mut executor = backend.load(plan, limits).unwrap();
    let pages: Vec<u32> = (0..n_pages as u32).collect();
    let segment = Segment { rows: 0..n, first_position: depth, pages: vec![&pages; n_groups] };
    let tokens = vec![0; n];
    let batch = Batch { tokens: &tokens, types: &[], segments: &[segment], outputs: &[], pools: &[] };
    executor.run(&batch, &mut [], &mut []).unwrap();
    println!("{name}");
    measured(&mut || executor.run(&batch, &mut [], &mut []).unwrap());
}

fn linear(dtype: DType) -> Plan {
    let mut plan = PlanBuilder::new();
    let table = weight(&mut plan, DType::F32, 1, WIDTH);
    let matrix = weight(&mut plan, dtype, N_OUT, WIDTH);
    let x = plan.embed("x", table, 1.0);
    plan.linear("out", x, matrix, None).unwrap();
    plan.finish(table)
}

fn attend() -> Plan {
    let mut plan = PlanBuilder::new();
    let mut embed = |name, width| {
        let table = weight(&mut plan, DType::F32, 1, width);
        (plan.embed(name, table, 1.0), table)
    };
    let (q, table) = embed("q", N_HEADS * HEAD_DIM);
    let (k, _) = embed("k", N_KV_HEADS * HEAD_DIM);
    let (v, _) = embed("v", N_KV_HEADS * HEAD_DIM);
    let cache = plan.cache(CacheLayer { n_kv_heads: N_KV_HEADS, head_dim: HEAD_DIM, window: None });
    let scale = 1.0 / (HEAD_DIM as f32).sqrt();
    let spec = AttendSpec {
        cache,
        n_heads: N_HEADS,
        scale,
        softcap: None,
        sight: Sight::Before,
        bias: None,
        sharpening: None,
    };
    plan.attend("out", q, Some((k, v)), spec).unwrap();
    plan.finish(table)
}

fn norm() -> Plan {
    let mut plan = PlanBuilder::new();
    let table = weight(&mut plan, DType::F32, 1, WIDTH);
    let x = plan.embed("x", table, 1.0);
    plan.rms_norm("out", x, table, 1e-5).unwrap();
    plan.finish(table)
}

fn rope() -> Plan {
    let mut plan = PlanBuilder::new();
    let table = weight(&mut plan, DType::F32, 1, WIDTH);
    let x = plan.embed("x", table, 1.0);
    let inv_freq = (0..HEAD_DIM / 2).map(|i| 0.7f32.powi(i as i32)).collect();
    let rope = plan.rope_table(Rope { inv_freq, magnitude: 1.0, style: RopeStyle::Halves });
    plan.rope("out", x, rope, HEAD_DIM).unwrap();
    plan.finish(table)
}

fn glu() -> Plan {
    let mut plan = PlanBuilder::new();
    let table = weight(&mut plan, DType::F32, 1, WIDTH);
    let (gate, up) = (plan.embed("gate", table, 1.0), plan.embed("up", table, 1.0));
    plan.glu("out", gate, up, Activation::Silu).unwrap();
    plan.finish(table)
}

/// A matrix of one row over and over: what encoding costs more is waited for fiftyfold under valgrind.
fn weight(plan: &mut PlanBuilder, dtype: DType, n_rows: usize, n_cols: usize) -> WeightId {
    let values: Vec<f32> = random(n_cols).collect();
    let mut row = vec![0; dtype.row_bytes(n_cols).unwrap()];
    encode_row(dtype, &values, None, &mut row);
    let data = Bytes::from_vec(row.repeat(n_rows));
    plan.weight(Weight { name: "weight".to_owned(), dtype, n_rows, n_cols, data })
}

/// From -1 to 1.
fn random(n: usize) -> impl Iterator<Item = f32> {
    let mut rng = Rng::new(1);
    (0..n).map(move |_| (rng.next_f64() * 2.0 - 1.0) as f32)
}
