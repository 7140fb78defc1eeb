//! `GET /v1/events`: a stream that its reader pulls along. Nothing is made for a reader before it takes it, so one that
//! sleeps costs no more than its place.

use std::convert::Infallible;
use std::time::Duration;
use std::vec::IntoIter;

use axum::body::{Body as HttpBody, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use tokio::time::{Instant, sleep_until};

use crate::api::events::{Event, EventType, EventsQuery};
use crate::api::problem::{Code, Problem};
use crate::clocks::Clocks;
use crate::convert::events::{EventFilter, event};
use crate::daemon::Handle;
use crate::events::{Reader, Start};
use crate::model::history::record::Record;
use crate::server::admission::{Limits, Place};
use crate::server::extract::{By, Failure, Params};

/// The seconds without an event after which a heartbeat comes, unless the query has others.
const HEARTBEAT_SECONDS: u32 = 15;
/// The most seconds that a query can have.
const MAX_HEARTBEAT_SECONDS: u32 = 3600;
/// A piece of a stream ends with the record that takes it over this, bytes: so much is made at most before it is read.
const PIECE: usize = 32 * 1024;
const NDJSON: &str = "application/x-ndjson";
const SSE: &str = "text/event-stream";
/// The header of a browser that connects again (HTML, section 9.2).
const LAST_EVENT_ID: &str = "last-event-id";

/// Events as they happen: NDJSON, or server-sent events with `Accept: text/event-stream`.
#[utoipa::path(get, path = "/v1/events", params(EventsQuery),
    responses((status = 200, body = Event, content_type = "application/x-ndjson"),
        (status = "default", body = Problem)))]
pub(crate) async fn events(
    State(handle): State<Handle>,
    State(limits): State<Limits>,
    By(origin): By,
    headers: HeaderMap,
    Params(query): Params<EventsQuery>,
) -> Result<Response, Failure> {
    let wanted = handle.events_wanted(&query, &origin)?;
    let heartbeat = query.heartbeat_seconds.unwrap_or(HEARTBEAT_SECONDS);
    if !(1..=MAX_HEARTBEAT_SECONDS).contains(&heartbeat) {
        let detail = format!("heartbeat_seconds: expected 1 to {MAX_HEARTBEAT_SECONDS}, found {heartbeat}");
        return Err(Failure::new(Code::InvalidRequest, detail));
    }
    let accepts = |media: &str| headers.get(ACCEPT).is_some_and(|value| value.as_bytes().starts_with(media.as_bytes()));
    let form = if accepts(SSE) { Form::ServerSent } else { Form::Lines };
    let follow = query.follow.unwrap_or(true);
    let start = match since(&query, &headers)? {
        Some(0) => Start::Oldest,
        Some(seq) => Start::After(seq),
        None if follow => Start::Now,
        None => Start::Oldest,
    };
    let Some(place) = limits.streams.admit(origin.caller.uid) else {
        let detail =
            format!("uid {} has as many streams of events as it may have: expected one to end", origin.caller.uid);
        return Err(Failure::new(Code::TooManyStreams, detail));
    };
    let stream = Stream {
        reader: handle.events(start, wanted.kinds, follow).await?,
        wanted,
        form,
        heartbeat: Duration::from_secs(heartbeat.into()),
        follow,
        // The first heartbeat says from where on the reader is told everything.
        next_heartbeat: Instant::now(),
        records: IntoIter::default(),
        _place: place,
    };
    let body = unfold(stream, async |mut stream| Some((Ok::<_, Infallible>(stream.next().await?), stream)));
    let media = HeaderValue::from_static(if form == Form::ServerSent { SSE } else { NDJSON });
    let headers = [(CONTENT_TYPE, media), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((headers, HttpBody::from_stream(body)).into_response())
}

/// The number after which the reader wants to begin; a browser that connects again sends it in a header.
fn since(query: &EventsQuery, headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(last) = headers.get(LAST_EVENT_ID) else { return Ok(query.since) };
    let seq = last.to_str().ok().and_then(|text| text.parse().ok());
    let expected = "Last-Event-ID: expected the number of an event";
    seq.map(Some).ok_or_else(|| Failure::new(Code::InvalidRequest, expected))
}

/// The form of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// One JSON object a line.
    Lines,
    /// Server-sent events, whose ids are the numbers.
    ServerSent,
}

impl Form {
    fn write(self, event: &Event, into: &mut Vec<u8>) {
        if self == Self::ServerSent {
            into.extend_from_slice(format!("id: {}\ndata: ", event.seq).as_bytes());
        }
        serde_json::to_writer(&mut *into, event).expect("an event has no map with keys that JSON lacks");
        into.extend_from_slice(if self == Self::ServerSent { b"\n\n" } else { b"\n" });
    }
}

/// The stream of one reader.
struct Stream {
    reader: Reader,
    wanted: EventFilter,
    form: Form,
    heartbeat: Duration,
    follow: bool,
    next_heartbeat: Instant,
    /// Taken from the log, and not yet told.
    records: IntoIter<Record>,
    /// Free again when the reader is gone.
    _place: Place,
}

impl Stream {
    /// The next piece; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let clocks = Clocks::read();
            if self.records.len() == 0 {
                let mut taken = Vec::new();
                self.reader.take(clocks.boot_ns, &mut taken);
                self.records = taken.into_iter();
            }
            if self.records.len() == 0 {
                if !self.follow {
                    return None;
                }
                tokio::select! {
                    more = self.reader.more() => if !more { return None },
                    () = sleep_until(self.next_heartbeat) => return Some(self.beat()),
                }
                continue;
            }
            let piece = self.piece(clocks);
            if !piece.is_empty() {
                self.next_heartbeat = Instant::now() + self.heartbeat;
                return Some(piece.into());
            }
            // A long row of records that this reader does not want holds nobody up.
            tokio::task::yield_now().await;
        }
    }

    /// The events of the records that are wanted.
    fn piece(&mut self, clocks: Clocks) -> Vec<u8> {
        let names = self.reader.names();
        let mut piece = Vec::new();
        while piece.len() < PIECE
            && let Some(record) = self.records.next()
        {
            if self.wanted.takes(&record) {
                self.form.write(&event(&record, &names, clocks), &mut piece);
            }
        }
        piece
    }

    fn beat(&mut self) -> Bytes {
        self.next_heartbeat = Instant::now() + self.heartbeat;
        let time = Clocks::read().now();
        let mut piece = Vec::new();
        self.form.write(
            &Event { seq: self.reader.last_seq(), time, kind: EventType::Heartbeat, ..Event::default() },
            &mut piece,
        );
        piece.into()
    }
}
