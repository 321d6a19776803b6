//! A client of `/v1/chat/completions` that costs next to nothing: one thread, one connection for a request, a plain reader
//! of server-sent events. It stamps every token as it comes.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

/// A server that says nothing for so long has lost the request.
const SILENCE: Duration = Duration::from_secs(300);

/// What is asked. The answer has exactly `n_tokens`, whatever the model would rather do.
pub(super) struct Ask<'a> {
    pub(super) model: &'a str,
    pub(super) system: Option<&'a str>,
    pub(super) user: &'a str,
    pub(super) n_tokens: usize,
}

/// What came.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// When each piece of text came. A piece is a token, or several that came together.
    pub(super) stamps: Vec<Instant>,
    pub(super) n_prompt: usize,
    /// Tokens of the prompt that were in the cache.
    pub(super) n_cached: usize,
    pub(super) n_generated: usize,
}

/// Asks, and reads the answer to its end.
pub(super) fn ask(address: &str, ask: &Ask<'_>) -> anyhow::Result<Answer> {
    let mut messages: Vec<Value> =
        ask.system.map(|text| json!({"role": "system", "content": text})).into_iter().collect();
    messages.push(json!({"role": "user", "content": ask.user}));
    let body = json!({
        "model": ask.model, "messages": messages, "max_tokens": ask.n_tokens, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true},
    })
    .to_string();
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    read(&mut BufReader::new(stream))
}

/// Reads a response: its head, then events.
fn read(stream: &mut impl std::io::BufRead) -> anyhow::Result<Answer> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut is_chunked = false;
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            bail!("the connection was closed within the headers");
        }
        let header = line.trim_end().to_ascii_lowercase();
        is_chunked |= header == "transfer-encoding: chunked";
        if header.is_empty() {
            break;
        }
    }
    let mut body = BufReader::new(Body { stream, is_chunked, left: 0 });
    if status != "200" {
        let mut text = String::new();
        body.read_to_string(&mut text)?;
        bail!("status {status}: {}", text.trim());
    }
    let mut answer = Answer::default();
    let mut is_done = false;
    loop {
        line.clear();
        if body.read_line(&mut line)? == 0 {
            break;
        }
        let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            is_done = true;
            continue;
        }
        let event: Value = serde_json::from_str(data).with_context(|| format!("not JSON: {data}"))?;
        if let Some(error) = event.get("error") {
            bail!("the stream ended with {error}");
        }
        if event
            .pointer("/choices/0/delta/content")
            .and_then(Value::as_str)
            .is_some_and(|text| !text.is_empty())
        {
            answer.stamps.push(Instant::now());
        }
        let count = |path| event.pointer(path).and_then(Value::as_u64).map(|n| n as usize);
        answer.n_prompt = count("/usage/prompt_tokens").unwrap_or(answer.n_prompt);
        answer.n_generated = count("/usage/completion_tokens").unwrap_or(answer.n_generated);
        answer.n_cached = count("/usage/prompt_tokens_details/cached_tokens").unwrap_or(answer.n_cached);
    }
    if !is_done {
        bail!("the stream ended without [DONE]");
    }
    Ok(answer)
}

/// The body of a response, out of its chunks if it comes in chunks.
struct Body<'a, R> {
    stream: &'a mut R,
    is_chunked: bool,
    /// Bytes of the current chunk that were not read yet.
    left: usize,
}

impl<R: std::io::BufRead> Read for Body<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if !self.is_chunked {
            return self.stream.read(buffer);
        }
        if self.left == 0 {
            let mut line = String::new();
            // The line end that closes a chunk comes before the length of the next.
            while line.trim().is_empty() {
                line.clear();
                if self.stream.read_line(&mut line)? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
            }
            let digits = line.trim().split(';').next().unwrap_or_default();
            self.left = usize::from_str_radix(digits, 16)
                .map_err(|_| std::io::Error::other(format!("`{digits}` is no length of a chunk")))?;
            if self.left == 0 {
                return Ok(0);
            }
        }
        let n = self.left.min(buffer.len());
        let n = self.stream.read(&mut buffer[..n])?;
        self.left -= n;
        Ok(n)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const EVENTS: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{\"content\":\" there\"}}]}\n\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":8}}}\n\n\
        data: [DONE]\n\n";

    fn check(response: &str) -> Result<(usize, usize, usize, usize), String> {
        let answer = read(&mut response.as_bytes()).map_err(|error| error.to_string())?;
        Ok((answer.stamps.len(), answer.n_prompt, answer.n_cached, answer.n_generated))
    }

    #[test]
    fn responses() {
        let plain = format!("HTTP/1.1 200 OK\r\nX: y\r\n\r\n{EVENTS}");
        assert_eq!(check(&plain), Ok((2, 9, 8, 2)));
        for cut in [1, 7, 60, EVENTS.len()] {
            let chunks: String = EVENTS
                .as_bytes()
                .chunks(cut)
                .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap()))
                .collect();
            let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
            assert_eq!(check(&chunked), Ok((2, 9, 8, 2)), "{cut}");
        }
    }

    #[test]
    fn what_went_wrong_is_told() {
        let refused = "HTTP/1.1 503 Service Unavailable\r\n\r\n{\"error\":\"busy\"}";
        assert_eq!(check(refused).unwrap_err(), "status 503: {\"error\":\"busy\"}");
        let cut = format!("HTTP/1.1 200 OK\r\n\r\n{}", &EVENTS[..EVENTS.len() - 20]);
        assert!(check(&cut).is_err());
        let failed =
            "HTTP/1.1 200 OK\r\n\r\ndata: {\"error\":{\"message\":\"stopping\"}}\n\ndata: [DONE]\n\n";
        assert!(check(failed).unwrap_err().contains("stopping"));
    }
}
