//! The hash of token texts and of merge pairs.
//!
//! Vocabularies hold up to 300,000 keys of a few bytes and are built at every start, so the hash is a handful of
//! multiplications (the folded 64x64 -> 128 bit multiply of wyhash). It has no secret seed: tables built from file data
//! therefore cap their probes and refuse a vocabulary made to collide, see [`MAX_PROBES`].

/// Longest chain of occupied slots that a table accepts. At a load of 0.5 the longest honest chain is below 100.
pub(crate) const MAX_PROBES: usize = 2048;

const K0: u64 = 0xa076_1d64_78bd_642f;
const K1: u64 = 0xe703_7ed1_a0b4_28db;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn word(bytes: &[u8]) -> u64 {
    // Callers give 8 bytes; the copy compiles to one load.
    let mut buffer = [0u8; 8];
    buffer.copy_from_slice(bytes);
    u64::from_le_bytes(buffer)
}

#[inline]
fn half(bytes: &[u8]) -> u64 {
    let mut buffer = [0u8; 4];
    buffer.copy_from_slice(bytes);
    u64::from(u32::from_le_bytes(buffer))
}

/// Hash of a byte string.
#[inline]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    let mut state = (n as u64) ^ K0;
    let (a, b) = if n <= 16 {
        if n >= 8 {
            (word(&bytes[..8]), word(&bytes[n - 8..]))
        } else if n >= 4 {
            (half(&bytes[..4]), half(&bytes[n - 4..]))
        } else if n > 0 {
            let packed =
                (u64::from(bytes[0]) << 16) | (u64::from(bytes[n / 2]) << 8) | u64::from(bytes[n - 1]);
            (packed, 0)
        } else {
            (0, 0)
        }
    } else {
        let mut rest = bytes;
        while rest.len() > 16 {
            state = fold(word(&rest[..8]) ^ K1, word(&rest[8..16]) ^ state);
            rest = &rest[16..];
        }
        (word(&bytes[n - 16..n - 8]), word(&bytes[n - 8..]))
    };
    fold(K1 ^ (n as u64), fold(a ^ K1, b ^ state))
}

/// Hash of a 64-bit key.
#[inline]
pub(crate) fn hash_u64(key: u64) -> u64 {
    fold(key ^ K0, K1)
}
