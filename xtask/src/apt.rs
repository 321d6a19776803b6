//! Programs that a step needs and that Debian and its kin have in a package of their own.

use std::process::Command;

use anyhow::bail;

use crate::shell;

/// Installs packages where we may: as root, with apt-get. Otherwise fails with what to do.
pub(crate) fn install(packages: &[&str], hint: &str) -> anyhow::Result<()> {
    let is_root = cfg!(unix) && shell::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root || !shell::works(Command::new("apt-get").arg("--version")) {
        bail!("{} is not installed\n\n{hint}", packages.join(", "));
    }
    let apt = |args: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        shell::run(apt.args(["--quiet=2", "-o", "Acquire::Retries=3"]).args(args))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat())
}
