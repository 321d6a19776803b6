//! Integer dot products on x86-64.
//!
//! Every quantized format reads as `w = s * u + m` with `u` an unsigned byte and `s`, `m` per 32 or 16 values, so one
//! driver serves them all: [`formats`], [`formats_k`], [`formats_tiny`] and [`formats_iq`] turn the blocks of several rows into registers with a lane per row
//! ([`lanes`], for AVX-512 [`wide`] and for AVX2 [`narrow`]; the result is a [`tile`]), [`product`] multiplies them with activations.

#![expect(non_camel_case_types, reason = "formats carry the field's names")]

/// Writes the body out for each number, so that shifts, addresses and registers are constants in every copy: loops are not
/// always unrolled, and arrays of registers then go through memory.
macro_rules! unroll {
    ($i:ident in $($at:literal)* => $body:block) => {
        $({
            #[allow(clippy::identity_op, clippy::erasing_op, reason = "the copies for 0 and 1")]
            {
                let $i: usize = $at;
                $body
            }
        })*
    };
}

pub(crate) mod dot_bf16;
pub(crate) mod formats;
pub(crate) mod formats_iq;
pub(crate) mod formats_k;
pub(crate) mod formats_tiny;
pub(crate) mod lanes;
pub(crate) mod narrow;
pub(crate) mod product;
pub(crate) mod round_avx512;
pub(crate) mod tile;
pub(crate) mod wide;
