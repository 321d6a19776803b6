//! Importance matrices as files: llama.cpp's GGUF form, read and written, and the older `.dat`, read.
//!
//! GGUF: `general.type` is `imatrix`; for each tensor `<name>.in_sum2` `(experts, columns)` and `<name>.counts` `(experts, 1)`, F32.
//! `.dat`, little-endian: i32 entries; each i32 length and name, i32 calls, i32 values, f32 values (means times calls); then, where
//! not left out, i32 chunks, i32 length and name of the text. Truth: `common/imatrix-loader.cpp` of llama.cpp.

use std::fs;
use std::path::Path;

use whit_base::DType;
use whit_base::quant::decode_row;
use whit_files::{FileError, Gguf, GgufWriter, TensorInfo};

use super::{ColumnSums, Imatrix};
use crate::ShrinkError;

const SUMS: &str = ".in_sum2";
const COUNTS: &str = ".counts";
const DATASETS: &str = "imatrix.datasets";
const N_CHUNKS: &str = "imatrix.chunk_count";
const CHUNK_SIZE: &str = "imatrix.chunk_size";

impl Imatrix {
    /// Reads the file at `path`, of either form.
    ///
    /// # Errors
    /// A file that is neither, or holds nothing.
    pub fn read(path: &Path) -> Result<Imatrix, ShrinkError> {
        let bytes = fs::read(path).map_err(|source| FileError::io(path, "read", source))?;
        let imatrix =
            if bytes.starts_with(b"GGUF") { read_gguf(path)? } else { Dat { bytes: &bytes, path }.read()? };
        if imatrix.tensors.is_empty() {
            return Err(bad(path, "it says nothing of any tensor"));
        }
        for (name, sums) in &imatrix.tensors {
            if !sums.squares.iter().chain(&sums.counts).all(|value| value.is_finite()) {
                return Err(bad(path, format!("what it says of `{name}` is not a number")));
            }
        }
        Ok(imatrix)
    }

    /// Writes it as a GGUF file, which replaces one of that name. Gives its length in bytes.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn write(&self, path: &Path) -> Result<u64, ShrinkError> {
        let mut writer = GgufWriter::new();
        writer.set("general.type", "imatrix");
        writer.set_strings(DATASETS, &self.datasets);
        writer.set(N_CHUNKS, self.n_chunks);
        writer.set(CHUNK_SIZE, self.chunk_size);
        let named = |name: &str, ending: &str| format!("{name}{ending}");
        for (name, sums) in &self.tensors {
            let n = sums.counts.len().max(1);
            writer.declare(&named(name, SUMS), DType::F32, &[n, sums.squares.len() / n]);
            writer.declare(&named(name, COUNTS), DType::F32, &[n, 1]);
        }
        let mut out = writer.create(path)?;
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        for (name, sums) in &self.tensors {
            out.write(&named(name, SUMS), &bytes(&sums.squares))?;
            out.write(&named(name, COUNTS), &bytes(&sums.counts))?;
        }
        Ok(out.finish()?)
    }
}

fn bad(path: &Path, problem: impl Into<String>) -> ShrinkError {
    ShrinkError::Imatrix { path: path.to_owned(), problem: problem.into() }
}

fn read_gguf(path: &Path) -> Result<Imatrix, ShrinkError> {
    let gguf = Gguf::open(path)?;
    let metadata = gguf.metadata();
    if metadata.opt_str("general.type")?.is_some_and(|kind| kind != "imatrix") {
        return Err(bad(path, "it is a model, or something else"));
    }
    let mut imatrix = Imatrix {
        n_chunks: metadata.opt_u32(N_CHUNKS)?.unwrap_or(0),
        chunk_size: metadata.opt_u32(CHUNK_SIZE)?.unwrap_or(0),
        ..Imatrix::default()
    };
    if let Some(datasets) = metadata.opt_strings(DATASETS)? {
        imatrix.datasets = datasets.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    }
    let floats = |tensor: &TensorInfo| {
        let mut values = vec![0.0; tensor.n_elements()];
        decode_row(tensor.dtype, &gguf.tensor_bytes(tensor), &mut values);
        values
    };
    for tensor in gguf.tensors() {
        let Some(name) = tensor.name.strip_suffix(SUMS) else { continue };
        let Some(counts) = gguf.tensor(&format!("{name}{COUNTS}")) else {
            return Err(bad(path, format!("it has sums for `{name}`, but does not say of how many rows")));
        };
        let sums = ColumnSums { squares: floats(tensor), counts: floats(counts) };
        if sums.counts.is_empty() || !sums.squares.len().is_multiple_of(sums.counts.len()) {
            let problem =
                format!("{} sums for {} matrices of `{name}`", sums.squares.len(), sums.counts.len());
            return Err(bad(path, problem));
        }
        imatrix.tensors.insert(name.to_owned(), sums);
    }
    Ok(imatrix)
}

/// A `.dat` that is being read.
struct Dat<'a> {
    bytes: &'a [u8],
    path: &'a Path,
}

impl<'a> Dat<'a> {
    fn read(mut self) -> Result<Imatrix, ShrinkError> {
        let mut imatrix = Imatrix::default();
        for _ in 0..self.count("entries")? {
            let n = self.count("characters of a name")?;
            let name = String::from_utf8_lossy(self.take(n)?).into_owned();
            let n_calls = self.count("calls")?;
            let n = self.count("values")?;
            let n_bytes = n.checked_mul(4).ok_or_else(|| self.cut())?;
            let values = self.take(n_bytes)?.as_chunks::<4>().0;
            let squares = values.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
            imatrix.tensors.insert(name, ColumnSums { squares, counts: vec![n_calls as f32] });
        }
        if !self.bytes.is_empty() {
            imatrix.n_chunks = self.count("chunks")? as u32;
            let n = self.count("characters of a name")?;
            imatrix.datasets = vec![String::from_utf8_lossy(self.take(n)?).into_owned()];
        }
        Ok(imatrix)
    }

    fn count(&mut self, what: &str) -> Result<usize, ShrinkError> {
        let bytes = self.take(4)?.first_chunk().copied().unwrap_or_default();
        let n = i32::from_le_bytes(bytes);
        usize::try_from(n)
            .map_err(|_| bad(self.path, format!("{n} {what}; it is no importance matrix, or a damaged one")))
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], ShrinkError> {
        self.bytes.split_off(..n).ok_or_else(|| self.cut())
    }

    fn cut(&self) -> ShrinkError {
        bad(self.path, "it ends in the middle; it is no importance matrix, or a part of one")
    }
}
