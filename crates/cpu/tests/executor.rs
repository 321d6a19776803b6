//! Whole plans on every level of this host against the scalar reference executor.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::ops::Range;

use common::{Random, backends, weight};
use whit_base::reference::ReferenceBackend;
use whit_base::{
    Activation, AttendSpec, Backend, Batch, Bytes, CacheLayer, CacheType, DType, Executor, ExecutorLimits,
    LogitsSpec, NormKind, Plan, PlanBuilder, PoolKind, Pooling, Rope, RopeStyle, Segment, Sharpening, Sight,
    Weight,
};
use whit_cpu::{CpuBackend, CpuConfig, Level};

const VOCAB: usize = 70;

/// Four layers: full with QK norm, windowed with a soft cap, one without rotation and with biases, and one that sees what
/// the first has cached, with queries from some columns of its input, behind a convolution as long as the second's window
/// and what models of several streams do.
fn plan(dtype: DType, head_dim: usize) -> Plan {
    pooling_plan(dtype, head_dim, None)
}

/// The same, with a vector for a sequence that wants one.
fn pooling_plan(dtype: DType, head_dim: usize, pool: Option<(PoolKind, bool)>) -> Plan {
    let mut random = Random(7);
    let r = &mut random;
    let mut p = PlanBuilder::new();
    let (width, n_heads, n_kv_heads, n_ff) = (256, 6, 2, 512);
    let table = weight(&mut p, r, DType::Q8_0, VOCAB, width);
    let mut x = p.embed("embed", table, 1.5);
    let mut first_cache = None;
    for (layer, window) in [None, Some(40), None, None].into_iter().enumerate() {
        let borrowed = first_cache.filter(|_| layer == 3);
        let cache = borrowed.unwrap_or_else(|| p.cache(CacheLayer { n_kv_heads, head_dim, window }));
        first_cache = first_cache.or(Some(cache));
        if layer == 3 {
            let kernels = weight(&mut p, r, DType::F32, width, 40);
            let bias = weight(&mut p, r, DType::F32, 1, width);
            let h = p.convolve("convolved", x, kernels, Some(bias)).unwrap();
            let h = p.glu("gated", h, x, Activation::Identity).unwrap();
            let factors = weight(&mut p, r, DType::F32, 1, width);
            let scaled = p.multiply("multiplied", h, factors).unwrap();
            let h = p.match_size("matched", scaled, x, 1e-5);
            let outliers = p.outliers("outliers", h, 0.5);
            let chosen = weight(&mut p, r, DType::F32, 5, width);
            let coefficients = p.linear("coefficients", h, chosen, None).unwrap();
            x = p.mix("mixed", x, vec![h, outliers], coefficients, 2).unwrap();
        }
        let norm = weight(&mut p, r, DType::F32, 1, width);
        let h = p.rms_norm("norm", x, norm, 1e-5).unwrap();
        let (from, dtype_q) = match borrowed {
            Some(_) => (p.columns("columns", h, 64, 160).unwrap(), DType::Q8_0),
            None => (h, dtype),
        };
        let (q_norm, rope) = match layer {
            0 | 3 => (true, Some(RopeStyle::Halves)),
            1 => (false, Some(RopeStyle::Interleaved)),
            _ => (false, None),
        };
        let heads = |p: &mut PlanBuilder, r: &mut Random, x, dtype, n_heads, bias: bool| {
            let n_cols = if x == h { width } else { 160 };
            let matrix = weight(p, r, dtype, n_heads * head_dim, n_cols);
            let bias = bias.then(|| weight(p, r, DType::F32, 1, n_heads * head_dim));
            let mut x = p.linear("heads", x, matrix, bias).unwrap();
            if q_norm {
                let norm = weight(p, r, DType::F32, 1, head_dim);
                x = p.norm("norm", x, NormKind::Rms { eps: 1e-6 }, Some(norm), None, Some(head_dim)).unwrap();
            }
            if let Some(style) = rope {
                let inv_freq = (0..head_dim / 2).map(|i| 0.7f32.powi(i as i32)).collect();
                let rope = p.rope_table(Rope { inv_freq, magnitude: 1.0, style });
                x = p.rope("rope", x, rope, head_dim).unwrap();
            }
            x
        };
        let q = heads(&mut p, r, from, dtype_q, n_heads, layer == 2);
        let kv = borrowed.is_none().then(|| {
            let k = heads(&mut p, r, h, DType::Q8_0, n_kv_heads, false);
            let wv = weight(&mut p, r, dtype, n_kv_heads * head_dim, width);
            (k, p.linear("v", h, wv, None).unwrap())
        });
        let softcap = (layer == 1).then_some(3.0);
        let spec = AttendSpec {
            cache,
            n_heads,
            scale: 1.0 / (head_dim as f32).sqrt(),
            sharpening: (layer == 2).then_some(Sharpening { by: 0.7, every: 8 }),
            softcap,
            sight: Sight::Before,
            bias: None,
        };
        let a = p.attend("attend", q, kv, spec).unwrap();
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
        let act = [Activation::Silu, Activation::GeluTanh, Activation::Gelu, Activation::ReluSquared][layer];
        let f = p.glu("glu", gate, up, act).unwrap();
        let wd = weight(&mut p, r, dtype, width, n_ff);
        let d = p.linear("down", f, wd, None).unwrap();
        x = p.add("out", x, d).unwrap();
    }
    let x = p.select("select", x);
    let norm = weight(&mut p, r, DType::F32, 1, width);
    let x = p.rms_norm("output_norm", x, norm, 1e-5).unwrap();
    if let Some((kind, normalize)) = pool {
        p.pool(x, kind, normalize);
    }
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
    let mut all = Vec::new();
    drive_with(executor, 2, steps, |rows| rows.end - 1..rows.end, |_, logits| all.push(logits));
    all
}

