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
