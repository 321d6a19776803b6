//! The kernel table: one set of function pointers per level, chosen once.
//!
//! Scalar code in `whit_base` says what each kernel must compute; `tests` at the end of this folder compares every
//! level that the host has with it, for every format and operation.

pub(crate) mod attention;
pub(crate) mod float_linear;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
pub(crate) mod portable;
pub(crate) mod rows;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(crate) mod x86;

use whit_base::{Activation, CacheType, DType, RopeStyle};

use crate::level::Level;
use attention::{AttendBlock, Partial};
use rows::QuantRow;

/// Rows rounded to 8-bit groups; see [`QuantRow`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuantMatrix {
    pub(crate) q: *mut i8,
    pub(crate) d: *mut f32,
    pub(crate) sum32: *mut f32,
    pub(crate) sum16: *mut f32,
    pub(crate) total32: *mut i16,
    pub(crate) total16: *mut i16,
    /// Values that share a scale.
    pub(crate) group: usize,
    /// Elements between rows of `q`.
    pub(crate) q_stride: usize,
    /// Elements between rows of `d`, `sum32` and `total32`.
    pub(crate) d_stride: usize,
    /// Elements between rows of `sum16` and `total16`.
    pub(crate) sum16_stride: usize,
}

impl QuantMatrix {
    /// Row `m`, which the caller knows to exist.
    #[inline(always)]
    pub(crate) unsafe fn row(&self, m: usize) -> QuantRow {
        // SAFETY: the row exists.
        unsafe {
            QuantRow {
                q: self.q.add(m * self.q_stride),
                d: self.d.add(m * self.d_stride),
                sum32: self.sum32.add(m * self.d_stride),
                sum16: self.sum16.wrapping_add(m * self.sum16_stride),
                total32: self.total32.add(m * self.d_stride),
                total16: self.total16.add(m * self.sum16_stride),
                group: self.group,
            }
        }
    }

    /// The rows from `m` on, which the caller knows to exist.
    pub(crate) unsafe fn from(&self, m: usize) -> QuantMatrix {
        // SAFETY: the row exists.
        let QuantRow { q, d, sum32, sum16, total32, total16, .. } = unsafe { self.row(m) };
        QuantMatrix { q, d, sum32, sum16, total32, total16, ..*self }
    }
}

/// Weight rows in one [`GemmJob`] with many activation rows at most.
pub(crate) const GEMM_ROWS: usize = 32;

/// Activation rows up to which a [`GemmJob`] may have any number of weight rows.
pub(crate) const FEW_ROWS: usize = 8;

/// Activation rows against weight rows, at most [`GEMM_ROWS`] of them unless there are [`FEW_ROWS`] activation rows or
/// less: `out[m * out_stride + r] = dot(row r, x row m)`.
#[derive(Clone, Copy)]
pub(crate) struct GemmJob {
    pub(crate) dtype: DType,
    pub(crate) w: *const u8,
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) x: QuantMatrix,
    pub(crate) n_x: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
    /// [`gemm_scratch_bytes`] bytes of this thread, 64-byte aligned.
    pub(crate) scratch: *mut u8,
}

/// Activation rows against float weight rows; activations stay f32.
#[derive(Clone, Copy)]
pub(crate) struct FloatJob {
    pub(crate) w: *const u8,
    pub(crate) n_rows: usize,
    pub(crate) n_cols: usize,
    pub(crate) x: *const f32,
    pub(crate) x_stride: usize,
    pub(crate) n_x: usize,
    pub(crate) out: *mut f32,
    pub(crate) out_stride: usize,
}

/// Scratch that a [`GemmJob`] needs.
pub(crate) const fn gemm_scratch_bytes(n_cols: usize) -> usize {
    // Two tiles of 16 rows with a scale and an offset per 16 values, padded.
    2 * (16 * n_cols + 2 * 4 * 16 * (n_cols / 16 + 16))
}

