//! Many changes in one request.

use axum::extract::State;
use axum::response::Response;

use crate::api::batch::{
    BatchAction, BatchChange, BatchRequest, BatchResponse, BatchResult, MAX_CHANGES, MAX_SELECTED,
};
use crate::api::close::{CloseQuery, Closed};
use crate::api::connections::ListQuery;
use crate::api::keepalive::KeepaliveRequest;
use crate::api::lifetime::LifetimeRequest;
use crate::api::problem::{Code, Problem};
use crate::api::values::Manner;
use crate::clocks::Clocks;
use crate::convert::change::{closed, keepalive_change, lifetime_change, manner};
use crate::convert::connections::ends;
use crate::convert::policy::{lifetime_in_force, options};
use crate::daemon::{Acted, Action, Done, Handle, Origin};
use crate::model::requests::policies::Change;
use crate::server::admission::{Limits, Place};
use crate::server::extract::{By, Failure, JsonText, overloaded};
use crate::server::large;

/// The length of the text of the shortest change, bytes.
const SHORTEST: usize = 24;

/// Makes many changes, with one walk over the sockets, and answers with a result for each.
#[utoipa::path(post, path = "/v1/policies:batch", request_body = BatchRequest,
    responses((status = 200, body = BatchResponse), (status = "default", body = Problem)))]
pub(crate) async fn batch(
    State(handle): State<Handle>,
    State(limits): State<Limits>,
    By(origin): By,
    JsonText(body): JsonText,
) -> Result<Response, Failure> {
    let uid = origin.caller.uid;
    let admit = |count| {
        limits
            .items
            .admit_many(uid, count)
            .ok_or_else(|| overloaded(uid, "asks, with its other requests, for more changes than are made at a time"))
    };
    let mut place = admit((body.len() / SHORTEST).min(MAX_CHANGES))?;
    let BatchRequest { changes, matching, action, keepalive, lifetime, close } = large::read(body).await?;
    match (changes, matching, action) {
        (Some(changes), None, None) if keepalive.is_none() && lifetime.is_none() && close.is_none() => {
            place.keep(changes.len());
            one_by_one(&handle, changes, &origin, place).await
        }
        (None, Some(query), Some(kind)) => {
            let action = asked(kind, keepalive.as_ref(), lifetime.as_ref(), close.as_ref())?;
            drop(place);
            // As many as one who may not do everything can select.
            let place = admit(MAX_CHANGES)?;
            all_that_match(&handle, &query, wanted(close.as_ref()), action, &origin, place).await
        }
        (None, Some(_), None) => Err(invalid("match: expected an action beside it, found none")),
        _ => Err(invalid("expected either changes alone, or match with its action")),
    }
}

async fn one_by_one(
    handle: &Handle,
    changes: Vec<BatchChange>,
    origin: &Origin,
    place: Place,
) -> Result<Response, Failure> {
    let action = |BatchChange { action, keepalive, lifetime, close, .. }: &BatchChange| {
        asked(*action, keepalive.as_ref(), lifetime.as_ref(), close.as_ref()).map_err(|Failure(problem)| *problem)
    };
    let actions = changes.iter().map(action).collect();
    let named: Vec<_> = changes.into_iter().map(|change| (change.id, wanted(change.close.as_ref()))).collect();
    let acted = handle.act(named.iter().map(|(id, _)| id.clone()).collect(), actions, origin).await;
    let make = move || {
        let results = named.into_iter().zip(acted).map(|((id, manner), result)| result_of(id, manner, result));
        response(results.collect())
    };
    large::answer(make, place).await
}

async fn all_that_match(
    handle: &Handle,
    query: &ListQuery,
    manner: Manner,
    action: Action,
    origin: &Origin,
    place: Place,
) -> Result<Response, Failure> {
    if query.limit.is_some() || query.cursor.is_some() {
        return Err(invalid("match: it is about all that match: expected no limit and no cursor"));
    }
    if *query == ListQuery::default() {
        return Err(invalid(format!(
            "match: expected at least one filter, found none, which would be every connection; at most {MAX_SELECTED} \
             may match"
        )));
    }
    let acted = handle.act_on_all(handle.filter(query, origin)?, action, origin).await?;
    let make = move || {
        let results = acted.results.into_iter().map(|(key, connection, result)| {
            let (local, remote) = ends(&connection);
            let result = result_of(key.conid.to_string(), manner, result);
            BatchResult { conid: Some(key.conid), local: Some(local), remote, ..result }
        });
        BatchResponse { ended: acted.ended, listeners: acted.listeners, ..response(results.collect()) }
    };
    large::answer(make, place).await
}

/// The action for the daemon.
fn asked(
    action: BatchAction,
    keepalive: Option<&KeepaliveRequest>,
    lifetime: Option<&LifetimeRequest>,
    close: Option<&CloseQuery>,
) -> Result<Action, Failure> {
    if action != BatchAction::Close && close.is_some() {
        return Err(invalid("expected close with the action close only"));
    }
    match (action, keepalive, lifetime) {
        (BatchAction::KeepaliveEnable, Some(request), None) => Ok(Action::Change(keepalive_change(request))),
        (BatchAction::LifetimeSet, None, Some(request)) => {
            Ok(Action::Change(lifetime_change(request, Clocks::read())?))
        }
        (BatchAction::KeepaliveDisable, None, None) => Ok(Action::Change(Change::KeepaliveDisable)),
        (BatchAction::LifetimeClear, None, None) => Ok(Action::Change(Change::LifetimeClear)),
        (BatchAction::Close, None, None) => Ok(Action::Close(manner(&close.copied().unwrap_or_default())?)),
        (BatchAction::KeepaliveEnable, ..) => Err(invalid("keepalive_enable: expected keepalive, and no lifetime")),
        (BatchAction::LifetimeSet, ..) => Err(invalid("lifetime_set: expected lifetime, and no keepalive")),
        _ => Err(invalid("expected neither keepalive nor lifetime with this action")),
    }
}

/// The manner of closes, of a request or of one of its changes.
fn wanted(close: Option<&CloseQuery>) -> Manner {
    close.map_or(Manner::default(), |close| close.close)
}

fn result_of(id: String, manner: Manner, acted: Result<Acted, Problem>) -> BatchResult {
    let mut result = BatchResult { id, ..BatchResult::default() };
    match acted {
        Err(problem) => result.problem = Some(problem),
        Ok((conid, done)) => {
            result.conid = Some(conid);
            match done {
                Done::Changed(Change::KeepaliveEnable { .. } | Change::KeepaliveDisable, connection) => {
                    result.options = Some(options(&connection.in_force));
                }
                Done::Changed(_, connection) => {
                    result.lifetime = Some(lifetime_in_force(&connection.policy, Clocks::read()));
                }
                Done::Closed(done) => {
                    let Closed { close, reset_at, .. } = closed(conid, manner, done, Clocks::read());
                    (result.close, result.reset_at) = (close, reset_at);
                }
            }
        }
    }
    result
}

fn response(results: Vec<BatchResult>) -> BatchResponse {
    let failed = results.iter().filter(|result| result.problem.is_some()).count();
    BatchResponse { done: results.len() - failed, failed, ended: 0, listeners: 0, results }
}

fn invalid(detail: impl Into<String>) -> Failure {
    Failure::new(Code::InvalidRequest, detail)
}
