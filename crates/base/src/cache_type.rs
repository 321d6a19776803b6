//! How cached keys and values are stored.
//!
//! Quantized types store blocks of [`CACHE_BLOCK`] values along a head in the arithmetic of [`crate::quant`]; a head that is
//! not a whole number of blocks is filled up with zeros. [`CacheType::round`] is the truth that every backend's cache is
//! tested against; how it lays a page out is its own business.

use std::fmt;
use std::str::FromStr;

use crate::DType;
use crate::quant::{decode_row, encode_row};

/// Values that share a scale in a quantized cache.
pub const CACHE_BLOCK: usize = 32;

/// How cached keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheType {
    /// 32-bit floats: for tests and comparisons.
    F32,
    /// 16-bit floats.
    #[default]
    F16,
    /// Blocks of 8-bit integers: 8.5 bits a value.
    Q8_0,
    /// Blocks of 4-bit integers, of vectors that are [rotated](rotate) first: 4.5 bits a value.
    Q4_0,
}

impl CacheType {
    /// Every type, in the order of their numbers.
    pub const ALL: [CacheType; 4] = [CacheType::F32, CacheType::F16, CacheType::Q8_0, CacheType::Q4_0];

    /// The name that settings take.
    pub const fn name(self) -> &'static str {
        match self {
            CacheType::F32 => "f32",
            CacheType::F16 => "f16",
            CacheType::Q8_0 => "q8_0",
            CacheType::Q4_0 => "q4_0",
        }
    }

    /// The format of its values.
    pub const fn dtype(self) -> DType {
        match self {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
            CacheType::Q8_0 => DType::Q8_0,
            CacheType::Q4_0 => DType::Q4_0,
        }
    }

    /// Values that a head of so many takes room for.
    pub const fn padded(self, head_dim: usize) -> usize {
        head_dim.next_multiple_of(self.dtype().block_len())
    }

    /// Bytes of the key, or of the value, of one token and head.
    pub const fn vector_bytes(self, head_dim: usize) -> usize {
        let dtype = self.dtype();
        self.padded(head_dim) / dtype.block_len() * dtype.block_bytes()
    }

    /// Whether vectors are [rotated](rotate) before they are stored. Queries are then rotated too, and what is attended to
    /// is rotated back.
    pub const fn rotates(self) -> bool {
        matches!(self, CacheType::Q4_0)
    }

    /// Gives a vector of [padded](Self::padded) length the values that it has once it was stored.
    pub fn round(self, x: &mut [f32]) {
        let dtype = self.dtype();
        let mut bytes = vec![0; x.len() / dtype.block_len() * dtype.block_bytes()];
        encode_row(dtype, x, None, &mut bytes);
        decode_row(dtype, &bytes, x);
    }
}

/// Multiplies spans of a vector with a Hadamard matrix, scaled to keep lengths; a span is as long as the largest power of
/// two that divides the vector's length. It is its own inverse. What stood out in few dimensions is then spread over all,
/// where coarse blocks keep it better: products of rotated vectors are those of the vectors.
pub fn rotate(x: &mut [f32]) {
    let span = rotation_span(x.len());
    for x in x.chunks_exact_mut(span) {
        let mut half = 1;
        while half < span {
            for x in x.chunks_exact_mut(2 * half) {
                let (a, b) = x.split_at_mut(half);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        let scale = 1.0 / (span as f32).sqrt();
        x.iter_mut().for_each(|x| *x *= scale);
    }
}

/// The length of the spans that [`rotate`] works in.
pub const fn rotation_span(n: usize) -> usize {
    if n == 0 { 1 } else { 1 << n.trailing_zeros() }
}

impl fmt::Display for CacheType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no cache type's.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is not a type of cache; use one of f16, q8_0, q4_0, f32")]
pub struct UnknownCacheType(pub String);

impl FromStr for CacheType {
    type Err = UnknownCacheType;

    fn from_str(name: &str) -> Result<CacheType, UnknownCacheType> {
        let known = CacheType::ALL.into_iter().find(|known| known.name().eq_ignore_ascii_case(name.trim()));
        known.ok_or_else(|| UnknownCacheType(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_count_scales_and_padding() {
        // (type, head size, bytes): 34 bytes per 32 values and 18, by the published blocks.
        let cases = [
            (CacheType::F32, 80, 320),
            (CacheType::F16, 80, 160),
            (CacheType::Q8_0, 64, 68),
            (CacheType::Q8_0, 80, 102),
            (CacheType::Q4_0, 128, 72),
            (CacheType::Q4_0, 80, 54),
        ];
        for (cache_type, head_dim, bytes) in cases {
            assert_eq!(cache_type.vector_bytes(head_dim), bytes, "{cache_type} {head_dim}");
        }
    }

    #[test]
    fn names_round_trip() {
        for cache_type in CacheType::ALL {
            assert_eq!(cache_type.name().parse(), Ok(cache_type));
        }
        assert_eq!(" Q8_0 ".parse(), Ok(CacheType::Q8_0));
        assert_eq!("q5_1".parse::<CacheType>(), Err(UnknownCacheType("q5_1".to_owned())));
    }

    #[test]
    fn rotation_is_orthogonal_and_its_own_inverse() {
        // The matrix of order 4, halved: rows + + + +, + - + -, + + - -, + - - +.
        let mut x = [1.0, 2.0, 3.0, 5.0];
        rotate(&mut x);
        assert_eq!(x, [5.5, -1.5, -2.5, 0.5]);
        rotate(&mut x);
        assert_eq!(x, [1.0, 2.0, 3.0, 5.0]);
        for n in [32, 64, 96, 128, 256] {
            let vector = |seed: usize| -> Vec<f32> {
                (0..n).map(|i| ((i * i * 7 + i * seed) % 23) as f32 - 11.0).collect()
            };
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            let (a, b) = (vector(3), vector(5));
            let (mut c, mut d) = (a.clone(), b.clone());
            rotate(&mut c);
            rotate(&mut d);
            assert!((dot(&a, &b) - dot(&c, &d)).abs() < 1e-2, "{n}");
            assert!(a.iter().zip(&c).any(|(a, c)| (a - c).abs() > 1.0), "{n}: something happens");
        }
    }
}
