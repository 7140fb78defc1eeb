//! Requests and answers that may be large: they are read and written off the loop, and what they take is counted until the
//! client has taken its answer.

use std::convert::Infallible;

use axum::Json;
use axum::body::{Body as HttpBody, Bytes};
use axum::http::HeaderValue;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;

use super::admission::Place;
use super::extract::Failure;
use crate::api::problem::Code;
use crate::daemon::release_memory;

/// An answer of more bytes than this leaves much memory behind, which the allocator keeps unless it is told not to.
const LARGE: usize = 1024 * 1024;
/// The bytes that are handed to the connection at a time. It keeps these until they are sent; the others are counted.
const PIECE: usize = 64 * 1024;

/// Reads a body of JSON.
pub(super) async fn read<T: DeserializeOwned + Send + 'static>(body: Bytes) -> Result<T, Failure> {
    let read = spawn_blocking(move || Json::<T>::from_bytes(&body));
    let Json(value) = read.await.map_err(failed)??;
    Ok(value)
}

/// Answers with what `make` returns, as JSON.
pub(super) async fn answer<T: Serialize>(
    make: impl FnOnce() -> T + Send + 'static,
    place: Place,
) -> Result<Response, Failure> {
    let text = spawn_blocking(move || serde_json::to_vec(&make())).await.map_err(failed)?.map_err(failed)?;
    let headers =
        [(CONTENT_TYPE, HeaderValue::from_static("application/json")), (CONTENT_LENGTH, HeaderValue::from(text.len()))];
    let kept = Kept { trims: text.len() > LARGE, _place: place };
    let pieces = unfold((Bytes::from(text), kept), async |(mut text, kept)| {
        // A copy, since a part of it would keep the whole.
        let piece = Bytes::copy_from_slice(&text.split_to(PIECE.min(text.len())));
        (!piece.is_empty()).then_some((Ok::<_, Infallible>(piece), (text, kept)))
    });
    Ok((headers, HttpBody::from_stream(pieces)).into_response())
}

/// Kept for as long as an answer is: the last of what is dropped.
struct Kept {
    trims: bool,
    _place: Place,
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.trims
            && let Ok(runtime) = Handle::try_current()
        {
            drop(runtime.spawn_blocking(release_memory));
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Code::Internal, error.to_string())
}
