//! Instruction-set levels: which kernels this host can run, found once at start.

use std::fmt;
use std::str::FromStr;

/// A set of kernels. Within one architecture a later level needs everything that an earlier one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Level {
    /// Portable Rust.
    Scalar,
    /// x86-64 with AVX2, FMA and F16C.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// AArch64 with Advanced SIMD and the dot-product instructions.
    Neon,
}

impl Level {
    /// Every level, on any architecture.
    pub const ALL: [Level; 4] = [Level::Scalar, Level::Avx2, Level::Avx512, Level::Neon];

    /// Whether this host has the instructions.
    pub fn is_supported(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                Level::Avx2.is_supported()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("dotprod"),
            _ => false,
        }
    }

    /// The best level of this host.
    pub fn detect() -> Level {
        let supported = Level::ALL.into_iter().filter(|level| level.is_supported());
        supported.max().unwrap_or(Level::Scalar)
    }

    /// The name that `WHIT_CPU_LEVEL` takes.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A level that cannot be used.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum LevelError {
    /// Not a level's name.
    #[error("`{0}` is not a CPU level; use one of scalar, avx2, avx512, neon")]
    Unknown(String),
    /// The host lacks its instructions.
    #[error("this CPU cannot run level `{0}`; its best level is `{best}`", best = Level::detect())]
    Unsupported(Level),
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(name: &str) -> Result<Level, LevelError> {
        let known = Level::ALL.into_iter().find(|level| level.name() == name);
        known.ok_or_else(|| LevelError::Unknown(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for level in Level::ALL {
            assert_eq!(level.name().parse(), Ok(level));
        }
        assert_eq!("mmx".parse::<Level>(), Err(LevelError::Unknown("mmx".to_owned())));
    }
}
