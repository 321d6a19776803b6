//! Every level of this host against the scalar truth in `whit_base`, for every format and operation.
#![expect(
    clippy::unwrap_used,
    clippy::undocumented_unsafe_blocks,
    reason = "tests: buffers are made to fit here"
)]

use whit_base::quant::{ACT_GROUP, WIDE_ACT_GROUP, act_group, decode_row, encode_row};
use whit_base::reference::ops;
use whit_base::{Activation, CacheType, DType, NormKind, PAGE_TOKENS, Rope, RopeStyle};

use super::attention::{AttendBlock, DistanceBias, PIECE_PAGES, PIECE_TOKENS, Partial, head_bytes};
use super::rows::SUMS_OF_16;
use super::{FloatJob, GEMM_ROWS, GemmJob, Kernels, QuantMatrix, gemm_scratch_bytes};
use crate::level::Level;

fn levels() -> Vec<&'static Kernels> {
    Level::ALL.into_iter().filter(|level| level.is_supported()).map(Kernels::for_level).collect()
}

/// A small generator (splitmix64), so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    /// Roughly normal.
    fn normal(&mut self) -> f32 {
        (0..4).map(|_| (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5).sum::<f32>() * 1.7
    }
    fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }
}

/// Rounded activations with the padding that kernels rely on.
struct Quantized {
    q: Vec<i8>,
    d: Vec<f32>,
    sum32: Vec<f32>,
    sum16: Vec<f32>,
    total32: Vec<i16>,
    total16: Vec<i16>,
    group: usize,
    n: usize,
    rows: usize,
}

impl Quantized {
    fn new(kernels: &Kernels, x: &[f32], group: usize, rows: usize) -> Quantized {
        let n = x.len() / rows;
        let (q, d, s) = (n + 64, n / 32 + 16, n / 16 + 16);
        let mut out = Quantized {
            q: vec![0; q * rows],
            d: vec![0.0; d * rows],
            sum32: vec![0.0; d * rows],
            sum16: vec![0.0; s * rows],
            total32: vec![0; d * rows],
            total16: vec![0; s * rows],
            group,
            n,
            rows,
        };
        for m in 0..rows {
            unsafe { (kernels.quantize)(x[m * n..].as_ptr(), out.matrix().row(m), 0, n) };
        }
        out
    }
    fn matrix(&mut self) -> QuantMatrix {
        QuantMatrix {
            q: self.q.as_mut_ptr(),
            d: self.d.as_mut_ptr(),
            sum32: self.sum32.as_mut_ptr(),
            sum16: self.sum16.as_mut_ptr(),
            total32: self.total32.as_mut_ptr(),
            total16: self.total16.as_mut_ptr(),
            group: self.group,
            q_stride: self.n + 64,
            d_stride: self.n / 32 + 16,
            sum16_stride: self.n / 16 + 16,
        }
    }
    /// The values that the kernels multiply with.
    fn values(&self, m: usize) -> Vec<f32> {
        let (q, d) = (&self.q[m * (self.n + 64)..], &self.d[m * (self.n / 32 + 16)..]);
        assert!(m < self.rows);
        (0..self.n).map(|i| f32::from(q[i]) * d[i / 32]).collect()
    }
}

fn assert_close(what: &str, got: &[f32], expected: &[f32], scale: f32, tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (got - expected).abs();
        assert!(error <= tolerance * scale, "{what}: [{i}] {got}, expected {expected}, error {error}");
    }
}

const ACTIVATIONS: [Activation; 7] = [
    Activation::Silu,
    Activation::GeluTanh,
    Activation::Gelu,
    Activation::Relu,
    Activation::ReluSquared,
    Activation::Tanh,
    Activation::Identity,
];

#[test]
fn hot_formats_are_native_on_every_simd_level() {
    for kernels in levels().iter().filter(|kernels| kernels.level != Level::Scalar) {
        for dtype in DType::ALL {
            assert!(kernels.is_native(dtype), "{dtype} falls back to scalar code at level {}", kernels.level);
        }
    }
}

