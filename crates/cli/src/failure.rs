//! How a command ends when it does not end well: exit codes, and the form of a message.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; also when the reader of standard output went away |
//! | 1 | something failed |
//! | 2 | the command line makes no sense |
//! | 101 | a defect of the program: a panic |
//! | 130 | interrupted with Ctrl-C |
//!
//! Errors of the crates below read `what is wrong; what to do`, with what others said on further lines. Here that
//! becomes an error, a blank line, and a hint.

use std::fmt;
use std::io::{self, IsTerminal as _};

pub(crate) const OK: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const USAGE: i32 = 2;
pub(crate) const INTERRUPTED: i32 = 130;

/// The command line makes no sense in a way that the parser cannot see.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The user pressed Ctrl-C. What there was to say has been said.
#[derive(Debug)]
pub(crate) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Says on standard error what went wrong, and gives the exit code.
pub(crate) fn report(result: anyhow::Result<()>) -> i32 {
    let Err(error) = result else { return OK };
    if error.is::<Interrupted>() {
        return INTERRUPTED;
    }
    let is_pipe = |e: &io::Error| e.kind() == io::ErrorKind::BrokenPipe;
    if error.downcast_ref::<io::Error>().is_some_and(is_pipe) {
        return OK;
    }
    say(&error);
    if error.is::<Usage>() { USAGE } else { FAILED }
}

/// Prints an error with its hint.
pub(crate) fn say(error: &anyhow::Error) {
    // Everything else that is read or written says where in its own error.
    let place = if error.is::<io::Error>() { "standard output: " } else { "" };
    let (problem, hint) = split(&format!("{place}{error}"));
    let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (error, hint_word) =
        if colour { ("\x1b[1;31merror:\x1b[0m", "\x1b[1;36mhint:\x1b[0m") } else { ("error:", "hint:") };
    match hint {
        Some(hint) => note!("{error} {problem}\n\n{hint_word} {hint}"),
        None => note!("{error} {problem}"),
    }
}

/// `what is wrong; what to do\ndetails` as (`what is wrong\ndetails`, `what to do`).
fn split(message: &str) -> (String, Option<String>) {
    let (line, details) = message.split_once('\n').unwrap_or((message, ""));
    let (problem, hint) = match line.split_once("; ") {
        Some((problem, hint)) => (problem, Some(hint.to_owned())),
        None => (line, None),
    };
    let details = details.trim_end();
    let problem = if details.is_empty() { problem.to_owned() } else { format!("{problem}\n{details}") };
    (problem, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_split_into_problem_and_hint() {
        for (message, problem, hint) in [
            ("it broke", "it broke", None),
            ("it broke; mend it", "it broke", Some("mend it")),
            ("it broke; mend it; or not", "it broke", Some("mend it; or not")),
            ("it broke; mend it\npip said: a; b\n", "it broke\npip said: a; b", Some("mend it")),
            ("it broke\npip said: a; b", "it broke\npip said: a; b", None),
        ] {
            assert_eq!(split(message), (problem.to_owned(), hint.map(str::to_owned)), "{message}");
        }
    }

    #[test]
    fn exit_codes() {
        let io = |kind| anyhow::Error::new(io::Error::from(kind));
        for (result, code) in [
            (Ok(()), OK),
            (Err(anyhow::anyhow!("x")), FAILED),
            (Err(Usage("x".into()).into()), USAGE),
            (Err(Interrupted.into()), INTERRUPTED),
            (Err(io(io::ErrorKind::BrokenPipe)), OK),
            (Err(io(io::ErrorKind::StorageFull)), FAILED),
        ] {
            assert_eq!(report(result), code);
        }
    }
}
