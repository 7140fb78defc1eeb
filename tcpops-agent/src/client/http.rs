//! Requests and answers, one after another on one connection to the agent's unix socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::error::ClientError;
use super::lines::Lines;
use crate::api::problem;

/// The time that the agent has to answer, or to send the next piece of an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest answer that is taken as one document, bytes.
const MAX_ANSWER: usize = 64 << 20;
const JSON: &str = "application/json";
const NDJSON: &str = "application/x-ndjson";

/// A connection to the agent.
///
/// The agent tells who asks from the process that made the connection, so `fd:` ids name descriptors of this process.
#[derive(Debug)]
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    timeout: Duration,
}

impl Client {
    /// Connects to the agent's socket. It needs a tokio runtime with I/O and time, which also drives the connection.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`]: nobody listens there, or the caller may not connect.
    pub(crate) async fn connect(path: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let path = path.into();
        let stream = match timeout(TIMEOUT, UnixStream::connect(&path)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => return Err(ClientError::Unreachable { path, source }),
            Err(elapsed) => return Err(ClientError::Unreachable { path, source: elapsed.into() }),
        };
        match http1::handshake(TokioIo::new(stream)).await {
            Ok((sender, connection)) => {
                // An error reaches the request that waits for its answer; it needs no second report from here.
                tokio::spawn(connection);
                Ok(Self { sender, timeout: TIMEOUT })
            }
            Err(error) => Err(ClientError::Unreachable { path, source: io::Error::other(error) }),
        }
    }

    /// Replaces [`TIMEOUT`].
    #[cfg(test)]
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Sends a request without a body and decodes the answer.
    ///
    /// # Errors
    /// [`ClientError::Problem`] if the agent refused; every other but [`ClientError::Unreachable`].
    pub(crate) async fn request<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &str,
    ) -> Result<T, ClientError> {
        let request = head(method, target, JSON, None);
        self.exchange(request, Bytes::new()).await
    }

    /// Sends a request with a JSON body, and with a header more if there is one, and decodes the answer.
    pub(crate) async fn submit<T: DeserializeOwned>(
        &mut self,
        method: Method,
        target: &str,
        body: &impl Serialize,
        header: Option<(HeaderName, String)>,
    ) -> Result<T, ClientError> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::protocol("a body that JSON can hold", error))?;
        let request = head(method, target, JSON, header).header(CONTENT_TYPE, JSON);
        self.exchange(request, body.into()).await
    }

    /// Asks for NDJSON, which comes line by line for as long as there is more.
    pub(crate) async fn lines(mut self, target: &str) -> Result<Lines, ClientError> {
        let response = self.send(head(Method::GET, target, NDJSON, None), Bytes::new()).await?;
        expect_type(&response, NDJSON)?;
        Ok(Lines::new(response.into_body(), self.timeout))
    }

    async fn exchange<T: DeserializeOwned>(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let response = self.send(request, body).await?;
        expect_type(&response, JSON)?;
        let answer = self.read(response).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| ClientError::protocol("an answer of this version's form", error))
    }

    /// Sends a request; an answer of any status but 2xx becomes an error.
    async fn send(
        &mut self,
        request: hyper::http::request::Builder,
        body: Bytes,
    ) -> Result<Response<Incoming>, ClientError> {
        let request = request
            .body(Full::new(body))
            .map_err(|error| ClientError::protocol("a request that HTTP can carry", error))?;
        let answer = timeout(self.timeout, self.sender.send_request(request));
        let response = answer.await.map_err(|_elapsed| ClientError::Timeout { limit: self.timeout })??;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        expect_type(&response, problem::CONTENT_TYPE)?;
        let body = self.read(response).await?;
        Err(match serde_json::from_slice(&body) {
            Ok(problem) => ClientError::Problem(problem),
            Err(error) => ClientError::Protocol {
                expected: "a problem that this version knows",
                found: format!("{status} with {}", String::from_utf8_lossy(&body).escape_debug()),
                source: Some(error.into()),
            },
        })
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Bytes, ClientError> {
        let body = timeout(self.timeout, Limited::new(response.into_body(), MAX_ANSWER).collect());
        match body.await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) => match error.downcast::<hyper::Error>() {
                Ok(error) => Err((*error).into()),
                Err(error) => Err(ClientError::protocol("an answer of at most 64 MiB", error)),
            },
            Err(_elapsed) => Err(ClientError::Timeout { limit: self.timeout }),
        }
    }
}

fn head(
    method: Method,
    target: &str,
    accept: &'static str,
    header: Option<(HeaderName, String)>,
) -> hyper::http::request::Builder {
    let request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, "localhost")
        .header(USER_AGENT, concat!("tcpops/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, accept);
    match header {
        Some((name, value)) => request.header(name, value),
        None => request,
    }
}

/// Checks the media type of the answer; parameters after it do not matter.
fn expect_type(response: &Response<Incoming>, expected: &'static str) -> Result<(), ClientError> {
    let found = response.headers().get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
    let essence = found.as_deref().and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let kind = found.as_deref().unwrap_or("no content type");
    let found = format!("{} with {}", response.status(), kind.escape_debug());
    Err(ClientError::Protocol { expected, found, source: None })
}