#[test]
fn activations_round_as_the_scalar_truth() {
    let mut random = Random(1);
    // Whole registers of groups, half of one, and a single group.
    let mut x = random.vec(32 * 43);
    x[..32].fill(0.0);
    x[40] = 100.0;
    x[64..96].fill(-3.0);
    for (kernels, group) in
        levels().into_iter().flat_map(|kernels| [(kernels, ACT_GROUP), (kernels, WIDE_ACT_GROUP)])
    {
        let x = if group == ACT_GROUP { &x[..] } else { &x[..32 * 40] };
        let mut got = Quantized::new(kernels, x, group, 1);
        let (mut q, mut d, mut sum) =
            (vec![0i8; x.len()], vec![0f32; x.len() / 32], vec![0f32; x.len() / 32]);
        whit_base::quant::quantize_activations(x, group, &mut q, &mut d, &mut sum);
        for (i, (&got, &expected)) in got.q.iter().zip(&q).enumerate() {
            let (got, expected) = (i32::from(got), i32::from(expected));
            // The kernels multiply by 1 / d where the truth divides by d: exact ties may go the other way.
            assert!((got - expected).abs() <= 1, "{} [{i}]: {got}, expected {expected}", kernels.level);
            let exact = if d[i / 32] > 0.0 { x[i] / d[i / 32] } else { 0.0 };
            let error = (exact - got as f32).abs();
            assert!(error <= 0.5 + 1e-4, "{} [{i}]: {got} is not the nearest to {exact}", kernels.level);
        }
        assert_close("d", &got.d[..d.len()], &d, 1.0, 1e-7);
        let values = got.values(0);
        for (i, values) in values.chunks(16).enumerate() {
            let sum: f32 = values.iter().sum();
            assert!(!SUMS_OF_16 || (got.sum16[i] - sum).abs() < 1e-3, "{} sum16[{i}]", kernels.level);
            let total: i32 = got.q[16 * i..][..16].iter().map(|q| i32::from(*q)).sum();
            assert_eq!(i32::from(got.total16[i]), total, "{} total16[{i}]", kernels.level);
        }
        for (i, values) in values.chunks(32).enumerate() {
            let sum: f32 = values.iter().sum();
            assert!((got.sum32[i] - sum).abs() < 1e-3, "{} sum32[{i}]", kernels.level);
            let total: i32 = got.q[32 * i..][..32].iter().map(|q| i32::from(*q)).sum();
            assert_eq!(i32::from(got.total32[i]), total, "{} total32[{i}]", kernels.level);
        }
        // A value that is not a number must not pass for zero.
        for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![1.0f32; 2 * group];
            x[group + 5] = poison;
            got = Quantized::new(kernels, &x, group, 1);
            let (sound, broken) = got.d[..2 * group / 32].split_at(group / 32);
            let holds = sound.iter().all(|d| d.is_finite()) && broken.iter().all(|d| d.is_nan());
            assert!(holds, "{} {poison}: {:?}", kernels.level, got.d);
        }
    }
}

