//! The types of values that safetensors files name. Names and sizes: `Dtype` of the crate `safetensors`.

use std::fmt;

use whit_base::DType;

/// How a safetensors file stores values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SafeType {
    name: &'static str,
    bits: u8,
}

/// Names, and bits of a value.
const TYPES: [(&str, u8); 22] = [
    ("F32", 32),
    ("F16", 16),
    ("BF16", 16),
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("I32", 32),
    ("U32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// The types that can be computed with.
const COMPUTED: [(&str, DType); 3] = [("F32", DType::F32), ("F16", DType::F16), ("BF16", DType::BF16)];

impl SafeType {
    /// The type with this name in the file.
    pub(super) fn from_name(name: &str) -> Option<SafeType> {
        TYPES.iter().find(|(known, _)| *known == name).map(|&(name, bits)| SafeType { name, bits })
    }

    /// How values of this format are stored; `None` for formats of blocks.
    pub(super) fn of(dtype: DType) -> Option<SafeType> {
        COMPUTED.iter().find(|(_, known)| *known == dtype).and_then(|(name, _)| SafeType::from_name(name))
    }

    pub(super) fn bits(self) -> u8 {
        self.bits
    }

    /// The name in the file, such as `BF16`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// The format in which the values can be computed with, for the types that can.
    pub fn dtype(self) -> Option<DType> {
        COMPUTED.iter().find(|(name, _)| *name == self.name).map(|(_, dtype)| *dtype)
    }

    /// Bytes of a tensor of this shape; `None` where they are too many, or no whole number.
    pub(super) fn bytes(self, shape: &[usize]) -> Option<usize> {
        let values = shape.iter().try_fold(1usize, |product, n| product.checked_mul(*n))?;
        let bits = values.checked_mul(usize::from(self.bits))?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }
}

impl fmt::Display for SafeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
