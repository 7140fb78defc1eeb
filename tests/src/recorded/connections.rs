//! Connections of every shape, each with all that is said of it.

use serde_json::{Value, json};

use super::{Recording, Stage};
use crate::harness::agent::Agent;
use crate::harness::lab::Lab;
use crate::harness::netns::{FAST_OPEN, NetNs};
use crate::harness::peer::{KEEPALIVE, KEEPIDLE, Peer, USER_TIMEOUT};
use crate::harness::wait::{SOON, wait_until};

const NOBODY: u32 = 65_534;

/// A rule for each port at the outsider, with everything that a policy can say.
pub(super) fn rules() -> Value {
    let keepalive = json!({ "idle": "60s", "count": 5, "interval": "10s" });
    let to = |port: u16| json!({ "direction": "outbound", "remote_port": port });
    let deadline = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 200);
    let limits = json!({ "idle": "10m", "max_age": "24h", "deadline": deadline.to_string(), "jitter": "10%" });
    json!({ "rule": [
        { "name": "before", "match": { "origin": "adopted" }, "lifetime": { "idle": "30m" } },
        { "name": "default", "match": to(7002), "mode": "default", "keepalive": keepalive, "user_timeout": "95s" },
        { "name": "floor", "match": to(7003), "mode": "floor", "keepalive": keepalive, "user_timeout": "95s" },
        { "name": "force", "match": to(7004), "keepalive": keepalive, "user_timeout": "auto", "lifetime": limits },
        { "name": "off", "match": to(7005), "keepalive": "off", "user_timeout": "off", "lifetime": "none" },
        { "name": "trial", "match": to(7006), "lifetime": { "max_age": "1h" }, "enforce": false },
        { "name": "kept", "match": to(7007), "lifetime": { "max_age": "1h" }, "close": "fin", "grace": "5s" },
        { "name": "keep", "match": to(7007), "protect": true },
        { "name": "hasty", "match": to(7008), "lifetime": { "connect": "1h" } },
        { "name": "half", "match": to(7009), "lifetime": { "half_closed": "1h" } },
        { "name": "door", "match": { "direction": "listen", "local_port": 5060 }, "keepalive": keepalive },
        { "name": "greeted", "match": { "direction": "inbound", "local_port": 5060 }, "lifetime": { "first_byte": "1h" } },
    ] })
}

/// Records the detail and the state of one connection.
fn show(recording: &mut Recording, agent: &Agent, conid: u64, what: &str) {
    recording.note(what);
    recording.get(agent, &format!("/v1/connections/{conid}"));
    recording.get(agent, &format!("/v1/connections/{conid}/state"));
}

/// Waits for a state.
pub(super) fn wait_for_state(agent: &Agent, conid: u64, state: &str) {
    wait_until(state, SOON, || agent.state(&conid.to_string())["tcp_state"] == state);
}

#[test]
fn answers_about_connections() {
    let lab = Lab::new();
    let mut stage = Stage::new(&lab);
    stage.outbound("127.0.0.1:7001");
    let agent = lab.agent().start();
    let mut recording = Recording::new("connections");
    recording.note("One that was open before the agent, before there are rules and after.");
    recording.get(&agent, "/v1/connections/1");
    agent.put("/v1/rules", &rules()).ok();
    show(&mut recording, &agent, 1, "A rule for what was adopted.");

    let listener = stage.listen("127.0.0.1:5060");
    show(&mut recording, &agent, 2, "A listener with a rule.");
    stage.inbound(listener, listener.local);
    show(&mut recording, &agent, 3, "Inbound, and no byte has come.");
    let listener = stage.listen("[::1]:5061");
    show(&mut recording, &agent, 4, "A listener without one.");
    stage.inbound(listener, listener.local);
    show(&mut recording, &agent, 5, "Inbound over IPv6.");
    let listener = stage.listen("[::]:5062");
    show(&mut recording, &agent, 6, "A listener of both families.");
    stage.inbound(listener, ([127, 0, 0, 1], 5062).into());
    show(&mut recording, &agent, 7, "Over IPv4 to a socket of IPv6.");
    stage.outbound("[::1]:7001");
    show(&mut recording, &agent, 8, "Outbound over IPv6, and no rule matches.");
    policies(&mut recording, &agent, &mut stage);
    states(&mut recording, &agent, &lab, &mut stage);
    places(&mut recording, &agent, &lab, &mut stage);
    recording.check();
}

