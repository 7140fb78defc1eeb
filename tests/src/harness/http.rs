//! HTTP/1.1 over a unix socket, as little of it as the tests need.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::wait::patient;

/// No request of a test takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// The bytes of a request with a JSON body.
pub(crate) fn request_text(method: &str, path: &str, body: Option<&Value>) -> String {
    match body {
        Some(body) => with_headers(method, path, &[("content-type", "application/json")], &body.to_string()),
        None => with_headers(method, path, &[], ""),
    }
}

/// The bytes of a request.
pub(crate) fn with_headers(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: tcpops\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
    )
}

/// Sends `text` as it is and reads the answer to its end.
pub(crate) fn exchange(socket: &Path, text: &[u8]) -> std::io::Result<Response> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(patient(TIMEOUT)))?;
    stream.set_write_timeout(Some(patient(TIMEOUT)))?;
    // The agent may answer, and close, before it has read all of a body that is too large.
    let _may_break = stream.write_all(text);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer)
        && answer.is_empty()
    {
        return Err(error);
    }
    Ok(Response::parse(&answer))
}

impl Response {
    /// Takes an answer apart.
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let shown = || String::from_utf8_lossy(bytes);
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("expected an HTTP answer, found {:?}", shown()));
        let head = std::str::from_utf8(&bytes[..end]).expect("headers are text");
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("expected an HTTP status, found {:?}", shown()));
        let headers: Vec<_> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut response = Self { status, headers, body: bytes[end + 4..].to_vec() };
        if response.header("transfer-encoding") == Some("chunked") {
            response.body = joined(&response.body);
        }
        response
    }

    /// A header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("expected JSON, {error}: {} {:?}", self.status, self.text()))
    }

    /// The body of an answer that must be 200.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text());
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.text());
        self.json()
    }

    /// The body of an answer that must be a problem (RFC 9457) with this status and code, and say what is amiss.
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "expected {code}: {}", self.text());
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{}", self.text());
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status, "{body}");
        assert_eq!(body["type"], "about:blank", "{body}");
        for field in ["title", "detail"] {
            assert!(body[field].as_str().is_some_and(|text| !text.is_empty()), "no {field}: {body}");
        }
        body
    }
}

/// A chunked body in one piece.
fn joined(mut chunked: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = chunked.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&chunked[..end]).expect("sizes are text");
        let size = usize::from_str_radix(size, 16).expect("sizes are hexadecimal");
        body.extend_from_slice(&chunked[end + 2..end + 2 + size]);
        chunked = &chunked[end + 2 + size + 2..];
        if size == 0 {
            break;
        }
    }
    body
}

#[test]
fn answers_are_understood() {
    let plain = Response::parse(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"a\":1}");
    assert_eq!(plain.ok()["a"], 1);
    let chunked = Response::parse(
        b"HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    );
    assert_eq!((chunked.status, chunked.text().as_str()), (404, "abcde"));
}
