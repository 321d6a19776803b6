//! How the cache stores keys and values.
//!
//! A page of one key-value head has its keys transposed, `(head_dim, PAGE_TOKENS)`, so that scores of neighbouring tokens
//! fill a register without horizontal sums, and its values as they come, `(PAGE_TOKENS, head_dim)`.

use whit_base::PAGE_TOKENS;

use crate::simd::Simd;

/// How a cache element is read and written.
pub(crate) trait Element: Copy {
    unsafe fn load<S: Simd>(p: *const Self) -> S::V;
    unsafe fn store<S: Simd>(p: *mut Self, v: S::V);
}

/// An f16 cache element.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Half(pub(crate) u16);

impl Element for Half {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const Half) -> S::V {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::load_f16(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut Half, v: S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::store_f16(p.cast(), v) }
    }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(p: *mut f32, v: S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::store(p, v) }
    }
}

/// Writes one token's key and value into its page. `head_dim` is a multiple of 16.
#[inline(always)]
pub(crate) unsafe fn append<S: Simd, E: Element>(
    key: *const f32,
    value: *const f32,
    k: *mut E,
    v: *mut E,
    token: usize,
    head_dim: usize,
) {
    // SAFETY: the caller vouches for head_dim floats and for the page.
    unsafe {
        let mut d = 0;
        while d < head_dim {
            E::store::<S>(v.add(token * head_dim + d), S::load(value.add(d)));
            let mut lanes = [std::mem::MaybeUninit::<E>::uninit(); 16];
            E::store::<S>(lanes.as_mut_ptr().cast(), S::load(key.add(d)));
            for (lane, element) in lanes.iter().take(S::N).enumerate() {
                *k.add((d + lane) * PAGE_TOKENS + token) = element.assume_init();
            }
            d += S::N;
        }
    }
}
