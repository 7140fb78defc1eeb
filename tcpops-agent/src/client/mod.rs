//! The client side of the protocol.

mod calls;
mod error;
mod http;
mod lines;
mod target;

pub(crate) use error::ClientError;
pub(crate) use http::Client;
pub(crate) use lines::decode;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