/// Runs them on a plan of one cache group and returns the logits of all rows, by sequence.
fn drive_rows(executor: &mut dyn Executor, steps: &[&[(usize, usize)]]) -> [Vec<Vec<f32>>; 2] {
    let mut all = [Vec::new(), Vec::new()];
    drive_with(executor, 1, steps, |rows| rows, |sequence, logits| all[sequence].push(logits));
    all
}

/// Runs them, and hands out the logits of the rows that `wanted` makes of those of each group.
fn drive_with(
    executor: &mut dyn Executor,
    n_groups: usize,
    steps: &[&[(usize, usize)]],
    wanted: impl Fn(Range<usize>) -> Range<usize>,
    mut sink: impl FnMut(usize, Vec<f32>),
) {
    let mut length = [0usize; 2];
    let tables = [tables(0), tables(1)];
    for step in steps {
        let (mut tokens, mut segments, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut owners = Vec::new();
        for &(sequence, n) in *step {
            let rows = tokens.len()..tokens.len() + n;
            tokens.extend((0..n).map(|i| token(sequence, length[sequence] + i)));
            outputs.extend(wanted(rows.clone()));
            owners.resize(outputs.len(), sequence);
            segments.push(Segment {
                rows,
                first_position: length[sequence],
                pages: tables[sequence].iter().take(n_groups).map(|table| &table[..]).collect(),
            });
            length[sequence] += n;
        }
        let mut logits = vec![0f32; outputs.len() * VOCAB];
        let batch = Batch { tokens: &tokens, types: &[], segments: &segments, outputs: &outputs, pools: &[] };
        executor.run(&batch, &mut logits, &mut []).unwrap();
        owners.into_iter().zip(logits.chunks(VOCAB)).for_each(|(owner, row)| sink(owner, row.to_vec()));
    }
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

/// All types of cache, with heads that do not fill whole blocks too.
#[test]
fn every_level_computes_what_the_reference_computes_of_every_cache() {
    let steps: &[&[(usize, usize)]] = &[&[(0, 45)], &[(0, 1), (1, 20)], &[(0, 130)], &[(1, 3), (0, 1)]];
    for cache_type in CacheType::ALL {
        for head_dim in [64, 80] {
            let limits = || ExecutorLimits { cache_type, ..limits(130) };
            let plan = || plan(DType::F32, head_dim);
            let reference = ReferenceBackend { quantize_activations: true };
            let expected = drive(&mut *reference.load(plan(), limits()).unwrap(), steps);
            for backend in backends() {
                let got = drive(&mut *backend.load(plan(), limits()).unwrap(), steps);
                for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
                    // A value on a tie may go to the next step, of the coarser types, and of what meets the plan's 8-bit
                    // weights.
                    assert!(
                        (got - expected).abs() < 3e-2,
                        "{cache_type} {head_dim} {}: {got}, expected {expected}",
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
                 pools: &[Pooling],
                 says: &str| {
        let segments = [Segment { rows, first_position: 0, pages: pages.to_vec() }];
        let mut logits = vec![0f32; outputs.len() * VOCAB];
        let batch = Batch { tokens, types: &[], segments: &segments, outputs, pools };
        let error = executor.run(&batch, &mut logits, &mut []).unwrap_err();
        assert!(error.to_string().contains(says), "{error} does not say `{says}`");
    };
    let e = &mut *executor;
    check(e, &[1; 5], 0..5, full, &[0], &[], "5 rows");
    check(e, &[1000], 0..1, full, &[0], &[], "token 1000");
    check(e, &[1, 2], 0..1, full, &[0], &[], "segments cover 1 of 2");
    check(e, &[1, 2], 0..2, full, &[2], &[], "outputs");
    check(e, &[1, 2], 0..2, short, &[1], &[], "lack cache pages");
    let ends = true;
    check(e, &[1, 2], 0..2, full, &[1], &[Pooling { segment: 0, ends }], "1 vectors of 0");
    let plan = pooling_plan(DType::Q4_0, 64, Some((PoolKind::Mean, true)));
    let e = &mut *backend.load(plan, limits(4)).unwrap();
    check(e, &[1, 2], 0..2, full, &[1], &[Pooling { segment: 0, ends }], "0 values for 1 vectors");
    let mut few = limits(4);
    few.max_outputs = 2;
    let plan = pooling_plan(DType::Q4_0, 64, Some((PoolKind::Mean, true)));
    let e = &mut *backend.load(plan, few).unwrap();
    check(e, &[1, 2], 0..2, full, &[1], &[Pooling { segment: 0, ends }], "3 outputs; 2 are possible");
}

/// What a plan with a pool gives: the logits of a sequence that generates, and the vectors of two that are read beside
/// it, the first in pieces.
fn drive_pools(executor: &mut dyn Executor, width: usize) -> Vec<Vec<f32>> {
    let steps: &[&[(usize, usize)]] =
        &[&[(0, 9), (1, 20)], &[(0, 1), (1, 1)], &[(1, 22), (0, 1)], &[(0, 1), (1, 7)]];
    let tables = [tables(0), tables(1)];
    let mut length = [0usize; 2];
    let mut state = vec![3.0; width];
    let mut all = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let (mut tokens, mut segments, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut pools = Vec::new();
        for &(sequence, n) in *step {
            let start = tokens.len();
            tokens.extend((0..n).map(|i| token(sequence, length[sequence] + i)));
            if sequence == 0 {
                outputs.push(start + n - 1);
            } else {
                pools.push(Pooling { segment: segments.len(), ends: at == steps.len() - 1 });
            }
            segments.push(Segment {
                rows: start..start + n,
                first_position: length[sequence],
                pages: tables[sequence].iter().map(|table| &table[..]).collect(),
            });
            length[sequence] += n;
        }
        let mut logits = vec![0f32; outputs.len() * VOCAB];
        let batch =
            Batch { tokens: &tokens, types: &[], segments: &segments, outputs: &outputs, pools: &pools };
        executor.run(&batch, &mut logits, &mut state).unwrap();
        all.push(logits);
    }
    all.push(state);
    // The same sequence again at once, and another beside it: two vectors.
    let segments = [0, 1].map(|sequence| Segment {
        rows: 50 * sequence..50 + 5 * sequence,
        first_position: 0,
        pages: tables[1 - sequence].iter().map(|table| &table[..]).collect(),
    });
    let tokens: Vec<u32> = (0..50).map(|i| token(1, i)).chain((0..5).map(|i| token(0, i))).collect();
    let pools = [0, 1].map(|segment| Pooling { segment, ends: true });
    let mut vectors = vec![f32::NAN; 2 * width];
    let batch = Batch { tokens: &tokens, types: &[], segments: &segments, outputs: &[], pools: &pools };
    executor.run(&batch, &mut [], &mut vectors).unwrap();
    all.extend(vectors.chunks(width).map(<[f32]>::to_vec));
    all
}

#[test]
fn every_level_pools_what_the_reference_pools() {
    for kind in [PoolKind::Mean, PoolKind::First, PoolKind::Last] {
        for normalize in [false, true] {
            let plan = || pooling_plan(DType::F32, 64, Some((kind, normalize)));
            let limits = ExecutorLimits { max_outputs: 64, ..limits(64) };
            let width = plan().pool().unwrap().width;
            let reference = ReferenceBackend { quantize_activations: true };
            let expected = drive_pools(&mut *reference.load(plan(), limits.clone()).unwrap(), width);
            for (in_pieces, at_once) in expected[4].iter().zip(&expected[5]) {
                assert!((in_pieces - at_once).abs() < 1e-5, "{kind:?}: pieces do not matter");
            }
            for backend in backends() {
                let got = drive_pools(&mut *backend.load(plan(), limits.clone()).unwrap(), width);
                for (at, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
                        let case = format!("{kind:?} {normalize} {}", backend.describe());
                        assert!((got - expected).abs() < 2e-3, "{case}: {at}, {i}: {got}, not {expected}");
                    }
                }
            }
        }
    }
}

/// A plan without attention and without logits, as of an encoder.
#[test]
fn a_plan_may_give_vectors_alone() {
    let build = || {
        let mut random = Random(3);
        let mut p = PlanBuilder::new();
        let table = weight(&mut p, &mut random, DType::F32, VOCAB, 32);
        let x = p.embed("embed", table, 1.0);
        let x = p.select("select", x);
        p.pool(x, PoolKind::Mean, false);
        p.finish(table)
    };
    let limits = ExecutorLimits { cache_type: CacheType::F32, max_rows: 4, max_outputs: 4, n_pages: vec![] };
    let segments = [Segment { rows: 0..2, first_position: 0, pages: vec![] }];
    let batch = Batch {
        tokens: &[3, 69],
        types: &[],
        segments: &segments,
        outputs: &[],
        pools: &[Pooling { segment: 0, ends: true }],
    };
    let run = |mut executor: Box<dyn Executor>| {
        let mut vector = vec![0.0; 32];
        executor.run(&batch, &mut [], &mut vector).unwrap();
        let refused = executor.run(&Batch { outputs: &[1], ..batch.clone() }, &mut [0.0; VOCAB], &mut vector);
        (vector, refused)
    };
    let (expected, _) = run(ReferenceBackend::default().load(build(), limits.clone()).unwrap());
    let (got, refused) = run(CpuBackend::new(CpuConfig::default()).unwrap().load(build(), limits).unwrap());
    assert!(got.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6 && *a != 0.0));
    assert!(refused.unwrap_err().to_string().contains("has none"));
}

/// Attention alone, so that nothing else can make a row depend on its batch: tokens give queries, keys and values, and
/// the logits are the first values of what is attended to.
fn attention_plan(head_dim: usize, window: Option<usize>) -> Plan {
    let mut random = Random(11);
    let mut p = PlanBuilder::new();
    let (n_heads, n_kv_heads) = (6, 2);
    let [q, k, v] = [("q", n_heads), ("k", n_kv_heads), ("v", n_kv_heads)].map(|(name, n)| {
        let table = weight(&mut p, &mut random, DType::F32, VOCAB, n * head_dim);
        p.embed(name, table, 8.0)
    });
    let cache = p.cache(CacheLayer { n_kv_heads, head_dim, window });
    let (softcap, sight) = (window.map(|_| 5.0), Sight::Before);
    let spec = AttendSpec { cache, n_heads, scale: 0.2, sharpening: None, softcap, sight, bias: None };
    let x = p.attend("attend", q, Some((k, v)), spec).unwrap();
    let width = n_heads * head_dim;
    let mut identity = vec![0f32; VOCAB * width];
    (0..VOCAB).for_each(|i| identity[i * width + i] = 1.0);
    let data = Bytes::from_vec(identity.iter().flat_map(|x| x.to_le_bytes()).collect());
    let (name, dtype) = ("identity".to_owned(), DType::F32);
    let head = p.weight(Weight { name, dtype, n_rows: VOCAB, n_cols: width, data });
    let x = p.select("select", x);
    p.logits(x, LogitsSpec::new(head)).unwrap()
}

/// A row gets the same bits alone, among others of its sequence, beside other sequences, and on any number of threads.
#[test]
fn attention_of_a_row_does_not_depend_on_its_batch() {
    let whole: &[&[(usize, usize)]] = &[&[(0, 300)], &[(0, 13)], &[(1, 60)]];
    let alone = [[(0, 1)].as_slice(); 313];
    let pieces: &[&[(usize, usize)]] =
        &[&[(1, 37), (0, 150)], &[(0, 63)], &[(0, 60), (1, 1)], &[(0, 28)], &[(0, 5), (1, 22)], &[(0, 7)]];
    for cache_type in CacheType::ALL {
        for (head_dim, window) in [(64, None), (32, Some(70))] {
            for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
                let run = |threads: usize, steps: &[&[(usize, usize)]]| {
                    let backend =
                        CpuBackend::new(CpuConfig { threads: Some(threads), level: Some(level) }).unwrap();
                    let n_pages = vec![40];
                    let limits = ExecutorLimits { cache_type, max_rows: 400, max_outputs: 400, n_pages };
                    let plan = attention_plan(head_dim, window);
                    drive_rows(&mut *backend.load(plan, limits).unwrap(), steps)
                };
                let expected = run(1, whole);
                for (threads, steps) in [(2, whole), (1, pieces), (3, pieces), (1, &alone)] {
                    let got = run(threads, steps);
                    for (sequence, (got, expected)) in got.iter().zip(&expected).enumerate() {
                        for (position, (got, expected)) in got.iter().zip(expected).enumerate() {
                            let same = got.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                            let n = steps.len();
                            assert!(
                                same,
                                "{level} {cache_type:?} {head_dim}: {threads} threads, {n} steps: {position} of {sequence}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// Whole models: the last row of a prompt in one piece, in pieces, a token at a time, and beside another sequence.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_row_does_not_depend_on_its_batch() {
    let whole: &[&[(usize, usize)]] = &[&[(0, 45)], &[(1, 20)]];
    let pieces: &[&[(usize, usize)]] =
        &[&[(0, 3), (1, 10)], &[(0, 30)], &[(0, 8), (1, 9)], &[(0, 4)], &[(1, 1)]];
    let alone: Vec<&[(usize, usize)]> =
        [[(0, 1)].as_slice(); 45].into_iter().chain([[(1, 1)].as_slice(); 20]).collect();
    // The products of every format are held to the same by the kernels' own test.
    for dtype in [DType::Q4_1, DType::Q6_K, DType::Q8_0, DType::F32, DType::F16, DType::BF16] {
        let plan = plan(dtype, 64);
        // The scalar level, slow as it is, treats every row by itself.
        for level in [Level::Avx2, Level::Avx512].into_iter().filter(|level| level.is_supported()) {
            let run = |threads: usize, steps: &[&[(usize, usize)]]| {
                let backend =
                    CpuBackend::new(CpuConfig { threads: Some(threads), level: Some(level) }).unwrap();
                let mut last = [Vec::new(), Vec::new()];
                let executor = &mut *backend.load(plan.clone(), limits(64)).unwrap();
                let wanted = |rows: Range<usize>| rows.end - 1..rows.end;
                drive_with(executor, 2, steps, wanted, |sequence, logits| last[sequence] = logits);
                last.map(|logits| logits.into_iter().map(f32::to_bits).collect::<Vec<u32>>())
            };
            let expected = run(1, whole);
            for (threads, steps) in [(2, whole), (1, pieces), (3, pieces), (2, &alone)] {
                let n = steps.len();
                assert!(run(threads, steps) == expected, "{dtype} {level}: {threads} threads, {n} steps");
            }
        }
    }
}
