//! Requests over plain sockets: nothing retries, nothing is reused.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// An answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    pub body: String,
}

fn invalid(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned())
}

/// `GET path` from `127.0.0.1:port` with this `Host`.
pub fn get(port: u16, host: &str, path: &str) -> std::io::Result<Reply> {
    get_with(port, host, path, &[])
}

/// The same with further lines in its head.
pub fn get_with(port: u16, host: &str, path: &str, head: &[String]) -> std::io::Result<Reply> {
    let more: String = head.iter().map(|line| format!("{line}\r\n")).collect();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{more}\r\n")?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&bytes)
}

fn parse(bytes: &[u8]) -> std::io::Result<Reply> {
    let split = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let split = split.ok_or_else(|| invalid("no end of headers"))?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or_else(|| invalid("no status"))?;
    let body = &bytes[split + 4..];
    let header = |name: &str| header(&head, name);
    let body = if header("transfer-encoding").as_deref() == Some("chunked") {
        dechunk(body).ok_or_else(|| invalid("cut off within a chunk"))?
    } else {
        let length = header("content-length").and_then(|value| value.parse().ok());
        if length.is_some_and(|length: usize| length != body.len()) {
            return Err(invalid("body is shorter than its Content-Length"));
        }
        body.to_vec()
    };
    Ok(Reply { status, head, body: String::from_utf8_lossy(&body).into_owned() })
}

/// The value of a header in a head.
fn header(head: &str, name: &str) -> Option<String> {
    head.lines().skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

impl Reply {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.head, name)
    }
}

fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}
