//! Formats of tensors against llama-quantize's choices in `tests/golden/mixes.txt`, see `tests/make_mixes.py`.
#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::collections::BTreeMap;

use whit_base::{Bytes, DType};
use whit_files::GgufWriter;

use super::source::Source;
use super::{Choice, Formats, Mix, TensorRule, plan};

/// A model of `make_mixes.py`.
struct Shape {
    name: &'static str,
    architecture: &'static str,
    n_layers: usize,
    width: usize,
    n_ff: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_experts: usize,
    has_output: bool,
    is_fused: bool,
}

const fn llama(name: &'static str, n_layers: usize, width: usize, n_ff: usize) -> Shape {
    let (n_heads, n_kv_heads) = (4, 4);
    Shape {
        name,
        architecture: "llama",
        n_layers,
        width,
        n_ff,
        n_heads,
        n_kv_heads,
        n_experts: 0,
        has_output: false,
        is_fused: false,
    }
}

const SHAPES: [Shape; 7] = [
    Shape { n_heads: 8, n_kv_heads: 2, has_output: true, ..llama("grouped", 24, 256, 256) },
    llama("tied", 19, 256, 256),
    Shape { n_heads: 3, n_kv_heads: 1, ..llama("narrow", 17, 96, 256) },
    Shape { n_heads: 3, n_kv_heads: 3, has_output: true, ..llama("odd", 9, 48, 64) },
    Shape { n_heads: 8, n_kv_heads: 2, n_experts: 8, has_output: true, ..llama("eight", 10, 256, 256) },
    Shape { n_experts: 4, has_output: true, ..llama("four", 10, 256, 256) },
    Shape { architecture: "gpt2", is_fused: true, ..llama("fused", 12, 256, 256) },
];

impl Shape {
    fn source(&self) -> Source {
        let Shape { n_layers, width, n_ff, n_experts, .. } = *self;
        let n_kv = width / self.n_heads * self.n_kv_heads;
        let mut tensors =
            vec![("token_embd".to_owned(), vec![32, width]), ("output_norm".to_owned(), vec![width])];
        if self.has_output {
            tensors.push(("output".to_owned(), vec![32, width]));
        }
        // The file's order is not the layers'.
        for i in (0..n_layers).rev() {
            let mut add =
                |name: &str, shape: &[usize]| tensors.push((format!("blk.{i}.{name}"), shape.to_vec()));
            add("attn_norm", &[width]);
            if self.is_fused {
                add("attn_qkv", &[3 * width, width]);
            } else {
                add("attn_q", &[width, width]);
                add("attn_k", &[n_kv, width]);
                add("attn_v", &[n_kv, width]);
            }
            add("attn_output", &[width, width]);
            add("ffn_norm", &[width]);
            let (of, experts) = if n_experts > 0 { ("_exps", vec![n_experts]) } else { ("", vec![]) };
            if n_experts > 0 {
                add("ffn_gate_inp", &[n_experts, width]);
            }
            let shaped = |shape: [usize; 2]| [&experts[..], &shape].concat();
            if !self.is_fused {
                add(&format!("ffn_gate{of}"), &shaped([n_ff, width]));
            }
            add(&format!("ffn_up{of}"), &shaped([n_ff, width]));
            add(&format!("ffn_down{of}"), &shaped([width, n_ff]));
        }
        let mut writer = GgufWriter::new();
        let key = |name: &str| format!("{}.{name}", self.architecture);
        writer.set("general.architecture", self.architecture);
        for (name, n) in [
            ("block_count", n_layers),
            ("attention.head_count", self.n_heads),
            ("attention.head_count_kv", self.n_kv_heads),
            ("expert_count", n_experts),
        ] {
            writer.set(&key(name), n as u32);
        }
        let zeros = Bytes::from_vec(vec![0; 4 * 8 * 256 * 256]);
        let mut data = Vec::new();
        for (name, shape) in tensors {
            writer.declare(&format!("{name}.weight"), DType::F32, &shape);
            data.push(zeros.slice(0..4 * shape.iter().product::<usize>()).unwrap());
        }
        Source::of(&writer.assemble(self.name, 0, data).unwrap())
    }
}

fn planned(source: &Source, formats: &Formats, has_importance: bool) -> Vec<Choice> {
    plan::plan(&source.metadata, &source.tensors, formats, has_importance).unwrap()
}

