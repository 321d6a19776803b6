//! Which examples stand before a question, chosen by the random numbers of Python's `random`, as lm-evaluation-harness chooses
//! them: `random.Random(1234).sample`, document by document.
//!
//! Sources: M. Matsumoto and T. Nishimura, "Mersenne Twister", ACM TOMACS 8 (1998), `mt19937ar.c`; `Lib/random.py` and
//! `Modules/_randommodule.c` of CPython 3.

use std::collections::HashSet;

/// The harness' own seed.
pub(super) const SEED: u32 = 1234;

const N: usize = 624;
const M: usize = 397;

/// Python's generator.
pub(super) struct PythonRandom {
    state: [u32; N],
    next: usize,
}

impl PythonRandom {
    /// `random.Random(seed)`.
    pub(super) fn new(seed: u32) -> PythonRandom {
        let mut state = [0u32; N];
        state[0] = 19_650_218;
        for i in 1..N {
            let before = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(before ^ (before >> 30)).wrapping_add(i as u32);
        }
        // `init_by_array` with the seed as the only key.
        let mut i = 1;
        for _ in 0..N {
            let before = state[i - 1];
            state[i] = (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_664_525)).wrapping_add(seed);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        for _ in 0..N - 1 {
            let before = state[i - 1];
            state[i] =
                (state[i] ^ (before ^ (before >> 30)).wrapping_mul(1_566_083_941)).wrapping_sub(i as u32);
            i += 1;
            if i >= N {
                state[0] = state[N - 1];
                i = 1;
            }
        }
        state[0] = 0x8000_0000;
        PythonRandom { state, next: N }
    }

    fn next_u32(&mut self) -> u32 {
        if self.next >= N {
            for i in 0..N {
                let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
                let magic = if y & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ magic;
            }
            self.next = 0;
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    /// A number below `n`, which is more than 0 and fits 32 bits.
    fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let number = (self.next_u32() >> (32 - bits.clamp(1, 32))) as usize;
            if number < n {
                return number;
            }
        }
    }

    /// `sample(range(n), k)`, with `k` at most `n`.
    pub(super) fn sample(&mut self, n: usize, k: usize) -> Vec<usize> {
        let mut set_size = 21;
        if k > 5 {
            // 4 to the power of `ceil(log(3 k, 4))`.
            let mut power = 1;
            while power < 3 * k {
                power *= 4;
            }
            set_size += power;
        }
        if n <= set_size {
            let mut pool: Vec<usize> = (0..n).collect();
            return (0..k)
                .map(|i| {
                    let j = self.below(n - i);
                    let chosen = pool[j];
                    pool[j] = pool[n - i - 1];
                    chosen
                })
                .collect();
        }
        let mut chosen = HashSet::new();
        (0..k)
            .map(|_| {
                loop {
                    let j = self.below(n);
                    if chosen.insert(j) {
                        break j;
                    }
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Printed by CPython 3.11: `r = random.Random(1234)`, then the calls of the table in order.
    #[test]
    fn samples_are_those_of_python() {
        let mut random = PythonRandom::new(SEED);
        for (n, k, expected) in [
            (7473, 5, vec![6374, 3610, 957, 61, 742]),
            (7473, 5, vec![7462, 6610, 4769, 286, 5501]),
            (10, 3, vec![1, 9, 5]),
            (21, 5, vec![7, 0, 19, 18, 11]),
            (22, 5, vec![20, 19, 15, 14, 4]),
            (100, 6, vec![11, 23, 91, 14, 1, 64]),
            (86, 6, vec![62, 31, 8, 85, 69, 59]),
            (39905, 11, vec![4493, 39417, 5828, 33753, 37945, 3012, 17667, 36466, 4133, 19819, 31525]),
            (5, 5, vec![2, 4, 0, 3, 1]),
            (1, 1, vec![0]),
        ] {
            assert_eq!(random.sample(n, k), expected, "{n} {k}");
        }
    }
}