#[test]
fn quantized_products_match_the_scalar_truth() {
    let mut random = Random(2);
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let widths = [32, 64, 96, 256, 288, 512, 576, 864, 1024, 1536];
        for n_cols in widths.into_iter().filter(|n_cols| n_cols % dtype.block_len() == 0) {
            let row_bytes = dtype.row_bytes(n_cols).unwrap();
            // Row counts around tiles of 8, 16 and 32, and around what counts as few.
            for (n_rows, n_x) in [(1, 1), (3, 2), (16, 3), (17, 4), (31, 5), (32, 8), (9, 9), (32, 13)] {
                let mut w = vec![0u8; n_rows * row_bytes];
                for row in w.chunks_mut(row_bytes) {
                    encode_row(dtype, &random.vec(n_cols), None, row);
                }
                let x = random.vec(n_x * n_cols);
                for kernels in levels() {
                    let mut x = Quantized::new(kernels, &x, act_group(dtype), n_x);
                    let mut expected = vec![0f32; n_x * n_rows];
                    let mut scale = 0f32;
                    let mut row_values = vec![0f32; n_cols];
                    for m in 0..n_x {
                        let values = x.values(m);
                        for r in 0..n_rows {
                            decode_row(dtype, &w[r * row_bytes..][..row_bytes], &mut row_values);
                            let products = row_values.iter().zip(&values).map(|(a, b)| f64::from(a * b));
                            expected[m * n_rows + r] = products.clone().sum::<f64>() as f32;
                            scale = scale.max(products.map(f64::abs).sum::<f64>() as f32);
                        }
                    }
                    let what = format!("{dtype} {n_rows} x {n_cols}, {n_x} rows, {}", kernels.level);
                    let mut got = vec![f32::NAN; n_x * n_rows];
                    let mut scratch = vec![0u64; gemm_scratch_bytes(n_cols) / 8 + 8];
                    assert!(n_rows <= GEMM_ROWS);
                    let job = GemmJob {
                        dtype,
                        w: w.as_ptr(),
                        n_rows,
                        n_cols,
                        x: x.matrix(),
                        n_x,
                        out: got.as_mut_ptr(),
                        out_stride: n_rows,
                        scratch: scratch.as_mut_ptr().cast(),
                    };
                    unsafe { kernels.gemm(dtype)(&job) };
                    // Offsets cancel (u - 128): a few times the rounding of the absolute sum.
                    assert_close(&what, &got, &expected, scale, 3e-6);

                    // Alone, a row has the same result to the last bit.
                    let mut alone = vec![f32::NAN; n_rows];
                    for m in 0..n_x {
                        let x = unsafe { job.x.from(m) };
                        unsafe {
                            kernels.gemm(dtype)(&GemmJob { x, n_x: 1, out: alone.as_mut_ptr(), ..job })
                        };
                        if kernels.level != Level::Neon {
                            assert_eq!(alone, got[m * n_rows..][..n_rows], "{what}, row {m} alone");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn extreme_bytes_do_not_saturate() {
    // Largest weights against largest activations, both signs: 16-bit sums must hold.
    for dtype in DType::ALL.into_iter().filter(|dtype| dtype.is_quantized()) {
        let n_cols = 512;
        let row_bytes = dtype.row_bytes(n_cols).unwrap();
        // Where the largest value becomes the least code, one of the other sign makes the others the greatest.
        let cases = [(1.0, 1.0), (-1.0, 1.0), (1.0, -1.0), (-1.0, -1.0)];
        for ((sign_w, sign_x), first) in cases.into_iter().flat_map(|case| [(case, 1.0), (case, -1.1)]) {
            let mut w = vec![0u8; row_bytes];
            let mut values = vec![sign_w; n_cols];
            values.iter_mut().step_by(dtype.block_len()).for_each(|value| *value *= first);
            encode_row(dtype, &values, None, &mut w);
            let mut row = vec![0f32; n_cols];
            decode_row(dtype, &w, &mut row);
            for kernels in levels() {
                let mut x = Quantized::new(kernels, &vec![sign_x; n_cols], act_group(dtype), 1);
                let expected = row.iter().zip(x.values(0)).map(|(a, b)| f64::from(a * b)).sum::<f64>() as f32;
                let mut got = [0f32];
                let mut scratch = vec![0u64; gemm_scratch_bytes(n_cols) / 8 + 8];
                let job = GemmJob {
                    dtype,
                    w: w.as_ptr(),
                    n_rows: 1,
                    n_cols,
                    x: x.matrix(),
                    n_x: 1,
                    out: got.as_mut_ptr(),
                    out_stride: 1,
                    scratch: scratch.as_mut_ptr().cast(),
                };
                unsafe { kernels.gemm(dtype)(&job) };
                let what = format!("{dtype} {sign_w} {sign_x} {first} {}", kernels.level);
                assert_close(&what, &got, &[expected], 512.0, 3e-6);
            }
        }
    }
}

#[test]
fn float_products_match_the_scalar_truth() {
    let mut random = Random(3);
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for n_cols in [1, 7, 32, 100, 576] {
            let (n_rows, n_x) = (9, 7);
            let row_bytes = dtype.row_bytes(n_cols).unwrap();
            let mut w = vec![0u8; n_rows * row_bytes];
            for row in w.chunks_mut(row_bytes) {
                encode_row(dtype, &random.vec(n_cols), None, row);
            }
            let x = random.vec(n_x * n_cols);
            let mut expected = vec![0f32; n_x * n_rows];
            for m in 0..n_x {
                for r in 0..n_rows {
                    let bytes = &w[r * row_bytes..][..row_bytes];
                    expected[m * n_rows + r] =
                        whit_base::quant::dot_row(dtype, bytes, &x[m * n_cols..][..n_cols]);
                }
            }
            for kernels in levels() {
                let mut got = vec![f32::NAN; n_x * n_rows];
                let job = FloatJob {
                    w: w.as_ptr(),
                    n_rows,
                    n_cols,
                    x: x.as_ptr(),
                    x_stride: n_cols,
                    n_x,
                    out: got.as_mut_ptr(),
                    out_stride: n_rows,
                };
                let kernel = match dtype {
                    DType::F32 => kernels.float_f32,
                    DType::F16 => kernels.float_f16,
                    _ => kernels.float_bf16,
                };
                unsafe { kernel(&job) };
                let what = format!("{dtype} {n_cols} {}", kernels.level);
                // Where the CPU multiplies BF16 itself, activations are rounded to 8 bits of mantissa: their errors, at
                // most 2^-9 of products below about 3, add like a random walk.
                let rounded = dtype == DType::BF16 && kernels.level == Level::Avx512;
                let bound =
                    if rounded { 6.0 * 2f32.powi(-9) * (n_cols as f32).sqrt() } else { n_cols as f32 * 1e-6 };
                assert_close(&what, &got, &expected, bound, 1.0);
                if rounded {
                    // Against activations that BF16 holds exactly there is nothing left to round.
                    let exact: Vec<f32> =
                        x.iter().map(|x| f32::from_bits(x.to_bits() & 0xffff_0000)).collect();
                    unsafe { kernel(&FloatJob { x: exact.as_ptr(), ..job }) };
                    for m in 0..n_x {
                        for r in 0..n_rows {
                            let (bytes, x) =
                                (&w[r * row_bytes..][..row_bytes], &exact[m * n_cols..][..n_cols]);
                            let expected = whit_base::quant::dot_row(dtype, bytes, x);
                            assert_close(&what, &[got[m * n_rows + r]], &[expected], n_cols as f32, 1e-6);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn row_operations_match_the_scalar_truth() {
    let mut random = Random(4);
    for n in [1, 5, 16, 33, 64, 100, 576] {
        let (x, y) = (random.vec(n), random.vec(n));
        let (weight, bias) = (random.vec(n), random.vec(n));
        for kernels in levels() {
            let what = |op: &str| format!("{op} {n} {}", kernels.level);
            let mut got = vec![f32::NAN; n];
            let mut expected = vec![0f32; n];
            for weight in [Some(&weight), None] {
                let p = weight.map_or(std::ptr::null(), |weight| weight.as_ptr());
                ops::norm(NormKind::Rms { eps: 1e-5 }, &x, weight.map(|w| &w[..]), None, &mut expected);
                unsafe { (kernels.rms_norm)(x.as_ptr(), p, 1e-5, got.as_mut_ptr(), n) };
                assert_close(&what("rms_norm"), &got, &expected, 1.0, 1e-5);
            }
            ops::norm(NormKind::Layer { eps: 1e-5 }, &x, Some(&weight), Some(&bias), &mut expected);
            unsafe {
                (kernels.layer_norm)(x.as_ptr(), weight.as_ptr(), bias.as_ptr(), 1e-5, got.as_mut_ptr(), n)
            };
            assert_close(&what("layer_norm"), &got, &expected, 1.0, 1e-5);

            for act in ACTIVATIONS {
                // Far tails too, where an exponential would overflow.
                let gate: Vec<f32> =
                    x.iter().enumerate().map(|(i, v)| v * [1.0, 8.0, 100.0, 1e4][i % 4]).collect();
                for (expected, (&g, &u)) in expected.iter_mut().zip(gate.iter().zip(&y)) {
                    *expected = ops::activation(act, g) * u;
                }
                unsafe { (kernels.glu)(act, gate.as_ptr(), y.as_ptr(), got.as_mut_ptr(), n) };
                for (i, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    let tolerance = 2e-6 * (1.0 + expected.abs());
                    assert!(
                        (got - expected).abs() < tolerance,
                        "{} {act:?}[{i}] {got} {expected}",
                        what("glu")
                    );
                }
            }
            for act in ACTIVATIONS {
                unsafe { (kernels.act)(act, x.as_ptr(), got.as_mut_ptr(), n) };
                let acted: Vec<f32> = x.iter().map(|&x| ops::activation(act, x)).collect();
                assert_close(&what("act"), &got, &acted, 1.0, 2e-6);
            }
            unsafe { (kernels.add)(x.as_ptr(), y.as_ptr(), got.as_mut_ptr(), n) };
            let sum: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
            assert_close(&what("add"), &got, &sum, 1.0, 0.0);
            got.copy_from_slice(&x);
            unsafe { (kernels.scale)(got.as_mut_ptr(), 2.5, n) };
            let scaled: Vec<f32> = x.iter().map(|x| x * 2.5).collect();
            assert_close(&what("scale"), &got, &scaled, 1.0, 0.0);
            got.copy_from_slice(&x);
            unsafe { (kernels.softcap)(got.as_mut_ptr(), 0.5, n) };
            let capped: Vec<f32> = x.iter().map(|&x| ops::softcap(0.5, x)).collect();
            assert_close(&what("softcap"), &got, &capped, 1.0, 1e-6);
        }
    }
}

#[test]
fn rotation_matches_the_scalar_truth() {
    let mut random = Random(5);
    for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
        for (n_pairs, head_dim) in [(32, 64), (16, 64), (40, 80), (5, 16)] {
            let inv_freq: Vec<f32> = (0..n_pairs).map(|i| 0.9f32.powi(i)).collect();
            let table = Rope { inv_freq: inv_freq.clone(), magnitude: 1.1, style };
            let head = random.vec(head_dim);
            let mut expected = head.clone();
            ops::rope(&table, 77, &mut expected);
            let angles = inv_freq.iter().map(|f| 77.0 * f64::from(*f));
            let n_entries = super::rows::rope_table_len(style, n_pairs as usize);
            let (mut cos, mut sin) = (vec![0f32; n_entries], vec![0f32; n_entries]);
            for (i, angle) in angles.enumerate() {
                let pair =
                    ((angle.cos() * f64::from(1.1f32)) as f32, (angle.sin() * f64::from(1.1f32)) as f32);
                unsafe { super::rows::set_rope_pair(style, cos.as_mut_ptr(), sin.as_mut_ptr(), i, pair) };
            }
            for kernels in levels() {
                let mut got = head.clone();
                unsafe {
                    (kernels.rope)(style, got.as_mut_ptr(), cos.as_ptr(), sin.as_ptr(), n_pairs as usize)
                };
                assert_close(&format!("{style:?} {}", kernels.level), &got, &expected, 1.0, 1e-5);
            }
        }
    }
}

/// Keys and values of one head in pages, as a level stores them.
struct Cached {
    kernels: &'static Kernels,
    cache_type: CacheType,
    head_dim: usize,
    k: Vec<u64>,
    v: Vec<u64>,
    page_bytes: usize,
    pages: Vec<u32>,
}

/// What a block of queries sees of a cache, and how.
#[derive(Clone, Copy)]
struct How {
    window: usize,
    ahead: usize,
    bias: Option<DistanceBias>,
    softcap: Option<f32>,
    span: (usize, usize),
}

impl Cached {
    fn new(
        kernels: &'static Kernels,
        cache_type: CacheType,
        keys: &[Vec<f32>],
        values: &[Vec<f32>],
    ) -> Cached {
        let head_dim = keys[0].len();
        let n_pages = keys.len().div_ceil(PAGE_TOKENS);
        let page_bytes = head_bytes(cache_type, head_dim);
        // Unwritten entries hold NaN: none may reach a result.
        let empty = vec![u64::MAX; n_pages * page_bytes / 8];
        // Pages in reverse order, to catch an executor that ignores the table.
        let pages: Vec<u32> = (0..n_pages as u32).rev().collect();
        let mut cache =
            Cached { kernels, cache_type, head_dim, k: empty.clone(), v: empty, page_bytes, pages };
        let append = kernels.append(cache_type);
        for (t, (key, value)) in keys.iter().zip(values).enumerate() {
            let at = cache.pages[t / PAGE_TOKENS] as usize * page_bytes;
            let (k, v) = (cache.k.as_mut_ptr().cast::<u8>(), cache.v.as_mut_ptr().cast::<u8>());
            unsafe {
                append(key.as_ptr(), value.as_ptr(), k.add(at), v.add(at), t % PAGE_TOKENS, head_dim);
            }
        }
        cache
    }

    /// `(queries, head_dim)` results, over all pieces of the span.
    fn attend(&self, q: &[f32], positions: &[u32], how: How) -> Vec<f32> {
        let n_queries = positions.len();
        let floats = Partial::floats(n_queries, self.head_dim);
        let mut scores = vec![0f32; n_queries * PIECE_TOKENS];
        let (mut piece, mut total) = (vec![f32::NAN; floats], vec![0f32; floats]);
        let (piece, total) = unsafe {
            (Partial::at(piece.as_mut_ptr(), n_queries), Partial::at(total.as_mut_ptr(), n_queries))
        };
        for i in 0..n_queries {
            unsafe { *total.max.add(i) = f32::NEG_INFINITY };
        }
        let (mut from, to) = how.span;
        while from < to {
            let end = to.min((from / PIECE_TOKENS + 1) * PIECE_TOKENS);
            let block = AttendBlock {
                q: q.as_ptr(),
                n_queries,
                head_dim: self.head_dim,
                positions,
                window: how.window,
                ahead: how.ahead,
                bias: how.bias,
                softcap: how.softcap,
                pages: &self.pages,
                span: (from, end),
                k: self.k.as_ptr().cast(),
                v: self.v.as_ptr().cast(),
                page_stride: self.page_bytes,
                next: [std::ptr::null(); PIECE_PAGES],
                scores: scores.as_mut_ptr(),
                result: piece,
            };
            unsafe {
                self.kernels.attend(self.cache_type)(&block);
                (self.kernels.merge)(piece, total, n_queries, self.head_dim);
            }
            from = end;
        }
        let value = |i: usize| unsafe { *total.acc.add(i) / *total.sum.add(i / self.head_dim) };
        (0..n_queries * self.head_dim).map(value).collect()
    }
}

/// Of a block of queries, each gets what it gets alone, bit for bit.
#[test]
fn attention_of_a_query_does_not_depend_on_its_block() {
    let mut random = Random(7);
    for (head_dim, first, n_queries, window, softcap) in [
        (64, 0, 13, usize::MAX, None),
        (64, 380, 23, usize::MAX, None),
        (48, 250, 9, 140, Some(4.0)),
        (128, 120, 17, 21, None),
    ] {
        let tokens = first + n_queries;
        let keys: Vec<Vec<f32>> = (0..tokens).map(|_| random.vec(head_dim)).collect();
        let values: Vec<Vec<f32>> = (0..tokens).map(|_| random.vec(head_dim)).collect();
        let q = random.vec(n_queries * head_dim);
        for kernels in levels() {
            for cache_type in CacheType::ALL {
                if !head_dim.is_multiple_of(cache_type.dtype().block_len()) {
                    continue;
                }
                let cache = Cached::new(kernels, cache_type, &keys, &values);
                let attend = |queries: std::ops::Range<usize>| {
                    let positions: Vec<u32> = queries.clone().map(|i| (first + i) as u32).collect();
                    let start = (first + queries.start + 1).saturating_sub(window);
                    let span = (start, first + queries.end);
                    let how = How { window, ahead: 0, bias: None, softcap, span };
                    cache.attend(&q[queries.start * head_dim..queries.end * head_dim], &positions, how)
                };
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                let all = attend(0..n_queries);
                for n in 1..8 {
                    for i in (0..n_queries).step_by(n) {
                        let some = attend(i..(i + n).min(n_queries));
                        let expected = &all[i * head_dim..][..some.len()];
                        let level = kernels.level;
                        assert!(
                            bits(&some) == bits(expected),
                            "{level} {cache_type:?} {head_dim}: {n} from {i}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn attention_matches_the_scalar_truth() {
    let mut random = Random(6);
    /// Tokens behind the last query, how many of them a query sees, and how far the bias of distances reaches.
    type Behind = Option<(usize, usize, Option<usize>)>;
    // (head_dim, queries, first position, window, softcap, first visited position, what lies behind)
    type Case = (usize, usize, usize, usize, Option<f32>, usize, Behind);
    let all = usize::MAX;
    let cases: &[Case] = &[
        (16, 1, 0, all, None, 0, None),
        (64, 3, 5, all, None, 0, None),
        (64, 9, 31, all, None, 0, None),
        (64, 17, 70, all, None, 0, None),
        (128, 6, 100, all, Some(5.0), 0, None),
        (80, 4, 64, all, None, 0, None),
        (256, 5, 90, 20, None, 64, None),
        (32, 12, 90, 33, Some(2.0), 32, None),
        (64, 8, 95, all, None, 64, None),
        (32, 1, 0, all, None, 0, Some((0, all, None))),
        (32, 7, 3, all, None, 0, Some((90, all, None))),
        (64, 9, 60, 11, None, 32, Some((70, 10, None))),
        (16, 12, 40, 33, Some(3.0), 0, Some((20, 32, None))),
        (32, 40, 0, all, None, 0, Some((0, all, Some(128)))),
        (32, 11, 70, all, None, 0, Some((100, all, Some(5)))),
        (16, 5, 33, all, Some(4.0), 0, Some((31, all, Some(32)))),
        (16, 5, 90, 1, None, 64, Some((3, 0, Some(0)))),
        (64, 7, 250, all, None, 0, None),
        (48, 3, 380, 200, Some(3.0), 160, None),
        (16, 13, 300, all, None, 0, Some((90, all, Some(150)))),
    ];
    for &(head_dim, n_queries, first, window, softcap, from, behind) in cases {
        let (n_behind, ahead, reach) = behind.unwrap_or((0, 0, None));
        let n_tokens = first + n_queries + n_behind;
        // The queries of a block take turns between two heads.
        let by_distance = [(); 2].map(|()| random.vec(2 * reach.unwrap_or(0) + 1));
        let bias_rows: Vec<Vec<f32>> =
            by_distance.iter().map(|row| super::attention::bias_row(row).collect()).collect();
        let bias_table = bias_rows.concat();
        let keys: Vec<Vec<f32>> = (0..n_tokens).map(|_| random.vec(head_dim)).collect();
        let values: Vec<Vec<f32>> = (0..n_tokens).map(|_| random.vec(head_dim)).collect();
        let q = random.vec(n_queries * head_dim);
        for kernels in levels() {
            for cache_type in CacheType::ALL {
                if !head_dim.is_multiple_of(cache_type.dtype().block_len()) {
                    continue;
                }
                let cache = Cached::new(kernels, cache_type, &keys, &values);
                let stored = |vectors: &[Vec<f32>]| -> Vec<Vec<f32>> {
                    let mut vectors = vectors.to_vec();
                    vectors.iter_mut().for_each(|vector| cache_type.round(vector));
                    vectors
                };
                let rounded = (stored(&keys), stored(&values));
                let how = How {
                    window,
                    ahead,
                    softcap,
                    span: (from, n_tokens),
                    bias: reach.map(|reach| DistanceBias {
                        table: bias_table.as_ptr(),
                        stride: bias_rows[0].len(),
                        group: 2,
                        reach,
                    }),
                };
                let positions: Vec<u32> = (first..first + n_queries).map(|p| p as u32).collect();
                let got = cache.attend(&q, &positions, how);
                for i in 0..n_queries {
                    let position = first + i;
                    let start = from.max((position + 1).saturating_sub(window));
                    let seen = start..(position + 1).saturating_add(ahead).min(n_tokens);
                    let bias: Vec<f32> = match reach {
                        None => vec![],
                        Some(reach) => {
                            let reach = reach as isize;
                            let distance = |p: usize| (p as isize - position as isize).clamp(-reach, reach);
                            seen.clone().map(|p| by_distance[i % 2][(reach + distance(p)) as usize]).collect()
                        }
                    };
                    let k: Vec<&[f32]> = rounded.0[seen.clone()].iter().map(|k| &k[..]).collect();
                    let v: Vec<&[f32]> = rounded.1[seen].iter().map(|v| &v[..]).collect();
                    let mut expected = vec![0f32; head_dim];
                    let how = (1.0, softcap, &bias[..]);
                    ops::attend(&q[i * head_dim..][..head_dim], &k, &v, how, &mut expected);
                    let what =
                        format!("{head_dim} query {i} at {position}, {cache_type:?}, {}", kernels.level);
                    assert_close(&what, &got[i * head_dim..][..head_dim], &expected, 1.0, 2e-5);
                }
            }
        }
    }
}

#[test]
fn vectors_rotate_as_the_scalar_truth() {
    let mut random = Random(8);
    for n in [32, 64, 96, 128, 160, 256] {
        let x = random.vec(n);
        let mut expected = x.clone();
        whit_base::rotate(&mut expected);
        for kernels in levels() {
            let mut got = x.clone();
            unsafe { (kernels.rotate)(got.as_mut_ptr(), n) };
            assert_close(&format!("{n} {}", kernels.level), &got, &expected, 1.0, 1e-5);
        }
    }
}

/// A value that is not finite must not pass for some number in a quantized cache.
#[test]
fn what_is_not_finite_stays_so_in_the_cache() {
    let mut random = Random(9);
    for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (keys, mut values) = ([random.vec(64)], [random.vec(64)]);
        values[0][37] = poison;
        for kernels in levels() {
            for cache_type in CacheType::ALL {
                let cache = Cached::new(kernels, cache_type, &keys, &values);
                let how = How { window: 1, ahead: 0, bias: None, softcap: None, span: (0, 1) };
                let got = cache.attend(&random.vec(64), &[0], how)[37];
                assert!(!got.is_finite(), "{} {cache_type} {poison}: {got}", kernels.level);
            }
        }
    }
}
