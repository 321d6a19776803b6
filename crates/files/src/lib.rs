//! Whit: files. Readers and writers of model files. Bytes from outside end here: everything this crate hands on has
//! been checked against the length of the file that it came from, and nothing in a file can make it panic.
//!
//! Today: GGUF versions 2 and 3, whole or split, read through a memory map ([`Gguf`]) and written ([`GgufWriter`]); safetensors,
//! one file or several with an index, in the same way ([`SafeTensors`], [`SafeTensorsWriter`]); quantized weights of folders
//! ([`packed`]).
//!
//! ```
//! # fn main() -> Result<(), whit_files::FileError> {
//! # let dir = std::env::temp_dir().join(format!("whit-files-doc-{}", std::process::id()));
//! # std::fs::create_dir_all(&dir).map_err(|e| whit_files::FileError::io(&dir, "create", e))?;
//! # let path = dir.join("tiny.gguf");
//! use whit_base::DType;
//! use whit_files::{Gguf, GgufWriter};
//!
//! let mut writer = GgufWriter::new();
//! writer.set("general.architecture", "llama");
//! writer.set("llama.block_count", 1u32);
//! writer.declare("token_embd.weight", DType::F32, &[2, 4]);
//! let mut data = writer.create(&path)?;
//! data.write("token_embd.weight", &[0u8; 32])?;
//! data.finish()?;
//!
//! let file = Gguf::open(&path)?;
//! assert_eq!(file.metadata().str("general.architecture")?, "llama");
//! let weight = file.tensor("token_embd.weight").expect("declared above");
//! assert_eq!((weight.n_rows(), weight.n_cols()), (2, 4));
//! assert_eq!(file.tensor_bytes(weight).len(), 32);
//! # std::fs::remove_dir_all(&dir).map_err(|e| whit_files::FileError::io(&dir, "remove", e))?;
//! # Ok(())
//! # }
//! ```
#![deny(unsafe_code)]

mod counted;
mod error;
mod gguf;
mod mmap;
pub mod packed;
mod safetensors;

pub use error::FileError;
pub use gguf::array::{Array, Floats, Integers, Number, Strings};
pub use gguf::metadata::Metadata;
pub use gguf::tensor::TensorInfo;
pub use gguf::value::{Value, ValueType};
pub use gguf::writer::{GgufWriter, TensorWriter};
pub use gguf::{Gguf, Part};
pub use mmap::Mapping;
pub use safetensors::{SafeTensor, SafeTensors, SafeTensorsWriter, SafeType, ShardWriter};
