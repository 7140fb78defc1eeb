//! Connections named by a descriptor of the program that asks.

use serde_json::json;

use super::{Recording, Stage};
use crate::harness::lab::Lab;
use crate::harness::peer::MPTCP;
use crate::harness::require;

#[test]
fn answers_about_descriptors() {
    if !require::has_descriptors_of_peers() {
        return;
    }
    let lab = Lab::new();
    let agent = lab.agent().start();
    let mut stage = Stage::new(&lab);
    let (sock, _far) = stage.outbound("127.0.0.1:7001");
    let mut recording = Recording::new("descriptors");
    let body = json!({ "idle_seconds": 60, "count": 5, "interval_seconds": 5 });
    let door = stage.outsider.listen_with(&json!({ "host": "127.0.0.1", "port": 7002, "protocol": MPTCP }));
    let mptcp = stage.program.connect_with(door.local, &json!({ "protocol": MPTCP })).expect("it connects");
    let program = &mut stage.program;
    let mut ask = |what: &str, method: &str, fd: i32, rest: &str, body| {
        recording.note(what);
        recording.ask_as(program, &agent, method, &format!("/v1/connections/fd:{fd}{rest}"), body);
    };
    ask("Its own.", "GET", sock.fd, "", None);
    ask("Its own.", "GET", sock.fd, "/state", None);
    ask("Its own.", "PUT", sock.fd, "/keepalive", Some(&body));
    ask("A socket that is no TCP connection.", "GET", mptcp.fd, "/state", None);
    ask("A socket that is no TCP connection.", "DELETE", mptcp.fd, "", None);
    ask("A pipe.", "GET", 0, "", None);
    ask("Nothing.", "GET", 999, "/state", None);
    recording.check();
}
