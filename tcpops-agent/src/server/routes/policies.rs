//! Policies of one connection.

use axum::Json;
use axum::extract::State;

use crate::api::keepalive::{KeepaliveRequest, KeepaliveResult};
use crate::api::lifetime::{LifetimeRequest, LifetimeResult};
use crate::api::problem::Problem;
use crate::clocks::Clocks;
use crate::convert::change::{keepalive_change, lifetime_change};
use crate::convert::policy::{lifetime_in_force, options};
use crate::daemon::{Handle, Origin};
use crate::model::requests::policies::Change;
use crate::server::extract::{Answer, Body, By, Id};

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

/// Sets the lifetimes of the connection in place of those in force.
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

/// Takes the lifetimes off the connection, those of a rule too.
#[utoipa::path(delete, path = "/v1/connections/{id}/lifetime", params(("id" = String, Path)),
    responses((status = 200, body = LifetimeResult), (status = "default", body = Problem)))]
pub(crate) async fn lifetime_clear(State(handle): State<Handle>, By(origin): By, Id(id): Id) -> Answer<LifetimeResult> {
    lifetime(&handle, &id, Change::LifetimeClear, &origin).await
}

async fn lifetime(handle: &Handle, id: &str, change: Change, origin: &Origin) -> Answer<LifetimeResult> {
    let (conid, connection) = handle.change(id, change, origin).await?;
    Ok(Json(LifetimeResult { conid, lifetime: lifetime_in_force(&connection.policy, Clocks::read()) }))
}
