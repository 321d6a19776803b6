//! A server to be measured: Whit's own, or a peer's by its command line.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::client::{self, Ask};
use crate::serving;

/// A peer that does not answer by then never will.
const START: Duration = Duration::from_secs(120);

/// What can be started.
pub(crate) enum Engine {
    /// The program, and what follows `whit serve --parallel {clients}`.
    Whit(PathBuf, Vec<String>),
    /// Its name, and its command with `{model}`, `{port}` and `{clients}` in it.
    Peer(String, String),
}

/// One that runs; dropping it ends it.
pub(super) struct Running {
    pub(super) address: String,
    process: Process,
}

enum Process {
    Whit(serving::Server),
    Peer(Child),
}

impl Engine {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Whit(..) => "whit",
            Self::Peer(name, _) => name,
        }
    }

    /// The command as it stands in a receipt: without folders, and without what changes from run to run.
    pub(crate) fn command_line(&self) -> String {
        match self {
            Self::Whit(_, args) => {
                ["whit serve --parallel {clients}", &args.join(" ")].join(" ").trim_end().to_owned()
            }
            Self::Peer(_, command) => match command.split_once(' ') {
                Some((program, rest)) => format!("{} {rest}", last(program)),
                None => last(command).to_owned(),
            },
        }
    }

    /// Starts it for so many clients at once, with a model of the catalog and its file, and lets it answer once.
    pub(super) fn start(&self, (name, model): (&str, &Path), n_clients: usize) -> anyhow::Result<Running> {
        let running = match self {
            Self::Whit(program, args) => {
                let n_clients = n_clients.to_string();
                let args = ["--parallel", &n_clients].into_iter().chain(args.iter().map(String::as_str));
                let server = serving::Server::start(program, &[name], &args.collect::<Vec<_>>())?;
                let address = server.url().trim_start_matches("http://").to_owned();
                Running { address, process: Process::Whit(server) }
            }
            Self::Peer(peer, command) => {
                // Free a moment ago, which is as good as can be had from outside.
                let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let fill = |word: &str| {
                    let word = word
                        .replace("{model}", &model.to_string_lossy())
                        .replace("{port}", &port.to_string());
                    word.replace("{clients}", &n_clients.to_string())
                };
                let mut words = command.split_whitespace().map(fill);
                let program = words.next().with_context(|| format!("peer {peer} has no command"))?;
                // Some leave a log behind where they are started, so elsewhere; a bare name is looked up as ever.
                let mut command = Command::new(Path::new(&program).canonicalize().unwrap_or(program.into()));
                command.current_dir(std::env::temp_dir());
                command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let child = command.spawn().with_context(|| format!("cannot start {peer}"))?;
                Running { address: format!("127.0.0.1:{port}"), process: Process::Peer(child) }
            }
        };
        running.warm_up(name).with_context(|| format!("{} does not answer", self.name()))
    }
}

fn last(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

impl Running {
    /// Asks until there is an answer: a peer may listen before it has its model.
    fn warm_up(mut self, model: &str) -> anyhow::Result<Self> {
        let begin = Instant::now();
        let ask = Ask { model, system: None, user: "Hello", n_tokens: 4 };
        loop {
            let error = match client::ask(&self.address, &ask) {
                Ok(_) => return Ok(self),
                Err(error) => error,
            };
            if let Process::Peer(child) = &mut self.process
                && let Some(status) = child.try_wait()?
            {
                bail!("it ended ({status})");
            }
            if begin.elapsed() > START {
                return Err(error);
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Bytes of memory that belong to it alone: what of the model's file is mapped does not count. Only where the system
    /// tells, which is Linux.
    pub(super) fn memory(&self) -> Option<u64> {
        let id = match &self.process {
            Process::Whit(server) => server.id(),
            Process::Peer(child) => child.id(),
        };
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    }

    /// Ends it; an error if it had ended before.
    pub(super) fn end(mut self) -> anyhow::Result<()> {
        match &mut self.process {
            Process::Whit(_) => {}
            Process::Peer(child) => {
                if let Some(status) = child.try_wait()? {
                    bail!("the server ended by itself ({status})");
                }
            }
        }
        match self.process {
            Process::Whit(server) => server.end(Ok(())),
            Process::Peer(ref mut child) => {
                child.kill()?;
                child.wait()?;
                Ok(())
            }
        }
    }
}
