//! The paths, and the description of the API that is made from them.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body as HttpBody;
use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admission::Streams;
use super::extract::Failure;
use super::routes::{agent, batch, connections, events, policies, rules};
use crate::api::problem::Code;
use crate::daemon::{Handle, Origin};

/// The largest body that is read.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The time that a request may take; shorter than the 30 s that the client waits, so that it gets an answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The state of the routes.
#[derive(Clone)]
struct Backend {
    handle: Handle,
    streams: Streams,
}

impl FromRef<Backend> for Handle {
    fn from_ref(backend: &Backend) -> Self {
        backend.handle.clone()
    }
}

impl FromRef<Backend> for Streams {
    fn from_ref(backend: &Backend) -> Self {
        backend.streams.clone()
    }
}

#[derive(OpenApi)]
#[openapi(info(
    title = "tcpops",
    description = "Conids, states, keepalive and lifetimes of the TCP connections of a host."
))]
struct Api;

/// The paths of the API.
fn api() -> OpenApiRouter<Backend> {
    OpenApiRouter::with_openapi(Api::openapi())
        .routes(routes!(connections::list))
        .routes(routes!(connections::show, connections::close))
        .routes(routes!(connections::state))
        .routes(routes!(connections::probe))
        .routes(routes!(policies::keepalive_enable, policies::keepalive_disable))
        .routes(routes!(policies::lifetime_set, policies::lifetime_clear))
        .routes(routes!(batch::batch))
        .routes(routes!(rules::rules, rules::replace_rules))
        .routes(routes!(events::events))
        .routes(routes!(agent::status))
        .routes(routes!(agent::metrics))
        .routes(routes!(agent::detach))
        .routes(routes!(agent::health))
}

/// The whole service.
pub(crate) fn router(handle: Handle) -> Router {
    let (router, description) = api().split_for_parts();
    router
        .route("/v1/openapi.json", get(async move || Json(description)))
        .route("/healthz", get(agent::health))
        .fallback(async || Failure::new(Code::NotFound, "expected a path of /v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            Failure::new(Code::MethodNotAllowed, "expected a method that /v1/openapi.json names for this path")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Backend { handle, streams: Streams::default() })
}

/// Answers one request.
pub(crate) async fn answer(
    router: Router,
    origin: Origin,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request: Request = request.map(HttpBody::new);
    match origin.now() {
        Ok(origin) => drop(request.extensions_mut().insert(origin)),
        Err(problem) => return Ok(Failure::from(problem).into_response()),
    }
    match tokio::time::timeout(TIMEOUT, router.oneshot(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let detail = format!("no answer within {} seconds", TIMEOUT.as_secs());
            Ok(Failure::new(Code::Timeout, detail).into_response())
        }
    }
}
