//! Between the protocol and the model.
