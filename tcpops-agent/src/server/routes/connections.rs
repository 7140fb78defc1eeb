//! Connections: the list, one of them, its state, its peer, and its end.

use std::time::Duration;

use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use http_body_util::channel::Channel;
use parking_lot::Mutex;

use crate::api::close::{CloseQuery, Closed};
use crate::api::connections::{ConnectionDetail, ConnectionList, ConnectionState, ListQuery};
use crate::api::probe::{ProbeRequest, ProbeResult};
use crate::api::problem::{Code, Problem};
use crate::clocks::Clocks;
use crate::convert::change::{closed, manner};
use crate::daemon::Handle;
use crate::model::requests::filter::Filter;
use crate::server::admission::{Limits, Place};
use crate::server::extract::{Answer, Body, By, Failure, Id, Params, overloaded};
use crate::server::large;

/// The size of a page of the list.
const PAGE: u32 = 1000;
/// The largest page.
const MAX_PAGE: u32 = 10_000;
/// The time that a peer may take to answer a probe, unless the request has another.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pieces of an NDJSON answer that wait for a slow reader; then the reading of the map waits too.
const STREAM_QUEUE: usize = 4;
/// A piece ends with the line that takes it over this, bytes.
const PIECE: usize = 64 * 1024;
/// The bytes of a connection with a policy, nearly.
const LINE: usize = 896;
const NDJSON: &str = "application/x-ndjson";

/// Every connection and listener that the filters take; with `Accept: application/x-ndjson` all of them, one a line.
#[utoipa::path(get, path = "/v1/connections", params(ListQuery),
    responses((status = 200, body = ConnectionList), (status = "default", body = Problem)))]
pub(crate) async fn list(
    State(handle): State<Handle>,
    State(limits): State<Limits>,
    By(origin): By,
    headers: HeaderMap,
    Params(query): Params<ListQuery>,
) -> Result<Response, Failure> {
    let uid = origin.caller.uid;
    let filter = handle.filter(&query, &origin)?;
    if headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(NDJSON.as_bytes())) {
        if query.limit.is_some() || query.cursor.is_some() {
            return Err(Failure::new(Code::InvalidRequest, "NDJSON answers with all: expected no limit and no cursor"));
        }
        let place =
            limits.lists.admit(uid).ok_or_else(|| overloaded(uid, "reads as many lists as it may at a time"))?;
        return Ok(stream(handle, filter, place));
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Failure::new(Code::InvalidRequest, format!("limit: expected 1 to {MAX_PAGE}, found {limit}")));
    }
    let limit = limit as usize;
    let place = limits.items.admit_many(uid, limit).ok_or_else(|| {
        overloaded(uid, "asks, with its other requests, for more connections than are listed at a time")
    })?;
    let list = handle.list(filter, limit).await?;
    large::answer(move || list, place).await
}

fn stream(handle: Handle, filter: Filter, place: Place) -> Response {
    let (sender, body) = Channel::<Bytes, std::io::Error>::new(STREAM_QUEUE);
    let runtime = tokio::runtime::Handle::current();
    tokio::task::spawn_blocking(move || {
        let _until_sent = place;
        let sender = Mutex::new(sender);
        let send = |lines: Vec<u8>| runtime.block_on(sender.lock().send_data(lines.into())).is_ok();
        let result = handle.stream(&filter, |connections| {
            let mut lines = Vec::with_capacity(PIECE + LINE);
            for connection in connections {
                if serde_json::to_writer(&mut lines, &connection).is_err() {
                    return false;
                }
                lines.push(b'\n');
                if lines.len() >= PIECE && !send(std::mem::replace(&mut lines, Vec::with_capacity(PIECE + LINE))) {
                    return false;
                }
            }
            lines.is_empty() || send(lines)
        });
        if let Err(problem) = result {
            sender.into_inner().abort(std::io::Error::other(problem.detail));
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

/// Makes the kernel ask the peer whether it is still there, and waits for the answer. A second such request for the
/// same connection is refused while the first waits.
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