type Gemm = unsafe fn(&GemmJob);
/// Attention of a block of queries over one piece of the cache.
pub(crate) type Attend = unsafe fn(&AttendBlock<'_>);
/// Writes a key and a value to pages of the cache as token number so-and-so; the padded head size comes last.
pub(crate) type Append = unsafe fn(*const f32, *const f32, *mut u8, *mut u8, usize, usize);

/// Kernels of one level. All pointers may only be called on a host that supports the level.
pub(crate) struct Kernels {
    pub(crate) level: Level,
    pub(crate) rms_norm: unsafe fn(*const f32, *const f32, f32, *mut f32, usize),
    pub(crate) layer_norm: unsafe fn(*const f32, *const f32, *const f32, f32, *mut f32, usize),
    pub(crate) glu: unsafe fn(Activation, *const f32, *const f32, *mut f32, usize),
    pub(crate) act: unsafe fn(Activation, *const f32, *mut f32, usize),
    pub(crate) add: unsafe fn(*const f32, *const f32, *mut f32, usize),
    pub(crate) scale: unsafe fn(*mut f32, f32, usize),
    pub(crate) softcap: unsafe fn(*mut f32, f32, usize),
    pub(crate) rope: unsafe fn(RopeStyle, *mut f32, *const f32, *const f32, usize),
    pub(crate) quantize: unsafe fn(*const f32, QuantRow, usize, usize),
    /// By [`CacheType`].
    attend: [Attend; CacheType::ALL.len()],
    append: [Append; CacheType::ALL.len()],
    pub(crate) merge: unsafe fn(Partial, Partial, usize, usize),
    pub(crate) rotate: unsafe fn(*mut f32, usize),
    pub(crate) float_f32: unsafe fn(&FloatJob),
    pub(crate) float_f16: unsafe fn(&FloatJob),
    pub(crate) float_bf16: unsafe fn(&FloatJob),
    gemm: [Gemm; DType::ALL.len()],
}

impl Kernels {
    /// The table of `level`, which must be supported.
    pub(crate) fn for_level(level: Level) -> &'static Kernels {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => &avx512::KERNELS,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => &avx2::KERNELS,
            #[cfg(target_arch = "aarch64")]
            Level::Neon => &neon_dotprod::KERNELS,
            _ => &scalar::KERNELS,
        }
    }

    /// The product for a quantized format.
    pub(crate) fn gemm(&self, dtype: DType) -> Gemm {
        self.gemm[dtype as usize]
    }

    /// Attention over a cache of that type.
    pub(crate) fn attend(&self, cache_type: CacheType) -> Attend {
        self.attend[cache_type as usize]
    }

    /// Writing to a cache of that type.
    pub(crate) fn append(&self, cache_type: CacheType) -> Append {
        self.append[cache_type as usize]
    }

    /// Whether the format runs on this level's own integer kernels and not on the portable ones.
    #[cfg(test)]
    pub(crate) fn is_native(&self, dtype: DType) -> bool {
        !dtype.is_quantized() || !std::ptr::fn_addr_eq(self.gemm[dtype as usize], portable::gemm as Gemm)
    }
}

