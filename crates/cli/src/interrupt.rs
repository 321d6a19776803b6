//! Ctrl-C: ends the answer that is being made. With none, or if that answer does not end, it ends the program.

use std::process::exit;
use std::sync::{Mutex, PoisonError};

use whit_engine::CancelToken;

use crate::failure::INTERRUPTED;

static CURRENT: Mutex<Option<CancelToken>> = Mutex::new(None);

/// While it lives, Ctrl-C sets its token.
pub(crate) struct Answering(());

impl Answering {
    pub(crate) fn new(token: &CancelToken) -> Answering {
        *current() = Some(token.clone());
        Answering(())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        *current() = None;
    }
}

fn current() -> std::sync::MutexGuard<'static, Option<CancelToken>> {
    CURRENT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes Ctrl-C over. Where the system does not allow it, Ctrl-C goes on ending the program.
pub(crate) fn install() {
    let result = ctrlc::set_handler(|| match current().take() {
        Some(token) => token.cancel(),
        None => {
            note!();
            exit(INTERRUPTED)
        }
    });
    if let Err(error) = result {
        tracing::warn!(%error, "Ctrl-C cannot be handled");
    }
}
