//! What every format promises whatever the values: bounded error, zeros stay zeros, broken values stay
//! visible, no bytes panic, and the dot product is that of the decoded values.

use whit_base::{DType, quant};

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0.0..1.0`.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }

    /// Uniform in `-1.0..1.0`.
    fn signed(&mut self) -> f32 {
        2.0 * self.unit() - 1.0
    }

    /// Near enough to a normal distribution of variance 1.
    fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.unit()).sum::<f32>() - 6.0
    }
}

const N_BLOCKS: usize = 40;

fn encode(dtype: DType, values: &[f32], importance: Option<&[f32]>) -> Vec<u8> {
    let mut bytes = vec![0xA5; values.len() / dtype.block_len() * dtype.block_bytes()];
    quant::encode_row(dtype, values, importance, &mut bytes);
    bytes
}

fn decode(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let mut values = vec![f32::NAN; bytes.len() / dtype.block_bytes() * dtype.block_len()];
    quant::decode_row(dtype, bytes, &mut values);
    values
}

fn random_row(rng: &mut Rng, dtype: DType) -> Vec<f32> {
    (0..N_BLOCKS * dtype.block_len()).map(|_| 0.02 * rng.normal()).collect()
}

/// A way to fill a block: its name, and value `i`.
type Shape = (&'static str, fn(&mut Rng, usize) -> f32);

const SHAPES: [Shape; 12] = [
    ("normal", |rng, _| rng.normal()),
    ("uniform", |rng, _| rng.signed()),
    ("positive", |rng, _| rng.unit()),
    ("negative", |rng, _| -rng.unit()),
    ("heavy tails", |rng, _| rng.normal() / rng.unit().max(1e-3)),
    ("an outlier", |rng, i| if i == 17 { 100.0 } else { rng.normal() }),
    ("two outliers", |rng, i| [100.0, -100.0].get(i.wrapping_sub(17)).copied().unwrap_or(rng.normal())),
    ("all equal", |_, _| -3.0),
    ("far from zero", |rng, _| 1.0 + 0.01 * rng.unit()),
    ("two values", |rng, _| if rng.unit() < 0.5 { -1.0 } else { 1.0 }),
    ("sparse", |rng, i| if i == 3 || rng.unit() < 0.1 { rng.signed() } else { 0.0 }),
    ("groups of all magnitudes", |rng, i| rng.normal() * 10f32.powi(-(i as i32 / 16 % 5))),
];

#[test]
fn error_stays_within_the_bound() {
    for dtype in DType::ALL {
        for (name, value) in SHAPES {
            for magnitude in [1.0 / 64.0, 1.0, 1024.0] {
                let mut rng = Rng(7);
                for _ in 0..N_BLOCKS {
                    let mut x: Vec<f32> = (0..dtype.block_len()).map(|i| value(&mut rng, i)).collect();
                    let largest = x.iter().fold(f32::MIN_POSITIVE, |m, x| m.max(x.abs()));
                    x.iter_mut().for_each(|x| *x *= magnitude / largest);
                    let decoded = decode(dtype, &encode(dtype, &x, None));
                    let error = x.iter().zip(&decoded).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs()));
                    let bound = quant::error_bound(dtype) * magnitude;
                    assert!(error <= bound, "{dtype} {name} at {magnitude}: error {error} over {bound}");
                }
            }
        }
    }
}

#[test]
fn small_blocks_do_not_vanish() {
    // At this magnitude the quotient of a super-block's scale and its largest integer scale rounds to zero as f16.
    let magnitude = 2f32.powi(-14);
    // NVFP4 ends at 2^-10.
    for dtype in DType::ALL.into_iter().filter(|dtype| *dtype != DType::NVFP4) {
        let x: Vec<f32> = (0..dtype.block_len()).map(|i| magnitude * (i as f32 * 0.7).cos()).collect();
        let decoded = decode(dtype, &encode(dtype, &x, None));
        let error = x.iter().zip(&decoded).map(|(x, y)| (x - y) * (x - y)).sum::<f32>();
        let whole = x.iter().map(|x| x * x).sum::<f32>();
        assert!(error < 0.5 * whole, "{dtype}: error {error} of {whole}");
    }
}

#[test]
fn dot_is_the_dot_of_the_decoded_values() {
    let mut rng = Rng(11);
    for dtype in DType::ALL {
        let bytes = encode(dtype, &random_row(&mut rng, dtype), None);
        let values = decode(dtype, &bytes);
        let x: Vec<f32> = values.iter().map(|_| rng.normal()).collect();
        let exact: f64 = values.iter().zip(&x).map(|(v, x)| f64::from(*v) * f64::from(*x)).sum();
        let ours = quant::dot_row(dtype, &bytes, &x);
        let scale: f64 = values.iter().zip(&x).map(|(v, x)| (f64::from(*v) * f64::from(*x)).abs()).sum();
        assert!(
            (f64::from(ours) - exact).abs() <= 1e-7 * exact.abs() + 1e-14 * scale,
            "{dtype}: {ours}, {exact}"
        );
        assert!(ours != 0.0, "{dtype}");
    }
}

#[test]
fn zeros_stay_zeros_and_the_tiny_stay_tiny() {
    for dtype in DType::ALL {
        for (value, largest) in
            [(0.0, 0.0), (-0.0, 0.0), (1e-45, 1e-5), (-1e-40, 1e-5), (3e-8, 1e-5), (1e-25, 1e-5)]
        {
            let decoded = decode(dtype, &encode(dtype, &vec![value; 2 * dtype.block_len()], None));
            for y in decoded {
                assert!(y.abs() <= largest, "{dtype}: {value} became {y}");
            }
        }
    }
}

#[test]
fn a_broken_value_stays_visible() {
    for dtype in DType::ALL {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = vec![0.5; 2 * dtype.block_len()];
            x[dtype.block_len()] = value;
            for importance in [None, Some(vec![1.0; x.len()])] {
                let decoded = decode(dtype, &encode(dtype, &x, importance.as_deref()));
                let (sound, broken) = decoded.split_at(dtype.block_len());
                assert!(sound.iter().all(|y| (y - 0.5).abs() < 0.2), "{dtype} before {value}: {sound:?}");
                if dtype == DType::NVFP4 {
                    // The largest that it holds: it has nothing that is not a number.
                    assert!(broken.iter().all(|y| *y == 2688.0), "{dtype} {value}: {broken:?}");
                } else if dtype == DType::MXFP4 {
                    assert!(broken.iter().all(|y| y.is_infinite()), "{dtype} {value}: {broken:?}");
                } else if dtype.is_quantized() {
                    assert!(broken.iter().all(|y| y.is_nan()), "{dtype} {value}: {broken:?}");
                } else {
                    assert!(
                        broken[0].is_nan() == value.is_nan() && !broken[0].is_finite(),
                        "{dtype} {value}"
                    );
                }
            }
        }
        if dtype.is_quantized() && dtype != DType::NVFP4 {
            let decoded = decode(dtype, &encode(dtype, &vec![f32::MAX; dtype.block_len()], None));
            assert!(decoded.iter().any(|y| !y.is_finite()), "{dtype}: f32::MAX became {decoded:?}");
        }
    }
}

#[test]
fn no_bytes_panic() {
    let mut rng = Rng(13);
    for dtype in DType::ALL {
        let n_bytes = N_BLOCKS * dtype.block_bytes();
        let x = vec![1.0; N_BLOCKS * dtype.block_len()];
        for fill in [Some(0), Some(0x7C), Some(0x80), Some(0xFF), None, None, None] {
            let bytes: Vec<u8> = (0..n_bytes).map(|_| fill.unwrap_or(rng.next() as u8)).collect();
            decode(dtype, &bytes);
            quant::dot_row(dtype, &bytes, &x);
        }
    }
}

/// Root of the weighted mean square error.
fn weighted_error(dtype: DType, x: &[f32], bytes: &[u8], importance: &[f32]) -> f64 {
    let decoded = decode(dtype, bytes);
    let terms = x.iter().zip(&decoded).zip(importance);
    terms.map(|((x, y), w)| f64::from(*w) * f64::from(x - y).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn importance_moves_the_error_to_where_it_does_not_count() {
    let mut rng = Rng(17);
    for dtype in DType::ALL {
        let x = random_row(&mut rng, dtype);
        let importance: Vec<f32> = (0..x.len()).map(|i| if i % 4 == 0 { 100.0 } else { 1.0 }).collect();
        let plain = encode(dtype, &x, None);
        let steered = encode(dtype, &x, Some(&importance));
        let (before, after) = (
            weighted_error(dtype, &x, &plain, &importance),
            weighted_error(dtype, &x, &steered, &importance),
        );
        if dtype.is_quantized() && dtype != DType::Q8_0 {
            // A ternary block has one number to move.
            let share = if matches!(dtype, DType::TQ1_0 | DType::TQ2_0) { 0.98 } else { 0.97 };
            assert!(after < share * before, "{dtype}: {after} is hardly below {before}");
        } else {
            assert_eq!(plain, steered, "{dtype} has no use for importance");
        }
        for useless in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert_eq!(encode(dtype, &x, Some(&vec![useless; x.len()])), plain, "{dtype} weighted {useless}");
        }
    }
}

#[test]
fn lengths_that_do_not_match_are_refused() {
    let refused = |f: fn()| assert!(std::panic::catch_unwind(f).is_err());
    refused(|| quant::decode_row(DType::Q4_K, &[0; 144], &mut [0.0; 255]));
    refused(|| quant::decode_row(DType::Q4_K, &[0; 143], &mut [0.0; 256]));
    refused(|| quant::encode_row(DType::Q8_0, &[0.0; 32], Some(&[1.0; 31]), &mut [0; 34]));
    refused(|| quant::encode_row(DType::Q8_0, &[0.0; 31], None, &mut [0; 34]));
    refused(|| _ = quant::dot_row(DType::Q8_0, &[0; 34], &[0.0; 64]));
    refused(|| quant::quantize_activations(&[0.0; 33], 32, &mut [0; 33], &mut [0.0; 1], &mut [0.0; 1]));
    refused(|| quant::quantize_activations(&[0.0; 64], 64, &mut [0; 64], &mut [0.0; 2], &mut [0.0; 2]));
    refused(|| quant::quantize_activations(&[0.0; 32], 128, &mut [0; 32], &mut [0.0; 1], &mut [0.0; 1]));
    refused(|| quant::quantize_activations(&[0.0; 32], 32, &mut [0; 32], &mut [0.0; 2], &mut [0.0; 1]));
}
