//! Extractors that answer every rejection with a problem.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::{self, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::api::problem::{self, Code, Problem};
use crate::api::values::ValueError;
use crate::daemon::Origin;

/// The seconds after which a client that met a limit may try again.
pub(crate) const RETRY_AFTER: u16 = 1;

/// The answer to a request.
pub(crate) type Answer<T> = Result<Json<T>, Failure>;

/// The answer to a request that failed.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) Box<Problem>);

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<ValueError> for Failure {
    fn from(error: ValueError) -> Self {
        Problem::from(error).into()
    }
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::CONTENT_TYPE));
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER));
        }
        response
    }
}

/// The answer to a request that would be too much at a time, with the others.
pub(crate) fn overloaded(uid: u32, why: &str) -> Failure {
    Failure::new(Code::Overloaded, format!("uid {uid} {why}: expected others to end first"))
}

/// A body of JSON.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let Json(value) = Json::<T>::from_request(request, state).await?;
        Ok(Self(value))
    }
}

impl From<JsonRejection> for Failure {
    fn from(rejection: JsonRejection) -> Self {
        let code = match (&rejection, rejection.status()) {
            (JsonRejection::MissingJsonContentType(_), _) => Code::UnsupportedMediaType,
            (_, StatusCode::PAYLOAD_TOO_LARGE) => Code::TooLarge,
            _ => Code::InvalidRequest,
        };
        Self::new(code, rejection.body_text())
    }
}

/// The bytes of a JSON body, for a reader that gives the place of every error.
pub(crate) struct JsonText(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for JsonText {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &S) -> Result<Self, Failure> {
        let declared = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if !declared.is_some_and(|value| value.starts_with("application/json")) {
            return Err(Failure::new(Code::UnsupportedMediaType, "expected `Content-Type: application/json`"));
        }
        let text = Bytes::from_request(request, state).await.map_err(|rejection| {
            let too_large = rejection.status() == StatusCode::PAYLOAD_TOO_LARGE;
            Failure::new(if too_large { Code::TooLarge } else { Code::InvalidRequest }, rejection.body_text())
        })?;
        Ok(Self(text))
    }
}

/// The query.
pub(crate) struct Params<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Params<T> {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Query(value) = Query::<T>::from_request_parts(parts, state)
            .await
            .map_err(|rejection: QueryRejection| Failure::new(Code::InvalidRequest, rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// The `{id}` of a path.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|rejection: PathRejection| {
            let found = rejection.body_text();
            Failure::new(Code::InvalidRequest, format!("expected a connection's id as UTF-8, percent-encoded: {found}"))
        })?;
        Ok(Self(id))
    }
}

pub(crate) struct By(pub(crate) Origin);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let origin = parts.extensions.get::<Origin>().cloned();
        origin.map(Self).ok_or_else(|| Failure::new(Code::Internal, "a request without an origin"))
    }
}

/// Checks that the caller is root or in the group tcpops.
pub(crate) fn privileged(origin: &Origin) -> Result<(), Failure> {
    if origin.caller.privileged {
        return Ok(());
    }
    let detail = format!("uid {} may not do this: expected root, or a member of the group tcpops", origin.caller.uid);
    Err(Failure::new(Code::Forbidden, detail))
}
