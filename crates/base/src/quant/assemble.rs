//! Blocks out of integers and scales, for weights that another quantizer has made integers already. Nothing is fitted and nothing
//! lost: where a scale is an `f16`, a block decodes to just the products.

use half::f16;

use super::codec::pack_nibbles;
use crate::DType;

/// The integers that a format's blocks hold, for the formats that [`assemble_row`] writes.
pub const fn levels(dtype: DType) -> Option<(i16, i16)> {
    match dtype {
        DType::Q4_0 => Some((-8, 7)),
        DType::Q4_1 => Some((0, 15)),
        DType::Q5_0 => Some((-16, 15)),
        DType::Q5_1 => Some((0, 31)),
        DType::Q8_0 => Some((-128, 127)),
        _ => None,
    }
}

/// Writes a row of the values `d * q + m`, with `d` and `m` for each block of 32; `m` is left out of formats without an offset.
/// Integers beyond [`levels`] become the nearest that there are.
///
/// # Panics
/// If the format has no [`levels`], or lengths do not match.
pub fn assemble_row(dtype: DType, q: &[i16], d: &[f32], m: &[f32], out: &mut [u8]) {
    let Some((least, most)) = levels(dtype) else { panic!("{dtype} is not made of plain integers") };
    assert_eq!(dtype.row_bytes(q.len()), Some(out.len()), "bytes of {} values as {dtype}", q.len());
    assert_eq!(d.len(), q.len() / 32, "a scale per block");
    let has_offset = least == 0;
    assert!(!has_offset || m.len() == d.len(), "an offset per block");
    let blocks = q.as_chunks::<32>().0.iter().zip(out.chunks_exact_mut(dtype.block_bytes()));
    for (index, (q, out)) in blocks.enumerate() {
        out[..2].copy_from_slice(&f16::from_f32(d[index]).to_le_bytes());
        let mut at = 2;
        if has_offset {
            out[2..4].copy_from_slice(&f16::from_f32(m[index]).to_le_bytes());
            at = 4;
        }
        let q = q.map(|q| q.clamp(least, most));
        if dtype == DType::Q8_0 {
            for (out, q) in out[at..].iter_mut().zip(q) {
                *out = (q as i8).cast_unsigned();
            }
            continue;
        }
        let q = q.map(|q| (q - least) as u8);
        if most - least > 15 {
            let fifth = q.iter().enumerate().fold(0u32, |bits, (i, q)| bits | u32::from(q >> 4) << i);
            out[at..at + 4].copy_from_slice(&fifth.to_le_bytes());
            at += 4;
        }
        out[at..].copy_from_slice(&pack_nibbles(&q));
    }
}

#[cfg(test)]
mod tests {
    use super::super::decode_row;
    use super::*;

    #[test]
    fn blocks_decode_to_their_integers() {
        for dtype in [DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0] {
            let (least, most) = levels(dtype).expect("listed");
            let q: Vec<i16> = (0..64).map(|i| least + i * 37 % (most - least + 1)).collect();
            let (d, m) = ([0.25, -3.0], [1.5, -0.125]);
            let mut bytes = vec![0; dtype.row_bytes(64).expect("whole blocks")];
            assemble_row(dtype, &q, &d, &m, &mut bytes);
            let mut values = [0.0; 64];
            decode_row(dtype, &bytes, &mut values);
            for (i, value) in values.iter().enumerate() {
                let offset = if least == 0 { m[i / 32] } else { 0.0 };
                assert_eq!(*value, d[i / 32] * f32::from(q[i]) + offset, "{dtype} {i}");
            }
        }
    }
}
