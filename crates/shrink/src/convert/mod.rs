//! Conversion between model folders and GGUF files.

mod to_folder;
mod to_gguf;

use std::fmt;
use std::str::FromStr;

use whit_base::DType;

pub use to_folder::to_folder;
pub use to_gguf::to_gguf;
pub(crate) use to_gguf::{InGgufTerms, stored_as};

/// How matrices are stored in what is written. Vectors are f32 in every GGUF file, and stay so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// The upper half of 32-bit floats.
    BF16,
    /// Blocks of 32 8-bit numbers with a scale.
    Q8_0,
}

impl Format {
    const ALL: [(Format, &'static str, DType); 4] = [
        (Format::F32, "f32", DType::F32),
        (Format::F16, "f16", DType::F16),
        (Format::BF16, "bf16", DType::BF16),
        (Format::Q8_0, "q8_0", DType::Q8_0),
    ];

    /// Its name: `f32`, `f16`, `bf16` or `q8_0`.
    pub fn name(self) -> &'static str {
        Format::ALL.iter().find(|(format, ..)| *format == self).map_or("", |(_, name, _)| name)
    }

    fn dtype(self) -> DType {
        Format::ALL.iter().find(|(format, ..)| *format == self).map_or(DType::F32, |(.., dtype)| *dtype)
    }

    /// The format that is a model's own; f16 for one in a format that cannot be written.
    fn of(dtype: DType) -> Format {
        let own = Format::ALL.iter().find(|(format, _, known)| *known == dtype && *format != Format::Q8_0);
        own.map_or(Format::F16, |(format, ..)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Format, String> {
        let found = Format::ALL.iter().find(|(_, name, _)| name.eq_ignore_ascii_case(text));
        found.map(|(format, ..)| *format).ok_or_else(|| "choose f32, f16, bf16 or q8_0".to_owned())
    }
}

/// How far a conversion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Tensors that are written.
    pub n_done: usize,
    /// Tensors in all.
    pub n_tensors: usize,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// The format of the matrices.
    pub format: Format,
    /// Tensors.
    pub n_tensors: usize,
    /// Bytes of all that was written.
    pub n_bytes: u64,
}
