//! Sockops programs of others that end the callbacks of the sockets that are tracked.

use std::time::Duration;

use crate::harness::agent::Agent;
use crate::harness::cgroup::Cgroup;
use crate::harness::directory::Directory;
use crate::harness::lab::Lab;
use crate::harness::neighbour::{NAME, Neighbour, RETRANS_CB_FLAG, When};
use crate::harness::netns::NetNs;
use crate::harness::wait::{SOON, wait_until};

/// How long an entry may be behind.
const BEHIND: Duration = Duration::from_secs(1);

/// The state of the entry, which nobody asked the kernel about.
fn state(agent: &Agent, cookie: u64) -> Option<String> {
    agent
        .map()
        .into_values()
        .find(|(of, _)| *of == cookie)
        .and_then(|(_, entry)| Some(entry["state"].as_str()?.to_owned()))
}

/// The agent says that the neighbour is there.
fn wait_for_limitation(agent: &Agent, neighbour: &Neighbour, cgroup: &Cgroup) {
    let named = [NAME.to_owned(), format!("(id {})", neighbour.id), cgroup.path().display().to_string()];
    wait_until("status names the neighbour", SOON, || {
        let status = agent.get("/v1/status").ok();
        let mut limitations = status["limitations"].as_array().expect("a list").iter().filter_map(|text| text.as_str());
        limitations.any(|text| named.iter().all(|part| text.contains(part)))
    });
}

/// Connections of both directions are followed to their ends.
fn assert_followed(lab: &Lab, agent: &Agent) {
    for mut line in [lab.outbound("127.0.0.1"), lab.inbound("::1")] {
        assert_eq!(state(agent, line.sock.cookie).as_deref(), Some("Established"));
        line.outsider.close(line.far);
        wait_until("the entry says CLOSE_WAIT", BEHIND, || {
            state(agent, line.sock.cookie).as_deref() == Some("CloseWait")
        });
        line.program.close(line.sock);
        wait_until("the entry is gone", BEHIND, || state(agent, line.sock.cookie).is_none());
    }
}

#[test]
fn one_that_was_there_before_ends_no_callbacks() {
    let lab = Lab::new();
    let neighbour = Neighbour::attach(&lab, &lab.cgroup, When::Always, 0);
    let agent = lab.agent().start();
    wait_for_limitation(&agent, &neighbour, &lab.cgroup);
    assert_followed(&lab, &agent);
}

#[test]
fn one_that_comes_later_is_noticed_and_ends_no_callbacks() {
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut before = lab.outbound("127.0.0.1");
    let neighbour = Neighbour::attach(&lab, &lab.cgroup, When::Established, RETRANS_CB_FLAG);
    wait_for_limitation(&agent, &neighbour, &lab.cgroup);
    assert_followed(&lab, &agent);
    before.program.reset(before.sock);
    wait_until("the entry is gone", BEHIND, || state(&agent, before.sock.cookie).is_none());
    // One that goes is named no more.
    drop(neighbour);
    wait_until("nobody is named", SOON, || !agent.get("/v1/status").ok()["limitations"].to_string().contains(NAME));
}

#[test]
fn one_above_and_one_below_end_no_callbacks() {
    let above = Cgroup::new();
    let lab = Lab { cgroup: above.child("agents"), ns: NetNs::new(), directory: Directory::new() };
    let below = lab.cgroup.child("below");
    let agent = lab.agent().start();
    let first = Neighbour::attach(&lab, &above, When::Always, 0);
    wait_for_limitation(&agent, &first, &above);
    assert_followed(&lab, &agent);
    drop(first);
    let second = Neighbour::attach(&lab, &below, When::Always, 0);
    wait_for_limitation(&agent, &second, &below);
    assert_followed(&lab, &agent);
}

#[test]
fn what_changed_while_no_agent_looked_is_made_up_for() {
    use rustix::process::Signal;
    let lab = Lab::new();
    let mut agent = lab.agent().start();
    agent.stop(Signal::KILL);
    let neighbour = Neighbour::attach(&lab, &lab.cgroup, When::Established, 0);
    let (mut ended, mut half) = (lab.outbound("127.0.0.1"), lab.outbound("::1"));
    half.outsider.shutdown(half.far);
    ended.program.reset(ended.sock);
    assert_eq!(state(&agent, ended.sock.cookie).as_deref(), Some("Established"), "nobody saw its end");
    agent.start_again();
    wait_for_limitation(&agent, &neighbour, &lab.cgroup);
    wait_until("both are as they are", SOON, || {
        state(&agent, ended.sock.cookie).is_none() && state(&agent, half.sock.cookie).as_deref() == Some("CloseWait")
    });
    half.program.close(half.sock);
    wait_until("the entry is gone", BEHIND, || state(&agent, half.sock.cookie).is_none());
}
