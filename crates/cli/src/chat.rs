//! placeholder
use anyhow::Result;
pub(crate) fn chat(
    _: &mut whit_engine::Engine,
    _: crate::commands::run::Settings,
    _: &str,
    _: &whit_hub::Store,
) -> Result<()> {
    Ok(())
}
