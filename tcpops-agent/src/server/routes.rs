//! The requests, one function each.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::{DefaultBodyLimit, FromRef, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use tower::ServiceExt as _;

use super::batch::batch;
use super::extract::{Body, By, Failure, Id, JsonText, Params};
use super::{Streams, events, openapi};
use crate::api::close::{CloseQuery, Closed};
use crate::api::connections::{ConnectionDetail, ConnectionList, ConnectionState, ListQuery};
use crate::api::detach::Detached;
use crate::api::keepalive::{KeepaliveRequest, KeepaliveResult};
use crate::api::lifetime::{LifetimeRequest, LifetimeResult};
use crate::api::probe::{ProbeRequest, ProbeResult};
use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::{RulesQuery, RulesResult};
use crate::api::status::Status;
use crate::clocks::Clocks;
use crate::convert::change::{closed, keepalive_change, lifetime_change, manner};
use crate::convert::policy::{lifetime_in_force, options};
use crate::daemon::{Handle, METRICS_CONTENT_TYPE, Origin};
use crate::model::requests::filter::Filter;
use crate::model::requests::policies::Change;

/// The largest body that is read.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// How many connections a page of the list has.
const PAGE: u32 = 1000;
/// How many it can have.
const MAX_PAGE: u32 = 10_000;
/// How long a request may take; shorter than the 30 s for which the client waits, so that it is told.
const TIMEOUT: Duration = Duration::from_secs(25);
/// How long a peer may take to answer a probe unless the request says otherwise.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches of an NDJSON answer that wait for a slow reader; then the reading of the map waits too.
const STREAM_QUEUE: usize = 4;
const NDJSON: &str = "application/x-ndjson";

pub(crate) type Answer<T> = Result<Json<T>, Failure>;

/// What the routes work with.
#[derive(Clone)]
pub(crate) struct Backend {
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

/// The routes.
pub(crate) fn router(handle: Handle) -> Router {
    let backend = Backend { handle, streams: Streams::default() };
    Router::new()
        .route("/v1/connections", get(list))
        .route("/v1/connections/{id}", get(show).delete(close))
        .route("/v1/connections/{id}/state", get(state))
        .route("/v1/connections/{id}/probe", post(probe))
        .route("/v1/connections/{id}/keepalive", put(keepalive_enable).delete(keepalive_disable))
        .route("/v1/connections/{id}/lifetime", put(lifetime_set).delete(lifetime_clear))
        .route("/v1/policies:batch", post(batch))
        .route("/v1/rules", get(rules).put(replace_rules))
        .route("/v1/events", get(events::events))
        .route("/v1/status", get(status))
        .route("/metrics", get(metrics))
        .route("/v1/detach", post(detach))
        .route("/v1/openapi.json", get(openapi))
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .fallback(async || Failure::new(Code::NotFound, "expected a path of /v1/openapi.json"))
        .method_not_allowed_fallback(async || {
            Failure::new(Code::MethodNotAllowed, "expected a method that /v1/openapi.json names for this path")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(backend)
}

/// Answers one request.
pub(crate) async fn answer(
    router: Router,
    origin: Origin,
    request: hyper::Request<Incoming>,
) -> Result<Response, Infallible> {
    let mut request: Request = request.map(HttpBody::new);
    request.extensions_mut().insert(origin);
    match tokio::time::timeout(TIMEOUT, router.oneshot(request)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            let detail = format!("no answer within {} seconds", TIMEOUT.as_secs());
            Ok(Failure::new(Code::Timeout, detail).into_response())
        }
    }
}

/// Every connection and listener that the filters take; with `Accept: application/x-ndjson` all of them, one a line.
#[utoipa::path(get, path = "/v1/connections", params(ListQuery),
    responses((status = 200, body = ConnectionList), (status = "default", body = Problem)))]
pub(crate) async fn list(
    State(handle): State<Handle>,
    By(origin): By,
    headers: HeaderMap,
    Params(query): Params<ListQuery>,
) -> Result<Response, Failure> {
    let filter = handle.filter(&query, &origin)?;
    if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(NDJSON.as_bytes())) {
        if query.limit.is_some() || query.cursor.is_some() {
            return Err(Failure::new(Code::InvalidRequest, "NDJSON answers with all: expected no limit and no cursor"));
        }
        return Ok(stream(handle, filter));
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Failure::new(Code::InvalidRequest, format!("limit: expected 1 to {MAX_PAGE}, found {limit}")));
    }
    Ok(Json(handle.list(filter, limit as usize).await?).into_response())
}

