//! The loop's knowledge of connections: the model, fed with the time, and the effects that it asks for.

use crate::kernel::clock::now_boot_ns;
use crate::model::expiry::connections::{Connections, Input};
use crate::model::expiry::effects::Effect;

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

    /// The effects that wait, in order.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The model.
    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }
}
