//! A store in a folder of its own, and a model of bytes that do not repeat.

use std::time::Duration;

use tempfile::TempDir;
use whit_hub::{Config, Network, Store};

/// Bytes that begin as a model does: a linear congruential generator.
pub(crate) fn model(len: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut model = b"GGUF".to_vec();
    model.extend((4..len).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    }));
    model
}

pub(crate) struct Home {
    pub(crate) folder: TempDir,
    pub(crate) config: Config,
}

impl Home {
    /// A store that trusts these origins, loses patience soon and sends small pieces.
    pub(crate) fn new(trusted: &[String]) -> Home {
        let folder = tempfile::tempdir().unwrap();
        let network = Network {
            trusted: trusted.to_vec(),
            piece: 1000,
            connect: Duration::from_secs(3),
            stall: Duration::from_millis(300),
            backoff: Duration::from_millis(1),
            ..Network::default()
        };
        let config = Config { network, ..Config::new(folder.path().join("home")) };
        Home { folder, config }
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(self.config.clone())
    }

    /// A file in the folder.
    pub(crate) fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}
