//! What is compared: the rows of the table, and which of them each model gets when nobody says otherwise.

use anyhow::bail;
use serde_json::{Value, json};

use crate::serving::SMOLLM2;

/// A row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Row {
    /// A prompt of `n` tokens is read.
    Prompt { n: usize },
    /// `n` tokens are generated, behind `depth` others.
    Generate { n: usize, depth: usize },
    /// So many sequences generate `n` tokens each in one batch, behind `depth` others each.
    Parallel { n: usize, depth: usize, sequences: usize },
    /// So many HTTP clients at once ask what [`load`](crate::load) asks, this often in all.
    Clients { clients: usize, requests: usize },
}

/// Names that `--rows` takes.
pub(crate) const NAMES: [&str; 5] = ["prompt", "generate", "depth", "parallel", "clients"];

impl Row {
    /// The row of a name; `n` tokens are generated where one sequence does.
    pub(crate) fn named(name: &str, n: usize) -> anyhow::Result<Row> {
        Ok(match name {
            "prompt" => Row::Prompt { n: 512 },
            "generate" => Row::Generate { n, depth: 0 },
            "depth" => Row::Generate { n: 64, depth: 4096 },
            "parallel" => Row::Parallel { n: 128, depth: 128, sequences: 8 },
            "clients" => Row::Clients { clients: 8, requests: 16 },
            _ => bail!("no row is called `{name}`; there are {}", NAMES.join(", ")),
        })
    }

    /// For the table.
    pub(crate) fn title(&self) -> String {
        match self {
            Row::Prompt { n } => format!("prompt {n}"),
            Row::Generate { n, depth: 0 } => format!("generate {n}"),
            Row::Generate { n, depth } => format!("generate {n} at depth {depth}"),
            Row::Parallel { n, depth, sequences } => {
                format!("{sequences} sequences in a batch, {n} tokens each behind {depth}")
            }
            Row::Clients { clients, .. } => format!("{clients} HTTP clients"),
        }
    }

    pub(crate) fn json(&self) -> Value {
        match *self {
            Row::Prompt { n } => json!({"row": "prompt", "n": n}),
            Row::Generate { n, depth } => json!({"row": "generate", "n": n, "depth": depth}),
            Row::Parallel { n, depth, sequences } => {
                json!({"row": "parallel", "n": n, "depth": depth, "sequences": sequences})
            }
            Row::Clients { clients, requests } => {
                json!({"row": "clients", "clients": clients, "requests": requests})
            }
        }
    }
}

/// Models of the catalog that are compared when none is named, the tokens that each generates, and their rows.
pub(crate) const TABLE: [(&str, usize, &[&str]); 3] = [
    (SMOLLM2, 128, &NAMES),
    ("gemma3:270m", 64, &["prompt", "generate"]),
    ("qwen2.5-coder:1.5b", 64, &["prompt", "generate", "depth"]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known() {
        for (_, n, names) in TABLE {
            for name in names {
                assert!(Row::named(name, n).is_ok(), "{name}");
            }
        }
        assert!(Row::named("dance", 1).is_err());
    }
}
