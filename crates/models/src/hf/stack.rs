//! What a folder has in several tensors and a GGUF file in one: the weights of experts, and the norms of single heads.
//!
//! In place, a folder's tensors stay as they are; a model file takes either form. Truth: `modify_tensors` of llama.cpp's
//! converter.

use std::collections::BTreeMap;
use std::path::Path;

use whit_base::Bytes;
use whit_files::{Gguf, TensorInfo};

use super::names::Name;
use super::tensor::HfTensor;
use crate::ModelError;
use crate::tensors::EMBEDDINGS;

/// The middle of a tensor's name: `blk.<layer>.<this>.<number>.weight` in a folder's terms, `blk.<layer>.<that>.weight` in a
/// file, where all numbers stand one below the other.
const STACKS: [(&str, &str); 5] = [
    ("ffn_gate", GATES),
    ("ffn_up", UPS),
    ("ffn_down", "ffn_down_exps"),
    ("attn_q_norm", "attn_q_norm"),
    ("attn_k_norm", "attn_k_norm"),
];

/// The same outside of layers, with the number behind the name: what leads into the streams of Gemma 3n but the first, and
/// out of them.
const STREAMS: [&str; 2] = ["altup_proj", "altup_unembd_proj"];

/// A table with a row for every token, of which some folders leave the last ones out.
const PER_LAYER: &str = "per_layer_token_embd.weight";

/// In some folders gate and up of each expert stand one below the other, and those of all experts in one tensor.
const GATES_AND_UPS: &str = "ffn_gate_up_exps";
const GATES: &str = "ffn_gate_exps";
const UPS: &str = "ffn_up_exps";

/// Puts the tensors of the model in `folder` together as a file has them.
///
/// # Errors
/// Parts that are missing, or unlike the others.
pub(super) fn stack(tensors: Vec<HfTensor>, folder: &Path) -> Result<Vec<HfTensor>, ModelError> {
    let broken = |name: &str, what: &str| ModelError::Folder {
        path: folder.to_owned(),
        problem: format!("of what becomes `{name}`, {what}; download the model again"),
    };
    let mut stacked = Vec::new();
    let mut stacks: BTreeMap<String, BTreeMap<usize, HfTensor>> = BTreeMap::new();
    for tensor in tensors {
        let parts: Vec<&str> = tensor.name().split('.').collect();
        match parts[..] {
            ["blk", layer, part, number, "weight"] => {
                let whole = STACKS.iter().find(|(single, _)| *single == part).map(|(_, whole)| *whole);
                match (whole, number.parse()) {
                    (Some(whole), Ok(number)) => {
                        let stack = stacks.entry(format!("blk.{layer}.{whole}.weight")).or_default();
                        stack.insert(number, tensor);
                    }
                    _ => stacked.push(tensor),
                }
            }
            [part, number, "weight"] if STREAMS.contains(&part) && number.parse::<usize>().is_ok() => {
                let number = number.parse().unwrap_or(0);
                stacks.entry(format!("{part}.weight")).or_default().insert(number, tensor);
            }
            ["blk", layer, GATES_AND_UPS, "weight"] => {
                let halves = halves(&tensor).ok_or_else(|| broken(tensor.name(), "the shape is another"))?;
                let [n, n_rows, n_cols] = [tensor.shape()[0], tensor.shape()[1] / 2, tensor.shape()[2]];
                for (part, half) in [GATES, UPS].into_iter().zip(halves) {
                    let name = format!("blk.{layer}.{part}.weight");
                    stacked.push(HfTensor::of_parts(name, &[n, n_rows, n_cols], tensor.dtype(), half));
                }
            }
            _ => stacked.push(tensor),
        }
    }
    for (name, parts) in stacks {
        if let Some(missing) = (0..parts.len()).find(|number| !parts.contains_key(number)) {
            return Err(broken(&name, &format!("number {missing} is missing")));
        }
        let Some(first) = parts.values().next() else { continue };
        let (shape, dtype) = ([&[parts.len()], first.shape()].concat(), first.dtype());
        if parts.values().any(|part| part.shape() != first.shape() || part.dtype() != dtype) {
            return Err(broken(&name, "not all parts are alike"));
        }
        let data = parts.values().map(HfTensor::data).collect();
        stacked.push(HfTensor::of_parts(name, &shape, dtype, data));
    }
    let table = stacked.iter().find(|tensor| tensor.name() == EMBEDDINGS);
    let n_vocab = table.and_then(|table| table.shape().first().copied()).unwrap_or(0);
    let whole = |tensor: HfTensor| if tensor.name() == PER_LAYER { tensor.padded(n_vocab) } else { tensor };
    Ok(stacked.into_iter().map(whole).collect())
}

