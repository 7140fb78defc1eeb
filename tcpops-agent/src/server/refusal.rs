//! The answer to a client for which there is no place: 503, without reading what it asks.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::extract::RETRY_AFTER;
use crate::api::problem::{self, Code, Problem};

/// The time that such a client has to take its answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The text of the answer to a client of `uid`.
pub(super) fn text(uid: u32, why: &str) -> String {
    let problem = Problem::new(Code::Overloaded, format!("uid {uid} {why}"));
    let status = problem.status;
    let body = serde_json::to_string(&problem).expect("a problem has no map with keys that JSON lacks");
    format!(
        "HTTP/1.1 {status} Service Unavailable\r\ncontent-type: {}\r\nretry-after: {RETRY_AFTER}\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        problem::CONTENT_TYPE,
        body.len()
    )
}

/// Answers once the client has begun to ask, and lets it send to the end: to one that is still sending when its connection
/// is closed, that is a failure (EPIPE), and it may not look for an answer.
pub(super) async fn answer(mut stream: UnixStream, text: String) {
    let talk = async {
        let mut piece = [0; 1024];
        let mut begun = stream.read(&mut piece).await? > 0;
        stream.write_all(text.as_bytes()).await?;
        stream.shutdown().await?;
        while begun {
            begun = stream.read(&mut piece).await? > 0;
        }
        std::io::Result::Ok(())
    };
    // It may have gone away, or be silent: it is told nothing more.
    let _gone = tokio::time::timeout(TIMEOUT, talk).await;
}

/// Answers at once, where too many such clients are being answered: what it takes fits in the socket's buffer.
pub(super) fn answer_at_once(stream: &UnixStream, text: &str) {
    let _gone = stream.try_write(text.as_bytes());
}
