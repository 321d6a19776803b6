//! `cargo xtask neon`: the kernel tests of `whit-cpu` on AArch64, under an emulator where this machine is another.
//!
//! Not part of `cargo xtask test`: it wants a second target of the toolchain, a cross linker and QEMU. The emulator tells
//! nothing about speed, only whether results are right.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::args::Args;
use crate::shell;

const TARGET: &str = "aarch64-unknown-linux-gnu";
const LINKER: &str = "aarch64-linux-gnu-gcc";
/// Either name, as distributions differ.
const EMULATORS: [&str; 2] = ["qemu-aarch64-static", "qemu-aarch64"];
/// Where cross C libraries are, in Debian and its kin.
const SYSROOT: &str = "/usr/aarch64-linux-gnu";
const PACKAGES: [&str; 3] = ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user-static"];
/// One emulated CPU for each set of kernels: with the matrix instructions, and with the dot product only.
const CPUS: [&str; 2] = ["max", "cortex-a76"];

/// Runs the tests whose names contain one of the words behind `--`, by default all of the kernels.
pub(crate) fn run(mut args: Args) -> anyhow::Result<()> {
    let install = args.switch("--install");
    let rest = std::mem::take(&mut args.rest);
    args.finish()?;
    let mut test = vec!["test", "--package", "whit-cpu", "--lib"];
    let filters: Vec<&str> =
        if rest.is_empty() { vec!["kernels::"] } else { rest.iter().map(String::as_str).collect() };
    if cfg!(target_arch = "aarch64") {
        test.push("--");
        test.extend(filters);
        return shell::run(&mut shell::cargo(&test));
    }
    if install {
        install_missing()?;
    }
    if !has_target()? {
        bail!(
            "the toolchain has no {TARGET}\n\nhint: rustup target add {TARGET}, or cargo xtask neon --install"
        );
    }
    let Some(emulator) = EMULATORS.into_iter().find(|name| answers(name)) else {
        bail!("{} is not installed\n\nhint: {}", EMULATORS[0], apt_hint());
    };
    if !answers(LINKER) || !Path::new(SYSROOT).exists() {
        bail!("there is no cross compiler for {TARGET}\n\nhint: {}", apt_hint());
    }
    test.extend(["--target", TARGET, "--"]);
    test.extend(filters);
    for cpu in CPUS {
        eprintln!("== {cpu}");
        let mut command = shell::cargo(&test);
        command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", LINKER);
        command.env(
            "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
            format!("{emulator} -L {SYSROOT} -cpu {cpu}"),
        );
        shell::run(&mut command).with_context(|| format!("on an emulated {cpu}"))?;
    }
    Ok(())
}

fn answers(program: &str) -> bool {
    shell::works(Command::new(program).arg("--version"))
}

/// Whether the toolchain that builds the workspace has the target's standard library.
fn has_target() -> anyhow::Result<bool> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.args(["--print", "target-libdir", "--target", TARGET]).current_dir(shell::root());
    Ok(Path::new(shell::output(&mut rustc)?.trim()).exists())
}

fn apt_hint() -> String {
    format!("apt-get install {}, or cargo xtask neon --install (Debian, Ubuntu)", PACKAGES.join(" "))
}

/// By rustup and by apt-get, which wants the rights to.
fn install_missing() -> anyhow::Result<()> {
    if !has_target()? {
        shell::run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(shell::root()))?;
    }
    if !answers(LINKER) || !EMULATORS.iter().any(|name| answers(name)) {
        let args = ["install", "--yes", "--no-install-recommends"];
        shell::run(Command::new("apt-get").args(args).args(PACKAGES))?;
    }
    Ok(())
}
