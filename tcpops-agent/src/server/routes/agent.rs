//! The agent itself: its status, its metrics, its end.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use crate::api::detach::Detached;
use crate::api::problem::Problem;
use crate::api::status::Status;
use crate::daemon::{Handle, METRICS_CONTENT_TYPE};
use crate::server::extract::{Answer, By, Failure, privileged};

/// The status of the agent.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status), (status = "default", body = Problem)))]
pub(crate) async fn status(State(handle): State<Handle>, By(origin): By) -> Answer<Status> {
    Ok(Json(handle.status(&origin).await?))
}

/// All counters, for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String, content_type = "application/openmetrics-text"),
    (status = "default", body = Problem)))]
pub(crate) async fn metrics(State(handle): State<Handle>) -> Result<Response, Failure> {
    let text = handle.metrics().await?;
    Ok(([(CONTENT_TYPE, HeaderValue::from_static(METRICS_CONTENT_TYPE))], text).into_response())
}

/// Gives every socket back the options that its program had, takes everything out of the kernel, and ends the agent.
#[utoipa::path(post, path = "/v1/detach", responses((status = 200, body = Detached), (status = "default", body = Problem)))]
pub(crate) async fn detach(State(handle): State<Handle>, By(origin): By) -> Answer<Detached> {
    privileged(&origin)?;
    Ok(Json(handle.detach(&origin).await?))
}

/// The agent is ready, and stays so unless something is taken from it. While it starts, this is answered with the problem
/// `starting`, and later with `not_ready`.
#[utoipa::path(get, path = "/readyz", responses((status = 200), (status = 503, body = Problem)))]
pub(crate) async fn ready(State(handle): State<Handle>) -> Answer<serde_json::Value> {
    handle.ready()?;
    Ok(Json(serde_json::json!({ "ready": true })))
}

/// The agent serves requests.
pub(crate) async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "ready": true }))
}
