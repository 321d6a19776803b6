//! A small HTTP server that does what it is told, and does it wrong where it is told that: answers out of a closure,
//! ranges, and a list of faults. HTTP/1.1 with kept connections, a thread for each.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// A running server; ends when dropped.
pub(crate) struct FakeServer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    answer: Box<dyn Fn(&Asked) -> Reply + Send + Sync>,
    faults: Mutex<Vec<Fault>>,
    log: Mutex<Vec<Asked>>,
    closing: AtomicBool,
}

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is(&self, method: &str) -> bool {
        self.method == method
    }

    /// `GET /path`, and the range where one was asked for.
    pub(crate) fn line(&self) -> String {
        let range = self.header("range").map(|range| format!(" {range}")).unwrap_or_default();
        format!("{} {}{range}", self.method, self.path)
    }
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Whether a `Range` is served.
    pub(crate) ranges: bool,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        Reply { status, body: body.into(), ..Reply::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn ranged(self) -> Reply {
        Reply { ranges: true, ..self }
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub(crate) enum Wrong {
    /// Another answer.
    Says(Reply),
    /// The connection ends after so many bytes of the body.
    Cuts(usize),
    /// Silence after so many bytes of the body.
    Stalls(usize),
    /// This byte of the body is another.
    Flips(usize),
    /// More body than there should be.
    Adds(usize),
}

/// When it goes wrong: for the next `times` requests whose line has this in it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) on: String,
    pub(crate) times: usize,
    pub(crate) wrong: Wrong,
}

impl FakeServer {
    pub(crate) fn new(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> FakeServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            answer: Box::new(answer),
            faults: Mutex::default(),
            log: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.closing.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        FakeServer { address, shared }
    }

    pub(crate) fn host(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn fault(&self, on: &str, times: usize, wrong: Wrong) {
        self.shared.faults.lock().unwrap().push(Fault { on: on.to_owned(), times, wrong });
    }

    /// What was asked, and forgets it.
    pub(crate) fn take_log(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.shared.log.lock().unwrap())
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(stream: &TcpStream, shared: &Shared) {
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::new(stream);
    // A client that goes away ends it.
    while let Some(asked) = read(&mut reader) {
        if !answer(stream, shared, asked).is_ok_and(|kept| kept) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
            return;
        }
    }
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
            None => break,
        }
    }
    let mut asked = Asked { method, path, headers, body: Vec::new() };
    let n: u64 = asked.header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    reader.take(n).read_to_end(&mut asked.body).ok()?;
    (asked.body.len() as u64 == n).then_some(asked)
}

/// Whether the connection can be used again.
fn answer(mut stream: &TcpStream, shared: &Shared, asked: Asked) -> std::io::Result<bool> {
    let wrong = {
        let mut faults = shared.faults.lock().unwrap();
        let line = asked.line();
        let fault = faults.iter_mut().find(|fault| fault.times > 0 && line.contains(&fault.on));
        fault.map(|fault| {
            fault.times -= 1;
            fault.wrong.clone()
        })
    };
    let mut reply = match &wrong {
        Some(Wrong::Says(reply)) => reply.clone(),
        _ => (shared.answer)(&asked),
    };
    if let Some((start, end)) =
        asked.header("range").and_then(range).filter(|_| reply.ranges && reply.status == 200)
    {
        let total = reply.body.len();
        let end = end.unwrap_or(total).min(total);
        if start >= end {
            reply = Reply::new(416, "").with("content-range", format!("bytes */{total}"));
        } else {
            reply.body = reply.body[start..end].to_vec();
            reply.status = 206;
            reply.headers.push(("content-range", format!("bytes {start}-{}/{total}", end - 1)));
        }
    }
    let is_head = asked.is("HEAD");
    shared.log.lock().unwrap().push(asked);
    let mut declared = reply.body.len();
    match &wrong {
        Some(Wrong::Flips(at)) => reply.body[*at] ^= 1,
        Some(Wrong::Adds(n)) => {
            declared += n;
            reply.body.extend(vec![0; *n]);
        }
        _ => {}
    }
    let mut head = format!("HTTP/1.1 {} X\r\ncontent-length: {declared}\r\n", reply.status);
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    if is_head {
        return Ok(true);
    }
    match wrong {
        Some(Wrong::Cuts(n)) => {
            stream.write_all(&reply.body[..n.min(declared)])?;
            Ok(false)
        }
        Some(Wrong::Stalls(n)) => {
            stream.write_all(&reply.body[..n.min(declared)])?;
            while !shared.closing.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(10));
            }
            Ok(false)
        }
        _ => stream.write_all(&reply.body).map(|()| true),
    }
}

/// `bytes=a-b`, `bytes=a-`: the start, and the end past the last.
fn range(text: &str) -> Option<(usize, Option<usize>)> {
    let (start, end) = text.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse::<usize>().ok().map(|end| end + 1)))
}
