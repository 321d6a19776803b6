//! Whole plans on every level of this host against the scalar reference executor.
#![expect(clippy::unwrap_used, reason = "tests")]

use whit_base::quant::encode_row;
use whit_base::reference::ReferenceBackend;
use whit_base::{
    Activation, AttendSpec, Backend, Batch, Bytes, CacheLayer, CacheType, DType, Executor, ExecutorLimits,
    LogitsSpec, NormKind, Plan, PlanBuilder, Rope, RopeStyle, Segment, Weight, WeightId,
};
use whit_cpu::{CpuBackend, CpuConfig, Level};

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

fn weight(
    plan: &mut PlanBuilder,
    random: &mut Random,
    dtype: DType,
    n_rows: usize,
    n_cols: usize,
) -> WeightId {
    let row_bytes = dtype.row_bytes(n_cols).unwrap();
    let mut data = vec![0u8; n_rows * row_bytes];
    let scale = if n_rows == 1 { 1.0 } else { 1.7 / (n_cols as f32).sqrt() };
    for row in data.chunks_mut(row_bytes) {
        let values: Vec<f32> = (0..n_cols).map(|_| random.next() * scale).collect();
        encode_row(dtype, &values, None, row);
    }
    plan.weight(Weight {
        name: format!("{n_rows}x{n_cols}"),
        dtype,
        n_rows,
        n_cols,
        data: Bytes::from_vec(data),
    })
}

const VOCAB: usize = 70;

