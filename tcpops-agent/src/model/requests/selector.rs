//! How a request names a connection.

use std::net::SocketAddr;

use tcpops_common::conn::Connection;

/// A name for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selector {
    /// `17`: the conid.
    Conid(u64),
    /// `cookie:42`: the socket's cookie.
    Cookie(u64),
    /// `local:10.0.0.1:5060+remote:192.0.2.7:40112`, or one of the two.
    Endpoints(Endpoints),
    /// `fd:7`: a descriptor of the calling process.
    Descriptor(i32),
}

/// One or both ends of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Endpoints {
    /// This host's endpoint.
    pub(crate) local: Option<SocketAddr>,
    /// The peer's endpoint.
    pub(crate) remote: Option<SocketAddr>,
}

/// A text that is no name of a connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a conid such as 17, cookie:42, fd:7, remote:192.0.2.7:5060, local:10.0.0.1:5060, or \
     local:10.0.0.1:5060+remote:192.0.2.7:40112; found \"{0}\""
)]
pub(crate) struct InvalidSelector(String);

impl Selector {
    /// Parses a name.
    ///
    /// # Errors
    /// Shows what names look like.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidSelector> {
        Self::parse_any(text).ok_or_else(|| InvalidSelector(text.to_owned()))
    }

    fn parse_any(text: &str) -> Option<Self> {
        if let Some(cookie) = text.strip_prefix("cookie:") {
            return number(cookie).map(Self::Cookie);
        }
        if let Some(descriptor) = text.strip_prefix("fd:") {
            return number(descriptor).and_then(|number| i32::try_from(number).ok()).map(Self::Descriptor);
        }
        if text.starts_with("local:") || text.starts_with("remote:") {
            return endpoints(text).map(Self::Endpoints);
        }
        number(text).map(Self::Conid)
    }
}

impl Endpoints {
    /// Every way to name the connection by its endpoints.
    pub(crate) fn names_of(connection: &Connection) -> [Self; 3] {
        let (local, remote) = (Some(connection.local()), Some(connection.remote()));
        [Self { local, remote }, Self { local, remote: None }, Self { local: None, remote }]
    }
}

/// Parses digits only: `parse` alone would accept a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn endpoints(text: &str) -> Option<Endpoints> {
    let mut found = Endpoints::default();
    for part in text.split('+') {
        let (place, address) = match part.strip_prefix("local:") {
            Some(address) => (&mut found.local, address),
            None => (&mut found.remote, part.strip_prefix("remote:")?),
        };
        let address: SocketAddr = address.parse().ok()?;
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        if place.replace(address).is_some() {
            return None;
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_parsed() {
        assert_eq!(Selector::parse("17"), Ok(Selector::Conid(17)));
        assert_eq!(Selector::parse("cookie:42"), Ok(Selector::Cookie(42)));
        assert_eq!(Selector::parse("fd:7"), Ok(Selector::Descriptor(7)));
        let both = Selector::parse("local:10.0.0.1:5060+remote:[2001:db8::1]:40112").unwrap();
        let expected = Endpoints {
            local: Some("10.0.0.1:5060".parse().unwrap()),
            remote: Some("[2001:db8::1]:40112".parse().unwrap()),
        };
        assert_eq!(both, Selector::Endpoints(expected));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mapped = Selector::parse("remote:[::ffff:192.0.2.7]:5060").unwrap();
        assert_eq!(mapped, Selector::parse("remote:192.0.2.7:5060").unwrap());
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "-1",
            "+1",
            "0x10",
            "1 ",
            "18446744073709551616",
            "cookie:",
            "cookie:-1",
            "fd:",
            "fd:-1",
            "fd:2147483648",
            "remote:",
            "remote:192.0.2.7",
            "remote:192.0.2.7:70000",
            "local:a:1",
            "remote:192.0.2.7:1+remote:192.0.2.7:2",
            "local:192.0.2.7:1+",
            "fd:1+local:192.0.2.7:1",
        ] {
            assert!(Selector::parse(text).is_err(), "{text:?} was taken");
        }
    }
}
