//! A server to test, and a client by hand, so that every byte is in sight.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use whit_files::{Gguf, GgufWriter};
use whit_hub::{Config, Network, Store};
use whit_server::{Server, ServerConfig};

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A golden model as `tiny`, the same with a chat template as `chatty`.
pub(crate) struct Tested {
    pub(crate) server: Server,
    pub(crate) home: TempDir,
}

/// Opens a turn by `user`, in the stub vocabulary of the golden models.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}\
                        {% if tools %}tools{% endif %}{% if add_generation_prompt %}assistant: {% endif %}";

impl Tested {
    pub(crate) fn new() -> Tested {
        Tested::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut ServerConfig)) -> Tested {
        Tested::start(tempfile::tempdir().unwrap(), change, offline)
    }

    /// With what an earlier server left.
    pub(crate) fn with_home(home: TempDir) -> Tested {
        Tested::start(home, |_| {}, offline)
    }

    /// With a store of the test's own making, in the folder that it is given.
    pub(crate) fn with_store(store: impl FnOnce(&Path) -> Store) -> Tested {
        Tested::start(tempfile::tempdir().unwrap(), |_| {}, store)
    }

    fn start(
        home: TempDir,
        change: impl FnOnce(&mut ServerConfig),
        store: impl FnOnce(&Path) -> Store,
    ) -> Tested {
        let chatty = home.path().join("chatty.gguf");
        rewrite("llama-gqa-llama3", &chatty, |writer| writer.set("tokenizer.chat_template", TEMPLATE));
        let mut config = ServerConfig { num_parallel: 2, ..ServerConfig::default() };
        config.address.set_port(0);
        config.engine.ctx = Some(256);
        config.engine.threads = Some(1);
        config.files =
            vec![("tiny".to_owned(), golden("llama-gqa-llama3.gguf")), ("chatty".to_owned(), chatty)];
        change(&mut config);
        let store = store(home.path());
        Tested { server: Server::start(config, store).unwrap(), home }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        Call::new("GET", path).send(self.server.address())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        Call::new("POST", path).body(body.to_string()).send(self.server.address())
    }

    /// A value of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").text();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0.0)
    }

    /// Waits until a value of `/metrics` is what it should be.
    #[track_caller]
    pub(crate) fn wait_for(&self, name: &str, expected: f64) {
        for _ in 0..500 {
            if self.metric(name) == expected {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{name} is {}, not {expected}", self.metric(name));
    }
}

/// A store that asks nobody.
fn offline(home: &Path) -> Store {
    let network = Network { offline: true, ..Network::default() };
    Store::open(Config { network, ..Config::new(home) })
}

/// A request.
pub(crate) struct Call {
    method: &'static str,
    path: String,
    host: String,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Call {
    pub(crate) fn new(method: &'static str, path: &str) -> Call {
        Call { method, path: path.to_owned(), host: "localhost".to_owned(), headers: vec![], body: vec![] }
    }

    pub(crate) fn host(mut self, host: &str) -> Call {
        self.host = host.to_owned();
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Call {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Call {
        self.body = body.into();
        self
    }

    /// Sends it, and leaves the answer to be read.
    pub(crate) fn open(self, address: SocketAddr) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut head =
            format!("{} {} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.method, self.path, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        stream.write_all(head.as_bytes()).unwrap();
        // A server that has refused already may have closed.
        let _ = stream.write_all(&self.body);
        BufReader::new(stream)
    }

    pub(crate) fn send(self, address: SocketAddr) -> Answer {
        read_answer(self.open(address))
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The objects of an NDJSON answer.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The answer of a request that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Answer {
        assert_eq!(self.status, 200, "{}", self.text());
        self
    }
}

/// The status line and the headers.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> (u16, Vec<(String, String)>) {
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    let status =
        line.split(' ').nth(1).unwrap_or_else(|| panic!("no status line: {line:?}")).parse().unwrap();
    let mut headers = Vec::new();
    loop {
        line.clear();
        stream.read_line(&mut line).unwrap();
        match line.trim_end().split_once(": ") {
            Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.to_owned())),
            None => return (status, headers),
        }
    }
}

/// The next chunk of a body in chunks; empty at the end.
pub(crate) fn read_chunk(stream: &mut BufReader<TcpStream>) -> Vec<u8> {
    let mut size = String::new();
    stream.read_line(&mut size).unwrap();
    let mut chunk = vec![0; usize::from_str_radix(size.trim(), 16).unwrap() + 2];
    stream.read_exact(&mut chunk).unwrap();
    chunk.truncate(chunk.len() - 2);
    chunk
}

/// The rest of a connection as an answer.
pub(crate) fn read_answer(mut stream: BufReader<TcpStream>) -> Answer {
    let (status, headers) = read_head(&mut stream);
    let find = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    let mut body = Vec::new();
    if find("transfer-encoding").is_some() {
        loop {
            let chunk = read_chunk(&mut stream);
            if chunk.is_empty() {
                break;
            }
            body.extend(chunk);
        }
    } else {
        // Of an answer to HEAD nothing follows whatever its length says.
        let _ = stream.read_to_end(&mut body);
    }
    Answer { status, headers, body }
}

pub(crate) fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/golden").join(file)
}

/// Prompt and greedy continuation of a golden model, by its reference.
pub(crate) fn known(name: &str) -> (Vec<u32>, Vec<u32>) {
    let json: Value =
        serde_json::from_slice(&std::fs::read(golden(&format!("{name}.json"))).unwrap()).unwrap();
    let ids =
        |key: &str| json[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
    (ids("prompt"), ids("greedy"))
}

/// The text of ids of the golden models' stub vocabulary (`vocabulary` in `make_golden.py`).
pub(crate) fn text(ids: &[u32]) -> String {
    let characters = "\n abcdefghijklmnopqrstuvwxyz0123456789.,;:!?'\"()-+*/=_#@&";
    let mut pieces: Vec<String> = characters.chars().map(String::from).collect();
    pieces.extend(["th", "the", " the"].map(String::from));
    ids.iter().map(|&id| pieces[id as usize - 4].as_str()).collect()
}

/// A copy of a golden model with other metadata.
pub(crate) fn rewrite(name: &str, to: &Path, change: impl FnOnce(&mut GgufWriter)) {
    let gguf = Gguf::open(golden(&format!("{name}.gguf"))).unwrap();
    let mut writer = GgufWriter::new();
    gguf.metadata().iter().for_each(|(key, value)| writer.set(key, value));
    change(&mut writer);
    for tensor in gguf.tensors() {
        writer.declare(&tensor.name, tensor.dtype, &tensor.shape);
    }
    let mut writer = writer.create(to).unwrap();
    for tensor in gguf.tensors() {
        writer.write(&tensor.name, &gguf.tensor_bytes(tensor)).unwrap();
    }
    writer.finish().unwrap();
}
