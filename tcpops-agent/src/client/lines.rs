//! The lines of an NDJSON answer, as they arrive.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use memchr::memchr;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ClientError;

/// The longest line, bytes: a line without an end must not fill the memory.
const MAX_LINE: usize = 1 << 20;

/// The lines of an NDJSON answer, one JSON document each.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    timeout: Duration,
    buffer: Vec<u8>,
    /// The start of the next line in `buffer`.
    start: usize,
}

impl Lines {
    pub(crate) fn new(body: Incoming, timeout: Duration) -> Self {
        Self { body, timeout, buffer: Vec::new(), start: 0 }
    }

    /// The next line, without its end; none at the end of the answer. Empty lines, which keep a connection open, are
    /// left out.
    ///
    /// # Errors
    /// [`ClientError::Timeout`] if none came in time; [`ClientError::Interrupted`] if the answer breaks off.
    pub(crate) async fn next(&mut self) -> Result<Option<&[u8]>, ClientError> {
        let mut searched = self.start;
        let line = loop {
            match memchr(b'\n', &self.buffer[searched..]) {
                Some(at) => {
                    let line = self.start..searched + at;
                    self.start = line.end + 1;
                    searched = self.start;
                    if !self.buffer[line.clone()].trim_ascii().is_empty() {
                        break line;
                    }
                }
                None => {
                    self.buffer.drain(..self.start);
                    self.start = 0;
                    searched = self.buffer.len();
                    if searched > MAX_LINE {
                        return Err(ClientError::protocol("lines of at most 1 MiB", "a longer line"));
                    }
                    if !self.read().await? {
                        self.start = searched;
                        break 0..searched;
                    }
                }
            }
        };
        let line = self.buffer[line].trim_ascii();
        if line.is_empty() { Ok(None) } else { Ok(Some(line)) }
    }

    /// The next line, decoded.
    pub(crate) async fn next_as<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        self.next().await?.map(decode).transpose()
    }

    /// Reads the next piece of the body; false at its end.
    async fn read(&mut self) -> Result<bool, ClientError> {
        match timeout(self.timeout, self.body.frame()).await {
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.buffer.extend_from_slice(data);
                }
                Ok(true)
            }
            Ok(Some(Err(error))) => Err(error.into()),
            Ok(None) => Ok(false),
            Err(_elapsed) => Err(ClientError::Timeout { limit: self.timeout }),
        }
    }
}

pub(crate) fn decode<T: DeserializeOwned>(line: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(line).map_err(|error| ClientError::protocol("a line of this version's form", error))
}
