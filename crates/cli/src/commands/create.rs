//! `whit create`: a model out of another one, by a Modelfile.

use std::path::{Path, PathBuf};

use anyhow::Result;
use whit_engine::{EngineError, Model, Parameters};
use whit_hub::{Extras, HubError, Modelfile, Reference};

use crate::failure::Usage;
use crate::settings::Settings;
use crate::{Global, input, models};

/// Make a model out of another one, with a Modelfile
///
/// FROM names a model, pulled first if it is not here, or the path of a GGUF file or of a model folder, from the
/// Modelfile's folder; it is used where it lies. Instructions are PARAMETER, SYSTEM, MESSAGE, LICENSE, and TEMPLATE, whose language is Jinja: one in the
/// language of Go, as Ollama's are, is kept and shown, and the model's own is used.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The new model's name; one of yours by this name is replaced
    name: String,

    /// The Modelfile; `-` is standard input
    #[arg(short, long, value_name = "FILE", default_value = "Modelfile")]
    file: PathBuf,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    let bytes = input::bytes(&arguments.file)?;
    let file = Modelfile::read(&bytes).map_err(|error| place(&arguments.file, &error))?;
    let at = |line: usize, problem: &str| HubError::Modelfile { line, problem: problem.to_owned() };
    let wrong = |line: usize, problem: &str| place(&arguments.file, &at(line, problem));
    if let Some((line, _)) = &file.adapter {
        return Err(wrong(
            *line,
            "ADAPTER cannot be used yet; merge the adapter into the model, and say FROM that",
        ));
    }
    for (line, name, value) in &file.parameters {
        let parameters = file.extras.parameters.get_key_value(name).into_iter();
        let one = parameters.map(|(name, value)| (name.clone(), value.clone())).collect();
        let given = Extras { parameters: one, ..Extras::default() };
        let check = || -> Result<Parameters> { Settings { given, ..Settings::default() }.parameters() };
        match check() {
            Ok(parameters) if parameters.unknown.is_empty() => {}
            Ok(_) => {
                let known = Parameters::NAMES.join(", ");
                return Err(wrong(*line, &format!("there is no parameter `{name}`; there are {known}")));
            }
            Err(error) if error.is::<EngineError>() || error.is::<Usage>() => {
                return Err(wrong(*line, &format!("PARAMETER {name} {value}: {error}")));
            }
            Err(error) => return Err(error),
        }
    }
    let store = models::store(global)?;
    let reference = from(&file.from.1, &arguments.file)?;
    let found = models::found(&store, &reference)?;
    // Said now, and not when somebody runs it.
    let model = Model::open(found.path)?;
    if let Some(template) = &file.extras.template {
        model.with_template(template)?;
    }
    for (line, keyword) in &file.unused {
        note!("note: line {line}: {keyword} says nothing to Whit, and is left out");
    }
    if file.extras.go_template.is_some() {
        note!("note: the template is in the language of Go: it is kept, and the model's own is used");
    }
    let (from, inherited) = store.foundation(&reference)?;
    store.create(&arguments.name, from, inherited.with(file.extras))?;
    note!("created {}\n\nhint: `whit run {0}` talks to it", arguments.name);
    Ok(())
}

/// What FROM means: a path is one from the Modelfile's folder.
fn from(text: &str, file: &Path) -> Result<Reference> {
    let reference: Reference = text.parse()?;
    let Reference::Path(path) = &reference else { return Ok(reference) };
    let folder = file.parent().filter(|_| file != Path::new("-")).unwrap_or(Path::new(""));
    let path = folder.join(path);
    Ok(if path.exists() { Reference::Path(path) } else { reference })
}

/// An error with the file that it is in.
fn place(file: &Path, error: &HubError) -> anyhow::Error {
    match error {
        HubError::Modelfile { line, problem } => {
            Usage(format!("{}:{line}: {problem}", file.display())).into()
        }
        error => anyhow::anyhow!("{}: {error}", file.display()),
    }
}
