//! The way of a request to its route, and what it is told while there is none yet.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body as HttpBody, HttpBody as _};
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::admission::Limits;
use super::extract::{Failure, overloaded};
use super::router::MAX_BODY;
use crate::api::problem::Code;
use crate::daemon::{Handle, Origin, Progress};

/// The time that a request may take; shorter than the 30 s that the client waits, so that it gets an answer.
const TIMEOUT: Duration = Duration::from_secs(25);
/// What answers requests once the agent is ready.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) router: Router,
    pub(super) handle: Handle,
}

/// Answers requests, or says how far the start is.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) ready: watch::Receiver<Option<Ready>>,
    pub(super) limits: Limits,
    pub(super) progress: Arc<Progress>,
}

impl Service {
    /// Answers one request.
    pub(super) async fn answer(
        self,
        origin: Origin,
        request: hyper::Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let uid = origin.caller.uid;
        let mut request: Request = request.map(HttpBody::new);
        // One that does not say how long it is may be as long as any.
        let length =
            request.body().size_hint().upper().map_or(MAX_BODY, |upper| usize::try_from(upper).unwrap_or(MAX_BODY));
        let Some(_until_read) = self.limits.bodies.admit_many(uid, length.min(MAX_BODY)) else {
            return Ok(overloaded(uid, "sends, with its other requests, more at a time than is read").into_response());
        };
        match origin.now() {
            Ok(origin) => drop(request.extensions_mut().insert(origin)),
            Err(problem) => return Ok(Failure::from(problem).into_response()),
        }
        match tokio::time::timeout(TIMEOUT, self.route(request)).await {
            Ok(response) => response,
            Err(_elapsed) => {
                let detail = format!("no answer within {} seconds", TIMEOUT.as_secs());
                Ok(Failure::new(Code::Timeout, detail).into_response())
            }
        }
    }

    /// Counts a client that found no place. While the agent starts, only the log says so.
    pub(super) fn client_refused(&self) {
        if let Some(ready) = &*self.ready.borrow() {
            ready.handle.client_refused();
        }
    }

    /// Returns when the file of the socket is gone; while the agent starts, nobody looks. Cancel-safe.
    pub(super) async fn socket_gone(&self) {
        match self.handle().await {
            Some(handle) => handle.socket_gone().await,
            None => std::future::pending().await,
        }
    }

    /// Notes that the socket was bound anew.
    pub(super) async fn socket_bound(&self) {
        if let Some(handle) = self.handle().await {
            // Where the loop has ended, the server ends too.
            let _stopping = handle.socket_bound().await;
        }
    }

    /// The daemon, once it is ready.
    async fn handle(&self) -> Option<Handle> {
        let mut ready = self.ready.clone();
        ready.wait_for(Option::is_some).await.ok()?.as_ref().map(|ready| ready.handle.clone())
    }

    async fn route(mut self, request: Request) -> Result<Response, Infallible> {
        if self.ready.borrow().is_none() {
            // These ask how the agent is, and do not wait.
            match request.uri().path() {
                "/healthz" => return Ok(Json(json!({ "ready": false })).into_response()),
                "/readyz" | "/v1/status" => return Ok(self.starting()),
                _ => {}
            }
        }
        let Ok(ready) = self.ready.wait_for(Option::is_some).await.map(|ready| ready.clone()) else {
            return Ok(Failure::new(Code::Internal, "the agent is stopping").into_response());
        };
        match ready {
            Some(Ready { router, .. }) => router.oneshot(request).await,
            None => Ok(self.starting()),
        }
    }

    fn starting(&self) -> Response {
        let mut response = Failure::from(self.progress.problem()).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}
