//! HTTP/1.1 over a unix socket, on one connection that is kept open.

use std::io::{BufRead, BufReader, Write as _};
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

/// The head of an answer.
struct Head {
    status: u16,
    length: usize,
    is_chunked: bool,
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

    /// As [`request`](Self::request), where any status but 200 is an error.
    ///
    /// # Errors
    /// As [`request`](Self::request), or the status is another.
    pub(crate) fn expect(&mut self, method: &str, path: &str, body: &str) -> Result<String> {
        let Response { status, body } = self.request(method, path, body)?;
        if status != 200 {
            bail!("{method} {path}: expected status 200, found {status}: {body}");
        }
        Ok(body)
    }

    /// Sets keepalive with five values that `number` varies, so that each change is one.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub(crate) fn change_keepalive(&mut self, id: &str, number: u32) -> Result<()> {
        let idle = 60 + number % 1000;
        let body = format!(r#"{{"idle_seconds":{idle},"count":5,"interval_seconds":5,"user_timeout_ms":85000}}"#);
        self.expect("PUT", &format!("/v1/connections/{id}/keepalive"), &body).map(drop)
    }

    /// Reads a list as NDJSON, keeps nothing of it, and returns the number of its lines.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub(crate) fn count_lines(&mut self, path: &str) -> Result<u64> {
        let text = format!("GET {path} HTTP/1.1\r\nhost: tcpops\r\naccept: application/x-ndjson\r\n\r\n");
        self.0.get_mut().write_all(text.as_bytes()).context("cannot send a request")?;
        let mut lines = 0;
        let status = self.read(|bytes| lines += bytes.iter().filter(|byte| **byte == b'\n').count() as u64)?;
        if status != 200 {
            bail!("GET {path}: expected status 200, found {status}");
        }
        Ok(lines)
    }

    /// Begins a stream of lines that has no end; the caller reads it.
    ///
    /// # Errors
    /// The connection breaks, or the status is not 200.
    pub(crate) fn stream(mut self, path: &str) -> Result<impl BufRead + use<>> {
        // An answer in HTTP/1.0 has no chunks.
        write!(self.0.get_mut(), "GET {path} HTTP/1.0\r\nhost: tcpops\r\n\r\n").context("cannot send a request")?;
        match self.head()? {
            Head { status: 200, .. } => Ok(self.0),
            Head { status, .. } => bail!("GET {path}: expected status 200, found {status}"),
        }
    }

    fn response(&mut self) -> Result<Response> {
        let mut body = Vec::new();
        let status = self.read(|bytes| body.extend_from_slice(bytes))?;
        Ok(Response { status, body: String::from_utf8(body).context("expected text")? })
    }

    /// Reads an answer, and gives its body to `take`, piece by piece.
    fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<u16> {
        let Head { status, length, is_chunked } = self.head()?;
        if is_chunked {
            while let size @ 1.. = usize::from_str_radix(&self.line()?, 16).context("a size is hexadecimal")? {
                self.pieces(size, &mut take)?;
                self.line()?;
            }
            self.line()?;
        } else {
            self.pieces(length, &mut take)?;
        }
        Ok(status)
    }

    fn head(&mut self) -> Result<Head> {
        let status = self.line()?;
        let status = status.split(' ').nth(1).and_then(|word| word.parse().ok());
        let mut head = Head { status: status.context("expected an HTTP status")?, length: 0, is_chunked: false };
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok(head);
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                head.length = value.trim().parse().context("a length is a number")?;
            }
            head.is_chunked |= line == "transfer-encoding: chunked";
        }
    }

    fn pieces(&mut self, mut length: usize, take: &mut impl FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            let bytes = self.0.fill_buf().context("an answer broke off")?;
            if bytes.is_empty() {
                bail!("an answer broke off");
            }
            let size = bytes.len().min(length);
            take(&bytes[..size]);
            self.0.consume(size);
            length -= size;
        }
        Ok(())
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
