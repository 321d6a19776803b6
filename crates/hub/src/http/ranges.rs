//! Downloading one large file in pieces, several at a time, onto the end of a partial file in order.
//!
//! A piece that breaks off goes on where it stopped; one that arrives damaged is fetched again alone. Damage shows at once
//! where the place gives digests of pieces (a list of sums, or `Content-Digest`, RFC 9530), else when the whole is checked:
//! then each piece is fetched again and compared until the bad one is found. A place that serves no ranges is read from the
//! beginning to the end.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ureq::http::Uri;
use ureq::http::header::{CONTENT_RANGE, ETAG, HeaderName, IF_RANGE, RANGE, RETRY_AFTER};

use super::{ATTEMPTS, Client, Request, Response, interrupted, is_busy, place_of, sleep};
use crate::HubError;
use crate::digest::Digest;
use crate::progress::{Phase, Progress, Report};
use crate::staging::Staging;

/// Pieces fetched at a time.
const AT_A_TIME: usize = 4;
/// Pieces in memory at most: those on their way, and those that wait for one before them.
const WINDOW: usize = 8;
/// The largest piece that a list of sums may ask for.
const MAX_PIECE: u64 = 64 << 20;
/// How often progress is told.
const TICK: Duration = Duration::from_millis(100);
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// A file somewhere.
pub(crate) struct Remote<'a> {
    pub(crate) client: &'a Client,
    /// Asks once, with whatever login the place needs.
    pub(crate) ask: &'a (dyn Fn(&Request<'_>) -> Result<Response, HubError> + Sync),
    pub(crate) url: Uri,
    /// What it is called in messages.
    pub(crate) name: &'a str,
    pub(crate) size: u64,
    /// What it must be, where that is known.
    pub(crate) digest: Option<Digest>,
    /// What tells this content from later ones, where no digest does.
    pub(crate) etag: Option<String>,
    /// Digests of pieces, in order and without gaps.
    pub(crate) sums: Vec<Sum>,
}

/// The digest of a piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) start: u64,
    /// Past the last byte.
    pub(crate) end: u64,
    pub(crate) digest: Digest,
}

/// A piece to fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    start: u64,
    end: u64,
    digest: Option<Digest>,
}

/// Why fetching stopped.
enum Stop {
    /// The place answers a range with everything.
    NoRanges,
    Failed(HubError),
}

impl From<HubError> for Stop {
    fn from(error: HubError) -> Stop {
        Stop::Failed(error)
    }
}

/// What the fetching threads share.
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    cancelled: AtomicBool,
    /// Bytes that arrived in this run.
    arrived: AtomicU64,
    /// Where redirects led, so that not every piece asks the first place again.
    direct: Mutex<Option<Uri>>,
}

#[derive(Default)]
struct State {
    /// The next piece that nobody fetches yet.
    next: usize,
    /// Pieces that are in the partial file.
    appended: usize,
    ready: BTreeMap<usize, Vec<u8>>,
    stop: Option<Stop>,
}

