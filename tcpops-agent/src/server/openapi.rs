//! The description of the API, made from the routes and the types that they use.

use utoipa::OpenApi;

use super::{batch, events, routes};

#[derive(OpenApi)]
#[openapi(
    info(title = "tcpops", description = "Conids, states, keepalive and lifetimes of the TCP connections of a host."),
    paths(
        routes::list,
        routes::show,
        routes::state,
        routes::probe,
        routes::close,
        routes::keepalive_enable,
        routes::keepalive_disable,
        routes::lifetime_set,
        routes::lifetime_clear,
        batch::batch,
        routes::rules,
        routes::replace_rules,
        events::events,
        routes::status,
        routes::metrics,
        routes::detach,
        routes::health,
    )
)]
struct Api;

/// The OpenAPI 3.1 document.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Api::openapi()
}
