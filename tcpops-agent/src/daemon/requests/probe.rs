//! Probing a peer: is it still there?
//!
//! Its socket's own keepalive timer asks. A walk raises the count, turns the user timeout off and sets TCP_KEEPIDLE, which
//! arms the timer anew; the agent watches `tcpi_last_ack_recv` and `tcpi_probes`; a second walk gives everything back. The
//! values to give back are in `PROBES`, which is pinned, in case this agent dies in between. The kernel does not forget
//! probes that went unanswered, so no more are sent than leave the connection one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tcpops_common::conn::{ConnKey, Connection};
use tcpops_common::policy::SocketOptions;
use tcpops_common::state::TcpState;
use tokio::time::{Instant, sleep};

use crate::api::probe::ProbeResult;
use crate::api::problem::{Code, Problem};
use crate::daemon::diags::Diags;
use crate::daemon::refusal;
use crate::daemon::requests::handle::Handle;
use crate::daemon::requests::origin::Origin;
use crate::daemon::shared::{Shared, blocking};
use crate::kernel::clock::{now_boot_ns, tick_us};
use crate::kernel::diag::SocketInfo;
use crate::kernel::probes::Noted;
use crate::kernel::{KernelError, Result as KernelResult};
use crate::model::requests::peer::{
    Method, Observation, PeerStatus, Question, enough_probes, enough_retransmits, judge,
};

/// The pauses between two looks, at first and later: an answer on the same host takes a millisecond, and one from far away
/// must not cost a busy loop.
const FIRST_LOOK: Duration = Duration::from_millis(2);
const LAST_LOOK: Duration = Duration::from_millis(50);

impl Handle {
    /// Makes the kernel ask the peer of a connection now, and waits for an answer, for `timeout` at the most.
    pub(crate) async fn probe(&self, id: &str, timeout: Duration, origin: &Origin) -> Result<ProbeResult, Problem> {
        let (key, connection) = self.find(id, origin).await?;
        if matches!(connection.state, TcpState::Listen | TcpState::SynSent | TcpState::SynRecv) {
            let state = connection.state.name();
            let detail = format!("connection {} is in state {state}: expected one with a peer to ask", key.conid);
            return Err(Problem::new(Code::InvalidRequest, detail));
        }
        // A caller that goes away must not leave a socket with the options of a probe.
        let shared = Arc::clone(&self.shared);
        let asking = tokio::spawn(async move { ask(&shared, key, connection, timeout).await });
        asking.await.unwrap_or_else(|error| Err(Problem::new(Code::Internal, format!("the probe failed: {error}"))))
    }
}

async fn ask(
    shared: &Arc<Shared>,
    key: ConnKey,
    connection: Connection,
    timeout: Duration,
) -> Result<ProbeResult, Problem> {
    let started = Instant::now();
    let before = look_at(shared, key, connection).await?;
    let question = match before {
        Some(info) if info.unacked > 0 => Question {
            asked_boot_ns: now_boot_ns(),
            method: Method::Retransmissions,
            tick_ns: tick_ns(),
            enough: enough_retransmits(info.retransmits),
        },
        _ => begin(shared, key, &connection, before.map_or(0, |info| info.probes)).await?,
    };
    let answer = wait(shared, key, connection, &question, started + timeout).await;
    if question.method == Method::Probes {
        // Also where the looking failed.
        end(shared, key, &connection).await?;
    }
    let (verdict, last) = answer?;
    Ok(result(key, &question, verdict, last, started.elapsed()))
}

/// Has a walk arm the keepalive timer.
async fn begin(
    shared: &Arc<Shared>,
    key: ConnKey,
    connection: &Connection,
    unanswered: u8,
) -> Result<Question, Problem> {
    let internal = |error: KernelError| refusal::of(&error);
    match shared.probes.ask(key).map_err(internal)? {
        Noted::Done => {}
        Noted::UnderWay => {
            let detail = format!("the peer of connection {} is being asked already; expected one at a time", key.conid);
            return Err(Problem::new(Code::Busy, detail));
        }
        Noted::Full => {
            return Err(Problem::new(Code::Full, "too many peers are being asked at this moment; try again"));
        }
    }
    let asked = async {
        walk(shared, connection.netns_cookie).await?;
        let probe = shared.probes.get(key)?;
        KernelResult::Ok(probe.filter(|probe| probe.asked_boot_ns != 0))
    };
    match asked.await {
        Ok(Some(probe)) => Ok(Question {
            asked_boot_ns: probe.asked_boot_ns,
            method: Method::Probes,
            tick_ns: tick_ns(),
            enough: enough_probes(unanswered, count(&probe.saved)),
        }),
        Ok(None) => {
            shared.probes.remove(key).map_err(internal)?;
            Err(refusal::no_such_connection(key.conid))
        }
        Err(error) => {
            shared.probes.remove(key).map_err(internal)?;
            Err(internal(error))
        }
    }
}

