//! Rules on source text: `unsafe` only where it is meant to be, and no file so long that nobody reads it.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::Value;

/// Past this a file wants splitting.
const MAX_LINES: usize = 800;

/// Packages that may hold `unsafe` anywhere: kernels, and bindings to other languages.
const UNSAFE_PACKAGES: &[&str] = &["whit-cpu", "whit-wasm", "whit-py"];

/// Packages that may hold `unsafe` in one file: memory maps.
const UNSAFE_FILES: &[(&str, &str)] = &[("whit-files", "mmap.rs")];

/// Every breach, one line each.
pub(crate) fn check(metadata: &Value, root: &Path) -> anyhow::Result<Vec<String>> {
    let mut breaches = Vec::new();
    let members = metadata["workspace_members"].as_array().into_iter().flatten();
    for member in members {
        let packages = metadata["packages"].as_array().into_iter().flatten();
        for package in packages.filter(|package| &package["id"] == member) {
            check_package(package, root, &mut breaches)?;
        }
    }
    Ok(breaches)
}

fn check_package(package: &Value, root: &Path, breaches: &mut Vec<String>) -> anyhow::Result<()> {
    let name = package["name"].as_str().unwrap_or_default();
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().context("cargo metadata names no manifest")?;
    let short = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
    for target in package["targets"].as_array().into_iter().flatten() {
        let is_root = target["kind"]
            .as_array()
            .is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib" || kind == "bin" || kind == "cdylib"));
        let path = Path::new(target["src_path"].as_str().unwrap_or_default());
        if is_root {
            let text = std::fs::read_to_string(path).with_context(|| short(path))?;
            breaches.extend(root_breach(name, &text).map(|breach| format!("{}: {breach}", short(path))));
        }
    }
    let one_file = UNSAFE_FILES.iter().find(|entry| entry.0 == name).map(|entry| entry.1);
    let mut files = Vec::new();
    rust_files(folder, &mut files)?;
    for path in files {
        let text = std::fs::read_to_string(&path).with_context(|| short(&path))?;
        let n_lines = text.lines().count();
        if n_lines > MAX_LINES {
            breaches.push(format!("{}: {n_lines} lines; split it before {MAX_LINES}", short(&path)));
        }
        if let Some(allowed) = one_file
            && path.starts_with(folder.join("src"))
            && path.file_name().is_none_or(|name| name != allowed)
            && let Some(line) = unsafe_line(&text)
        {
            breaches.push(format!("{}:{line}: unsafe code of {name} belongs in {allowed}", short(&path)));
        }
    }
    Ok(())
}

/// What a crate's root lacks.
fn root_breach(package: &str, text: &str) -> Option<&'static str> {
    let has = |attribute: &str| text.lines().any(|line| line.trim() == attribute);
    if UNSAFE_PACKAGES.contains(&package) {
        None
    } else if UNSAFE_FILES.iter().any(|entry| entry.0 == package) {
        let holds = has("#![deny(unsafe_code)]") || has("#![forbid(unsafe_code)]");
        (!holds).then_some("lacks #![deny(unsafe_code)]")
    } else {
        (!has("#![forbid(unsafe_code)]")).then_some("lacks #![forbid(unsafe_code)]")
    }
}

/// The first line, from 1, with the word `unsafe` outside a line comment.
fn unsafe_line(text: &str) -> Option<usize> {
    let is_word =
        |line: &str| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
    let code = |line: &str| is_word(line.split("//").next().unwrap_or_default());
    text.lines().position(code).map(|at| at + 1)
}

fn rust_files(folder: &Path, out: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                rust_files(&path, out)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
    out.sort();
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn roots() {
        let forbid = "//! A crate.\n#![forbid(unsafe_code)]\nmod a;\n";
        let deny = "//! A crate.\n#![deny(unsafe_code)]\n";
        let neither = "//! A crate. #![forbid(unsafe_code)]\n";
        let cases = [
            ("whit-text", forbid, true),
            ("whit-text", deny, false),
            ("whit-text", neither, false),
            ("whit-files", deny, true),
            ("whit-files", neither, false),
            ("whit-cpu", neither, true),
        ];
        for (package, text, holds) in cases {
            assert_eq!(root_breach(package, text).is_none(), holds, "{package}: {text}");
        }
    }

    #[test]
    fn unsafe_words() {
        let cases = [
            ("fn a() {}\n", None),
            ("// unsafe\n/// unsafe\n", None),
            ("#![deny(unsafe_code)]\n", None),
            ("fn a() {\n    unsafe { b() }\n}\n", Some(2)),
            ("unsafe impl Send for A {}\n", Some(1)),
        ];
        for (text, expected) in cases {
            assert_eq!(unsafe_line(text), expected, "{text}");
        }
    }

    #[test]
    fn files_on_disk() {
        let root = std::env::temp_dir().join(format!("xtask-rules-{}", std::process::id()));
        let src = root.join("crates/files/src");
        std::fs::create_dir_all(&src).unwrap();
        std::fs::write(src.join("lib.rs"), "#![deny(unsafe_code)]\n").unwrap();
        std::fs::write(src.join("mmap.rs"), "unsafe fn map() {}\n").unwrap();
        std::fs::write(src.join("reader.rs"), "fn a() {}\nunsafe fn read() {}\n").unwrap();
        std::fs::write(src.join("long.rs"), "\n".repeat(801)).unwrap();
        let metadata = serde_json::json!({
            "workspace_members": ["files"],
            "packages": [{
                "id": "files",
                "name": "whit-files",
                "manifest_path": root.join("crates/files/Cargo.toml"),
                "targets": [{"kind": ["lib"], "src_path": src.join("lib.rs")}],
            }],
        });
        let breaches = check(&metadata, &root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            breaches.unwrap(),
            [
                "crates/files/src/long.rs: 801 lines; split it before 800",
                "crates/files/src/reader.rs:2: unsafe code of whit-files belongs in mmap.rs",
            ]
        );
    }
}
