//! What has been answered of a batch: one record a line, appended and synced as soon as there is one. A record that was cut
//! off by a kill is no record: it is removed, and its request is asked again.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RequestCounts;

/// An answer, and to which line.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) number: usize,
    /// Whether it belongs to the output, not to the errors.
    pub(super) is_good: bool,
    pub(super) answer: Value,
}

/// An open journal.
pub(super) struct Journal {
    file: File,
    /// By the number of the line.
    places: BTreeMap<usize, Place>,
    /// How many belong to the output.
    n_good: usize,
    /// Bytes that are whole.
    length: u64,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    length: usize,
    is_good: bool,
}

impl Journal {
    /// Reads what there is in `file`, which appends. Everything after the last whole record is cut off.
    pub(super) fn open(file: File) -> io::Result<Journal> {
        let mut reader = BufReader::new(file);
        reader.seek(SeekFrom::Start(0))?;
        let mut places = BTreeMap::new();
        let mut length = 0;
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            let record = line.strip_suffix(b"\n").map(serde_json::from_slice::<Record>);
            let Some(Ok(record)) = record else { break };
            let place = Place { offset: length, length: line.len(), is_good: record.is_good };
            places.entry(record.number).or_insert(place);
            length += line.len() as u64;
            line.clear();
        }
        let file = reader.into_inner();
        file.set_len(length)?;
        let n_good = places.values().filter(|place: &&Place| place.is_good).count();
        Ok(Journal { file, places, n_good, length })
    }

    /// Whether a line has been answered.
    pub(super) fn has(&self, number: usize) -> bool {
        self.places.contains_key(&number)
    }

    /// Of `total` requests.
    pub(super) fn counts(&self, total: usize) -> RequestCounts {
        RequestCounts { total, completed: self.n_good, failed: self.places.len() - self.n_good }
    }

    /// Writes down an answer. When it returns, the answer outlives the machine.
    pub(super) fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        let place = Place { offset: self.length, length: line.len(), is_good: record.is_good };
        self.places.insert(record.number, place);
        self.n_good += usize::from(record.is_good);
        self.length += line.len() as u64;
        Ok(())
    }

    /// The answers of one kind, in the order of the lines.
    pub(super) fn answers(&mut self, good: bool) -> impl Iterator<Item = io::Result<Value>> {
        let file = &mut self.file;
        self.places.values().filter(move |place| place.is_good == good).map(move |place| {
            let mut line = vec![0; place.length];
            file.seek(SeekFrom::Start(place.offset))?;
            file.read_exact(&mut line)?;
            Ok(serde_json::from_slice::<Record>(&line)?.answer)
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use std::fs::OpenOptions;

    use serde_json::json;

    use super::*;

    #[test]
    fn half_a_record_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let open = || {
            let file = OpenOptions::new().read(true).append(true).create(true).open(&path).unwrap();
            Journal::open(file).unwrap()
        };
        let record = |number: usize, is_good: bool| Record { number, is_good, answer: json!({"of": number}) };
        let mut journal = open();
        for (number, is_good) in [(3, true), (1, false), (2, true)] {
            journal.append(&record(number, is_good)).unwrap();
        }
        let whole = std::fs::read(&path).unwrap();
        // Cut anywhere within the last record, also right before the end of its line, and followed by rubbish.
        let before = whole[..whole.len() - 1].iter().rposition(|&b| b == b'\n').unwrap() + 1;
        for cut in before..whole.len() {
            std::fs::write(&path, [&whole[..cut], if cut % 2 == 0 { b"" } else { b"\0\0\n" }].concat())
                .unwrap();
            let mut journal = open();
            assert_eq!([1, 2, 3].map(|number| journal.has(number)), [true, false, true], "{cut}");
            journal.append(&record(2, true)).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{cut}");
            let answers: Vec<Value> = journal.answers(true).map(Result::unwrap).collect();
            assert_eq!(answers, [json!({"of": 2}), json!({"of": 3})]);
        }
        let mut journal = open();
        assert_eq!(journal.counts(5), RequestCounts { total: 5, completed: 2, failed: 1 });
        assert_eq!(journal.answers(false).map(Result::unwrap).collect::<Vec<_>>(), [json!({"of": 1})]);
    }
}