fn stream(handle: Handle, filter: Filter) -> Response {
    let (mut sender, body) = Channel::<Bytes, std::io::Error>::new(STREAM_QUEUE);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let result = handle.stream(&filter, |connections| {
            let mut lines = Vec::with_capacity(connections.len() * 512);
            for connection in &connections {
                if serde_json::to_writer(&mut lines, connection).is_err() {
                    return false;
                }
                lines.push(b'\n');
            }
            runtime.block_on(sender.send_data(lines.into())).is_ok()
        });
        if let Err(problem) = result {
            sender.abort(std::io::Error::other(problem.detail));
        }
    });
    ([(CONTENT_TYPE, HeaderValue::from_static(NDJSON))], HttpBody::new(body)).into_response()
}

/// Everything known of one connection.
#[utoipa::path(get, path = "/v1/connections/{id}", params(("id" = String, Path)),
    responses((status = 200, body = ConnectionDetail), (status = "default", body = Problem)))]
pub(crate) async fn show(State(handle): State<Handle>, By(origin): By, Id(id): Id) -> Answer<ConnectionDetail> {
    Ok(Json(handle.connection(&id, &origin).await?))
}

/// The state of one connection; an id that leads to none is code -1.
#[utoipa::path(get, path = "/v1/connections/{id}/state", params(("id" = String, Path)),
    responses((status = 200, body = ConnectionState), (status = "default", body = Problem)))]
pub(crate) async fn state(State(handle): State<Handle>, By(origin): By, Id(id): Id) -> Answer<ConnectionState> {
    Ok(Json(handle.state(&id, &origin).await?))
}

/// Makes the kernel ask the peer whether it is still there, and waits for the answer. A second such request for the same
/// connection is refused while the first waits.
#[utoipa::path(post, path = "/v1/connections/{id}/probe", params(("id" = String, Path)), request_body = ProbeRequest,
    responses((status = 200, body = ProbeResult), (status = "default", body = Problem)))]
pub(crate) async fn probe(
    State(handle): State<Handle>,
    By(origin): By,
    Id(id): Id,
    Body(request): Body<ProbeRequest>,
) -> Answer<ProbeResult> {
    let timeout = request.timeout_seconds.map_or(PROBE_TIMEOUT, |seconds| Duration::from_secs(seconds.get().into()));
    Ok(Json(handle.probe(&id, timeout, &origin).await?))
}

/// Closes the connection: its program gets ECONNABORTED, its peer a reset. With `close=fin` the peer gets a FIN first.
#[utoipa::path(delete, path = "/v1/connections/{id}", params(("id" = String, Path), CloseQuery),
    responses((status = 200, body = Closed), (status = "default", body = Problem)))]
pub(crate) async fn close(
    State(handle): State<Handle>,
    By(origin): By,
    Id(id): Id,
    Params(query): Params<CloseQuery>,
) -> Answer<Closed> {
    let manner = manner(&query)?;
    let (conid, done) = handle.close(&id, manner, &origin).await?;
    Ok(Json(closed(conid, query.close, done, Clocks::read())))
}

/// Turns keepalive on.
#[utoipa::path(put, path = "/v1/connections/{id}/keepalive", params(("id" = String, Path)),
    request_body = KeepaliveRequest,
    responses((status = 200, body = KeepaliveResult), (status = "default", body = Problem)))]
pub(crate) async fn keepalive_enable(
    State(handle): State<Handle>,
    By(origin): By,
    Id(id): Id,
    Body(request): Body<KeepaliveRequest>,
) -> Answer<KeepaliveResult> {
    keepalive(&handle, &id, keepalive_change(&request), &origin).await
}

/// Turns keepalive off.
#[utoipa::path(delete, path = "/v1/connections/{id}/keepalive", params(("id" = String, Path)),
    responses((status = 200, body = KeepaliveResult), (status = "default", body = Problem)))]
pub(crate) async fn keepalive_disable(
    State(handle): State<Handle>,
    By(origin): By,
    Id(id): Id,
) -> Answer<KeepaliveResult> {
    keepalive(&handle, &id, Change::KeepaliveDisable, &origin).await
}

