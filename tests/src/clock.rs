//! The clock of the agent and that of the kernel programs: in a time namespace they differ, and connections live no longer
//! and no shorter for that.

use serde_json::{Value, json};

use crate::harness::lab::Lab;
use crate::harness::wait::{SOON, wait_until};

const SECOND_NS: u64 = 1_000_000_000;

#[test]
fn in_a_time_namespace_limits_end_in_time() {
    for offset in ["100000", "-1000"] {
        let lab = Lab::new();
        let arguments = ["--time", "--boottime", offset, "--kill-child", "--"];
        let agent = lab.agent().started_by("unshare", &arguments).start();
        let rules = json!({ "rule": [
            { "name": "aged", "match": { "remote": "127.0.0.1" }, "lifetime": { "max_age": "2s" } },
            { "name": "idle", "match": { "remote": "127.0.0.2" }, "lifetime": { "idle": "2s" } },
            { "name": "long", "match": { "remote": "127.0.0.3" }, "lifetime": { "max_age": "1h" } },
        ] });
        agent.put("/v1/rules", &rules).ok();
        let (mut program, mut outsider) = (lab.program(), lab.outsider());
        let crowds = ["127.0.0.1", "127.0.0.2"].map(|host| {
            let listener = outsider.listen(host);
            program.crowd(listener.local, 10, 0.0)
        });
        let long = outsider.listen("127.0.0.3");
        let long = program.connect(long.local);
        for crowd in crowds {
            let ends = program.ends(&crowd, 20.0);
            for ((_, established), end) in crowd.established.iter().zip(ends) {
                let (at, error) = end.expect("it ended");
                assert_eq!(error, "ECONNABORTED", "with an offset of {offset} s");
                assert!(
                    at - established >= 19 * SECOND_NS / 10,
                    "{} ns, with an offset of {offset} s",
                    at - established
                );
            }
        }
        assert!(program.is_quiet(long), "with an offset of {offset} s");
        let shown = agent.connection(&long.id());
        let age = shown["age_seconds"].as_f64().expect("it has an age");
        assert!((0.0..600.0).contains(&age), "{shown}");
        let left = shown["expires"]["in_seconds"].as_f64().or_else(|| shown["expires"]["seconds"].as_f64());
        assert!(left.is_none_or(|left| (2900.0..=3600.0).contains(&left)), "{shown}");
        // A date is one of everybody's.
        let deadline: Value = agent.lifetime(&long.id(), &json!({ "max_age_seconds": 1 })).ok();
        assert_eq!(deadline["conid"], shown["conid"]);
        wait_until("its end", SOON, || agent.code(&long.id()) == -1);
    }
}
