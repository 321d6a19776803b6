//! `whit quantize --target-bpw`: formats within a budget.

use std::io::IsTerminal as _;
use std::path::Path;

use anyhow::Result;
use whit_base::DType;
use whit_engine::{EncodeOptions, Engine, EngineError, Model};
use whit_shrink::{
    Budget, CalibrationOptions, Formats, Imatrix, Mix, SAMPLE_TEXT, ShrinkError, calibrate, fit_budget,
};

use super::Arguments;
use crate::failure::Usage;
use crate::input;

/// Tokens that sensitivities are measured on.
const N_TOKENS: usize = 512;

/// Puts the formats that keep to the budget into `formats`, and gives the importance matrix that they were found with.
pub(super) fn fit(
    arguments: &Arguments,
    budget: Budget,
    path: &Path,
    formats: &mut Formats,
) -> Result<(Imatrix, String)> {
    if path.is_dir() {
        let message = format!(
            "{}: this is a folder, for which there are no budgets; make a file of it first (whit convert)",
            path.display()
        );
        return Err(Usage(message).into());
    }
    let (text, name) = match &arguments.calibrate {
        Some(path) => (input::file(path)?, path.display().to_string()),
        None => (SAMPLE_TEXT.to_owned(), "the built-in text".to_owned()),
    };
    let model = Model::open(path)?;
    let tokenizer = model.tokenizer()?;
    let mut tokens = tokenizer.encode(&text, EncodeOptions::TEXT).map_err(EngineError::from)?;
    tokens.truncate(N_TOKENS);
    let options = arguments.engine.options(Some(N_TOKENS))?;
    let mut imatrix = match &arguments.imatrix {
        Some(path) => Imatrix::read(path)?,
        None => {
            let calibration =
                CalibrationOptions { output: true, dataset: name.clone(), ..CalibrationOptions::default() };
            calibrate(&mut Engine::new(model.clone(), &options)?, &text, &calibration, &mut |_| {})?
        }
    };
    let is_terminal = std::io::stderr().is_terminal();
    let fitted = fit_budget(model.gguf(), &imatrix, &tokens, budget, &options, &mut |progress| {
        if is_terminal {
            note_part!(
                "\rmeasuring what counts: {} of {} groups of tensors\x1b[K",
                progress.n_done,
                progress.n_groups
            );
        }
    });
    if is_terminal {
        note_part!("\r\x1b[K");
    }
    let fitted = match fitted {
        Err(error @ ShrinkError::Budget { .. }) => return Err(Usage(error.to_string()).into()),
        fitted => fitted?,
    };
    if arguments.verbose {
        for (group, sensitivity) in &fitted.sensitivities {
            note!("{group}: {sensitivity:.3e} of divergence per squared error");
        }
    }
    note!("expecting a KL divergence of {:.4}", fitted.divergence);
    formats.mix = nearest_mix(&fitted.formats.values().copied().collect::<Vec<_>>());
    formats.chosen = fitted.formats;
    // Embeddings and output are stored without regard to what goes into them, as everywhere.
    imatrix.tensors.retain(|name, _| name.starts_with("blk."));
    Ok((imatrix, name))
}

/// The mix that a file of these formats is called by: the one of the format that most tensors have.
fn nearest_mix(formats: &[DType]) -> Mix {
    let count = |mix: &Mix| formats.iter().filter(|format| **format == mix.format()).count();
    // Of several mixes of one format, the first.
    Mix::all().rev().max_by_key(count).unwrap_or(Mix::Q4_K_M)
}
