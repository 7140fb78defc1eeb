//! HTTP/1.1 over a unix socket, on one connection that is kept open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// No answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// A connection to an agent.
#[derive(Debug)]
pub(crate) struct Client(BufReader<UnixStream>);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    /// The status.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl Client {
    /// Connects.
    ///
    /// # Errors
    /// Nobody listens there.
    pub(crate) fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream.set_read_timeout(Some(TIMEOUT)).context("a socket takes a timeout")?;
        Ok(Self(BufReader::with_capacity(1 << 18, stream)))
    }

    /// Makes a request, and reads the answer whatever its status is.
    ///
    /// # Errors
    /// The connection breaks, or the answer is not HTTP.
    pub(crate) fn request(&mut self, method: &str, path: &str, body: &str) -> Result<Response> {
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let length = body.len();
        let text = format!("{method} {path} HTTP/1.1\r\nhost: tcpops\r\n{kind}content-length: {length}\r\n\r\n{body}");
        self.0.get_mut().write_all(text.as_bytes()).context("cannot send a request")?;
        self.response()
    }

    fn response(&mut self) -> Result<Response> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.context("expected an HTTP status")?;
        let (mut length, mut is_chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().context("a length is a number")?;
            }
            is_chunked |= line == "transfer-encoding: chunked";
        }
        let mut body = Vec::new();
        if is_chunked {
            while let size @ 1.. = usize::from_str_radix(&self.line()?, 16).context("a size is hexadecimal")? {
                self.body(size, &mut body)?;
                self.line()?;
            }
            self.line()?;
        } else {
            self.body(length, &mut body)?;
        }
        Ok(Response { status, body: String::from_utf8(body).context("expected text")? })
    }

    fn body(&mut self, length: usize, into: &mut Vec<u8>) -> Result<()> {
        let start = into.len();
        into.resize(start + length, 0);
        self.0.read_exact(&mut into[start..]).context("an answer broke off")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).context("cannot read an answer")? == 0 {
            bail!("the agent closed the connection");
        }
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn answered(text: &'static str) -> Response {
        let (near, mut far) = UnixStream::pair().unwrap();
        let writer = thread::spawn(move || far.write_all(text.as_bytes()).unwrap());
        let response = Client(BufReader::new(near)).response().unwrap();
        writer.join().unwrap();
        response
    }

    #[test]
    fn a_body_with_a_length_is_read() {
        let response = answered("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc");
        assert_eq!((response.status, response.body.as_str()), (200, "abc"));
    }

    #[test]
    fn a_chunked_body_is_joined() {
        let response =
            answered("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n");
        assert_eq!((response.status, response.body.as_str()), (404, "abcde"));
    }
}
