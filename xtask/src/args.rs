//! The command line: words, `--name value` pairs, and what follows `--`.

use anyhow::{Context as _, bail};

/// Arguments not yet taken.
pub(crate) struct Args {
    left: Vec<String>,
    /// What stood behind `--`.
    pub(crate) rest: Vec<String>,
}

impl Args {
    pub(crate) fn new(args: impl Iterator<Item = String>) -> Self {
        let mut left: Vec<String> = args.collect();
        let rest = match left.iter().position(|arg| arg == "--") {
            Some(at) => {
                let rest = left.split_off(at + 1);
                left.pop();
                rest
            }
            None => Vec::new(),
        };
        Self { left, rest }
    }

    /// The next argument, whatever it is.
    pub(crate) fn word(&mut self) -> Option<String> {
        (!self.left.is_empty()).then(|| self.left.remove(0))
    }

    /// Whether the switch was given.
    pub(crate) fn switch(&mut self, name: &str) -> bool {
        let at = self.left.iter().position(|arg| arg == name);
        at.map(|at| self.left.remove(at)).is_some()
    }

    /// The value of `--name value` or `--name=value`.
    pub(crate) fn value(&mut self, name: &str) -> anyhow::Result<Option<String>> {
        for at in 0..self.left.len() {
            if let Some(value) = self.left[at].strip_prefix(name).and_then(|rest| rest.strip_prefix('=')) {
                let value = value.to_owned();
                self.left.remove(at);
                return Ok(Some(value));
            }
            if self.left[at] == name {
                if at + 1 == self.left.len() {
                    bail!("{name} wants a value");
                }
                self.left.remove(at);
                return Ok(Some(self.left.remove(at)));
            }
        }
        Ok(None)
    }

    /// The value of `--name`, as a number.
    pub(crate) fn number(&mut self, name: &str, otherwise: usize) -> anyhow::Result<usize> {
        match self.value(name)? {
            Some(text) => text.parse().with_context(|| format!("{name} wants a number, not `{text}`")),
            None => Ok(otherwise),
        }
    }

    /// Fails when something is left that nobody took.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        match self.left.first() {
            Some(arg) => bail!("unknown argument `{arg}`\n\nhint: cargo xtask help"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::new(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn taken_in_any_order() {
        let mut a = args("test --threads 3 --only=fmt,deps --render -- -p whit-sample --threads");
        assert_eq!(a.word().unwrap(), "test");
        assert_eq!(a.value("--only").unwrap().unwrap(), "fmt,deps");
        assert_eq!(a.number("--threads", 9).unwrap(), 3);
        assert_eq!(a.number("--rounds", 9).unwrap(), 9);
        assert!(a.switch("--render"));
        assert_eq!(a.rest, ["-p", "whit-sample", "--threads"]);
        a.finish().unwrap();
    }

    #[test]
    fn mistakes() {
        assert!(args("--only").value("--only").is_err());
        assert!(args("--threads many").number("--threads", 1).is_err());
        assert!(args("--sure").finish().is_err());
    }
}
