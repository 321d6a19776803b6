//! Model folders: made of files, used in place, and made into files again.

use std::fs;

use crate::common::{Golden, run};

#[test]
fn a_model_goes_into_a_folder_and_back() {
    let place = tempfile::tempdir().expect("a temporary folder");
    for name in ["llama-gqa-llama3", "gemma3-global-linear", "gpt2"] {
        let golden = Golden::new(name);
        let path = |ending: &str| place.path().join(format!("{name}{ending}")).display().to_string();
        let (folder, file) = (path(""), path(".gguf"));
        let answers = |model: &str| {
            let n = golden.greedy.len().to_string();
            let prompt = golden.prompt_text();
            let flags = ["run", "--raw", "--temperature", "0", "--cache-type", "f32", "--max-tokens", &n];
            let answer = run(&[&flags[..], &["--", model, &prompt]].concat()).ok();
            assert_eq!(answer.trim_end_matches('\n'), golden.answer().trim_end_matches('\n'), "{model}");
        };
        let done = run(&["convert", &golden.path, &folder]);
        assert!(done.stderr.starts_with(&format!("wrote {folder} (")), "{}", done.stderr);
        assert_eq!(done.ok(), "");
        answers(&folder);
        let shown = run(&["show", &folder]).ok();
        assert!(shown.contains(&folder) && shown.contains("F32, 32.00 bits per weight"), "{shown}");

        let done = run(&["convert", &folder, &file, "--to", "f32"]);
        assert!(done.stderr.contains("matrices in f32"), "{}", done.stderr);
        done.ok();
        answers(&file);
    }
}

#[test]
fn what_makes_no_sense_is_said() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| place.path().join(name).display().to_string();
    let golden = Golden::new("qwen3");
    let (folder, new) = (path("m"), path("new"));
    run(&["convert", &golden.path, &folder]).ok();
    let empty = path("empty");
    fs::create_dir(&empty).expect("a folder");
    for (arguments, code, part) in [
        (&["convert", &folder, &new][..], 2, "give the new file a name that ends in .gguf"),
        (&["convert", &golden.path, &path("n.gguf")], 2, "is a GGUF file already"),
        (&["convert", &folder, &path("n.gguf"), "--to", "q4_0"], 2, "choose f32, f16, bf16 or q8_0"),
        (&["convert", &golden.path, &folder], 1, "there is something of that name already"),
        (
            &["convert", &golden.path, &new, "--to", "q8_0"],
            1,
            "a folder cannot hold q8_0\n\nhint: choose f32",
        ),
        (&["run", &empty, "a"], 1, "it holds neither `model.safetensors` nor"),
        (&["show", &path("none")], 1, "there is no such file"),
    ] {
        let got = run(arguments);
        assert_eq!(got.code, Some(code), "{arguments:?}: {}", got.stderr);
        assert!(got.stderr.contains(part), "{arguments:?}: `{part}` is not in: {}", got.stderr);
    }
    let mut left: Vec<_> = fs::read_dir(place.path())
        .expect("listed")
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["empty", "m"]);
}