fn tick_ns() -> u64 {
    u64::from(tick_us()) * 1000
}

/// The number of probes after which the kernel gives a connection up; with keepalive off it counts none.
fn count(options: &SocketOptions) -> u8 {
    if options.keepalive == 0 { u8::MAX } else { options.keepcnt }
}

/// Has a walk give the socket back its options.
async fn end(shared: &Arc<Shared>, key: ConnKey, connection: &Connection) -> Result<(), Problem> {
    let ended = async {
        if shared.probes.restore(key)? {
            walk(shared, connection.netns_cookie).await?;
            // If the connection has ended, no walk came by its socket.
            shared.probes.remove(key)?;
        }
        KernelResult::Ok(())
    };
    ended.await.map_err(|error| refusal::of(&error))
}

async fn walk(shared: &Arc<Shared>, netns_cookie: u64) -> KernelResult<()> {
    let shared = Arc::clone(shared);
    blocking(move || {
        let namespace = shared.namespaces.find(netns_cookie)?;
        let _until_done = shared.settings.probing()?;
        shared.walker.walk(&namespace)
    })
    .await
}

/// Looks until it is clear, or the time is over.
async fn wait(
    shared: &Arc<Shared>,
    key: ConnKey,
    connection: Connection,
    question: &Question,
    until: Instant,
) -> Result<(PeerStatus, Option<Observation>), Problem> {
    let mut pause = FIRST_LOOK;
    let mut probed = (0, question.asked_boot_ns);
    loop {
        let Some(info) = look_at(shared, key, connection).await? else { return Ok((PeerStatus::Dead, None)) };
        let at_boot_ns = now_boot_ns();
        if info.probes != probed.0 {
            probed = (info.probes, at_boot_ns);
        }
        let look = Observation {
            at_boot_ns,
            heard_ms: info.last_ack_recv_ms.min(info.last_data_recv_ms),
            probes: info.probes,
            probed_boot_ns: probed.1,
            retransmits: info.retransmits,
        };
        let verdict = judge(question, &look);
        let left = until.saturating_duration_since(Instant::now());
        if verdict != PeerStatus::Unknown || left.is_zero() {
            return Ok((verdict, Some(look)));
        }
        sleep(pause.min(left)).await;
        pause = (pause * 2).min(LAST_LOOK);
    }
}

/// The kernel's `tcp_info`; `None` if the connection has ended.
async fn look_at(shared: &Arc<Shared>, key: ConnKey, connection: Connection) -> Result<Option<SocketInfo>, Problem> {
    let shared = Arc::clone(shared);
    blocking(move || match shared.connections.get(key)? {
        Some(_) => Diags::new(&shared).info(key, &connection),
        None => Ok(None),
    })
    .await
    .map_err(|error| refusal::of(&error))
}

fn result(
    key: ConnKey,
    question: &Question,
    verdict: PeerStatus,
    last: Option<Observation>,
    waited: Duration,
) -> ProbeResult {
    let waited_seconds = (waited.as_millis() as f64) / 1e3;
    let (probes, retransmits) = last.map_or((0, 0), |look| (look.probes, look.retransmits));
    let evidence = match (verdict, last, question.method) {
        (PeerStatus::Alive, ..) => "the peer answered".to_owned(),
        (_, None, _) => "the connection ended meanwhile".to_owned(),
        (_, _, Method::Probes) => format!("{probes} probes without an answer"),
        (_, _, Method::Retransmissions) => {
            format!("data waits for an acknowledgement and was sent again {retransmits} times")
        }
    };
    ProbeResult {
        conid: key.conid,
        verdict: verdict.into(),
        method: question.method.into(),
        waited_seconds,
        heard_seconds_ago: last.map(|look| f64::from(look.heard_ms) / 1e3),
        probes,
        retransmits,
        evidence,
    }
}

/// Gives the sockets back their options whose probes an agent before did not see to the end. Blocks.
pub(crate) fn finish_all(shared: &Shared) -> KernelResult<()> {
    let mut by_netns: BTreeMap<u64, Vec<ConnKey>> = BTreeMap::new();
    for key in shared.probes.keys()? {
        match shared.connections.get(key)? {
            Some(connection) if shared.probes.restore(key)? => {
                by_netns.entry(connection.netns_cookie).or_default().push(key);
            }
            _ => shared.probes.remove(key)?,
        }
    }
    for (netns_cookie, keys) in by_netns {
        let _until_done = shared.settings.probing()?;
        let walked = shared.namespaces.find(netns_cookie).and_then(|namespace| shared.walker.walk(&namespace));
        match walked {
            Ok(()) => keys.into_iter().try_for_each(|key| shared.probes.remove(key))?,
            Err(error) => {
                let error = refusal::chain(&error);
                tracing::warn!(netns_cookie, error, "sockets there keep the options of a probe");
            }
        }
    }
    Ok(())
}
