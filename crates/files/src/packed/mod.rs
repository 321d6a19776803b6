//! Quantized weights as model folders keep them: for each matrix several tensors of packed integers, scales and zero points.
//!
//! [`read`] finds them by the names and types of their tensors and gives each matrix as one [`Packed`], which knows its values
//! as the format defines them ([`Packed::values`]) and its blocks in a format that has kernels ([`Packed::blocks`]). Where the
//! weights are integers in groups along a row, the blocks hold the same integers and are exact:
//!
//! | what the folder has | becomes | exact |
//! |---|---|---|
//! | GPTQ, AWQ, compressed-tensors: symmetric, 2 to 4 bits | Q4_0 | yes |
//! | the same with zero points, 2 or 3 bits; 4 bits | Q4_0; Q5_0 | yes |
//! | the same, symmetric, 8 bits | Q8_0 | yes |
//! | MLX affine, HQQ along rows: 2 to 4 bits; 5 bits | Q4_1; Q5_1 | but for scales and offsets rounded to F16 |
//! | bitsandbytes int8 | Q8_0 | but for scales rounded to F16 |
//! | FP8 | BF16 | but for products rounded to BF16, as `transformers` rounds them |
//! | groups across rows (`desc_act`, HQQ along columns), 8 bits with zero points, EXL2, EXL3, NF4 and FP4, MLX of 6 and 8 bits | Q8_0 | no: rounded anew, by at most 1/254 of the largest of 32 values |
//!
//! Rounding is told by [`Packed::is_exact`]. Left out: formats that run in kernels of their own alone (Marlin, BitBLAS, the
//! layouts of `gemv_fast`); these are refused by name.

mod bitsandbytes;
mod codes;
mod exl2;
mod exl3;
mod fp8;
mod hqq;
mod linear;

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value};
use whit_base::DType;
use whit_base::quant::encode_row;

use crate::{FileError, SafeTensor, SafeTensors};

/// Rows that are decoded at a time.
const TILE_ROWS: usize = 128;

/// The values of a matrix, whatever they are packed in.
trait Matrix: fmt::Debug + Send + Sync {
    /// Decodes whole rows: `out` is `(rows.len(), n_cols)`.
    fn values(&self, rows: Range<usize>, out: &mut [f32]);

    /// Writes whole rows as blocks of the tensor's format; `false` if they are to be made from the values.
    fn blocks(&self, _dtype: DType, _rows: Range<usize>, _out: &mut [u8]) -> bool {
        false
    }
}

/// A quantized matrix of a folder.
#[derive(Debug)]
pub struct Packed {
    name: String,
    shape: [usize; 2],
    dtype: DType,
    is_exact: bool,
    matrix: Box<dyn Matrix>,
}

impl Packed {
    /// The name that the matrix would have unquantized, such as `model.layers.0.mlp.up_proj.weight`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `(n_out, n_in)`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// The format that [`blocks`](Self::blocks) writes.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Whether the blocks hold just the weights; see the table above for what else may be.
    pub fn is_exact(&self) -> bool {
        self.is_exact
    }

    /// Decodes whole rows, as the format's own program does in f32.
    ///
    /// # Panics
    /// If the matrix has fewer rows, or `out` is not `(rows.len(), n_in)`.
    pub fn values(&self, rows: Range<usize>, out: &mut [f32]) {
        self.check(&rows);
        assert_eq!(out.len(), rows.len() * self.shape[1], "a value for each weight");
        self.matrix.values(rows, out);
    }

    /// Whole rows in the format [`dtype`](Self::dtype).
    ///
    /// # Panics
    /// If the matrix has fewer rows.
    pub fn blocks(&self, rows: Range<usize>) -> Vec<u8> {
        self.check(&rows);
        let n_in = self.shape[1];
        let row_bytes = self.dtype.row_bytes(n_in).unwrap_or(0);
        let mut out = vec![0; rows.len() * row_bytes];
        let mut values = Vec::new();
        for first in rows.clone().step_by(TILE_ROWS) {
            let tile = first..(first + TILE_ROWS).min(rows.end);
            let at = (first - rows.start) * row_bytes;
            let out = &mut out[at..at + tile.len() * row_bytes];
            if !self.matrix.blocks(self.dtype, tile.clone(), out) {
                values.resize(tile.len() * n_in, 0.0);
                self.matrix.values(tile, &mut values);
                for (values, out) in values.chunks_exact(n_in).zip(out.chunks_exact_mut(row_bytes)) {
                    encode_row(self.dtype, values, None, out);
                }
            }
        }
        out
    }

    fn check(&self, rows: &Range<usize>) {
        assert!(rows.start <= rows.end && rows.end <= self.shape[0], "rows {rows:?} of {}", self.shape[0]);
    }
}

/// The quantized matrices among the tensors of a folder.
#[derive(Debug, Default)]
pub struct PackedTensors {
    /// By name, in the order of the folder's tensors.
    pub matrices: Vec<Packed>,
    /// Names of the tensors that they are made of: the rest stands for itself.
    pub parts: HashSet<String>,
}