/// Connections under rules and overrides: 9 to 19.
fn policies(recording: &mut Recording, agent: &Agent, stage: &mut Stage) {
    let option = |[level, option]: [i32; 2], value: i32| json!([level, option, value]);
    stage.outbound_with("127.0.0.1:7002", &json!([option(KEEPALIVE, 1)]));
    show(recording, agent, 9, "The default, under a program that has set keepalive.");
    stage.outbound_with("127.0.0.1:7002", &json!([option(KEEPALIVE, 1), option(USER_TIMEOUT, 1000)]));
    show(recording, agent, 10, "The default, under a program that has set everything.");
    stage.outbound_with("127.0.0.1:7003", &json!([option(KEEPALIVE, 1), option(KEEPIDLE, 300)]));
    show(recording, agent, 11, "The floor.");
    stage.outbound("127.0.0.1:7004");
    show(recording, agent, 12, "Everything that a rule can want.");
    stage.outbound("127.0.0.1:7005");
    show(recording, agent, 13, "A rule that turns everything off.");
    stage.outbound("127.0.0.1:7006");
    show(recording, agent, 14, "A rule that is not enforced.");
    stage.outbound("127.0.0.1:7007");
    show(recording, agent, 15, "Protected by another rule.");
    stage.outbound("127.0.0.1:7004");
    agent.keepalive("16", 30, 3, 3);
    show(recording, agent, 16, "An override of keepalive.");
    stage.outbound("127.0.0.1:7001");
    agent.lifetime("17", &json!({ "max_age_seconds": 5400.5, "idle_seconds": 600, "jitter_percent": 5 })).ok();
    show(recording, agent, 17, "An override of lifetimes, where no rule matches.");
    stage.outbound("127.0.0.1:7004");
    agent.delete("/v1/connections/18/keepalive").ok();
    agent.delete("/v1/connections/18/lifetime").ok();
    show(recording, agent, 18, "Overrides that take away what the rule wants.");
    stage.outbound("127.0.0.1:7001");
    agent.delete("/v1/connections/19?close=fin&grace_seconds=3600").ok();
    wait_for_state(agent, 19, "fin-wait-2");
    show(recording, agent, 19, "One that was sent a FIN, and is reset later.");
}

/// States other than established: 20 to 25.
fn states(recording: &mut Recording, agent: &Agent, lab: &Lab, stage: &mut Stage) {
    lab.ns.filter(&["tcp dport 7008 drop"]);
    stage.program.begin_connect(([127, 0, 0, 1], 7008).into());
    show(recording, agent, 20, "A handshake that has begun.");
    let (_sock, far) = stage.outbound("127.0.0.1:7009");
    stage.outsider.shutdown(far);
    wait_for_state(agent, 21, "close-wait");
    show(recording, agent, 21, "Closed by the peer.");
    let (sock, _far) = stage.outbound("127.0.0.1:7009");
    stage.program.shutdown(sock);
    wait_for_state(agent, 22, "fin-wait-2");
    show(recording, agent, 22, "Shut by the program.");
    lab.ns.sysctl("net.ipv4.tcp_fastopen", FAST_OPEN);
    let listener = stage.listen("127.0.0.1:5063");
    lab.ns.filter(&["tcp dport 5063 tcp flags & syn == 0 drop", "tcp dport 7008 drop"]);
    stage.outsider.connect_with(listener.local, &json!({ "data": "hello" })).expect("it begins");
    stage.program.accept(listener);
    show(recording, agent, 24, "Accepted before the handshake is over.");
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    lab.ns.filter(&["tcp dport { 7001, 7008 } drop", "tcp dport 5063 tcp flags & syn == 0 drop"]);
    stage.program.send(sock, "is anybody there?");
    wait_until("it is sent again", SOON, || agent.code("25") == -3);
    recording.note("Data that nobody acknowledges.");
    recording.get(agent, "/v1/connections/25/state");
}

/// Connections of another user, of a cgroup that is gone and of a namespace that is not entered: 26 to 28.
fn places(recording: &mut Recording, agent: &Agent, lab: &Lab, stage: &mut Stage) {
    lab.ns.filter(&[]);
    let mut nobody = lab.program_of(NOBODY);
    stage.outbound_of(&mut nobody, "127.0.0.1:7002");
    show(recording, agent, 26, "Of another user.");
    let child = lab.cgroup.child("gone");
    let mut short = Peer::start(&lab.ns, Some(&child), 0);
    let (sock, _far) = stage.outbound_of(&mut short, "127.0.0.1:7002");
    let _kept = short.copy_of(sock);
    drop((short, child));
    show(recording, agent, 27, "Of a cgroup that is gone.");
    let elsewhere = NetNs::new();
    let (mut program, mut outsider) = (Peer::start(&elsewhere, Some(&lab.cgroup), 0), Peer::start(&elsewhere, None, 0));
    let door = outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 7004 }));
    program.connect(door.local);
    show(recording, agent, 28, "In a network namespace that the agent does not enter.");
}
