//! The program in a pseudo-terminal, whose other end the test holds.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Terminal {
    child: Child,
    keys: File,
    shown: Receiver<Vec<u8>>,
    /// What was shown and not yet looked at, without sequences that steer.
    unread: String,
}

impl Terminal {
    /// Runs the program in a terminal of so many columns.
    pub(crate) fn run(home: &Path, columns: u16, arguments: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 40, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).expect("a pseudo-terminal");
        let slave = || pair.slave.try_clone().expect("a handle");
        let mut command = crate::common::command(home);
        command.env("TERM", "xterm").env_remove("NO_COLOR");
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.args(arguments).spawn().expect("the program starts");
        drop((command, pair.slave));
        let keys = File::from(pair.master.try_clone().expect("a handle"));
        let mut screen = File::from(pair.master);
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Ends, on Linux with an error, when nobody has the other end any more.
            while let Ok(n @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keys, shown, unread: String::new() }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a terminal that takes keys");
    }

    /// Waits until `text` is shown; gives what came before it.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = self.unread.find(text) {
                let rest = self.unread.split_off(at + text.len());
                let before = std::mem::replace(&mut self.unread, rest);
                return before[..at].to_owned();
            }
            match self.shown.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.unread.push_str(&plain(&bytes)),
                Err(RecvTimeoutError::Timeout) => panic!("`{text}` does not come: {}", self.unread),
                Err(RecvTimeoutError::Disconnected) => panic!("`{text}` never came: {}", self.unread),
            }
        }
    }

    /// Types a line at the chat's prompt, and gives what comes of it, up to the next prompt.
    #[track_caller]
    pub(crate) fn ask(&mut self, line: &str) -> String {
        self.press(line);
        self.press("\r");
        // What is typed is shown; what comes of it begins on a line of its own.
        self.until("\r\n");
        let answer = self.until(">>> ");
        answer.replace('\r', "")
    }

    /// The program's end.
    pub(crate) fn end(mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end");
            // Its output is taken off its hands.
            let _ = self.shown.recv_timeout(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Of one that has ended nothing is left to be killed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is shown, without sequences that steer the terminal. One that is cut between two reads leaves its rest.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::new();
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c != '\x1b' {
            out.push(c);
        } else if rest.next_if_eq(&'[').is_some() {
            while rest.next().is_some_and(|c| !c.is_ascii_alphabetic()) {}
        }
    }
    out
}
