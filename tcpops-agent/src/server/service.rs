//! The way of a request to its route, and what it is told while there is none yet.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::extract::Failure;
use crate::api::problem::Code;
use crate::daemon::{Origin, Progress};

/// The time that a request may take; shorter than the 30 s that the client waits, so that it gets an answer.
const TIMEOUT: Duration = Duration::from_secs(25);
/// The routes, once the agent is ready.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) router: watch::Receiver<Option<Router>>,
    pub(super) progress: Arc<Progress>,
}

impl Service {
    /// Answers one request.
    pub(super) async fn answer(
        self,
        origin: Origin,
        request: hyper::Request<Incoming>,
    ) -> Result<Response, Infallible> {
        let mut request: Request = request.map(HttpBody::new);
        request.extensions_mut().insert(origin);
        match tokio::time::timeout(TIMEOUT, self.route(request)).await {
            Ok(response) => response,
            Err(_elapsed) => {
                let detail = format!("no answer within {} seconds", TIMEOUT.as_secs());
                Ok(Failure::new(Code::Timeout, detail).into_response())
            }
        }
    }

    async fn route(mut self, request: Request) -> Result<Response, Infallible> {
        if self.router.borrow().is_none() {
            // These ask how the agent is, and do not wait.
            match request.uri().path() {
                "/healthz" => return Ok(Json(json!({ "ready": false })).into_response()),
                "/readyz" | "/v1/status" => return Ok(self.starting()),
                _ => {}
            }
        }
        let Ok(router) = self.router.wait_for(Option::is_some).await.map(|router| router.clone()) else {
            return Ok(Failure::new(Code::Internal, "the agent is stopping").into_response());
        };
        match router {
            Some(router) => router.oneshot(request).await,
            None => Ok(self.starting()),
        }
    }

    fn starting(&self) -> Response {
        let mut response = Failure::from(self.progress.problem()).into_response();
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        response
    }
}
