//! An answer that goes on: the stream of events, read as slowly as a test wants.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::with_headers;
use super::wait::{SOON, patient};

/// A stream of lines. Nothing is read from the socket before a line is asked for.
#[derive(Debug)]
pub(crate) struct Stream {
    socket: UnixStream,
    /// What has come and is not taken apart yet.
    raw: Vec<u8>,
    /// The body so far.
    body: Vec<u8>,
    ended: bool,
}

impl Stream {
    /// Asks for it; the head of the answer must say 200.
    pub(crate) fn open(agent: &Path, path: &str, headers: &[(&str, &str)]) -> Self {
        let mut socket = UnixStream::connect(agent).expect("the agent serves");
        let request = with_headers("GET", path, headers, "");
        socket.write_all(request.as_bytes()).expect("the agent reads requests");
        let mut stream = Self { socket, raw: Vec::new(), body: Vec::new(), ended: false };
        let (start, timeout) = (Instant::now(), patient(SOON));
        let end = loop {
            if let Some(end) = stream.raw.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert!(start.elapsed() < timeout && !stream.ended, "no head of an answer: {:?}", stream.shown());
            stream.receive(timeout);
        };
        assert!(stream.raw.starts_with(b"HTTP/1.1 200 "), "{}", stream.shown());
        let head = String::from_utf8_lossy(&stream.raw[..end]).to_ascii_lowercase();
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        stream.raw.drain(..end);
        stream
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// Reads what is there, or waits for something; false if nothing came in time.
    fn receive(&mut self, timeout: Duration) -> bool {
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).expect("it is no zero");
        let mut piece = vec![0; 256 * 1024];
        match self.socket.read(&mut piece) {
            Ok(0) => self.ended = true,
            Ok(count) => self.raw.extend_from_slice(&piece[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            Err(error) => panic!("cannot read: {error}"),
        }
        true
    }

    /// Takes the next chunk apart, if it is there whole.
    fn unwrap_chunk(&mut self) -> bool {
        let Some(end) = self.raw.windows(2).position(|two| two == b"\r\n") else { return false };
        let size = std::str::from_utf8(&self.raw[..end]).expect("sizes are text");
        let size = usize::from_str_radix(size, 16).expect("sizes are hexadecimal");
        let whole = end + 2 + size + 2;
        if self.raw.len() < whole {
            return false;
        }
        self.body.extend_from_slice(&self.raw[end + 2..end + 2 + size]);
        self.raw.drain(..whole);
        // The last chunk is empty.
        self.ended |= size == 0;
        true
    }

    /// The next line, without its end, if one comes in time; `None` also at the end.
    pub(crate) fn line(&mut self, timeout: Duration) -> Option<String> {
        let (start, timeout) = (Instant::now(), patient(timeout));
        loop {
            if let Some(end) = self.body.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8(self.body[..end].to_vec()).expect("events are text");
                self.body.drain(..=end);
                return Some(line);
            }
            if self.unwrap_chunk() {
                continue;
            }
            let left = timeout.checked_sub(start.elapsed())?;
            if self.ended || !self.receive(left) {
                return None;
            }
        }
    }

    /// The next event that is no heartbeat.
    pub(crate) fn event(&mut self) -> Value {
        loop {
            let line = self.line(SOON).expect("an event comes");
            let event: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
            if event["type"] != "heartbeat" {
                return event;
            }
        }
    }

    /// Events up to the first for which `is_last` holds, heartbeats left out.
    pub(crate) fn until(&mut self, mut is_last: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.event();
            let last = is_last(&event);
            events.push(event);
            if last {
                return events;
            }
        }
    }

    /// Whether it ends, in order, without another line.
    pub(crate) fn ends(&mut self) -> bool {
        self.line(SOON).is_none() && self.ended
    }
}
