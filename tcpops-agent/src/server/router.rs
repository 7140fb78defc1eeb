//! The paths, and the description of the API that is made from them.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body as HttpBody, HttpBody as _};
use axum::extract::{DefaultBodyLimit, FromRef, Request};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::body::Incoming;
use tower::ServiceExt as _;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admission::Limits;
use super::extract::{Failure, overloaded};
use super::routes::{agent, batch, connections, events, policies, rules};
use crate::api::problem::Code;
use crate::daemon::{Handle, Origin};

/// The largest body that is read, bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The time that a request may take; shorter than the 30 s that the client waits, so that it gets an answer.
const TIMEOUT: Duration = Duration::from_secs(25);

/// The state of the routes.
#[derive(Clone)]
struct Backend {
    handle: Handle,
    limits: Limits,
}

impl FromRef<Backend> for Handle {
    fn from_ref(backend: &Backend) -> Self {
        backend.handle.clone()
    }
}

impl FromRef<Backend> for Limits {
    fn from_ref(backend: &Backend) -> Self {
        backend.limits.clone()
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
#[derive(Clone)]
pub(super) struct Service {
    router: Router,
    limits: Limits,
}

impl Service {
    pub(super) fn new(handle: Handle) -> Self {
        let limits = Limits::default();
        let (router, description) = api().split_for_parts();
        let router = router
            .route("/v1/openapi.json", get(async move || Json(description)))
            .route("/healthz", get(agent::health))
            .fallback(async || Failure::new(Code::NotFound, "expected a path of /v1/openapi.json"))
            .method_not_allowed_fallback(async || {
                Failure::new(Code::MethodNotAllowed, "expected a method that /v1/openapi.json names for this path")
            })
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(Backend { handle, limits: limits.clone() });
        Self { router, limits }
    }

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
        request.extensions_mut().insert(origin);
        match tokio::time::timeout(TIMEOUT, self.router.oneshot(request)).await {
            Ok(response) => response,
            Err(_elapsed) => {
                let detail = format!("no answer within {} seconds", TIMEOUT.as_secs());
                Ok(Failure::new(Code::Timeout, detail).into_response())
            }
        }
    }
}
