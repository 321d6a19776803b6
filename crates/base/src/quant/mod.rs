//! Block formats: one file each, with layout, decode, encode and the promised error. This code is the truth;
//! every fast kernel is tested against it. Decoding agrees bit for bit with the reference implementation in
//! the `gguf` Python package (golden file in `tests/`).
//!
//! Rules that hold for every format:
//! - Lengths that do not match are a caller's bug and panic. Bytes never do: whatever a file holds decodes to
//!   some value, perhaps a NaN.
//! - A quantized block that holds a NaN or an infinity encodes to a block of NaN.
//! - Scales are `f16`. A block whose scale exceeds that range decodes to non-finite values, one far below it
//!   to zeros; [`error_bound`] speaks of blocks between. [`mxfp4`] and [`nvfp4`] have other scales, and their own ends.
//!
//! Left out: threads, SIMD, and which tensor gets which format.

mod activation;
mod assemble;
mod codec;
mod fit;
mod grid_fit;
mod lattice;

pub mod grids;
pub mod iq1_m;
pub mod iq1_s;
pub mod iq2_s;
pub mod iq2_xs;
pub mod iq2_xxs;
pub mod iq3_s;
pub mod iq3_xxs;
pub mod iq4_nl;
pub mod iq4_xs;
pub mod k_scales;
pub mod mxfp4;
pub mod nvfp4;
pub mod plain;
pub mod q2_k;
pub mod q3_k;
pub mod q4_0;
pub mod q4_1;
pub mod q4_k;
pub mod q5_0;
pub mod q5_1;
pub mod q5_k;
pub mod q6_k;
pub mod q8_0;
pub mod tq1_0;
pub mod tq2_0;

pub use activation::{ACT_GROUP, WIDE_ACT_GROUP, act_group, quantize_activations};
pub use assemble::{assemble_row, levels};

use crate::DType;
use codec::Codec;

fn codec(dtype: DType) -> &'static Codec {
    match dtype {
        DType::F32 => &plain::F32,
        DType::F16 => &plain::F16,
        DType::BF16 => &plain::BF16,
        DType::Q4_0 => &q4_0::CODEC,
        DType::Q4_1 => &q4_1::CODEC,
        DType::Q5_0 => &q5_0::CODEC,
        DType::Q5_1 => &q5_1::CODEC,
        DType::Q8_0 => &q8_0::CODEC,
        DType::Q2_K => &q2_k::CODEC,
        DType::Q3_K => &q3_k::CODEC,
        DType::Q4_K => &q4_k::CODEC,
        DType::Q5_K => &q5_k::CODEC,
        DType::Q6_K => &q6_k::CODEC,
        DType::IQ4_NL => &iq4_nl::CODEC,
        DType::IQ4_XS => &iq4_xs::CODEC,
        DType::IQ1_S => &iq1_s::CODEC,
        DType::IQ1_M => &iq1_m::CODEC,
        DType::IQ2_XXS => &iq2_xxs::CODEC,
        DType::IQ2_XS => &iq2_xs::CODEC,
        DType::IQ2_S => &iq2_s::CODEC,
        DType::IQ3_XXS => &iq3_xxs::CODEC,
        DType::IQ3_S => &iq3_s::CODEC,
        DType::TQ1_0 => &tq1_0::CODEC,
        DType::TQ2_0 => &tq2_0::CODEC,
        DType::MXFP4 => &mxfp4::CODEC,
        DType::NVFP4 => &nvfp4::CODEC,
    }
}

/// Encodes one row of values into `dtype`'s bytes.
///
/// `importance`, one weight per column (in the field: the mean square of the activations that meet it), makes
/// the fit spend its precision where it counts. Weights that are negative or not finite count as zero, and a
/// block whose weights are all zero is fitted as if none were given.
///
/// # Panics
/// If `values` is not a whole number of blocks, or `importance` or `out` do not have its length.
pub fn encode_row(dtype: DType, values: &[f32], importance: Option<&[f32]>, out: &mut [u8]) {
    check_lengths(dtype, values.len(), out.len());
    if let Some(importance) = importance {
        assert_eq!(importance.len(), values.len(), "importance weights per column");
    }
    (codec(dtype).encode)(values, importance, out);
}

/// Decodes whole blocks.
///
/// # Panics
/// If `bytes` is not the encoding of `out.len()` values.
pub fn decode_row(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    check_lengths(dtype, out.len(), bytes.len());
    (codec(dtype).decode)(bytes, out);
}

/// The dot product of a row with `x`, summed in `f64` in column order and rounded once: the value that fast
/// kernels are compared with.
///
/// # Panics
/// If `bytes` is not the encoding of `x.len()` values.
pub fn dot_row(dtype: DType, bytes: &[u8], x: &[f32]) -> f32 {
    check_lengths(dtype, x.len(), bytes.len());
    (codec(dtype).dot)(bytes, x) as f32
}

/// The largest `|x - decode(encode(x))|` of a block encoded without importance weights, relative to the
/// largest magnitude in that block, where that magnitude lies between 2^-6 and 2^10 (far outside, the `f16`
/// scales lose digits or overflow). Each format's file says where its number comes from.
pub fn error_bound(dtype: DType) -> f32 {
    codec(dtype).error_bound
}

fn check_lengths(dtype: DType, n_values: usize, n_bytes: usize) {
    assert_eq!(dtype.row_bytes(n_values), Some(n_bytes), "bytes of {n_values} values as {dtype}");
}