/// Three layers: full with QK norm, windowed with a soft cap, and one without rotation and with biases.
fn plan(dtype: DType, head_dim: usize) -> Plan {
    let mut random = Random(7);
    let r = &mut random;
    let mut p = PlanBuilder::new();
    let (width, n_heads, n_kv_heads, n_ff) = (256, 6, 2, 512);
    let table = weight(&mut p, r, DType::Q8_0, VOCAB, width);
    let mut x = p.embed("embed", table, 1.5);
    for (layer, window) in [None, Some(40), None].into_iter().enumerate() {
        let cache = p.cache(CacheLayer { n_kv_heads, head_dim, window });
        let norm = weight(&mut p, r, DType::F32, 1, width);
        let h = p.rms_norm("norm", x, norm, 1e-5).unwrap();
        let wq = weight(&mut p, r, dtype, n_heads * head_dim, width);
        let wk = weight(&mut p, r, DType::Q8_0, n_kv_heads * head_dim, width);
        let wv = weight(&mut p, r, dtype, n_kv_heads * head_dim, width);
        let bias = (layer == 2).then(|| weight(&mut p, r, DType::F32, 1, n_heads * head_dim));
        let mut q = p.linear("q", h, wq, bias).unwrap();
        let mut k = p.linear("k", h, wk, None).unwrap();
        let v = p.linear("v", h, wv, None).unwrap();
        if layer == 0 {
            let norms =
                [weight(&mut p, r, DType::F32, 1, head_dim), weight(&mut p, r, DType::F32, 1, head_dim)];
            let kind = NormKind::Rms { eps: 1e-6 };
            q = p.norm("q_norm", q, kind, Some(norms[0]), None, Some(head_dim)).unwrap();
            k = p.norm("k_norm", k, kind, Some(norms[1]), None, Some(head_dim)).unwrap();
        }
        if layer < 2 {
            let style = if layer == 0 { RopeStyle::Halves } else { RopeStyle::Interleaved };
            let inv_freq = (0..head_dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
            let rope = p.rope_table(Rope { inv_freq, magnitude: 1.0, style });
            q = p.rope("q_rope", q, rope, head_dim).unwrap();
            k = p.rope("k_rope", k, rope, head_dim).unwrap();
        }
        let softcap = (layer == 1).then_some(3.0);
        let spec = AttendSpec { cache, n_heads, scale: 1.0 / (head_dim as f32).sqrt(), softcap };
        let a = p.attend("attend", q, k, v, spec).unwrap();
        // Heads may be narrower than a block of the format.
        let dtype_o = if (n_heads * head_dim).is_multiple_of(dtype.block_len()) { dtype } else { DType::F16 };
        let wo = weight(&mut p, r, dtype_o, width, n_heads * head_dim);
        let o = p.linear("o", a, wo, None).unwrap();
        x = p.add("attended", x, o).unwrap();
        let norm = weight(&mut p, r, DType::F32, 1, width);
        let h = p.rms_norm("ffn_norm", x, norm, 1e-5).unwrap();
        let (wg, wu) = (weight(&mut p, r, dtype, n_ff, width), weight(&mut p, r, dtype, n_ff, width));
        let gate = p.linear("gate", h, wg, None).unwrap();
        let up = p.linear("up", h, wu, None).unwrap();
        let act = [Activation::Silu, Activation::GeluTanh, Activation::Gelu][layer];
        let f = p.glu("glu", gate, up, act).unwrap();
        let wd = weight(&mut p, r, dtype, width, n_ff);
        let d = p.linear("down", f, wd, None).unwrap();
        x = p.add("out", x, d).unwrap();
    }
    let x = p.select("select", x);
    let norm = weight(&mut p, r, DType::F32, 1, width);
    let x = p.rms_norm("output_norm", x, norm, 1e-5).unwrap();
    p.logits(x, LogitsSpec { softcap: Some(30.0), ..LogitsSpec::new(table) }).unwrap()
}

fn limits(max_rows: usize) -> ExecutorLimits {
    ExecutorLimits { cache_type: CacheType::F32, max_rows, max_outputs: 24, n_pages: vec![40, 40] }
}

/// A sequence's tables: two groups, pages chosen so that sequences interleave.
fn tables(sequence: u32) -> [Vec<u32>; 2] {
    [(0..16).map(|i| i * 2 + sequence).collect(), (0..16).map(|i| 39 - i * 2 - sequence).collect()]
}

fn token(sequence: usize, position: usize) -> u32 {
    ((position * 31 + sequence * 17 + position * position) % VOCAB) as u32
}

/// Runs steps of `(sequence, n_tokens)` groups and returns the logits of the last row of every group.
fn drive(executor: &mut dyn Executor, steps: &[&[(usize, usize)]]) -> Vec<Vec<f32>> {
    let mut length = [0usize; 2];
    let tables = [tables(0), tables(1)];
    let mut all = Vec::new();
    for step in steps {
        let (mut tokens, mut segments, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        for &(sequence, n) in *step {
            let start = tokens.len();
            tokens.extend((0..n).map(|i| token(sequence, length[sequence] + i)));
            segments.push(Segment {
                rows: start..start + n,
                first_position: length[sequence],
                pages: tables[sequence].iter().map(|table| &table[..]).collect(),
            });
            outputs.push(start + n - 1);
            length[sequence] += n;
        }
        let mut logits = vec![0f32; outputs.len() * VOCAB];
        executor
            .run(&Batch { tokens: &tokens, segments: &segments, outputs: &outputs }, &mut logits)
            .unwrap();
        all.extend(logits.chunks(VOCAB).map(<[f32]>::to_vec));
    }
    all
}

fn backends() -> Vec<CpuBackend> {
    let levels = Level::ALL.into_iter().filter(|level| level.is_supported());
    levels
        .flat_map(|level| [1, 3].map(|threads| CpuConfig { threads: Some(threads), level: Some(level) }))
        .map(|config| CpuBackend::new(config).unwrap())
        .collect()
}

#[test]
fn every_level_computes_what_the_reference_computes() {
    // A long prompt in uneven chunks, decoding alone and together, and a second sequence that joins late.
    let steps: &[&[(usize, usize)]] = &[
        &[(0, 45)],
        &[(0, 1)],
        &[(0, 2), (1, 20)],
        &[(0, 1), (1, 1)],
        &[(1, 50), (0, 1)],
        &[(0, 1)],
        &[(0, 5)],
    ];
    for (dtype, head_dim) in [(DType::F32, 64), (DType::Q4_K, 64), (DType::Q6_K, 32), (DType::Q5_0, 80)] {
        let reference = ReferenceBackend { quantize_activations: true };
        let expected = drive(&mut *reference.load(plan(dtype, head_dim), limits(64)).unwrap(), steps);
        for backend in backends() {
            let got = drive(&mut *backend.load(plan(dtype, head_dim), limits(64)).unwrap(), steps);
            for (step, (got, expected)) in got.iter().zip(&expected).enumerate() {
                for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
                    // 8-bit rounding amplifies the last bit of a sum when a value sits on a tie.
                    let tolerance = if dtype == DType::F32 { 2e-3 } else { 3e-2 };
                    let error = (got - expected).abs();
                    assert!(
                        error < tolerance,
                        "{dtype} {head_dim} {}: output {step} logit {i}: {got}, expected {expected}",
                        backend.describe()
                    );
                }
            }
        }
    }
}

#[test]
fn long_caches_split_across_threads_give_the_same_result() {
    let prompt: &[(usize, usize)] = &[(0, 64)];
    let token: &[(usize, usize)] = &[(0, 1)];
    let steps = [[prompt; 7].as_slice(), &[token, token]].concat();
    let reference = ReferenceBackend { quantize_activations: true };
    let expected = drive(&mut *reference.load(plan(DType::F32, 64), limits(64)).unwrap(), &steps);
    for threads in [1, 2, 4] {
        let backend = CpuBackend::new(CpuConfig { threads: Some(threads), level: None }).unwrap();
        let got = drive(&mut *backend.load(plan(DType::F32, 64), limits(64)).unwrap(), &steps);
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            assert!((got - expected).abs() < 2e-3, "{threads} threads: {got}, expected {expected}");
        }
    }
}

#[test]
fn a_batch_that_breaks_a_rule_is_refused() {
    let backend = CpuBackend::new(CpuConfig::default()).unwrap();
    let mut executor = backend.load(plan(DType::Q4_0, 64), limits(4)).unwrap();
    let tables = tables(0);
    let short: [&[u32]; 2] = [&tables[0][..0], &tables[1]];
    let full: [&[u32]; 2] = [&tables[0], &tables[1]];
    let check = |executor: &mut dyn Executor,
                 tokens: &[u32],
                 rows,
                 pages: [&[u32]; 2],
                 outputs: &[usize],
                 says: &str| {
        let segments = [Segment { rows, first_position: 0, pages: pages.to_vec() }];
        let mut logits = vec![0f32; outputs.len() * VOCAB];
        let error = executor.run(&Batch { tokens, segments: &segments, outputs }, &mut logits).unwrap_err();
        assert!(error.to_string().contains(says), "{error} does not say `{says}`");
    };
    let e = &mut *executor;
    check(e, &[1; 5], 0..5, full, &[0], "5 rows");
    check(e, &[1000], 0..1, full, &[0], "token 1000");
    check(e, &[1, 2], 0..1, full, &[0], "segments cover 1 of 2");
    check(e, &[1, 2], 0..2, full, &[2], "outputs");
    check(e, &[1, 2], 0..2, short, &[1], "lack cache pages");
}
