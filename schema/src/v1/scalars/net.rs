//! Addresses and names of the network.

use super::name::{HostName, text_name};
use super::{ScalarError, text_scalar};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// An IP address, v4 or v6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub IpAddr);

impl FromStr for Address {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give an IPv4 or IPv6 address such as 10.1.0.5";
        text.parse().map(Self).map_err(|_| ScalarError::not(text, "an IP address", allowed))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_scalar!(Address, "an IP address", {
    "type": "string", "pattern": "^[0-9A-Fa-f:.]+$", "examples": ["10.1.0.5", "fd00:1::5"]
});

/// An address with the length of its network's prefix; alone, the address is its own network
/// (/32, /128).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// An address and prefix length, if that length fits the address's family.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= full_prefix(address)).then_some(Self { address, prefix })
    }

    /// An address that is its own network.
    pub fn alone(address: IpAddr) -> Self {
        Self { address, prefix: full_prefix(address) }
    }

    /// The address.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether the address has no bits set beyond the prefix.
    pub fn is_network(self) -> bool {
        let host_bits = u32::from(full_prefix(self.address) - self.prefix);
        match self.address {
            IpAddr::V4(v4) => v4.to_bits().trailing_zeros() >= host_bits,
            IpAddr::V6(v6) => v6.to_bits().trailing_zeros() >= host_bits,
        }
    }
}

fn full_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl FromStr for Cidr {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let wrong = || {
            ScalarError::not(
                text,
                "an address",
                "give an IPv4 or IPv6 address, with /prefix if wanted, such as 10.1.0.5/24",
            )
        };
        let (address, prefix) =
            text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let prefix = match prefix {
            None => full_prefix(address),
            Some(prefix) if prefix.bytes().all(|b| b.is_ascii_digit()) => {
                prefix.parse().map_err(|_| wrong())?
            }
            Some(_) => return Err(wrong()),
        };
        Self::new(address, prefix).ok_or_else(wrong)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == full_prefix(self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

text_scalar!(Cidr, "an address such as 10.1.0.5/24", {
    "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]+)?$", "examples": ["10.1.0.5", "10.1.0.0/24"]
});

/// Where a route leads: a network, or `default`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteTarget {
    /// Everywhere no other route leads.
    Default,
    /// One network.
    Network(Cidr),
}

impl FromStr for RouteTarget {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        if text == "default" {
            return Ok(Self::Default);
        }
        match text.parse::<Cidr>() {
            Ok(network) if network.is_network() => Ok(Self::Network(network)),
            Ok(_) => Err(ScalarError::not(text, "a network", "its address has bits set beyond the prefix")),
            Err(_) => Err(ScalarError::not(
                text,
                "a route's target",
                "give `default` or a network such as 10.1.0.0/24",
            )),
        }
    }
}

impl fmt::Display for RouteTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

text_scalar!(RouteTarget, "`default` or a network", {
    "type": "string", "pattern": "^(default|[0-9A-Fa-f:.]+(/[0-9]+)?)$", "examples": ["default", "10.1.0.0/24"]
});

/// The hardware address of one interface: six bytes in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    /// An address of these bytes.
    pub const fn new(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The bytes.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let what = "a MAC address";
        let wrong =
            || ScalarError::not(text, what, "give six bytes in hexadecimal such as 00:18:51:0a:0b:0c");
        let mut octets = [0; 6];
        let mut parts = text.split(if text.contains('-') { '-' } else { ':' });
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = u8::from_str_radix(part.ok_or_else(wrong)?, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        if octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(ScalarError::not(text, what, "that of an interface is neither zero nor a group's"));
        }
        Ok(Self(octets))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

text_scalar!(Mac, "a MAC address", {
    "type": "string", "pattern": "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$", "examples": ["00:18:51:0a:0b:0c"]
});

/// Where a server answers: a name or an address, and a port: `host2.example.net:7443`, `[fd00::2]:7443`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    host: Box<str>,
    port: u16,
}