/// `3*Q4_K,Q6_K`, one after the other.
fn expanded(text: &str) -> Vec<String> {
    let repeated = |part: &str| {
        let (n, name) = part.split_once('*').unwrap_or(("1", part));
        vec![name.to_owned(); n.parse().unwrap()]
    };
    text.split(',').flat_map(repeated).collect()
}

#[test]
fn mixes_are_the_fields() {
    let golden = include_str!("../../tests/golden/mixes.txt");
    let sources: BTreeMap<&str, Source> = SHAPES.iter().map(|shape| (shape.name, shape.source())).collect();
    let mut n_checked = 0;
    for line in golden.lines() {
        let mut words = line.split(' ');
        let (model, file_type, imatrix) =
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let mix: Mix = file_type.parse().unwrap();
        if mix == Mix::MXFP4 && !["eight", "four"].contains(&model) {
            // Where llama.cpp makes it Q8_0.
            continue;
        }
        let choices = planned(&sources[model], &Formats::of(mix), imatrix == "imatrix");
        for word in words {
            let (kind, expected) = word.split_once('=').unwrap();
            let in_layer = |layer: usize| {
                let name = match kind {
                    "output" | "token_embd" => format!("{kind}.weight"),
                    _ => format!("blk.{layer}.{kind}.weight"),
                };
                choices.iter().find(|choice| choice.tensor == name).unwrap()
            };
            for (layer, expected) in expanded(expected).into_iter().enumerate() {
                let choice = in_layer(layer);
                // Of two formats of one size, llama.cpp takes the worse.
                let differs = matches!(choice.wanted, DType::Q2_K | DType::Q3_K) && expected == "Q4_0";
                let expected = if differs { "IQ4_NL" } else { &expected };
                assert_eq!(choice.to.name(), expected, "{model} {file_type} {imatrix}: {}", choice.tensor);
                n_checked += 1;
            }
        }
    }
    assert!(n_checked > 30_000, "{n_checked} tensors are too few");
}

#[test]
fn what_the_user_says_comes_before_the_mix() {
    let rule = |pattern, format| TensorRule::new(pattern, format).unwrap();
    let base = || Formats::of(Mix::Q4_K_M);
    let tied = SHAPES[1].source();
    let untied = SHAPES[0].source();
    for (source, formats, tensor, expected) in [
        (&tied, base(), "token_embd.weight", DType::Q6_K),
        (&tied, Formats { pure: true, ..base() }, "token_embd.weight", DType::Q4_K),
        (&tied, Formats { pure: true, ..base() }, "blk.0.attn_v.weight", DType::Q4_K),
        (&tied, Formats { output: Some(DType::Q8_0), ..base() }, "token_embd.weight", DType::Q8_0),
        (&untied, Formats { output: Some(DType::Q8_0), ..base() }, "token_embd.weight", DType::Q4_K),
        (&untied, Formats { output: Some(DType::Q8_0), ..base() }, "output.weight", DType::Q8_0),
        (&untied, Formats { embedding: Some(DType::Q8_0), ..base() }, "token_embd.weight", DType::Q8_0),
        (&untied, Formats { embedding: Some(DType::Q8_0), ..base() }, "output.weight", DType::Q6_K),
        (
            &tied,
            Formats {
                rules: vec![rule(r"blk\.[01]\.attn_v", DType::F16), rule("attn", DType::Q8_0)],
                ..base()
            },
            "blk.1.attn_v.weight",
            DType::F16,
        ),
        (
            &tied,
            Formats {
                rules: vec![rule(r"blk\.[01]\.attn_v", DType::F16), rule("attn", DType::Q8_0)],
                ..base()
            },
            "blk.2.attn_v.weight",
            DType::Q8_0,
        ),
        // What is never quantized stays.
        (
            &tied,
            Formats { rules: vec![rule("norm", DType::Q8_0)], ..base() },
            "blk.0.attn_norm.weight",
            DType::F32,
        ),
    ] {
        let choices = planned(source, &formats, false);
        let got = choices.iter().find(|choice| choice.tensor == tensor).unwrap();
        assert_eq!(got.to, expected, "{tensor} by {formats:?}");
    }
}

#[test]
fn a_pattern_that_is_none_is_said() {
    let said = TensorRule::new("attn_(v", DType::Q8_0).unwrap_err().to_string();
    assert!(said.starts_with("`attn_(v` is no regular expression"), "{said}");
}
