//! The rules in force.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};

use crate::api::problem::{Code, Problem};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::{RulesQuery, RulesResult};
use crate::daemon::Handle;
use crate::server::extract::{By, Failure, JsonText, Params, privileged};

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
