//! A GGUF file to a model folder: `config.json`, safetensors, and the tokenizer.

use std::path::Path;

use serde_json::{Value, json};
use whit_base::DType;
use whit_files::{Gguf, SafeTensorsWriter};
use whit_models::hf::{HfTensor, translate_back};
use whit_models::vocab;

use super::{Converted, Format, Progress};
use crate::ShrinkError;

/// Writes the GGUF file at `from` as the folder `to`, where nothing may be, with matrices in this format: in the file's own
/// where it has floats, else in f16.
///
/// # Errors
/// A file that is no model or one that is not supported; a format of blocks; what the system refuses.
pub fn to_folder(
    from: &Path,
    to: &Path,
    format: Option<Format>,
    report: &mut dyn FnMut(Progress),
) -> Result<Converted, ShrinkError> {
    let gguf = Gguf::open(from)?;
    let format = format.unwrap_or_else(|| Format::of(most_common(&gguf)));
    if format == Format::Q8_0 {
        return Err(ShrinkError::NoSuchFormat { path: to.to_owned(), format: format.name() });
    }
    let model = translate_back(&gguf, format.dtype())?;
    let stored_as = |tensor: &HfTensor| if tensor.shape().len() < 2 { DType::F32 } else { format.dtype() };
    let mut writer = SafeTensorsWriter::new();
    for tensor in &model.tensors {
        writer.declare(tensor.name(), stored_as(tensor), tensor.shape())?;
    }
    let mut out = writer.create(to)?;
    put_json(&mut out, "config.json", &json!(model.config))?;
    if let Some(generation) = &model.generation {
        put_json(&mut out, "generation_config.json", &json!(generation))?;
    }
    for (name, settings) in &model.pooling {
        put_json(&mut out, name, settings)?;
    }
    let tokenizer = whit_text::folder_files(vocab::spec(gguf.metadata())?)?;
    out.put("tokenizer.json", tokenizer.tokenizer_json.as_bytes())?;
    out.put("tokenizer_config.json", tokenizer.tokenizer_config.as_bytes())?;
    if let Some(template) = gguf.metadata().opt_str("tokenizer.chat_template")? {
        out.put("chat_template.jinja", template.as_bytes())?;
    }
    let (mut n_done, n_tensors) = (0, model.tensors.len());
    while let Some(name) = out.next_name().map(str::to_owned) {
        report(Progress { n_done, n_tensors });
        let Some(tensor) = model.tensors.iter().find(|tensor| tensor.name() == name) else { break };
        out.write_with(&name, |out| tensor.write(stored_as(tensor), out))?;
        n_done += 1;
    }
    let n_bytes = out.finish()?;
    report(Progress { n_done, n_tensors });
    Ok(Converted { format, n_tensors, n_bytes })
}

/// The format of most bytes.
fn most_common(gguf: &Gguf) -> DType {
    let bytes = |dtype: DType| -> usize {
        let tensors = gguf.tensors().iter().filter(|tensor| tensor.dtype == dtype);
        tensors.filter(|tensor| tensor.shape.len() > 1).map(|tensor| tensor.n_bytes()).sum()
    };
    DType::ALL.into_iter().max_by_key(|&dtype| bytes(dtype)).unwrap_or(DType::F32)
}

fn put_json(out: &mut whit_files::ShardWriter, name: &str, value: &Value) -> Result<(), ShrinkError> {
    Ok(out.put(name, format!("{value:#}\n").as_bytes())?)
}
