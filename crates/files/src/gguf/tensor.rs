//! The tensors of a GGUF file: the table that names them, and the check that their data lie inside the file.

use std::path::Path;
use std::sync::Arc;

use whit_base::{Bytes, DType};

use super::cursor::{Cursor, Flaw};
use super::part::Owner;
use super::types;
use crate::FileError;

/// The longest tensor name. The format's own programs stop at 63 bytes.
const MAX_NAME: u64 = 1024;

/// The most dimensions, by the specification.
pub(super) const MAX_DIMS: u32 = 4;

/// The most tensors; the largest mixtures of experts have some tens of thousands.
pub(super) const MAX_TENSORS: u64 = 1 << 20;

/// Bytes of the shortest entry of the table: name length, dimension count, type, offset.
pub(super) const MIN_ENTRY: u64 = 8 + 4 + 4 + 8;

/// A tensor of a file: what it is called, its form, and where it lies.
#[derive(Clone, Debug)]
pub struct TensorInfo {
    /// Its name, unique over all parts of the file.
    pub name: Arc<str>,
    /// Its dimensions, outermost first, as PyTorch and NumPy write them: a linear layer's weight is
    /// `[n_out, n_in]`, rows are contiguous. (The file, and ggml's `ne`, list them innermost first.)
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub dtype: DType,
    /// Where its data start, in bytes from the start of its part of the file.
    pub offset: usize,
    /// Which part of a split file holds it, from 0.
    pub part: usize,
    pub(super) data: Bytes,
}

impl TensorInfo {
    /// Values in a row: the innermost dimension. 1 for a scalar.
    pub fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Rows: the product of all dimensions but the innermost.
    pub fn n_rows(&self) -> usize {
        let outer = self.shape.split_last().map_or(&[][..], |(_, outer)| outer);
        // Checked at reading: the product of all dimensions fits.
        outer.iter().product()
    }

    /// Values in all.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of its data.
    pub fn n_bytes(&self) -> usize {
        self.data.len()
    }
}

/// An entry of the table before its data are placed.
pub(super) struct Entry {
    name: Arc<str>,
    shape: Vec<usize>,
    dtype: DType,
    /// From the start of the data section.
    relative: u64,
    n_bytes: usize,
    /// Where the entry stands, for errors.
    at: usize,
}

impl Entry {
    /// Reads the `i`th of `n` entries of the table.
    pub(super) fn read(path: &Path, cursor: &mut Cursor<'_>, i: usize, n: usize) -> Result<Entry, FileError> {
        let at = cursor.position();
        let name = cursor
            .name(MAX_NAME)
            .map_err(|flaw| flaw.at(path, format!("the name of tensor {} of {n}", i + 1)))?;
        Entry::read_form(path, cursor, name, at).map_err(|problem| match problem {
            Problem::Flaw(flaw) => flaw.at(path, format!("tensor `{name}`")),
            Problem::Error(error) => error,
        })
    }

    fn read_form(path: &Path, cursor: &mut Cursor<'_>, name: &str, at: usize) -> Result<Entry, Problem> {
        let offset = cursor.position();
        let n_dims = cursor.u32()?;
        if n_dims > MAX_DIMS {
            return Err(Flaw::bad(offset, format!("at most {MAX_DIMS} dimensions"), n_dims).into());
        }
        let offset = cursor.position();
        let mut shape = Vec::with_capacity(MAX_DIMS as usize);
        for _ in 0..n_dims {
            let n = cursor.u64()?;
            match usize::try_from(n) {
                Ok(n @ 1..) => shape.push(n),
                _ => return Err(Flaw::bad(offset, "dimensions from 1 up", n).into()),
            }
        }
        shape.reverse();
        let id = cursor.u32()?;
        let dtype = types::from_id(id).map_err(|type_name| {
            let (path, tensor) = (path.to_owned(), name.to_owned());
            Problem::Error(FileError::UnsupportedType { path, tensor, id, name: type_name })
        })?;
        let relative = cursor.u64()?;
        let n_bytes =
            data_bytes(dtype, &shape).map_err(|expected| Flaw::bad(offset, expected, show(&shape)))?;
        Ok(Entry { name: name.into(), shape, dtype, relative, n_bytes, at })
    }

    /// Checks that the data lie inside the part, aligned, and takes them.
    pub(super) fn place(
        self,
        path: &Path,
        part: usize,
        owner: &Owner,
        data_start: u64,
        alignment: u64,
    ) -> Result<TensorInfo, FileError> {
        let place = || format!("tensor `{}`", self.name);
        if !self.relative.is_multiple_of(alignment) {
            let expected = format!("a data offset that is a multiple of {alignment}");
            return Err(Flaw::bad(self.at, expected, self.relative).at(path, place()));
        }
        let total = (**owner).as_ref().len() as u64;
        let start = data_start.saturating_add(self.relative);
        let data = usize::try_from(start)
            .ok()
            .and_then(|start| Some(start..start.checked_add(self.n_bytes)?))
            .and_then(|range| Bytes::new(owner.clone(), range));
        let Some(data) = data else {
            return Err(FileError::Truncated {
                path: path.to_owned(),
                place: format!("the data of tensor `{}`", self.name),
                offset: start,
                need: self.n_bytes as u64,
                have: total.saturating_sub(start),
            });
        };
        let Entry { name, shape, dtype, .. } = self;
        Ok(TensorInfo { name, shape, dtype, offset: start as usize, part, data })
    }
}

enum Problem {
    Flaw(Flaw),
    Error(FileError),
}

impl From<Flaw> for Problem {
    fn from(flaw: Flaw) -> Problem {
        Problem::Flaw(flaw)
    }
}

/// Bytes of a tensor of this format and shape (outermost dimension first), or what is expected of the shape.
pub(super) fn data_bytes(dtype: DType, shape: &[usize]) -> Result<usize, String> {
    let too_many = || "a tensor of fewer than 2^63 values and bytes".to_owned();
    let fits = |n: &usize| i64::try_from(*n).is_ok();
    let (cols, outer) = shape.split_last().map_or((1, &[][..]), |(cols, outer)| (*cols, outer));
    let rows = outer.iter().try_fold(1usize, |product, n| product.checked_mul(*n)).ok_or_else(too_many)?;
    rows.checked_mul(cols).filter(fits).ok_or_else(too_many)?;
    if !cols.is_multiple_of(dtype.block_len()) {
        return Err(format!("rows of a multiple of {} values, the blocks of {dtype}", dtype.block_len()));
    }
    let row = dtype.row_bytes(cols).ok_or_else(too_many)?;
    rows.checked_mul(row).filter(fits).ok_or_else(too_many)
}

pub(super) fn show(shape: &[usize]) -> String {
    let dims: Vec<String> = shape.iter().map(usize::to_string).collect();
    format!("[{}]", dims.join(", "))
}

/// Refuses tensors of one part whose data overlap: no tool shares data between tensors, so an overlap means that
/// offsets are wrong and that weights would be read as what they are not.
pub(super) fn check_overlap(path: &Path, tensors: &[TensorInfo]) -> Result<(), FileError> {
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| tensor.offset);
    for pair in order.windows(2) {
        let [a, b] = pair else { continue };
        let end = a.offset + a.data.len();
        if end > b.offset {
            let flaw = Flaw::bad(
                b.offset,
                format!("data after those of tensor `{}`, which end at {end}", a.name),
                format!("an overlap of {} bytes", end - b.offset),
            );
            return Err(flaw.at(path, format!("the data of tensor `{}`", b.name)));
        }
    }
    Ok(())
}