impl Endpoint {
    /// The name or the address, as resolvers take it.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for Endpoint {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let allowed = "give HOST:PORT, such as host2.example.net:7443, 192.0.2.2:7443 or [fd00::2]:7443";
        let parts = text.rsplit_once(':').and_then(|(host, port)| {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0)?;
            let host: Box<str> = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
                Some(v6) => v6?.parse::<Ipv6Addr>().ok()?.to_string().into(),
                None => host.parse::<HostName>().ok()?.as_str().into(),
            };
            Some(Self { host, port })
        });
        parts.ok_or_else(|| ScalarError::not(text, "where a server answers", allowed))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

text_scalar!(Endpoint, "where a server answers", {
    "type": "string", "pattern": "^(\\[[0-9A-Fa-f:.]+\\]|[-_.A-Za-z0-9]+):[0-9]+$",
    "examples": ["host2.example.net:7443", "[fd00::2]:7443"]
});

text_name!(
    /// The name of a network interface, as the kernel allows it.
    IfName,
    "an interface name",
    "give at most 15 printable characters without blanks, / and :",
    |text| {
        let allowed = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':';
        !matches!(text, "" | "." | "..") && text.len() <= 15 && text.bytes().all(allowed)
    },
    { "type": "string", "pattern": "^[^ /:]{1,15}$" }
);

/// A mark that packet filters give packets, and which of its bits count: `0x10`, `0x10/0xff`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark {
    value: u32,
    mask: u32,
}

impl Mark {
    /// None where no packet could bear it, or every one does.
    pub const fn new(value: u32, mask: u32) -> Option<Self> {
        if mask == 0 || value & !mask != 0 { None } else { Some(Self { value, mask }) }
    }

    /// The mark.
    pub const fn value(self) -> u32 {
        self.value
    }

    /// The bits of it that count.
    pub const fn mask(self) -> u32 {
        self.mask
    }
}

impl FromStr for Mark {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let number = |text: &str| match text.strip_prefix("0x") {
            Some(digits) if digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                u32::from_str_radix(digits, 16).ok()
            }
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
        number(value).zip(number(mask)).and_then(|(value, mask)| Self::new(value, mask)).ok_or_else(|| {
            ScalarError::not(
                text,
                "a mark of packets",
                "give a number of 32 bits, and a mask that covers it: 0x10/0xff",
            )
        })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.value)?;
        if self.mask == u32::MAX { Ok(()) } else { write!(f, "/{:#x}", self.mask) }
    }
}

text_scalar!(Mark, "a mark of packets", {
    "type": ["integer", "string"], "minimum": 0, "maximum": 4_294_967_295_u32,
    "pattern": "^(0x[0-9A-Fa-f]+|[0-9]+)(/(0x[0-9A-Fa-f]+|[0-9]+))?$", "examples": ["0x10/0xff"]
});

/// A port, or a range of them: `80`, `8000-8099`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

impl Ports {
    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port; the first one's equal for a single port.
    pub const fn last(self) -> u16 {
        self.last
    }

    /// These, if the first isn't 0 and none comes after the last.
    pub const fn new(first: u16, last: u16) -> Option<Self> {
        if first == 0 || first > last { None } else { Some(Self { first, last }) }
    }

    /// How many they are.
    pub const fn count(self) -> u32 {
        self.last as u32 - self.first as u32 + 1
    }

    /// Each of them.
    pub fn each(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

impl FromStr for Ports {
    type Err = ScalarError;

    fn from_str(text: &str) -> Result<Self, ScalarError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = first.parse().ok().zip(last.parse().ok());
        ports
            .and_then(|(first, last)| Self::new(first, last))
            .ok_or_else(|| ScalarError::not(text, "a port", "give 1 to 65535, or a range such as 8000-8099"))
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

text_scalar!(Ports, "a port or a range of ports", {
    "type": ["integer", "string"], "minimum": 1, "maximum": 65535, "pattern": "^[0-9]+(-[0-9]+)?$"
});

text_name!(
    /// What a web server is asked for, as it goes into the request.
    HttpPath,
    "the path of a page",
    "give printable ASCII characters without blanks, beginning with /, at most 1024",
    |text| text.starts_with('/') && text.len() <= 1024 && text.bytes().all(|b| b.is_ascii_graphic()),
    { "type": "string", "pattern": "^/[!-~]{0,1023}$" }
);
