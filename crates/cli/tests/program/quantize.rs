//! `whit quantize` and `whit imatrix`.

use std::fs;

use crate::common::{Golden, run};

#[test]
fn a_model_gets_smaller_and_its_cost_is_said() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| place.path().join(name).display().to_string();
    let golden = Golden::new("llama-gqa-llama3");
    let out = path("small.gguf");
    let done = run(&["quantize", &golden.path, "--to", "q8_0", "-o", &out, "--no-measure"]);
    assert!(done.stderr.contains(&format!("wrote {out} (")), "{}", done.stderr);
    assert!(done.stderr.contains("bits per weight; tensors took"), "{}", done.stderr);
    assert_eq!(done.ok(), "");
    let shown = run(&["show", &out]).ok();
    assert!(shown.contains("Q8_0"), "{shown}");

    // What is quantized already is told, and so is what does not fit.
    let again = path("again.gguf");
    let done = run(&["quantize", &out, "--to", "q4_k_m", "-o", &again, "--no-measure", "--verbose"]);
    assert!(done.stderr.contains("the source was quantized already (Q8_0)"), "{}", done.stderr);
    assert!(done.stderr.contains("are stored in the next larger format that fits"), "{}", done.stderr);
    assert!(done.stderr.contains("blk.0.ffn_up.weight: Q8_0 -> Q5_0"), "{}", done.stderr);
    done.ok();

    let told = run(&["quantize", &golden.path, "--to", "q4_0", "--tensor", "attn_v=q8_0", "--dry-run"]).ok();
    let line =
        told.lines().find(|line| line.starts_with("blk.1.attn_v.weight")).expect("a line for each tensor");
    assert!(line.contains("F32") && line.contains("Q8_0"), "{line}");
    assert!(told.ends_with("bits per weight\n"), "{told}");
}

#[test]
fn what_cannot_be_quantized_is_said() {
    let place = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| place.path().join(name).display().to_string();
    let golden = Golden::new("llama-gqa-llama3");
    let (model, new, there) = (golden.path.as_str(), path("new.gguf"), path("there.gguf"));
    fs::write(&there, "something").expect("a file");
    for (arguments, code, part) in [
        (&["quantize", model, "--to", "q4_km", "-o", &new][..], 2, "did you mean q4_k_m?"),
        (
            &["quantize", model, "--to", "q4_0", "-o", &path("new.bin")],
            2,
            "give the new file a name that ends in .gguf",
        ),
        (
            &["quantize", model, "--to", "q4_0", "--tensor", "attn_v", "-o", &new],
            2,
            "write a pattern and a format",
        ),
        (&["quantize", model, "--to", "q4_0", "--tensor", "a=q4_k_m", "-o", &new], 2, "did you mean q4_k?"),
        (&["quantize", model, "--to", "q4_0", "-o", &there], 1, "there is something of that name already"),
        (&["quantize", &path("none.gguf"), "--to", "q4_0"], 1, "there is no such file"),
        (
            &["quantize", model, "--to", "q4_0", "--imatrix", &there, "-o", &new],
            1,
            "cannot be used as an importance matrix",
        ),
        (&["quantize", model, "-o", &new], 2, "--to <TYPE>"),
        (&["imatrix", model, "--file", &path("none.txt")], 1, "cannot read the file"),
    ] {
        let got = run(arguments);
        assert_eq!(got.code, Some(code), "{arguments:?}: {}", got.stderr);
        assert!(got.stderr.contains(part), "{arguments:?}: `{part}` is not in: {}", got.stderr);
    }
    assert!(!place.path().join("new.gguf").exists());
}