/// Instantiates the shared f32 kernels for one level. The four numbers shape [`attention::attend`]; `$gemm` fills the
/// quantized part.
macro_rules! level {
    ($module:ident, $level:expr, $simd:ty, [$($features:meta)?], [$nt:literal, $qk:literal, $dt:literal, $qv:literal], $gemm:expr, { $($extra:item)* }) => {
        mod $module {
            #![expect(clippy::undocumented_unsafe_blocks, reason = "each wrapper passes its caller's promise on")]
            use super::*;
            use crate::kernels::attention::{self, Blocks, Bytes, Half, Nibbles, Store};
            use crate::kernels::float_linear::{BF16, F16, F32, FloatWeight, float_product};
            use crate::simd::Simd;

            type S = $simd;

            $($extra)*

            pub(super) static KERNELS: Kernels = Kernels {
                level: $level,
                rms_norm,
                layer_norm,
                glu,
                act,
                add,
                scale,
                softcap,
                rope,
                quantize,
                attend: [attend_as::<f32>, attend_as::<Half>, attend_as::<Blocks<Bytes>>, attend_as::<Blocks<Nibbles>>],
                append: [append_as::<f32>, append_as::<Half>, append_as::<Blocks<Bytes>>, append_as::<Blocks<Nibbles>>],
                merge,
                rotate,
                float_f32,
                float_f16,
                float_bf16,
                gemm: $gemm,
            };

            $(#[$features])?
            unsafe fn rms_norm(x: *const f32, weight: *const f32, eps: f32, out: *mut f32, n: usize) {
                unsafe { rows::rms_norm::<S>(x, weight, eps, out, n) }
            }
            $(#[$features])?
            unsafe fn layer_norm(x: *const f32, weight: *const f32, bias: *const f32, eps: f32, out: *mut f32, n: usize) {
                unsafe { rows::layer_norm::<S>(x, weight, bias, eps, out, n) }
            }
            $(#[$features])?
            unsafe fn glu(act: Activation, gate: *const f32, up: *const f32, out: *mut f32, n: usize) {
                unsafe { rows::glu::<S>(act, gate, up, out, n) }
            }
            $(#[$features])?
            unsafe fn act(act: Activation, x: *const f32, out: *mut f32, n: usize) {
                unsafe { rows::act::<S>(act, x, out, n) }
            }
            $(#[$features])?
            unsafe fn add(x: *const f32, y: *const f32, out: *mut f32, n: usize) {
                unsafe { rows::add::<S>(x, y, out, n) }
            }
            $(#[$features])?
            unsafe fn scale(x: *mut f32, factor: f32, n: usize) {
                unsafe { rows::scale::<S>(x, factor, n) }
            }
            $(#[$features])?
            unsafe fn softcap(x: *mut f32, cap: f32, n: usize) {
                unsafe { rows::softcap::<S>(x, cap, n) }
            }
            $(#[$features])?
            unsafe fn rope(style: RopeStyle, head: *mut f32, cos: *const f32, sin: *const f32, n_pairs: usize) {
                unsafe { rows::rope::<S>(style, head, cos, sin, n_pairs) }
            }
            $(#[$features])?
            unsafe fn quantize(x: *const f32, row: QuantRow, n0: usize, n: usize) {
                unsafe { rows::quantize::<S>(x, row, n0, n) }
            }
            $(#[$features])?
            unsafe fn attend_as<T: Store>(block: &AttendBlock<'_>) {
                unsafe { attention::attend::<S, T, $nt, $qk, $dt, $qv>(block) }
            }
            $(#[$features])?
            unsafe fn append_as<T: Store>(key: *const f32, value: *const f32, k: *mut u8, v: *mut u8, token: usize, head_dim: usize) {
                unsafe { T::append::<S>(key, value, k, v, token, head_dim) }
            }
            $(#[$features])?
            unsafe fn merge(from: Partial, into: Partial, n_queries: usize, head_dim: usize) {
                unsafe { attention::merge::<S>(from, into, n_queries, head_dim) }
            }
            $(#[$features])?
            unsafe fn rotate(x: *mut f32, n: usize) {
                unsafe { attention::rotate::<S>(x, n) }
            }
            #[inline(always)]
            unsafe fn float<W: FloatWeight>(job: &FloatJob) {
                unsafe { float_product::<S, W>(job) }
            }
            $(#[$features])?
            unsafe fn float_f32(job: &FloatJob) {
                unsafe { float::<F32>(job) }
            }
            $(#[$features])?
            unsafe fn float_f16(job: &FloatJob) {
                unsafe { float::<F16>(job) }
            }
            $(#[$features])?
            unsafe fn float_bf16(job: &FloatJob) {
                unsafe {
                    if !S::bf16_product(job) {
                        float::<BF16>(job);
                    }
                }
            }

            const _: () = assert!(whit_base::PAGE_TOKENS.is_multiple_of($nt * <S as Simd>::N) && $qk <= 8 && $qv <= 8);
        }
    };
}

/// One function per quantized format, in the order of [`DType::ALL`]; float formats never reach these tables.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! per_format {
    ($wrapper:ident) => {{
        #[cfg(target_arch = "aarch64")]
        use neon::{formats::*, formats_grid::*, formats_k::*, formats_tiny::*};
        #[cfg(target_arch = "x86_64")]
        use x86::{formats::*, formats_iq::*, formats_k::*, formats_tiny::*};
        [
            portable::$wrapper,
            portable::$wrapper,
            portable::$wrapper,
            $wrapper::<Q4_0>,
            $wrapper::<Q4_1>,
            $wrapper::<Q5_0>,
            $wrapper::<Q5_1>,
            $wrapper::<Q8_0>,
            $wrapper::<Q2_K>,
            $wrapper::<Q3_K>,
            $wrapper::<Q4_K>,
            $wrapper::<Q5_K>,
            $wrapper::<Q6_K>,
            $wrapper::<IQ4_NL>,
            $wrapper::<IQ4_XS>,
            $wrapper::<IQ1_S>,
            $wrapper::<IQ1_M>,
            $wrapper::<IQ2_XXS>,
            $wrapper::<IQ2_XS>,
            $wrapper::<IQ2_S>,
            $wrapper::<IQ3_XXS>,
            $wrapper::<IQ3_S>,
            $wrapper::<TQ1_0>,
            $wrapper::<TQ2_0>,
            $wrapper::<MXFP4>,
            $wrapper::<NVFP4>,
        ]
    }};
}

level!(
    scalar,
    Level::Scalar,
    crate::simd::scalar::Scalar,
    [],
    [16, 1, 16, 1],
    [portable::gemm; DType::ALL.len()],
    {}
);

#[cfg(target_arch = "x86_64")]
level!(
    avx2,
    Level::Avx2,
    crate::simd::avx2::Avx2,
    [target_feature(enable = "avx2,fma,f16c")],
    [2, 6, 2, 6],
    per_format!(gemm),
    {
        unsafe fn gemm<F: x86::formats::Format>(job: &GemmJob) {
            unsafe { x86::product::product::<F, x86::narrow::Narrow>(job) }
        }
    }
);

#[cfg(target_arch = "x86_64")]
level!(
    avx512,
    Level::Avx512,
    crate::simd::avx512::Avx512,
    [target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")],
    [2, 8, 4, 6],
    per_format!(gemm),
    {
        unsafe fn gemm<F: x86::formats::Format>(job: &GemmJob) {
            unsafe { x86::product::product::<F, x86::wide::Wide>(job) }
        }
    }
);

#[cfg(target_arch = "aarch64")]
level!(
    neon_dotprod,
    Level::Neon,
    crate::simd::neon::Neon,
    [target_feature(enable = "neon,dotprod")],
    [4, 6, 4, 6],
    per_format!(gemm),
    {
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn gemv<F: neon::formats::Format>(job: &GemmJob) {
            unsafe { neon::gemv::gemv::<F>(job) }
        }
        unsafe fn gemm<F: neon::formats::Format>(job: &GemmJob) {
            // Up to this many rows, a pass per row beats unpacking tiles: the weights stay in cache between the passes.
            if job.n_x <= 2 {
                unsafe { gemv::<F>(job) }
            } else if std::arch::is_aarch64_feature_detected!("i8mm") {
                unsafe { gemm_mmla::<F>(job) }
            } else {
                unsafe { gemm_dot::<F>(job) }
            }
        }
        #[target_feature(enable = "neon,dotprod")]
        unsafe fn gemm_dot<F: neon::formats::Format>(job: &GemmJob) {
            unsafe { neon::gemm_dot::gemm::<F>(job) }
        }
        #[target_feature(enable = "neon,dotprod,i8mm")]
        unsafe fn gemm_mmla<F: neon::formats::Format>(job: &GemmJob) {
            unsafe { neon::gemm_mmla::gemm::<F>(job) }
        }
    }
);
