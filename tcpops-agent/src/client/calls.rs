//! The requests of the protocol. Each fails as [`Client::request`] does.

use hyper::Method;
use hyper::header::IF_MATCH;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ClientError;
use super::http::Client;
use super::lines::Lines;
use super::target::{connection, with_query};
use crate::api::batch::{BatchRequest, BatchResponse};
use crate::api::close::{CloseQuery, Closed};
use crate::api::connections::{ConnectionDetail, ConnectionList, ConnectionState, ListQuery};
use crate::api::detach::Detached;
use crate::api::events::EventsQuery;
use crate::api::keepalive::{KeepaliveRequest, KeepaliveResult};
use crate::api::lifetime::{LifetimeRequest, LifetimeResult};
use crate::api::probe::{ProbeRequest, ProbeResult};
use crate::api::rules::RuleDocument;
use crate::api::rules_result::RulesResult;
use crate::api::status::Status;

const CONNECTIONS: &str = "/v1/connections";
const RULES: &str = "/v1/rules";

impl Client {
    /// A page of the connections that match `query`, by rising conid.
    pub(crate) async fn connections(&mut self, query: &ListQuery) -> Result<ConnectionList, ClientError> {
        self.request(Method::GET, &with_query(CONNECTIONS, query)?).await
    }

    /// All connections that match `query`, one in each line, in any order.
    pub(crate) async fn all_connections(self, query: &ListQuery) -> Result<Lines, ClientError> {
        self.lines(&with_query(CONNECTIONS, query)?).await
    }

    /// Everything known of a connection.
    pub(crate) async fn connection(&mut self, id: &str) -> Result<ConnectionDetail, ClientError> {
        self.request(Method::GET, &connection(id, None)).await
    }

    /// Probes the peer of a connection, and returns what came of it.
    pub(crate) async fn probe(&mut self, id: &str, request: &ProbeRequest) -> Result<ProbeResult, ClientError> {
        self.submit(Method::POST, &connection(id, Some("probe")), request, None).await
    }

    /// The state of a connection; the code of one that is not known is -1.
    pub(crate) async fn state(&mut self, id: &str) -> Result<ConnectionState, ClientError> {
        self.request(Method::GET, &connection(id, Some("state"))).await
    }

    /// Turns keepalive on with these parameters, or off where there are none.
    pub(crate) async fn set_keepalive(
        &mut self,
        id: &str,
        keepalive: Option<&KeepaliveRequest>,
    ) -> Result<KeepaliveResult, ClientError> {
        self.put_or_delete(&connection(id, Some("keepalive")), keepalive).await
    }

    /// Sets lifetimes in place of any that were in force, or takes them away where there are none.
    pub(crate) async fn set_lifetime(
        &mut self,
        id: &str,
        lifetime: Option<&LifetimeRequest>,
    ) -> Result<LifetimeResult, ClientError> {
        self.put_or_delete(&connection(id, Some("lifetime")), lifetime).await
    }

    async fn put_or_delete<T: DeserializeOwned>(
        &mut self,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        match body {
            Some(body) => self.submit(Method::PUT, target, body, None).await,
            None => self.request(Method::DELETE, target).await,
        }
    }

    /// Closes a connection.
    pub(crate) async fn close(&mut self, id: &str, query: &CloseQuery) -> Result<Closed, ClientError> {
        self.request(Method::DELETE, &with_query(&connection(id, None), query)?).await
    }

    /// Makes many changes, or one change to many connections.
    pub(crate) async fn batch(&mut self, request: &BatchRequest) -> Result<BatchResponse, ClientError> {
        self.submit(Method::POST, "/v1/policies:batch", request, None).await
    }

    /// The rules in force.
    pub(crate) async fn rules(&mut self) -> Result<RuleDocument, ClientError> {
        self.request(Method::GET, RULES).await
    }

    /// Puts `rules` in force in place of all others, or with `dry_run` says what that would do; with `if_match` only if
    /// the rules in force are still of that generation.
    pub(crate) async fn apply_rules(
        &mut self,
        rules: &RuleDocument,
        dry_run: bool,
        if_match: Option<u64>,
    ) -> Result<RulesResult, ClientError> {
        let target = if dry_run { "/v1/rules?dry_run=true" } else { RULES };
        let if_match = if_match.map(|generation| (IF_MATCH, format!("\"{generation}\"")));
        self.submit(Method::PUT, target, rules, if_match).await
    }

    /// The events that happened, and with `follow` those to come, one in each line.
    pub(crate) async fn events(self, query: &EventsQuery) -> Result<Lines, ClientError> {
        self.lines(&with_query("/v1/events", query)?).await
    }

    /// The state of the agent.
    pub(crate) async fn status(&mut self) -> Result<Status, ClientError> {
        self.request(Method::GET, "/v1/status").await
    }

    /// Has the agent undo what it did to connections, remove its programs and maps, and end.
    pub(crate) async fn detach(&mut self) -> Result<Detached, ClientError> {
        self.request(Method::POST, "/v1/detach").await
    }
}
