//! The unix socket: HTTP/1.1 with JSON, every error a problem, and no client able to hold up another.

mod router;
mod routes;

mod admission;
mod extract;
mod group;
mod large;
mod listener;
mod refusal;
mod seldom;
mod service;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::daemon::{Handle, Origin, Progress, room};

pub(crate) use self::listener::Listener;

use self::admission::{Admission, ClientLimits, Limits};
use self::seldom::Seldom;
use self::service::{Ready, Service};

/// The time that a client may take to send the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head of a request, bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The time that requests under way have to end when the agent stops.
const GRACE: Duration = Duration::from_secs(2);

/// The most clients at a time.
const CLIENTS: ClientLimits = ClientLimits { per_uid: 32, of_users: 192, of_root: 256 };
/// The most at a time of those that are told that there is no place for them. More are told without waiting for what they
/// ask.
const REFUSED: ClientLimits = ClientLimits { per_uid: 8, of_users: 32, of_root: 32 };

/// Serves the socket until it is told to stop.
pub(crate) struct Server {
    ready: watch::Sender<Option<Ready>>,
    limits: Limits,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Starts to serve: until the daemon is [ready](Self::ready), requests wait, or are told how far its start is. Must be
    /// called within a tokio runtime.
    pub(crate) fn start(listener: Listener, progress: Arc<Progress>) -> Self {
        let (ready, router) = watch::channel(None);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let server = Self { ready, limits: Limits::default(), stop, tasks };
        room::ask_for_enough();
        let service = Service { ready: router, limits: server.limits.clone(), progress };
        server.tasks.spawn(accept_all(listener, service, server.tasks.clone(), server.stop.clone()));
        server
    }

    /// Has the daemon answer requests from now on, and those that wait.
    pub(crate) fn ready(&self, handle: Handle) {
        let router = router::router(handle.clone(), self.limits.clone());
        self.ready.send_replace(Some(Ready { router, handle }));
    }

    /// Takes no more requests, and gives those under way a little time to end.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(GRACE, self.tasks.wait()).await.is_err() {
            tracing::warn!("requests that did not end in time are cut off");
        }
    }
}

/// Accepts clients until it is told to stop, and has each served that finds a place.
async fn accept_all(mut listener: Listener, service: Service, tasks: TaskTracker, stop: CancellationToken) {
    let (group, path) = listener.take_group();
    let (members, stopped) = (group.id(), stop.clone());
    tasks.spawn(async move { group.follow(&path, stopped).await });
    let (admission, refusals) = (Admission::new(CLIENTS), Admission::new(REFUSED));
    let (mut failures, mut turned_away) = (Seldom::default(), Seldom::default());
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept(&members) => accepted,
            () = service.socket_gone() => {
                if listener.bind_again() {
                    service.socket_bound().await;
                }
                continue;
            }
        };
        let (stream, origin) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if let Some(times) = failures.happened(Instant::now()) {
                    tracing::warn!(%error, times, "cannot accept a client");
                }
                // Out of memory, say; others may end meanwhile.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let uid = origin.caller.uid;
        let why = if room::is_for(uid, &stream) {
            if let Some(place) = admission.admit(uid) {
                let serving = serve(stream, origin, service.clone(), stop.clone());
                tasks.spawn(async move {
                    serving.await;
                    drop(place);
                });
                continue;
            }
            "has as many clients as it may have, or all users have: expected one to end"
        } else {
            "finds no place: as many files are open as clients may have opened, by the limit of the agent's process"
        };
        service.client_refused();
        if let Some(times) = turned_away.happened(Instant::now()) {
            tracing::warn!(uid, times, "clients are turned away: uid {uid} {why}");
        }
        drop(origin);
        let text = refusal::text(uid, why);
        match refusals.admit(uid).filter(|_| room::is_for_refusal(&stream)) {
            Some(place) => drop(tasks.spawn(async move {
                refusal::answer(stream, text).await;
                drop(place);
            })),
            None => refusal::answer_at_once(&stream, &text),
        }
    }
}

async fn serve(stream: UnixStream, origin: Origin, service: Service, stop: CancellationToken) {
    let service = service_fn(move |request| service.clone().answer(origin.clone(), request));
    let mut connection = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client went away, or sent what is not HTTP");
    }
}
