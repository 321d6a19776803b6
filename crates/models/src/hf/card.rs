//! What people want to know of a model: its name, its licence, and how its makers sample.

use std::path::Path;

use whit_files::GgufWriter;

use super::folder::object;
use super::settings::Settings;
use crate::ModelError;

/// Sets the `general.*` keys.
pub(super) fn describe(folder: &Path, settings: &Settings, out: &mut GgufWriter) -> Result<(), ModelError> {
    if let Some(name) = name(folder) {
        out.set("general.name", &name);
    }
    if let Some(licence) = licence(folder) {
        out.set("general.license", &licence);
    }
    let path = folder.join("generation_config.json");
    let generation = match path.is_file() {
        true => Settings::new(&path, object(&path)?),
        false => settings.empty(),
    };
    if let Some(top_k) = generation.opt_count("top_k")? {
        out.set("general.sampling.top_k", i32::try_from(top_k).unwrap_or(i32::MAX));
    }
    for (field, key) in [
        ("top_p", "general.sampling.top_p"),
        ("min_p", "general.sampling.min_p"),
        ("temperature", "general.sampling.temp"),
        ("repetition_penalty", "general.sampling.penalty_repeat"),
    ] {
        if let Some(value) = generation.opt_number(field)? {
            out.set(key, value as f32);
        }
    }
    Ok(())
}

/// The folder's name; in the cache that the tools of the Hub share, the repository's.
fn name(folder: &Path) -> Option<String> {
    let absolute = std::path::absolute(folder).ok()?;
    let above = absolute.parent()?;
    if above.file_name().is_some_and(|name| name == "snapshots") {
        let repository = above.parent()?.file_name()?.to_str()?;
        return Some(repository.rsplit("--").next()?.to_owned());
    }
    Some(absolute.file_name()?.to_str()?.to_owned())
}

/// `license:` of the model card, `README.md`, which begins with YAML between lines of `---`.
fn licence(folder: &Path) -> Option<String> {
    let text = std::fs::read(folder.join("README.md")).ok()?;
    let text = String::from_utf8_lossy(text.get(..text.len().min(1 << 16))?).into_owned();
    let mut lines = text.lines();
    if lines.next()?.trim() != "---" {
        return None;
    }
    let stated = lines.take_while(|line| line.trim() != "---").find_map(|line| line.strip_prefix("license:"));
    let stated = stated?.trim().trim_matches(['"', '\'']);
    (!stated.is_empty()).then(|| stated.to_owned())
}
