//! Integer dot products on AArch64.
//!
//! Every quantized format reads as `w = s * v + m` with `v` a signed byte and `s`, `m` per 32 or 16 values; most formats
//! need no `m`, because the instructions multiply signed bytes and the offset is part of `v`. [`formats`],
//! [`formats_k`], [`formats_tiny`] and [`formats_grid`] turn blocks into registers. One activation row: [`gemv`]. Many: [`tile`] unpacks weights into the order
//! of the multiplication, which is `sdot` ([`gemm_dot`]) or, where the CPU has it, `smmla` ([`gemm_mmla`]).

#![expect(non_camel_case_types, reason = "formats carry the field's names")]

mod asm;
pub(crate) mod formats;
pub(crate) mod formats_grid;
pub(crate) mod formats_k;
pub(crate) mod formats_tiny;
pub(crate) mod gemm_dot;
pub(crate) mod gemm_mmla;
pub(crate) mod gemv;
pub(crate) mod tile;