async fn keepalive(handle: &Handle, id: &str, change: Change, origin: &Origin) -> Answer<KeepaliveResult> {
    let (conid, connection) = handle.change(id, change, origin).await?;
    Ok(Json(KeepaliveResult { conid, options: options(&connection.in_force) }))
}

/// Sets the lifetimes of the connection, instead of those in force.
#[utoipa::path(put, path = "/v1/connections/{id}/lifetime", params(("id" = String, Path)),
    request_body = LifetimeRequest,
    responses((status = 200, body = LifetimeResult), (status = "default", body = Problem)))]
pub(crate) async fn lifetime_set(
    State(handle): State<Handle>,
    By(origin): By,
    Id(id): Id,
    Body(request): Body<LifetimeRequest>,
) -> Answer<LifetimeResult> {
    lifetime(&handle, &id, lifetime_change(&request, Clocks::read())?, &origin).await
}

/// Takes the lifetimes off the connection, a rule's too.
#[utoipa::path(delete, path = "/v1/connections/{id}/lifetime", params(("id" = String, Path)),
    responses((status = 200, body = LifetimeResult), (status = "default", body = Problem)))]
pub(crate) async fn lifetime_clear(State(handle): State<Handle>, By(origin): By, Id(id): Id) -> Answer<LifetimeResult> {
    lifetime(&handle, &id, Change::LifetimeClear, &origin).await
}

async fn lifetime(handle: &Handle, id: &str, change: Change, origin: &Origin) -> Answer<LifetimeResult> {
    let (conid, connection) = handle.change(id, change, origin).await?;
    Ok(Json(LifetimeResult { conid, lifetime: lifetime_in_force(&connection.policy, Clocks::read()) }))
}

/// The rules in force, in order; the ETag is their generation.
#[utoipa::path(get, path = "/v1/rules",
    responses((status = 200, body = RuleDocument), (status = "default", body = Problem)))]
pub(crate) async fn rules(State(handle): State<Handle>) -> Result<Response, Failure> {
    let (document, generation) = handle.rules().await?;
    Ok(([(ETAG, format!("\"{generation}\""))], Json(document)).into_response())
}

/// Puts other rules in force, all of them at once; or with `dry_run` says which open connections that would change.
#[utoipa::path(put, path = "/v1/rules", params(RulesQuery), request_body = RuleDocument,
    responses((status = 200, body = RulesResult), (status = "default", body = Problem)))]
pub(crate) async fn replace_rules(
    State(handle): State<Handle>,
    By(origin): By,
    Params(query): Params<RulesQuery>,
    headers: HeaderMap,
    JsonText(body): JsonText,
) -> Result<Response, Failure> {
    privileged(&origin)?;
    let if_generation = headers.get(IF_MATCH).map(generation).transpose()?.flatten();
    let result = if query.dry_run {
        handle.preview_rules(body.into(), if_generation).await?
    } else {
        handle.replace_rules(&origin, body.into(), if_generation).await?
    };
    Ok(([(ETAG, format!("\"{}\"", result.generation))], Json(result)).into_response())
}

/// The generation that If-Match asks for; `None` for `*`, which any generation matches (RFC 9110, section 13.1.1).
fn generation(value: &HeaderValue) -> Result<Option<u64>, Failure> {
    let text = value.to_str().unwrap_or_default();
    if text == "*" {
        return Ok(None);
    }
    let number = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).and_then(|text| text.parse().ok());
    let expected = "If-Match: expected an ETag of GET /v1/rules such as \"3\", or *";
    number.map(Some).ok_or_else(|| Failure::new(Code::InvalidRequest, expected))
}

/// How the agent fares.
#[utoipa::path(get, path = "/v1/status", responses((status = 200, body = Status), (status = "default", body = Problem)))]
pub(crate) async fn status(State(handle): State<Handle>) -> Answer<Status> {
    Ok(Json(handle.status().await?))
}

/// What is counted, for Prometheus.
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

/// This API.
pub(crate) async fn openapi() -> Json<utoipa::openapi::OpenApi> {
    Json(openapi::document())
}

/// The agent serves requests only once it is ready.
#[utoipa::path(get, path = "/readyz", responses((status = 200)))]
pub(crate) async fn health() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "ready": true }))
}

fn privileged(origin: &Origin) -> Result<(), Failure> {
    if origin.caller.privileged {
        return Ok(());
    }
    let detail = format!("uid {} may not do this: expected root, or a member of the group tcpops", origin.caller.uid);
    Err(Failure::new(Code::Forbidden, detail))
}
