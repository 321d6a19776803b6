//! How many products of bytes the cores can form and add at most: the measure that prompts are held against.
//!
//! Each level's own multiplication runs on registers alone, enough of them side by side that none waits for another. What no
//! kernel can avoid (loads, scales, unpacking) is left out, so no kernel reaches it.

use std::sync::Barrier;
use std::time::Instant;

use crate::level::Level;

/// Rounds, of which the best counts: others may want the cores too.
const ROUNDS: usize = 25;
/// Turns of a round: about a millisecond.
const TURNS: u64 = 1 << 19;

/// Integer operations (a multiplication and an addition are two) per second of `threads` threads together, with the
/// instructions of `level`. `None`: the level has none of its own, or this host lacks them.
pub fn integer_peak(level: Level, threads: usize) -> Option<f64> {
    if !level.is_supported() {
        return None;
    }
    let (turn, per_turn) = turn(level)?;
    let threads = threads.max(1);
    let barrier = Barrier::new(threads);
    // One thread's view: all begin together, and a round ends with the last.
    let work = || {
        let mut best = f64::INFINITY;
        for _ in 0..ROUNDS {
            barrier.wait();
            let start = Instant::now();
            // SAFETY: the host supports the level, whose function this is.
            unsafe { turn(TURNS) };
            barrier.wait();
            best = best.min(start.elapsed().as_secs_f64());
        }
        best
    };
    let best = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(|other| other.join().unwrap_or(0.0)).fold(own, f64::max)
    });
    Some(2.0 * (per_turn * TURNS as usize * threads) as f64 / best)
}

/// A loop of the level's multiplication, and the products that each turn of it forms.
fn turn(level: Level) -> Option<(unsafe fn(u64), usize)> {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => Some((x86::vnni, 16 * 64)),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => Some((x86::avx2, 8 * 32)),
        #[cfg(target_arch = "aarch64")]
        Level::Neon if std::arch::is_aarch64_feature_detected!("i8mm") => Some((neon::matrix, 16 * 32)),
        #[cfg(target_arch = "aarch64")]
        Level::Neon => Some((neon::dot, 16 * 16)),
        _ => None,
    }
}

/// Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2: VPDPBUSD, PMADDUBSW, PADDW.
#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) unsafe fn vnni(turns: u64) {
        // SAFETY: the caller has the instructions, which touch registers only.
        unsafe {
            asm!(
                "vpternlogd zmm30, zmm30, zmm30, 0xff",
                "vpternlogd zmm31, zmm31, zmm31, 0xff",
                "2:",
                "vpdpbusd zmm0, zmm30, zmm31",
                "vpdpbusd zmm1, zmm30, zmm31",
                "vpdpbusd zmm2, zmm30, zmm31",
                "vpdpbusd zmm3, zmm30, zmm31",
                "vpdpbusd zmm4, zmm30, zmm31",
                "vpdpbusd zmm5, zmm30, zmm31",
                "vpdpbusd zmm6, zmm30, zmm31",
                "vpdpbusd zmm7, zmm30, zmm31",
                "vpdpbusd zmm8, zmm30, zmm31",
                "vpdpbusd zmm9, zmm30, zmm31",
                "vpdpbusd zmm10, zmm30, zmm31",
                "vpdpbusd zmm11, zmm30, zmm31",
                "vpdpbusd zmm12, zmm30, zmm31",
                "vpdpbusd zmm13, zmm30, zmm31",
                "vpdpbusd zmm14, zmm30, zmm31",
                "vpdpbusd zmm15, zmm30, zmm31",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) turns => _,
                out("zmm0") _, out("zmm1") _, out("zmm2") _, out("zmm3") _,
                out("zmm4") _, out("zmm5") _, out("zmm6") _, out("zmm7") _,
                out("zmm8") _, out("zmm9") _, out("zmm10") _, out("zmm11") _,
                out("zmm12") _, out("zmm13") _, out("zmm14") _, out("zmm15") _,
                out("zmm30") _, out("zmm31") _,
                options(nomem, nostack),
            );
        }
    }

    /// Products are summed in 16 bits, the fewest instructions that AVX2 allows; kernels must widen the sums in time.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(turns: u64) {
        // SAFETY: the caller has the instructions, which touch registers only.
        unsafe {
            asm!(
                "vpcmpeqb ymm14, ymm14, ymm14",
                "vpcmpeqb ymm15, ymm15, ymm15",
                "2:",
                "vpmaddubsw ymm8, ymm14, ymm15",
                "vpaddw ymm0, ymm0, ymm8",
                "vpmaddubsw ymm9, ymm14, ymm15",
                "vpaddw ymm1, ymm1, ymm9",
                "vpmaddubsw ymm10, ymm14, ymm15",
                "vpaddw ymm2, ymm2, ymm10",
                "vpmaddubsw ymm11, ymm14, ymm15",
                "vpaddw ymm3, ymm3, ymm11",
                "vpmaddubsw ymm8, ymm14, ymm15",
                "vpaddw ymm4, ymm4, ymm8",
                "vpmaddubsw ymm9, ymm14, ymm15",
                "vpaddw ymm5, ymm5, ymm9",
                "vpmaddubsw ymm10, ymm14, ymm15",
                "vpaddw ymm6, ymm6, ymm10",
                "vpmaddubsw ymm11, ymm14, ymm15",
                "vpaddw ymm7, ymm7, ymm11",
                "dec {turns}",
                "jnz 2b",
                turns = inout(reg) turns => _,
                out("ymm0") _, out("ymm1") _, out("ymm2") _, out("ymm3") _,
                out("ymm4") _, out("ymm5") _, out("ymm6") _, out("ymm7") _,
                out("ymm8") _, out("ymm9") _, out("ymm10") _, out("ymm11") _,
                out("ymm14") _, out("ymm15") _,
                options(nomem, nostack),
            );
        }
    }
}