impl Remote<'_> {
    /// Fetches what `staging` lacks, and checks the whole where its digest is known.
    pub(crate) fn fetch(&self, staging: &mut Staging, report: Report<'_>) -> Result<(), HubError> {
        if staging.len() > self.size {
            staging.clear()?;
        }
        let pieces = pieces(staging.len(), self.size, self.client.network().piece.max(1), &self.sums);
        let ranged = match self.in_pieces(&pieces, staging, report) {
            Ok(()) => true,
            Err(Stop::NoRanges) => {
                self.in_one(staging, report)?;
                false
            }
            Err(Stop::Failed(error)) => return Err(error),
        };
        let Some(expected) = &self.digest else { return Ok(()) };
        let mut got = staging.digest();
        // Sums have proven every piece to be what the place has.
        if got != *expected && ranged && self.sums.is_empty() {
            self.mend(staging, expected)?;
            got = staging.digest();
        }
        if got == *expected {
            return Ok(());
        }
        let got_size = staging.len();
        staging.clear()?;
        Err(HubError::WrongContent {
            name: self.name.to_owned(),
            expected: expected.hex().to_owned(),
            expected_size: self.size,
            got: got.hex().to_owned(),
            got_size,
        })
    }

    fn in_pieces(&self, pieces: &[Piece], staging: &mut Staging, report: Report<'_>) -> Result<(), Stop> {
        let kept = staging.len();
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            direct: Mutex::default(),
        };
        let mut done = kept;
        let mut tell = |parts_done: usize| {
            // A piece that is fetched again counts once.
            done = done.max((kept + shared.arrived.load(Ordering::Relaxed)).min(self.size));
            let (total, n_parts) = (Some(self.size), pieces.len());
            report(Progress { phase: Phase::Downloading, done, total, kept, parts_done, n_parts });
        };
        std::thread::scope(|scope| {
            // However this ends, the threads end.
            let _guard = CancelOnDrop(&shared);
            for _ in 0..AT_A_TIME.min(pieces.len()) {
                scope.spawn(|| self.work(pieces, &shared));
            }
            for i in 0..pieces.len() {
                tell(i);
                let bytes = loop {
                    let mut state = lock(&shared.state);
                    if let Some(stop) = state.stop.take() {
                        return Err(stop);
                    }
                    match state.ready.remove(&i) {
                        Some(bytes) => break bytes,
                        None => {
                            drop(shared.changed.wait_timeout(state, TICK));
                            tell(i);
                        }
                    }
                };
                let mut part = staging.part()?;
                part.write(&bytes)?;
                part.settle(bytes.len() as u64)?;
                lock(&shared.state).appended = i + 1;
                shared.changed.notify_all();
            }
            tell(pieces.len());
            Ok(())
        })
    }

    /// Fetches pieces until there are no more.
    fn work(&self, pieces: &[Piece], shared: &Shared) {
        loop {
            let (i, piece) = {
                let mut state = lock(&shared.state);
                let i = loop {
                    let i = state.next;
                    if i >= pieces.len() || shared.cancelled.load(Ordering::Relaxed) {
                        return;
                    }
                    if i < state.appended + WINDOW {
                        break i;
                    }
                    state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                };
                state.next = i + 1;
                (i, &pieces[i])
            };
            let result = self.piece(piece, shared);
            let mut state = lock(&shared.state);
            match result {
                Ok(bytes) => drop(state.ready.insert(i, bytes)),
                Err(stop) => {
                    // The first trouble is the one to tell.
                    state.stop.get_or_insert(stop);
                    shared.cancelled.store(true, Ordering::Relaxed);
                }
            }
            drop(state);
            shared.changed.notify_all();
        }
    }

    /// Fetches a piece, however often that takes.
    fn piece(&self, piece: &Piece, shared: &Shared) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::new();
        let mut attempt = 1;
        loop {
            let trouble = match self.fill(piece, &mut bytes, shared) {
                Ok(None) => return Ok(bytes),
                Ok(Some(wait)) => (None, wait),
                Err(Stop::Failed(error @ (HubError::Interrupted { .. } | HubError::Unreachable { .. }))) => {
                    (Some(error), self.client.wait(attempt, None))
                }
                Err(Stop::Failed(error @ HubError::Garbled { .. })) => {
                    shared.arrived.fetch_sub(bytes.len() as u64, Ordering::Relaxed);
                    bytes.clear();
                    (Some(error), self.client.wait(attempt, None))
                }
                Err(stop) => return Err(stop),
            };
            let (error, wait) = trouble;
            if attempt >= ATTEMPTS || shared.cancelled.load(Ordering::Relaxed) {
                let busy = || HubError::Interrupted {
                    place: place_of(&self.url),
                    problem: "it is busy, and stays so".to_owned(),
                };
                return Err(Stop::Failed(error.unwrap_or_else(busy)));
            }
            tracing::debug!(start = piece.start, attempt, ?wait, "fetching a piece again");
            sleep(wait, &shared.cancelled);
            attempt += 1;
        }
    }

    /// Fetches what `bytes` lacks of a piece, once. Gives how long to wait where the place is busy.
    fn fill(&self, piece: &Piece, bytes: &mut Vec<u8>, shared: &Shared) -> Result<Option<Duration>, Stop> {
        let start = piece.start + bytes.len() as u64;
        let direct = lock(&shared.direct).clone();
        let mut request = Request::get(direct.clone().unwrap_or_else(|| self.url.clone()))
            .header(RANGE, format!("bytes={start}-{}", piece.end - 1));
        if let Some(etag) = self.etag.as_ref().filter(|_| self.digest.is_none()) {
            request = request.header(IF_RANGE, etag.clone());
        }
        let response = (self.ask)(&request)?;
        let place = place_of(&response.url);
        match response.status {
            206 => {
                let range = response.header(&CONTENT_RANGE).unwrap_or_default();
                if !matches_range(range, start, self.size) {
                    let problem = format!("asked for bytes from {start} of {}, it sent `{range}`", self.size);
                    return Err(HubError::BadAnswer { place, problem }.into());
                }
            }
            // All of it, which is all that was asked for.
            200 if start == 0 && piece.end == self.size => {}
            200 if self.etag.is_some() && response.header(&ETAG).map(str::to_owned) != self.etag => {
                let problem = "the file changed while it was fetched; pull again".to_owned();
                return Err(HubError::BadAnswer { place, problem }.into());
            }
            200 => return Err(Stop::NoRanges),
            // The place that was redirected to: its permission runs out in time.
            status @ 400..500 if direct.is_some() && !is_busy(status) => {
                *lock(&shared.direct) = None;
                return Ok(Some(Duration::ZERO));
            }
            status if is_busy(status) => {
                return Ok(Some(self.client.wait(1, response.header(&RETRY_AFTER))));
            }
            _ => return Err(response.failure("pull").into()),
        }
        if response.url != self.url {
            *lock(&shared.direct) = Some(response.url.clone());
        }
        let stated = response.header(&CONTENT_DIGEST).and_then(content_digest).filter(|_| bytes.is_empty());
        read(response, piece.end - start, bytes, &shared.arrived)?;
        // Of the whole piece, or of this answer where it was the whole piece.
        if let Some(digest) = piece.digest.as_ref().or(stated.as_ref())
            && Digest::of(bytes) != *digest
        {
            let start = piece.start;
            return Err(HubError::Garbled {
                place,
                problem: format!("the piece from byte {start} is damaged"),
            }
            .into());
        }
        Ok(None)
    }

    /// Reads everything from the beginning, passing over what is there.
    fn in_one(&self, staging: &mut Staging, report: Report<'_>) -> Result<(), HubError> {
        let kept = staging.len();
        let piece = self.client.network().piece.max(1);
        let never = AtomicBool::new(false);
        let mut attempt = 1;
        loop {
            let result = (|| {
                let response = (self.ask)(&Request::get(self.url.clone()))?;
                let place = place_of(&response.url);
                match response.status {
                    200 => {}
                    status if is_busy(status) => {
                        return Err(HubError::Interrupted {
                            place,
                            problem: "it is busy, and stays so".to_owned(),
                        });
                    }
                    _ => return Err(response.failure("pull")),
                }
                let mut reader = response.reader();
                let there = staging.len();
                let too_soon = || HubError::Interrupted {
                    place: place.clone(),
                    problem: "its answer ended too soon".to_owned(),
                };
                let skipped = std::io::copy(&mut (&mut reader).take(there), &mut std::io::sink());
                if skipped.map_err(|error| interrupted(&place, &error))? != there {
                    return Err(too_soon());
                }
                while staging.len() < self.size {
                    let want = piece.min(self.size - staging.len());
                    let mut bytes = Vec::new();
                    let read = (&mut reader).take(want).read_to_end(&mut bytes);
                    read.map_err(|error| interrupted(&place, &error))?;
                    if bytes.len() as u64 != want {
                        return Err(too_soon());
                    }
                    let mut part = staging.part()?;
                    part.write(&bytes)?;
                    part.settle(want)?;
                    report(Progress {
                        done: staging.len(),
                        total: Some(self.size),
                        kept,
                        ..Progress::new(Phase::Downloading)
                    });
                }
                Ok(())
            })();
            match result {
                Err(HubError::Interrupted { .. }) if attempt < ATTEMPTS => {
                    sleep(self.client.wait(attempt, None), &never);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    /// Fetches the pieces again, one by one, and replaces those that differ, until the whole is right.
    fn mend(&self, staging: &mut Staging, expected: &Digest) -> Result<(), HubError> {
        let shared = Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            cancelled: AtomicBool::new(false),
            arrived: AtomicU64::new(0),
            direct: Mutex::default(),
        };
        tracing::warn!(name = self.name, "a piece arrived damaged; looking for it");
        for i in 0..staging.n_parts() {
            let (start, end) = staging.range(i);
            let bytes = match self.piece(&Piece { start, end, digest: None }, &shared) {
                Ok(bytes) => bytes,
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::NoRanges) => return Ok(()),
            };
            if staging.replace(i, &bytes)? && staging.digest() == *expected {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Ends the fetching threads.
struct CancelOnDrop<'a>(&'a Shared);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        // Under the lock, so that none is between looking and waiting.
        let _state = lock(&self.0.state);
        self.0.changed.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appends exactly `want` bytes of an answer; counts them as they come.
fn read(response: Response, want: u64, bytes: &mut Vec<u8>, arrived: &AtomicU64) -> Result<(), HubError> {
    let place = place_of(&response.url);
    let mut reader = response.reader();
    let mut buffer = [0; 64 << 10];
    let mut left = want;
    while left > 0 {
        let limit = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match reader.read(&mut buffer[..limit]) {
            Ok(0) => {
                let problem = format!("its answer ended {left} bytes too soon");
                return Err(HubError::Interrupted { place, problem });
            }
            Ok(n) => {
                bytes.extend_from_slice(&buffer[..n]);
                left -= n as u64;
                arrived.fetch_add(n as u64, Ordering::Relaxed);
            }
            Err(error) => return Err(interrupted(&place, &error)),
        }
    }
    // Nothing may follow; and read to its end, the connection can be used again.
    match reader.read(&mut buffer[..1]) {
        Ok(0) => Ok(()),
        Ok(_) => {
            let problem = format!("its answer has more than the {want} bytes that were asked for");
            Err(HubError::BadAnswer { place, problem })
        }
        Err(error) => Err(interrupted(&place, &error)),
    }
}

/// Whether `bytes a-b/total` begins where it should, in a file of the right size.
fn matches_range(text: &str, start: u64, size: u64) -> bool {
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let first: u64 = range.split_once('-')?.0.trim().parse().ok()?;
        Some(first == start && (total == "*" || total.parse() == Ok(size)))
    };
    parse().unwrap_or(false)
}

/// The SHA-256 of `Content-Digest: sha-256=:…:`.
fn content_digest(text: &str) -> Option<Digest> {
    let value = text.split(',').find_map(|item| item.trim().strip_prefix("sha-256=:")?.strip_suffix(':'))?;
    Digest::from_hex(&crate::digest::hex(&BASE64.decode(value).ok()?))
}

/// What is left to fetch from `from` on.
fn pieces(from: u64, size: u64, piece: u64, sums: &[Sum]) -> Vec<Piece> {
    let mut end = 0;
    let sound = sums.iter().all(|sum| {
        let follows = sum.start == end && sum.start < sum.end && sum.end - sum.start <= MAX_PIECE;
        end = sum.end;
        follows
    });
    if sound && end == size && !sums.is_empty() {
        let left = sums.iter().filter(|sum| sum.end > from);
        return left
            .map(|sum| Piece {
                start: sum.start.max(from),
                end: sum.end,
                // A piece that is here in part has no sum of its own.
                digest: (sum.start >= from).then(|| sum.digest.clone()),
            })
            .collect();
    }
    let mut pieces = Vec::new();
    let mut start = from;
    while start < size {
        let end = start.saturating_add(piece).min(size);
        pieces.push(Piece { start, end, digest: None });
        start = end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_into_pieces() {
        let digest = Digest::of(b"x");
        let sum = |start, end| Sum { start, end, digest: digest.clone() };
        let cut = |from, size, sums: &[Sum]| {
            let pieces = pieces(from, size, 10, sums);
            pieces.iter().map(|p| (p.start, p.end, p.digest.is_some())).collect::<Vec<_>>()
        };
        assert_eq!(cut(0, 25, &[]), [(0, 10, false), (10, 20, false), (20, 25, false)]);
        assert_eq!(cut(12, 25, &[]), [(12, 22, false), (22, 25, false)]);
        assert_eq!(cut(25, 25, &[]), []);
        assert_eq!(cut(0, 0, &[]), []);
        let sums = [sum(0, 7), sum(7, 25)];
        assert_eq!(cut(0, 25, &sums), [(0, 7, true), (7, 25, true)]);
        assert_eq!(cut(7, 25, &sums), [(7, 25, true)]);
        assert_eq!(cut(9, 25, &sums), [(9, 25, false)]);
        // Lists that cannot be right are not used.
        for sums in [vec![sum(0, 7)], vec![sum(0, 7), sum(8, 25)], vec![sum(0, 7), sum(7, 7), sum(7, 25)]] {
            assert_eq!(cut(20, 25, &sums), [(20, 25, false)]);
        }
    }

    #[test]
    fn headers_are_read() {
        for (text, fits) in [
            ("bytes 5-9/20", true),
            ("bytes 5-9/*", true),
            ("bytes 4-9/20", false),
            ("bytes 5-9/21", false),
            ("5-9/20", false),
            ("", false),
        ] {
            assert_eq!(matches_range(text, 5, 20), fits, "{text}");
        }
        // RFC 9530, appendix B.2: the digest of `{"hello": "world"}` and a line feed.
        let text = "sha-512=:YQ==:, sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        let expected = Digest::of(b"{\"hello\": \"world\"}\n");
        assert_eq!(content_digest(text), Some(expected));
        assert_eq!(content_digest("sha-256=:%:"), None);
    }
}
