//! `tcpops rule list`: prints the rules in force.

use super::row;
use crate::api::rules::RuleDocument;
use crate::cli::context::Context;
use crate::cli::exit::{Exit, Failure};
use crate::cli::table::table;

/// Prints the rules in force as a table, or as the document that the protocol has for them.
pub(crate) async fn list(context: &mut Context) -> Result<Exit, Failure> {
    let document = context.client().await?.rules().await?;
    context.out.show_list(&document, &document.rules, list_table)?;
    Ok(Exit::Done)
}

fn list_table(document: &RuleDocument) -> String {
    let mut text = table(row::HEADER, document.rules.iter().enumerate().map(|(index, rule)| row::row(index, rule)));
    if let Some(guard) = &document.guard {
        text.push_str(&format!("guard: {}\n", row::guard(guard)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::rules;
    use super::*;

    #[test]
    fn what_rules_say_about_closing() {
        let document = RuleDocument::from_toml(
            r#"
guard = { closes_per_second = 100, percent_per_minute = 20, protect_ports = [22, "80-82"] }
[[rule]]
name = "a"
mode = "floor"
user_timeout = "30s"
lifetime = { idle = "1m", jitter = "10%", deadline = 2026-12-24T18:00:00Z, first_byte = "10s" }
close = "fin"
[[rule]]
name = "b"
lifetime = { half_closed = "1m", connect = "5s" }
enforce = false
[[rule]]
name = "c"
protect = true
[[rule]]
name = "d"
track = false
"#,
            "f",
        );
        let shown = list_table(&document.unwrap());
        let [_, a, b, c, d, guard] = shown.lines().collect::<Vec<_>>()[..] else { panic!("{shown}") };
        let limits = "idle 1m, jitter 10%, until 2026-12-24T18:00:00Z, first byte 10s";
        assert!(a.contains("floor") && a.contains(limits) && a.ends_with("fin, reset after 10s"), "{a}");
        assert!(b.contains("half closed 1m, connect 5s") && b.ends_with("logged only"), "{b}");
        assert!(c.ends_with("protected"), "{c}");
        assert!(d.ends_with("not tracked"), "{d}");
        assert_eq!(
            guard,
            "guard: at most 100 closes a second, at most 20% of the connections a minute by one rule, \
             protected ports: 22,80-82"
        );
        let guard = |text| row::guard(&RuleDocument::from_toml(text, "f").unwrap().guard.unwrap());
        assert_eq!(guard("[guard]\n"), "protected ports: 22");
        assert_eq!(guard("[guard]\nprotect_ports = []\n"), "protected ports: none");
    }

    #[test]
    fn rules_line_up() {
        assert_eq!(
            list_table(&rules()),
            "#  NAME         MATCH                                                            KEEPALIVE  USER-TIMEOUT  MODE   LIFETIME          CLOSE\n\
             1  sip-clients  direction=inbound local_port=5060,5070-5079 remote=192.0.2.0/24  60s/5x5s   auto (1m25s)  force  idle 10m, max 7d  reset\n\
             2  by hand      uid=0,1000 cgroup=/user.slice                                    off        off           force  none              -\n\
             3  rest         any                                                              -          -             -      -                 -\n"
        );
    }
}
