//! The dot-product and matrix instructions, whose intrinsics `std::arch` does not offer on stable Rust.
//!
//! Not `inline(always)`: these would also be compiled on their own, where the assembler refuses what the function's
//! features lack. They inline into kernels once those have become one body.
//!
//! Source: Arm Architecture Reference Manual, C7.2 `SDOT (vector)`, `SDOT (by element)`, `SMMLA (vector)`.

use std::arch::aarch64::{int8x16_t, int32x4_t};
use std::arch::asm;

/// Each 32-bit lane gains the dot product of its four bytes.
///
/// # Safety
/// The CPU has `dotprod`.
#[inline]
#[target_feature(enable = "dotprod")]
pub(super) unsafe fn sdot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: this function is compiled for the instruction, which touches registers only.
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
/// The CPU has `dotprod`; `LANE` is below 4.
#[inline]
#[target_feature(enable = "dotprod")]
pub(super) unsafe fn sdot_lane<const LANE: usize>(
    mut acc: int32x4_t,
    a: int8x16_t,
    b: int8x16_t,
) -> int32x4_t {
    // SAFETY: this function is compiled for the instruction, which touches registers only.
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
/// The CPU has `i8mm`.
#[inline]
#[target_feature(enable = "i8mm")]
pub(super) unsafe fn smmla(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: this function is compiled for the instruction, which touches registers only.
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
