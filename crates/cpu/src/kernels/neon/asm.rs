//! The dot-product and matrix instructions, whose intrinsics `std::arch` does not offer on stable Rust.
//!
//! Source: Arm Architecture Reference Manual, C7.2 `SDOT (vector)`, `SDOT (by element)`, `SMMLA (vector)`.

use std::arch::aarch64::{int8x16_t, int32x4_t};
use std::arch::asm;

/// Each 32-bit lane gains the dot product of its four bytes.
///
/// # Safety
/// Reached only from code compiled for `dotprod`.
#[inline(always)]
pub(super) unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's code is compiled for the instruction, which touches registers only.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// Each 32-bit lane of `a` meets the same lane `LANE` of `b`.
///
/// # Safety
/// Reached only from code compiled for `dotprod`; `LANE` is below 4.
#[inline(always)]
pub(super) unsafe fn sdot_lane<const LANE: usize>(
    mut acc: int32x4_t,
    a: int8x16_t,
    b: int8x16_t,
) -> int32x4_t {
    // SAFETY: the caller's code is compiled for the instruction, which touches registers only.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.4b[{lane}]",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            lane = const LANE,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

/// `acc += a * b^T`, where `a` and `b` are `(2, 8)` bytes and `acc` is `(2, 2)`.
///
/// # Safety
/// Reached only from code compiled for `i8mm`.
#[inline(always)]
pub(super) unsafe fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the caller's code is compiled for the instruction, which touches registers only.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}
