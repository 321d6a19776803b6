//! The invariants of ARCHITECTURE.md, checked: who may depend on whom, where `unsafe` may stand, how long a file is.

mod deps;
mod source;

use anyhow::{Context as _, bail};

use crate::shell;

/// Checks them all, and fails with every breach.
pub(crate) fn run() -> anyhow::Result<()> {
    let text = shell::output(&mut shell::cargo(&["metadata", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).context("cargo metadata is not JSON")?;
    let mut breaches = deps::check(&metadata);
    breaches.extend(source::check(&metadata, &shell::root())?);
    if breaches.is_empty() {
        return Ok(());
    }
    for breach in &breaches {
        eprintln!("  {breach}");
    }
    bail!("{} breaches of the rules in ARCHITECTURE.md", breaches.len())
}