/// Arm Architecture Reference Manual, C7.2: SDOT (vector), SMMLA (vector).
#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::asm;

    /// Sixteen of an instruction in a loop.
    macro_rules! sixteen {
        ($turns:ident, $instruction:literal) => {
            asm!(
                "movi v30.16b, #255",
                "movi v31.16b, #255",
                "2:",
                concat!($instruction, " v0.4s, v30.16b, v31.16b"),
                concat!($instruction, " v1.4s, v30.16b, v31.16b"),
                concat!($instruction, " v2.4s, v30.16b, v31.16b"),
                concat!($instruction, " v3.4s, v30.16b, v31.16b"),
                concat!($instruction, " v4.4s, v30.16b, v31.16b"),
                concat!($instruction, " v5.4s, v30.16b, v31.16b"),
                concat!($instruction, " v6.4s, v30.16b, v31.16b"),
                concat!($instruction, " v7.4s, v30.16b, v31.16b"),
                concat!($instruction, " v16.4s, v30.16b, v31.16b"),
                concat!($instruction, " v17.4s, v30.16b, v31.16b"),
                concat!($instruction, " v18.4s, v30.16b, v31.16b"),
                concat!($instruction, " v19.4s, v30.16b, v31.16b"),
                concat!($instruction, " v20.4s, v30.16b, v31.16b"),
                concat!($instruction, " v21.4s, v30.16b, v31.16b"),
                concat!($instruction, " v22.4s, v30.16b, v31.16b"),
                concat!($instruction, " v23.4s, v30.16b, v31.16b"),
                "subs {turns}, {turns}, #1",
                "b.ne 2b",
                turns = inout(reg) $turns => _,
                out("v0") _, out("v1") _, out("v2") _, out("v3") _,
                out("v4") _, out("v5") _, out("v6") _, out("v7") _,
                out("v16") _, out("v17") _, out("v18") _, out("v19") _,
                out("v20") _, out("v21") _, out("v22") _, out("v23") _,
                out("v30") _, out("v31") _,
                options(nomem, nostack),
            )
        };
    }

    #[target_feature(enable = "dotprod")]
    pub(super) unsafe fn dot(turns: u64) {
        // SAFETY: the caller has the instructions, which touch registers only.
        unsafe { sixteen!(turns, "sdot") }
    }

    #[target_feature(enable = "i8mm")]
    pub(super) unsafe fn matrix(turns: u64) {
        // SAFETY: as above.
        unsafe { sixteen!(turns, "smmla") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_with_instructions_of_its_own_has_a_peak() {
        for level in Level::ALL {
            let peak = integer_peak(level, 2);
            assert_eq!(peak.is_some(), level.is_supported() && level != Level::Scalar, "{level}");
            if let Some(peak) = peak {
                assert!((1e8..1e16).contains(&peak), "{level}: {peak}");
            }
        }
    }
}
