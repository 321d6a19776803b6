//! Experts, and tokens that see what is behind them, in every format, on every level of this host, against the scalar
//! reference.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Random, backends, weight};
use whit_base::reference::ReferenceBackend;
use whit_base::{
    Activation, AttendSpec, Backend, Batch, CacheLayer, CacheType, DType, Executor, ExecutorLimits, Expert,
    ExpertsSpec, LogitsSpec, NormKind, Plan, PlanBuilder, PoolKind, Pooling, Rope, RopeStyle, Segment, Sight,
};

const VOCAB: usize = 70;
const WIDTH: usize = 256;
const FORMATS: [DType; 6] = [DType::F32, DType::F16, DType::Q8_0, DType::Q4_K, DType::Q5_0, DType::Q6_K];

/// Two layers of experts. Their weights may differ in format, as in mixed files.
fn mixture(dtype: DType, normalize: bool) -> Plan {
    let mut random = Random(11);
    let r = &mut random;
    let mut p = PlanBuilder::new();
    let (n_experts, n_used, n_ff) = (7, 3, 256);
    let table = weight(&mut p, r, DType::F32, VOCAB, WIDTH);
    let mut x = p.embed("embed", table, 1.0);
    for down in [dtype, DType::Q8_0] {
        let choice = weight(&mut p, r, DType::F32, n_experts, WIDTH);
        let scores = p.linear("scores", x, choice, None).unwrap();
        let weights = p.route("weights", scores, n_used, normalize).unwrap();
        let experts = (0..n_experts).map(|_| Expert {
            gate: weight(&mut p, r, dtype, n_ff, WIDTH),
            up: weight(&mut p, r, dtype, n_ff, WIDTH),
            down: weight(&mut p, r, down, WIDTH, n_ff),
        });
        let spec = ExpertsSpec { n_used, experts: experts.collect(), act: Activation::Silu };
        let h = p.experts("experts", x, weights, spec).unwrap();
        x = p.add("residual", x, h).unwrap();
    }
    let x = p.select("select", x);
    p.logits(x, LogitsSpec::new(table)).unwrap()
}

fn limits(n_pages: Vec<usize>) -> ExecutorLimits {
    ExecutorLimits { cache_type: CacheType::F32, max_rows: 96, max_outputs: 96, n_pages }
}

#[track_caller]
fn check(case: &str, dtype: DType, got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len(), "{case}");
    // 8-bit rounding amplifies the last bit of a sum when a value sits on a tie.
    let tolerance = if dtype.is_quantized() { 3e-2 } else { 2e-3 };
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() < tolerance, "{case}: {i}: {got}, expected {expected}");
    }
}

#[test]
fn experts_compute_what_the_reference_computes() {
    // A prompt, some rows, single ones; all of their logits or few, or none.
    let runs: [(usize, &[usize]); 6] =
        [(24, &[0, 1, 14, 23]), (5, &[0, 1, 2, 3, 4]), (2, &[0, 1]), (1, &[0]), (9, &[]), (1, &[0])];
    let drive = |executor: &mut dyn Executor| -> Vec<Vec<f32>> {
        let run = |(at, (n, outputs)): (usize, &(usize, &[usize]))| {
            let tokens: Vec<u32> = (0..*n).map(|i| ((i * i + 3 * i + at) % VOCAB) as u32).collect();
            let segments = [Segment { rows: 0..*n, first_position: 0, pages: vec![] }];
            let batch = Batch { tokens: &tokens, types: &[], segments: &segments, outputs, pools: &[] };
            let mut logits = vec![f32::NAN; outputs.len() * VOCAB];
            executor.run(&batch, &mut logits, &mut []).unwrap();
            logits
        };
        runs.iter().enumerate().map(run).collect()
    };
    for dtype in FORMATS {
        let normalize = dtype != DType::Q8_0;
        let reference = ReferenceBackend { quantize_activations: true };
        let expected = drive(&mut *reference.load(mixture(dtype, normalize), limits(vec![])).unwrap());
        for backend in backends() {
            let got = drive(&mut *backend.load(mixture(dtype, normalize), limits(vec![])).unwrap());
            for (run, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let case = format!("{dtype} {normalize} on {}, run {run}", backend.describe());
                // The experts of the second layer are of a quantized format in any case.
                check(&case, DType::Q8_0, got, expected);
            }
        }
    }
}

