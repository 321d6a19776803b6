//! EXAONE 4.

use serde_json::Value;

use super::llama::LLAMA;
use super::{Family, Keys, RMS_5, SIZES, windows};
use crate::ModelError;
use crate::hf::names::{ATTENTION, ENDS, GATED, NORMS_BEHIND, QK_NORMS};
use crate::hf::settings::Settings;

pub(super) const EXAONE4: Family = Family {
    model_types: &["exaone4"],
    architecture: "exaone4",
    class: "Exaone4ForCausalLM",
    biases: &[],
    period: Some(4),
    fields: &[SIZES, RMS_5],
    more: exaone4,
    names: &[ENDS, ATTENTION, GATED, NORMS_BEHIND, QK_NORMS],
    in_pairs: false,
    ..LLAMA
};

/// One layer in so many sees everything, or a letter for each layer of a period says which do.
fn exaone4(settings: &Settings, keys: &mut Keys<'_>) -> Result<(), ModelError> {
    let pattern = match settings.get("sliding_window_pattern") {
        None => vec![true, true, true, false],
        Some(Value::String(letters)) => letters.chars().map(|letter| letter == 'L').collect(),
        Some(_) => {
            let period = settings.count("sliding_window_pattern")?.clamp(1, 1 << 16);
            (1..=period).map(|layer| layer != period).collect()
        }
    };
    let local = |layer: usize| !pattern.is_empty() && pattern[layer % pattern.len()];
    windows(settings, keys, None, &local, &|_| false)
}
