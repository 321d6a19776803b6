//! `exp` and `ln` from additions and multiplications alone, so that every platform gives the same bits.
//!
//! The system's own differ from one C library to the next in the last place, which is enough to turn one seeded
//! answer into another. Written so that the compiler can vectorise them.

/// Below this, `exp` is given as 0: the result would be subnormal.
const SMALLEST: f32 = -87.0;

/// e^x for x at most 0, within 2 units in the last place. NaN gives 0.
#[inline]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > SMALLEST { x } else { SMALLEST };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (clamped - n * LN_2_HIGH) - n * LN_2_LOW;
    // Taylor to the sixth power; |r| <= ln(2)/2 makes the rest smaller than 2^-23.
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let power = f32::from_bits(exponent << 23);
    if x > SMALLEST { p * power } else { 0.0 }
}

/// Natural logarithm of a normal positive number, within a few units in the last place.
pub(crate) fn ln(x: f64) -> f64 {
    const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i64 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52));
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    // ln m = 2 artanh(s), with |s| < 0.172, so that the thirteenth term is below 2^-60.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let series = (0..13).rev().fold(0.0, |sum, k| sum * square + 1.0 / f64::from(2 * k + 1));
    let n = exponent as f64;
    n * LN_2_HIGH + (2.0 * s * series + n * LN_2_LOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_against_f64() {
        let mut worst = 0.0f64;
        for i in 0..870_000 {
            let x = -(i as f32) * 1e-4;
            let expected = f64::from(x).exp();
            worst = worst.max((f64::from(exp_nonpositive(x)) - expected).abs() / expected);
        }
        assert!(worst < 2.5e-7, "{worst}");
        assert_eq!(exp_nonpositive(0.0), 1.0);
        for x in [-88.0, -1e30, f32::NEG_INFINITY, f32::NAN] {
            assert_eq!(exp_nonpositive(x), 0.0, "{x}");
        }
    }

    #[test]
    fn ln_against_std() {
        for i in 1..100_000u32 {
            for x in [f64::from(i) * 1e-5, f64::from(i) * 37.5, 1e-300 * f64::from(i)] {
                assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs().max(1.0), "{x}");
            }
        }
        assert_eq!(ln(1.0), 0.0);
    }
}