/// Types of tokens, layers that see all and some that see a few, all with one cache, a bias by distance, norms with a
/// weight for each head, and the mean of a sequence before its first row is taken.
fn encoder(dtype: DType) -> Plan {
    let mut random = Random(5);
    let r = &mut random;
    let mut p = PlanBuilder::new();
    let (n_heads, n_kv_heads, head_dim) = (4, 2, 64);
    let table = weight(&mut p, r, DType::Q8_0, VOCAB, WIDTH);
    let tokens = p.embed("embed", table, 1.0);
    let types = weight(&mut p, r, DType::F32, 2, WIDTH);
    let types = p.embed_type("types", types);
    let mut x = p.add("embedded", tokens, types).unwrap();
    let cache = p.cache(CacheLayer { n_kv_heads, head_dim, window: None });
    let inv_freq = (0..head_dim / 2).map(|i| 0.8f32.powi(i as i32)).collect();
    let rope = p.rope_table(Rope { inv_freq, magnitude: 1.0, style: RopeStyle::Halves });
    for (sight, reach) in
        [(Sight::All, None), (Sight::Near(9), None), (Sight::All, Some(20)), (Sight::Near(40), Some(3))]
    {
        let linear = |p: &mut PlanBuilder, r: &mut Random, x, n| {
            let weight = weight(p, r, dtype, n, WIDTH);
            p.linear("linear", x, weight, None).unwrap()
        };
        let mut q = linear(&mut p, r, x, n_heads * head_dim);
        let mut k = linear(&mut p, r, x, n_kv_heads * head_dim);
        let v = linear(&mut p, r, x, n_kv_heads * head_dim);
        if reach.is_none() {
            let norms = [n_heads, n_kv_heads].map(|n| weight(&mut p, r, DType::F32, n, head_dim));
            let kind = NormKind::Layer { eps: 1e-5 };
            q = p.norm("q_norm", q, kind, Some(norms[0]), None, Some(head_dim)).unwrap();
            k = p.norm("k_norm", k, kind, Some(norms[1]), None, Some(head_dim)).unwrap();
            q = p.rope("q_rope", q, rope, head_dim).unwrap();
            k = p.rope("k_rope", k, rope, head_dim).unwrap();
        }
        let bias = reach.map(|reach| weight(&mut p, r, DType::F32, n_heads, 2 * reach + 1));
        let spec = AttendSpec { cache, n_heads, scale: 0.125, sharpening: None, softcap: None, sight, bias };
        let h = p.attend("attend", q, Some((k, v)), spec).unwrap();
        let h = linear(&mut p, r, h, WIDTH);
        let h = p.add("residual", x, h).unwrap();
        let norm = weight(&mut p, r, DType::F32, 1, WIDTH);
        x = p.norm("norm", h, NormKind::Layer { eps: 1e-12 }, Some(norm), None, None).unwrap();
    }
    let x = p.sequence_mean("mean", x);
    let x = p.select("select", x);
    let head = weight(&mut p, r, dtype, WIDTH, WIDTH);
    let x = p.linear("head", x, head, None).unwrap();
    let x = p.act("tanh", x, Activation::Tanh);
    p.pool(x, PoolKind::First, false);
    p.finish(table)
}

#[test]
fn encoders_compute_what_the_reference_computes() {
    let pages: Vec<Vec<u32>> = vec![vec![3, 1], vec![0], vec![5, 2]];
    let pages: Vec<&[u32]> = pages.iter().map(Vec::as_slice).collect();
    // Lengths of the sequences of a batch.
    let runs: [&[usize]; 4] = [&[40, 1, 50], &[1], &[33], &[17, 17]];
    let drive = |executor: &mut dyn Executor| -> Vec<Vec<f32>> {
        let mut all = Vec::new();
        for lengths in runs {
            let n: usize = lengths.iter().sum();
            let tokens: Vec<u32> = (0..n).map(|i| ((i * i + 5 * i) % VOCAB) as u32).collect();
            let types: Vec<u8> = (0..n).map(|i| u8::from(i % 7 > 3)).collect();
            let mut first = 0;
            let segment = |(index, length): (usize, &usize)| {
                first += length;
                let pages = vec![pages[if *length == 1 { 1 } else { index }]];
                Segment { rows: first - length..first, first_position: 0, pages }
            };
            let segments: Vec<Segment<'_>> = lengths.iter().enumerate().map(segment).collect();
            let pools: Vec<Pooling> =
                (0..lengths.len()).map(|segment| Pooling { segment, ends: true }).collect();
            for types in [&types[..], &[]] {
                let batch =
                    Batch { tokens: &tokens, types, segments: &segments, outputs: &[], pools: &pools };
                let mut vectors = vec![f32::NAN; lengths.len() * WIDTH];
                executor.run(&batch, &mut [], &mut vectors).unwrap();
                all.push(vectors);
            }
        }
        all
    };
    for dtype in FORMATS {
        assert!(encoder(dtype).reads_whole());
        let reference = ReferenceBackend { quantize_activations: true };
        let expected = drive(&mut *reference.load(encoder(dtype), limits(vec![6])).unwrap());
        assert_ne!(expected[0], expected[1], "types make a difference");
        for backend in backends() {
            let got = drive(&mut *backend.load(encoder(dtype), limits(vec![6])).unwrap());
            for (run, (got, expected)) in got.iter().zip(&expected).enumerate() {
                check(&format!("{dtype} on {}, run {run}", backend.describe()), dtype, got, expected);
            }
        }
    }
}

#[test]
fn a_part_of_a_sequence_is_refused() {
    let backend = &backends()[0];
    let mut executor = backend.load(encoder(DType::F32), limits(vec![6])).unwrap();
    let pages: &[u32] = &[0, 1];
    for (first_position, types, says) in
        [(4, &[0u8, 1][..], "must come whole"), (0, &[0], "types of 1"), (0, &[0, 2], "type 2")]
    {
        let segments = [Segment { rows: 0..2, first_position, pages: vec![pages] }];
        let pools = [Pooling { segment: 0, ends: true }];
        let batch = Batch { tokens: &[1, 2], types, segments: &segments, outputs: &[], pools: &pools };
        let error = executor.run(&batch, &mut [], &mut [0.0; WIDTH]).unwrap_err().to_string();
        assert!(error.contains(says), "{error} does not say `{says}`");
    }
}
