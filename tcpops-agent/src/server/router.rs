//! The paths, and the description of the API that is made from them.

use axum::extract::{DefaultBodyLimit, FromRef};
use axum::routing::get;
use axum::{Json, Router};
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::admission::Limits;
use super::extract::Failure;
use super::routes::{agent, batch, connections, events, policies, rules};
use crate::api::problem::Code;
use crate::daemon::Handle;

/// The largest body that is read, bytes.
pub(super) const MAX_BODY: usize = 4 * 1024 * 1024;

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
        .routes(routes!(agent::ready))
}

/// The routes, with what the daemon does behind them.
pub(super) fn router(handle: Handle, limits: Limits) -> Router {
    let (router, description) = api().split_for_parts();
    router
        .route("/v1/openapi.json", get(async move || Json(description)))
        .route("/healthz", get(agent::health))
        .fallback(async || Failure::new(Code::NotFound, "expected a path of /v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            Failure::new(Code::MethodNotAllowed, "expected a method that /v1/openapi.json names for this path")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Backend { handle, limits })
}
