//! A change to one connection, or to all that match, and what came of it.

use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Failure, report};
use super::human;
use super::table::table;
use super::target::Chosen;
use crate::api::batch::{BatchAction, BatchRequest, BatchResponse, BatchResult};
use crate::client::{Client, ClientError};

const HEADER: [&str; 4] = ["CONID", "LOCAL", "REMOTE", "RESULT"];

/// Makes a change, and prints what came of it: `one` makes it to one connection, and `shown` is its result as text;
/// `request` makes it to all that match. Done in part where some failed.
pub(crate) async fn change<T: Serialize>(
    chosen: Chosen,
    one: impl AsyncFnOnce(&mut Client, &str) -> Result<T, ClientError>,
    shown: impl FnOnce(&T) -> String,
    request: BatchRequest,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let mut client = context.client().await?;
    let query = match chosen {
        Chosen::One(id) => {
            context.out.show(&one(&mut client, &id).await?, shown)?;
            return Ok(Exit::Done);
        }
        Chosen::All(query) => query,
    };
    let request = BatchRequest { matching: Some(*query), ..request };
    let response = client.batch(&request).await?;
    let is_close = request.action == Some(BatchAction::Close);
    let results = |response: &BatchResponse| table(HEADER, response.results.iter().map(|one| row(one, is_close)));
    context.out.show_list(&response, &response.results, results)?;
    context.out.flush()?;
    report(&summary(&response));
    Ok(match (response.done, response.failed) {
        (_, 0) => Exit::Done,
        (0, _) => Exit::Failed,
        _ => Exit::Partial,
    })
}

fn row(result: &BatchResult, is_close: bool) -> [String; HEADER.len()] {
    let outcome = match (&result.problem, &result.options, &result.lifetime) {
        (Some(problem), ..) => format!("failed: {}", problem.detail),
        (None, Some(options), _) => human::options(options),
        (None, None, Some(lifetime)) => format!("lifetime {}", human::lifetime(lifetime)),
        (None, None, None) if is_close => human::closed(result.close, result.reset_at, None),
        (None, None, None) => "done".to_owned(),
    };
    let (local, remote) = (result.local.as_ref(), result.remote.as_ref());
    [result.id.clone(), human::or_nothing(local), human::or_nothing(remote), outcome]
}

fn summary(response: &BatchResponse) -> String {
    let BatchResponse { done, failed, ended, listeners, .. } = *response;
    let mut text = format!("{}: {done} done, {failed} failed", human::count(done + failed, "connection"));
    if ended > 0 {
        text.push_str(&format!("; {ended} more ended meanwhile"));
    }
    if listeners > 0 {
        text.push_str(&format!("; {} left out", human::count(listeners, "listener")));
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::keepalive::SocketOptions;
    use crate::api::lifetime::Lifetime;
    use crate::api::problem::{Code, Problem};
    use crate::api::values::Manner;

    fn result(conid: u64) -> BatchResult {
        BatchResult {
            id: conid.to_string(),
            conid: Some(conid),
            local: Some("10.0.0.1:5060".to_owned()),
            remote: Some(format!("192.0.2.7:{conid}")),
            ..BatchResult::default()
        }
    }

    #[test]
    fn each_result_has_a_line() {
        let options =
            SocketOptions { keepalive: true, idle_seconds: 60, count: 5, interval_seconds: 5, user_timeout_ms: 85_000 };
        let lifetime = Lifetime { idle_seconds: Some(300.0), ..Lifetime::default() };
        let results = [
            BatchResult { options: Some(options), remote: None, ..result(7) },
            BatchResult { lifetime: Some(lifetime), ..result(8) },
            BatchResult { lifetime: Some(Lifetime::default()), ..result(9) },
            BatchResult { problem: Some(Problem::new(Code::NotClosable, "it is this")), ..result(10) },
            result(11),
            BatchResult {
                close: Some(Manner::Fin),
                reset_at: Some("2026-11-23T00:00:10Z".parse().unwrap()),
                ..result(12)
            },
            BatchResult { close: Some(Manner::Reset), ..result(13) },
        ];
        assert_eq!(
            table(HEADER, results.iter().map(|result| row(result, true))),
            "CONID  LOCAL          REMOTE        RESULT\n\
             7      10.0.0.1:5060  -             keepalive on (60s/5x5s), user timeout 1m25s\n\
             8      10.0.0.1:5060  192.0.2.7:8   lifetime idle 5m\n\
             9      10.0.0.1:5060  192.0.2.7:9   lifetime -\n\
             10     10.0.0.1:5060  192.0.2.7:10  failed: it is this\n\
             11     10.0.0.1:5060  192.0.2.7:11  closed\n\
             12     10.0.0.1:5060  192.0.2.7:12  sent a FIN; reset at 2026-11-23T00:00:10Z\n\
             13     10.0.0.1:5060  192.0.2.7:13  reset: no FIN could be sent\n"
        );
    }

    #[test]
    fn the_summary_counts_everything() {
        let response = BatchResponse { done: 3, failed: 1, ended: 0, listeners: 0, results: Vec::new() };
        assert_eq!(summary(&response), "4 connections: 3 done, 1 failed\n");
        let response = BatchResponse { done: 1, failed: 0, ended: 2, listeners: 1, results: Vec::new() };
        assert_eq!(summary(&response), "1 connection: 1 done, 0 failed; 2 more ended meanwhile; 1 listener left out\n");
    }
}
