//! An agent for tests: it gives answers that are written down beforehand, records the requests, and can break off or
//! stall.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{env, fs, process};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The reaction of the agent to one request.
pub(crate) enum Reply {
    /// Answers with this, and waits for the next request.
    Whole(String),
    /// Answers with this, and closes the connection.
    Broken(String),
    /// Does nothing at all.
    Stalled,
}

impl Reply {
    /// An answer with a body of this media type.
    pub(crate) fn new(status: u16, media_type: &str, body: &str) -> Self {
        Self::Whole(format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    /// An answer of JSON.
    pub(crate) fn json(body: &str) -> Self {
        Self::new(200, "application/json", body)
    }

    /// The beginning of an NDJSON answer, in the given chunks.
    pub(crate) fn lines(chunks: &[&str], ending: &str) -> String {
        let mut text =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n".to_owned();
        for chunk in chunks {
            text.push_str(&format!("{:x}\r\n{chunk}\r\n", chunk.len()));
        }
        text + ending
    }
}

/// The socket of the agent; it is removed with it.
pub(crate) struct Agent {
    dir: PathBuf,
    requests: JoinHandle<Vec<String>>,
}

impl Agent {
    /// Listens on a socket of its own and answers the requests of one connection in turn.
    pub(crate) fn start(replies: impl IntoIterator<Item = Reply>) -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let dir = env::temp_dir().join(format!("tcpops-client-{}-{number}", process::id()));
        fs::create_dir(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("t.sock")).unwrap();
        let replies: Vec<_> = replies.into_iter().collect();
        Self { dir, requests: tokio::spawn(serve(listener, replies)) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("t.sock")
    }

    /// The requests, once all replies are given: the request line, the headers and the body, a line each.
    pub(crate) async fn requests(mut self) -> Vec<String> {
        (&mut self.requests).await.unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.requests.abort();
        fs::remove_dir_all(&self.dir).unwrap();
    }
}

async fn serve(listener: UnixListener, replies: Vec<Reply>) -> Vec<String> {
    let mut requests = Vec::new();
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    for reply in replies {
        requests.push(request(&mut stream).await);
        match reply {
            Reply::Whole(text) => stream.write_all(text.as_bytes()).await.unwrap(),
            Reply::Broken(text) => {
                stream.write_all(text.as_bytes()).await.unwrap();
                break;
            }
            Reply::Stalled => std::future::pending().await,
        }
    }
    requests
}

async fn request(stream: &mut BufReader<UnixStream>) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        text.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    head.replace("\r\n", "\n").trim_end().to_owned() + "\n" + &String::from_utf8(body).unwrap()
}
