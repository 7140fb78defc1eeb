//! Networks and ports.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Serialize, Serializer};
use serde_with::SerializeDisplay;
use utoipa::openapi::schema::Type;
use utoipa::openapi::{ObjectBuilder, OneOfBuilder};

use super::read::{Found, ValueError, Written, scalar, text};

/// A network, or one address: "10.0.0.0/8", "2001:db8::/32", "192.0.2.7".
///
/// IPv4-mapped IPv6 is IPv4, as it is on the wire; so an IPv6 network, even `::/0`, never holds an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, SerializeDisplay)]
pub(crate) struct Cidr(IpNet);

impl Cidr {
    /// The network, with no bits set beyond its prefix, and IPv4 if it is within `::ffff:0:0/96`.
    pub(crate) const fn net(self) -> IpNet {
        self.0
    }
}

text!(
    Cidr,
    "an address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"",
    ObjectBuilder::new().examples(["10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
);

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = || Self::refuse(Found::Text(text));
        let net = parse(text).ok_or_else(refused)?;
        let right = net.trunc();
        if right != net {
            return Err(ValueError::other(format!(
                "{text} has bits set beyond /{}; expected {right}",
                net.prefix_len()
            )));
        }
        Ok(Self(canonical(net)))
    }
}

/// A network or an address; the standard library's parser, unlike ipnet's, refuses `010.0.0.0`, which others read as
/// octal.
fn parse(text: &str) -> Option<IpNet> {
    let Some((address, prefix_len)) = text.split_once('/') else {
        return text.parse::<IpAddr>().ok().map(IpNet::from);
    };
    IpNet::new(address.parse().ok()?, number(prefix_len)?.try_into().ok()?).ok()
}

/// A number of digits only, where `str::parse` would also take a sign.
pub(crate) fn number(text: &str) -> Option<u16> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The IPv4 form of a network within `::ffff:0:0/96`; any other as it is.
fn canonical(net: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= MAPPED_BITS => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - MAPPED_BITS).expect("128 - 96 is 32").into(),
            None => net,
        },
        _ => net,
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// A port, or a range of ports with both ends in it: 5060, "5060-5070".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// The ports from `first` to `last`.
    pub(crate) fn new(first: u16, last: u16) -> Result<Self, ValueError> {
        if first == 0 || last == 0 {
            return Err(ValueError::new("a port from 1 to 65535", 0));
        }
        if last < first {
            return Err(ValueError::new(
                format_args!("the lower port first, \"{last}-{first}\""),
                format_args!("\"{first}-{last}\""),
            ));
        }
        Ok(Self { first, last })
    }

    /// The ports, both ends in it.
    pub(crate) const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl Written for Ports {
    fn expected() -> String {
        "a port from 1 to 65535 or a range such as \"5060-5070\"".to_owned()
    }

    fn from_found(found: Found<'_>) -> Result<Self, ValueError> {
        let refused = || Self::refuse(found);
        match found {
            Found::Integer(port) => {
                u16::try_from(port).ok().and_then(|port| Self::new(port, port).ok()).ok_or_else(refused)
            }
            Found::Text(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                let port = |text| number(text).filter(|port| *port != 0).ok_or_else(refused);
                Self::new(port(first)?, port(last)?)
            }
            _ => Err(refused()),
        }
    }
}

impl FromStr for Ports {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        Self::from_found(Found::Text(text))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last { serializer.serialize_u16(self.first) } else { serializer.collect_str(self) }
    }
}

scalar!(Ports, {
    let port = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(u16::MAX));
    let range = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[0-9]+(-[0-9]+)?$"));
    OneOfBuilder::new().item(port).item(range).examples([serde_json::json!(5060), serde_json::json!("5060-5070")])
});

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Result<String, String> {
        text.parse::<Cidr>().map(|cidr| cidr.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn networks_and_addresses() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "192.0.2.7", "2001:db8::/32", "::/0", "2001:db8::1", "::fffe:0:0/95"] {
            assert_eq!(cidr(text).as_deref(), Ok(text));
        }
        assert_eq!(cidr("192.0.2.7/32").as_deref(), Ok("192.0.2.7"));
        assert_eq!(cidr("2001:DB8:0::/32").as_deref(), Ok("2001:db8::/32"));
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        assert_eq!(cidr("::ffff:192.0.2.7").as_deref(), Ok("192.0.2.7"));
        assert_eq!(cidr("::ffff:10.0.0.0/104").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(cidr("::ffff:0:0/96").as_deref(), Ok("0.0.0.0/0"));
    }

    #[test]
    fn a_network_with_host_bits_is_told_the_right_one() {
        assert_eq!(cidr("10.0.0.1/8").unwrap_err(), "10.0.0.1/8 has bits set beyond /8; expected 10.0.0.0/8");
        assert_eq!(
            cidr("2001:db8::1/32").unwrap_err(),
            "2001:db8::1/32 has bits set beyond /32; expected 2001:db8::/32"
        );
    }

    #[test]
    fn what_is_no_network() {
        let bad =
            ["", "/", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/+8", "fe80::1%eth0", "localhost"];
        for text in bad.into_iter().chain(["10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.0/-1", "10.0.0.0:80", "010.0.0.0/8"])
        {
            let expected = "expected an address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\", found ";
            assert_eq!(cidr(text).unwrap_err(), format!("{expected}{text:?}"));
        }
    }

    #[test]
    fn ports_and_ranges() {
        let read = |json: &str| serde_json::from_str::<Ports>(json).map_err(|error| error.to_string());
        let written = |json: &str| serde_json::to_string(&read(json).unwrap()).unwrap();
        assert_eq!(written("1"), "1");
        assert_eq!(written("65535"), "65535");
        assert_eq!(written("\"5060\""), "5060");
        assert_eq!(written("\"5060-5060\""), "5060");
        assert_eq!(written("\"5060-5070\""), "\"5060-5070\"");
        for json in
            ["0", "65536", "-1", "1.5", "\"\"", "\"-\"", "\"1-\"", "\"-1\"", "\"+1\"", "\"1 - 2\"", "\"0-5\"", "true"]
        {
            let error = read(json).unwrap_err();
            let expected = "expected a port from 1 to 65535 or a range such as \"5060-5070\", found";
            assert!(error.starts_with(expected), "{json}: {error}");
        }
        assert_eq!(
            "5070-5060".parse::<Ports>().unwrap_err().to_string(),
            "expected the lower port first, \"5060-5070\", found \"5070-5060\""
        );
    }
}
