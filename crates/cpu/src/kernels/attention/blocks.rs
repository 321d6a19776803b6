//! Quantized types of the cache: blocks of 32 values along a head, each an integer times the block's scale.
//!
//! Values `d` and `d + 16` of a block are a *pair*: of four-bit integers, one byte holds both. In a page, a head's keys are
//! `(head_dim / 32, 16, PAGE_TOKENS)` pairs and its values `(PAGE_TOKENS, head_dim / 32, 16)`; behind either come the
//! scales, `(head_dim / 32, PAGE_TOKENS)` in f16. Integers become floats as they are read, so queries and weights stay exact;
//! the scale comes in once per block. The truth is [`whit_base::CacheType::round`].

use std::marker::PhantomData;

use whit_base::{CACHE_BLOCK, PAGE_TOKENS};

use super::PIECE_TOKENS;
use super::store::Store;
use crate::simd::Simd;

/// Pairs in a block.
const PAIRS: usize = CACHE_BLOCK / 2;

/// How a type stores pairs.
pub(crate) trait Pairs {
    /// Bytes of a pair.
    const BYTES: usize;

    /// The first and second integers of `N` pairs. Where these lie apart, the second are `apart` bytes further on.
    unsafe fn load<S: Simd>(p: *const u8, apart: usize) -> (S::V, S::V);

    /// A block's integers and scale; the scale is not a number where a value is not finite.
    unsafe fn quantize<S: Simd>(x: *const f32) -> ([i8; CACHE_BLOCK], f32);

    /// Stores a pair.
    unsafe fn store(p: *mut u8, apart: usize, pair: (i8, i8));
}

/// Blocks of a type.
pub(crate) struct Blocks<P>(PhantomData<P>);

/// Eight bits.
pub(crate) struct Bytes;

/// Four bits, 8 more than the integer.
pub(crate) struct Nibbles;

impl Pairs for Bytes {
    const BYTES: usize = 2;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8, apart: usize) -> (S::V, S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { (S::load_i8(p.cast()), S::load_i8(p.add(apart).cast())) }
    }

    #[inline(always)]
    unsafe fn quantize<S: Simd>(x: *const f32) -> ([i8; CACHE_BLOCK], f32) {
        // SAFETY: the caller vouches for a block of values.
        unsafe {
            let (most, least) = range::<S>(x);
            let scale = most.max(-least) / 127.0;
            (integers::<S>(x, scale, 0.0, f32::INFINITY), scale)
        }
    }

    #[inline(always)]
    unsafe fn store(p: *mut u8, apart: usize, (first, second): (i8, i8)) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe {
            *p = first.cast_unsigned();
            *p.add(apart) = second.cast_unsigned();
        }
    }
}

impl Pairs for Nibbles {
    const BYTES: usize = 1;

    #[inline(always)]
    unsafe fn load<S: Simd>(p: *const u8, _: usize) -> (S::V, S::V) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { S::load_nibbles(p) }
    }

    #[inline(always)]
    unsafe fn quantize<S: Simd>(x: *const f32) -> ([i8; CACHE_BLOCK], f32) {
        // SAFETY: the caller vouches for a block of values.
        unsafe {
            let (most, least) = range::<S>(x);
            // What stands out most becomes -8.
            let scale = (if most >= -least { most } else { least }) / -8.0;
            (integers::<S>(x, scale, 8.0, 15.0), scale)
        }
    }

    #[inline(always)]
    unsafe fn store(p: *mut u8, _: usize, (first, second): (i8, i8)) {
        // SAFETY: as the trait demands of this function's caller.
        unsafe { *p = (first | second << 4).cast_unsigned() }
    }
}

/// The largest and the smallest value of a block; neither is a number if not all values are finite.
#[inline(always)]
unsafe fn range<S: Simd>(x: *const f32) -> (f32, f32) {
    // SAFETY: the caller vouches for a block of values.
    unsafe {
        let mut most = S::load(x);
        let mut least = most;
        let mut poison = S::splat(0.0);
        for i in (0..CACHE_BLOCK).step_by(S::N) {
            let v = S::load(x.add(i));
            (most, least) = (S::max(v, most), S::min(v, least));
            poison = S::fma(v, S::splat(0.0), poison);
        }
        let poison = S::reduce_add(poison);
        let least = -S::reduce_max(S::sub(S::splat(0.0), least));
        (S::reduce_max(most) + poison, least + poison)
    }
}

/// `x / scale + offset`, rounded and at most `most`.
#[inline(always)]
unsafe fn integers<S: Simd>(x: *const f32, scale: f32, offset: f32, most: f32) -> [i8; CACHE_BLOCK] {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut out = [0; CACHE_BLOCK];
    // SAFETY: the caller vouches for a block of values.
    unsafe {
        for i in (0..CACHE_BLOCK).step_by(S::N) {
            let v = S::round(S::mul(S::load(x.add(i)), S::splat(inverse)));
            S::store_i8(out.as_mut_ptr().add(i), S::min(S::add(v, S::splat(offset)), S::splat(most)));
        }
    }
    out
}

// SAFETY (all blocks below): the caller vouches for the queries, the page, the scores and the sums.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one contract for all methods, stated above")]
impl<P: Pairs> Store for Blocks<P> {
    fn head_bytes(head_dim: usize) -> usize {
        integer_bytes::<P>(head_dim) + head_dim / CACHE_BLOCK * PAGE_TOKENS * size_of::<u16>()
    }