/// Finds the quantized matrices. `config` is what `config.json` says of the quantization (`quantization_config`, or MLX's
/// `quantization`), or `quantize_config.json`.
///
/// # Errors
/// A method that is not known, and tensors that are missing or whose shapes contradict each other or the configuration.
pub fn read(
    folder: &Path,
    weights: &SafeTensors,
    config: &Map<String, Value>,
) -> Result<PackedTensors, FileError> {
    let source = Source { folder, weights, config };
    let mut all = PackedTensors::default();
    for tensor in weights.tensors() {
        let made = source.matrix(tensor)?;
        if let Some((packed, parts)) = made {
            all.parts.extend(parts);
            all.matrices.push(packed);
        }
    }
    if all.matrices.is_empty() {
        let method = config.get("quant_method").and_then(Value::as_str).unwrap_or("an unknown method");
        let problem = format!(
            "it is quantized by `{method}`, and none of its tensors is of a layout that is read; get the model in BF16, F16 or \
             F32, or as GGUF"
        );
        return Err(FileError::Split { path: folder.to_owned(), problem });
    }
    Ok(all)
}

/// A folder under inspection.
struct Source<'a> {
    folder: &'a Path,
    weights: &'a SafeTensors,
    config: &'a Map<String, Value>,
}

/// A matrix, and the names of its tensors.
type Made = Option<(Packed, Vec<String>)>;

impl<'a> Source<'a> {
    /// The matrix whose main tensor this is.
    fn matrix(&self, tensor: &SafeTensor) -> Result<Made, FileError> {
        let Some((module, part)) = tensor.name.rsplit_once('.') else { return Ok(None) };
        let kind = tensor.kind.name();
        match (part, kind) {
            ("qweight", "I32") if self.method() == "awq" => linear::awq(self, module, tensor),
            ("qweight", "I32") => linear::gptq(self, module, tensor),
            ("weight_packed", "I32") => linear::compressed(self, module, tensor),
            ("weight", "U32") => linear::mlx(self, module, tensor),
            ("W_q", _) => hqq::matrix(self, module, tensor),
            ("q_weight", "I32") => exl2::matrix(self, module, tensor),
            ("trellis", "I16") => exl3::matrix(self, module, tensor),
            ("weight", "U8" | "F4") if self.has_state(module) => {
                bitsandbytes::four_bits(self, module, tensor)
            }
            ("weight", "I8") if self.find(module, "SCB").is_some() => {
                bitsandbytes::eight_bits(self, module, tensor)
            }
            ("weight", "F8_E4M3" | "F8_E5M2") => fp8::matrix(self, module, tensor),
            _ => Ok(None),
        }
    }

    fn method(&self) -> &'a str {
        self.config.get("quant_method").and_then(Value::as_str).unwrap_or("")
    }

    /// A setting that is a number.
    fn number(&self, name: &str) -> Option<i64> {
        self.config.get(name).and_then(Value::as_i64)
    }

    fn find(&self, module: &str, part: &str) -> Option<&'a SafeTensor> {
        self.weights.tensor(&format!("{module}.{part}"))
    }

    fn has_state(&self, module: &str) -> bool {
        bitsandbytes::STATES.iter().any(|state| self.find(module, state).is_some())
    }

    /// Another tensor of the module, of one of these types.
    fn part(&self, module: &str, part: &str, kinds: &[&str]) -> Result<&'a SafeTensor, FileError> {
        let name = format!("{module}.{part}");
        let Some(tensor) = self.weights.tensor(&name) else {
            return Err(self.fail(&name, "it is missing beside the others of its module".to_owned()));
        };
        if !kinds.contains(&tensor.kind.name()) {
            let problem = format!("it is stored as {}, expected {}", tensor.kind, kinds.join(" or "));
            return Err(self.fail(&name, problem));
        }
        Ok(tensor)
    }

    /// The error for a tensor that cannot be used.
    fn fail(&self, tensor: &str, problem: String) -> FileError {
        FileError::Packed { path: self.folder.to_owned(), tensor: tensor.to_owned(), problem }
    }

    /// Checks a shape.
    fn expect(&self, tensor: &SafeTensor, shape: &[usize]) -> Result<(), FileError> {
        if tensor.shape == shape {
            return Ok(());
        }
        let problem = format!("its shape is {:?}, but the others of its module want {shape:?}", tensor.shape);
        Err(self.fail(&tensor.name, problem))
    }

    /// A finished matrix; its rows must be whole blocks.
    fn made(
        &self,
        module: &str,
        parts: &[&SafeTensor],
        [n_out, n_in]: [usize; 2],
        (dtype, is_exact): (DType, bool),
        matrix: impl Matrix + 'static,
    ) -> Result<Made, FileError> {
        let name = format!("{module}.weight");
        if n_out == 0 || n_in == 0 || dtype.row_bytes(n_in).is_none() {
            let problem = format!("its rows have {n_in} values, which are no whole blocks of 32");
            return Err(self.fail(&name, problem));
        }
        let parts = parts.iter().map(|part| part.name.to_string()).collect();
        let packed = Packed { name, shape: [n_out, n_in], dtype, is_exact, matrix: Box::new(matrix) };
        Ok(Some((packed, parts)))
    }
}