/// Of `(n, 2 n_rows, n_cols)` the upper halves, and the lower ones.
fn halves(tensor: &HfTensor) -> Option<[Vec<Bytes>; 2]> {
    let &[n, n_rows, n_cols] = tensor.shape() else { return None };
    let half = n_rows / 2 * tensor.dtype().row_bytes(n_cols)?;
    let every_other = |first: usize| -> Option<Vec<Bytes>> {
        (0..n).map(|i| tensor.data().slice((2 * i + first) * half..(2 * i + first + 1) * half)).collect()
    };
    if n_rows % 2 != 0 { None } else { Some([every_other(0)?, every_other(1)?]) }
}

/// The way back: a file's tensor as a folder with these names has it, which may be several, or, where another one brings it
/// along, none. The names are still GGUF's.
///
/// # Errors
/// Tensors that belong together and are unlike each other.
pub(super) fn unstack(
    gguf: &Gguf,
    names: &[&[Name]],
    tensor: &TensorInfo,
) -> Result<Vec<HfTensor>, ModelError> {
    let has = |wanted: &str| names.iter().flat_map(|table| table.iter()).any(|name| name.gguf == wanted);
    let whole = || {
        let data = gguf.tensor_bytes(tensor);
        vec![HfTensor::of_parts(tensor.name.to_string(), &tensor.shape, tensor.dtype, vec![data])]
    };
    let name: Vec<&str> = tensor.name.split('.').collect();
    if let ([part, "weight"], Some((&n, shape))) = (&name[..], tensor.shape.split_first())
        && STREAMS.contains(part)
        && shape.len() == 2
        && n <= tensor.n_bytes()
    {
        return Ok(parts(gguf, tensor, |i| format!("{part}.{i}.weight"), n, shape));
    }
    let ["blk", layer, part, "weight"] = name[..] else { return Ok(whole()) };
    if has(&format!("blk.{{}}.{GATES_AND_UPS}")) && [GATES, UPS].contains(&part) {
        let other = format!("blk.{layer}.{}.weight", if part == GATES { UPS } else { GATES });
        return match gguf.tensor(&other) {
            Some(other) if other.shape != tensor.shape || other.dtype != tensor.dtype => Err(
                crate::tensors::shape_error(other, "what stands beside gates", "what these have".to_owned()),
            ),
            Some(_) if part == UPS => Ok(vec![]),
            Some(ups) => Ok(vec![beside(gguf, layer, tensor, ups)]),
            None => Ok(whole()),
        };
    }
    let single =
        STACKS.iter().find(|(single, whole)| *whole == part && has(&format!("blk.{{}}.{single}.{{}}")));
    match (single, tensor.shape.split_first()) {
        (Some((single, _)), Some((&n, shape))) if !shape.is_empty() && n <= tensor.n_bytes() => {
            Ok(parts(gguf, tensor, |i| format!("blk.{layer}.{single}.{i}.weight"), n, shape))
        }
        _ => Ok(whole()),
    }
}

/// The tensors of this shape that stand one below the other in a file's.
fn parts(
    gguf: &Gguf,
    tensor: &TensorInfo,
    name: impl Fn(usize) -> String,
    n: usize,
    shape: &[usize],
) -> Vec<HfTensor> {
    let data = cut(&gguf.tensor_bytes(tensor), n).into_iter().enumerate();
    data.map(|(i, data)| HfTensor::of_parts(name(i), shape, tensor.dtype, vec![data])).collect()
}

/// Gates and ups in turns.
fn beside(gguf: &Gguf, layer: &str, gates: &TensorInfo, ups: &TensorInfo) -> HfTensor {
    let n = gates.shape.first().copied().unwrap_or(1);
    let parts = |tensor| cut(&gguf.tensor_bytes(tensor), n);
    let data = parts(gates).into_iter().zip(parts(ups)).flat_map(|(gate, up)| [gate, up]).collect();
    let mut shape = gates.shape.clone();
    if let Some(n_rows) = shape.get_mut(1) {
        *n_rows *= 2;
    }
    HfTensor::of_parts(format!("blk.{layer}.{GATES_AND_UPS}.weight"), &shape, gates.dtype, data)
}

/// `n` pieces of the same length.
fn cut(data: &Bytes, n: usize) -> Vec<Bytes> {
    let length = data.len() / n.max(1);
    (0..n).filter_map(|i| data.slice(i * length..(i + 1) * length)).collect()
}
