//! The types of the protocol: the only ones that are serialized.
