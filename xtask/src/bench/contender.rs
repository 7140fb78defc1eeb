//! A load with or without an agent, of which several take turns.

use anyhow::Result;

use crate::bench::agent::Agent;
use crate::bench::context::Context;
use crate::bench::load::order::Tracked;
use crate::bench::place::Place;
use crate::bench::worker::Worker;

/// A load in a place of its own, and its agent. The fields are dropped in this order.
pub(crate) struct Contender {
    /// The load, of which both ends are tracked.
    pub(crate) load: Worker,
    _agent: Option<Agent>,
    _place: Place,
}

impl Contender {
    /// Starts one without an agent.
    ///
    /// # Errors
    /// The place cannot be made, or the load does not start.
    pub(crate) fn alone(context: &Context, name: &str) -> Result<Self> {
        Self::start(context, name, |_| Ok(None))
    }

    /// Starts one with an agent that has these rules; that only watches where there are none.
    ///
    /// # Errors
    /// The place cannot be made, or the agent or the load does not start.
    pub(crate) fn watched(context: &Context, name: &str, rules: Option<String>) -> Result<Self> {
        Self::start(context, name, |place| context.agent(place, rules).map(Some))
    }

    fn start(context: &Context, name: &str, agent: impl FnOnce(&Place) -> Result<Option<Agent>>) -> Result<Self> {
        let place = Place::new(&context.ground, name)?;
        let agent = agent(&place)?;
        let load = Worker::start(&place, context.processors.load, Tracked::Both)?;
        Ok(Self { load, _agent: agent, _place: place })
    }
}
