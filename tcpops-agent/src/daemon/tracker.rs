//! What the loop keeps of connections: the model, the clock that goes with it, and what it asks to be done.

use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::connections::{Connections, Effect, Input};

/// The model of the connections, and the effects that wait to be carried out.
#[derive(Default)]
pub(crate) struct Tracker {
    connections: Connections,
    effects: Vec<Effect>,
}

impl Tracker {
    /// Tells the model something, now.
    pub(crate) fn input(&mut self, input: Input) {
        self.connections.apply(now_boot_ns(), input, &mut self.effects);
    }

    /// What is to be done, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// What is known of connections.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }
}
