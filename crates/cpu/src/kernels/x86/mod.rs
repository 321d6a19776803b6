//! Integer dot products on x86-64.
//!
//! Every quantized format reads as `w = s * u + m` with `u` an unsigned byte and `s`, `m` per 32 or 16 values, so one
//! driver per shape of work serves them all: [`formats`] turns blocks into registers, [`dot_avx2`] and [`dot_avx512`]
//! hold the drivers (one activation row: fused; many: tiles unpacked into the multiplication's own order, [`tile`]).

#![expect(non_camel_case_types, reason = "formats carry the field's names")]

/// Writes the body out for groups 0 to 7 below `$n`, so that each copy's shifts and addresses are constants.
macro_rules! each_group {
    ($g:ident < $n:expr, $body:block) => {
        each_group!(@ $g, $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $g:ident, $n:expr, $body:block, $($at:literal)*) => {
        $(if $at < $n {
            let $g: usize = $at;
            $body
        })*
    };
}

pub(crate) mod dot_avx2;
pub(crate) mod dot_avx512;
pub(crate) mod dot_bf16;
pub(crate) mod formats;
pub(crate) mod formats_k;
pub(crate) mod round_avx512;
pub(crate) mod tile;