    #[inline(always)]
    unsafe fn scores<S: Simd, const NT: usize, const QB: usize>(
        q: *const f32,
        head_dim: usize,
        k: *const u8,
        token: usize,
        next: *const u8,
        out: *mut f32,
    ) {
        unsafe {
            let scales = k.add(integer_bytes::<P>(head_dim)).cast::<u16>();
            let mut total = [[S::splat(0.0); NT]; QB];
            for block in 0..head_dim / CACHE_BLOCK {
                let mut acc = [[S::splat(0.0); NT]; QB];
                let q = q.add(block * CACHE_BLOCK);
                for pair in 0..PAIRS {
                    let at = (block * PAIRS + pair) * PAGE_TOKENS * P::BYTES + token;
                    S::prefetch(next.add(at));
                    let mut keys = [(S::splat(0.0), S::splat(0.0)); NT];
                    for (n, keys) in keys.iter_mut().enumerate() {
                        *keys = P::load::<S>(k.add(at + n * S::N), PAGE_TOKENS);
                    }
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let q = q.add(j * head_dim + pair);
                        let (first, second) = (S::splat(*q), S::splat(*q.add(PAIRS)));
                        for (acc, keys) in acc.iter_mut().zip(&keys) {
                            *acc = S::fma(second, keys.1, S::fma(first, keys.0, *acc));
                        }
                    }
                }
                for n in 0..NT {
                    let scale = S::load_f16(scales.add(block * PAGE_TOKENS + token + n * S::N));
                    for (total, acc) in total.iter_mut().zip(&acc) {
                        total[n] = S::fma(acc[n], scale, total[n]);
                    }
                }
            }
            for (j, total) in total.iter().enumerate() {
                for (n, &v) in total.iter().enumerate() {
                    S::store(out.add(j * PIECE_TOKENS + token + n * S::N), v);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn values<S: Simd, const DT: usize, const QB: usize>(
        weights: *const f32,
        head_dim: usize,
        v: *const u8,
        n_tokens: usize,
        next: *const u8,
        acc: *mut f32,
    ) {
        unsafe {
            let scales = v.add(integer_bytes::<P>(head_dim)).cast::<u16>();
            for block in 0..head_dim / CACHE_BLOCK {
                // Weights times scales, by token.
                let mut scaled = [[0f32; PAGE_TOKENS]; QB];
                for t in (0..PAGE_TOKENS).step_by(S::N) {
                    let scale = S::load_f16(scales.add(block * PAGE_TOKENS + t));
                    for (j, scaled) in scaled.iter_mut().enumerate() {
                        let weight = S::load(weights.add(j * PIECE_TOKENS + t));
                        S::store(scaled.as_mut_ptr().add(t), S::mul(weight, scale));
                    }
                }
                for pair in (0..PAIRS).step_by(S::N) {
                    let sums = acc.add(block * CACHE_BLOCK + pair);
                    let mut acc = [(S::splat(0.0), S::splat(0.0)); QB];
                    for (j, acc) in acc.iter_mut().enumerate() {
                        let sums = sums.add(j * head_dim);
                        *acc = (S::load(sums), S::load(sums.add(PAIRS)));
                    }
                    for t in 0..n_tokens {
                        let at = (t * head_dim / CACHE_BLOCK + block) * PAIRS * P::BYTES + pair;
                        S::prefetch(next.add(at));
                        let values = P::load::<S>(v.add(at), PAIRS);
                        for (acc, scaled) in acc.iter_mut().zip(&scaled) {
                            let weight = S::splat(scaled[t]);
                            acc.0 = S::fma(weight, values.0, acc.0);
                            acc.1 = S::fma(weight, values.1, acc.1);
                        }
                    }
                    for (j, &(first, second)) in acc.iter().enumerate() {
                        let sums = sums.add(j * head_dim);
                        S::store(sums, first);
                        S::store(sums.add(PAIRS), second);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn append<S: Simd>(
        key: *const f32,
        value: *const f32,
        k: *mut u8,
        v: *mut u8,
        token: usize,
        head_dim: usize,
    ) {
        unsafe {
            for block in 0..head_dim / CACHE_BLOCK {
                let at = |page: *mut u8| {
                    let scales = page.add(integer_bytes::<P>(head_dim)).cast::<u16>();
                    scales.add(block * PAGE_TOKENS + token)
                };
                let (integers, scale) = P::quantize::<S>(key.add(block * CACHE_BLOCK));
                *at(k) = half::f16::from_f32(scale).to_bits();
                for pair in 0..PAIRS {
                    let to = k.add((block * PAIRS + pair) * PAGE_TOKENS * P::BYTES + token);
                    P::store(to, PAGE_TOKENS, (integers[pair], integers[pair + PAIRS]));
                }
                let (integers, scale) = P::quantize::<S>(value.add(block * CACHE_BLOCK));
                *at(v) = half::f16::from_f32(scale).to_bits();
                for pair in 0..PAIRS {
                    let to = v.add((token * head_dim / CACHE_BLOCK + block) * PAIRS * P::BYTES + pair);
                    P::store(to, PAIRS, (integers[pair], integers[pair + PAIRS]));
                }
            }
        }
    }
}

/// Bytes of a head's integers in a page.
#[inline(always)]
const fn integer_bytes<P: Pairs>(head_dim: usize) -> usize {
    head_dim / 2 * P::BYTES * PAGE_TOKENS
}
