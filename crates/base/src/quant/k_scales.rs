//! Twelve bytes that hold eight 6-bit scales and eight 6-bit minima: shared by Q4_K and Q5_K.
//!
//! Groups 0 to 3 stand in the low six bits of bytes 0..4 (scales) and 4..8 (minima). Groups 4 to 7 have their
//! low nibbles in bytes 8..12 (scale low, minimum high) and their top two bits above the other groups' six.

/// Scales and minima of the eight groups.
pub fn unpack(packed: &[u8; 12]) -> ([u8; 8], [u8; 8]) {
    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for j in 0..4 {
        scales[j] = packed[j] & 63;
        mins[j] = packed[j + 4] & 63;
        scales[j + 4] = (packed[j + 8] & 15) | (packed[j] >> 6 << 4);
        mins[j + 4] = (packed[j + 8] >> 4) | (packed[j + 4] >> 6 << 4);
    }
    (scales, mins)
}

/// The inverse of [`unpack`], for scales and minima below 64.
pub fn pack(scales: &[u8; 8], mins: &[u8; 8]) -> [u8; 12] {
    let mut packed = [0; 12];
    for j in 0..4 {
        packed[j] = (scales[j] & 63) | (scales[j + 4] >> 4 << 6);
        packed[j + 4] = (mins[j] & 63) | (mins[j + 4] >> 4 << 6);
        packed[j + 8] = (scales[j + 4] & 15) | (mins[j + 4] << 4);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpack_reads_the_bits_that_the_layout_names() {
        // Each value's six bits in turn, with the byte and bit of each, from the layout in the header.
        let at = |j: usize, min: bool, bit: usize| match (j < 4, bit < 4) {
            (true, _) => (j + 4 * usize::from(min), bit),
            (false, true) => (j + 4, bit + 4 * usize::from(min)),
            (false, false) => (j - 4 + 4 * usize::from(min), bit + 2),
        };
        for j in 0..8 {
            for bit in 0..6 {
                for min in [false, true] {
                    let (byte, shift) = at(j, min, bit);
                    let mut packed = [0; 12];
                    packed[byte] = 1 << shift;
                    let mut expected = ([0; 8], [0; 8]);
                    (if min { &mut expected.1 } else { &mut expected.0 })[j] = 1 << bit;
                    assert_eq!(unpack(&packed), expected, "group {j} bit {bit} min {min}");
                    assert_eq!(pack(&expected.0, &expected.1), packed, "group {j} bit {bit} min {min}");
                }
            }
        }
    }
}
