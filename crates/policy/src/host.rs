//! The one parser for host names and addresses (SPEC P1).
//!
//! Every door, every list and every explanation gets its hosts from here, so two spellings of one
//! host can never get two verdicts. It does not resolve names and does not split off ports: see the
//! engine's resolver and [`Authority`](crate::Authority).

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

/// Longest name in its textual form, without the trailing dot (RFC 1035 section 2.3.4).
const MAX_NAME: usize = 253;
/// Longest label (RFC 1035 section 2.3.4).
const MAX_LABEL: usize = 63;
/// Longest zone identifier; interface names are shorter on every system we run on.
const MAX_SCOPE: usize = 32;
/// Longest accepted input. It bounds the time of a UTS 46 mapping: a name of [`MAX_NAME`] A-label bytes
/// may have longer spellings.
const MAX_INPUT: usize = 1024;

/// A host in its canonical form, in which policy judges it and upstream gets it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A DNS name.
    Name(Name),
    /// An IPv4 address, given in any spelling. An IPv4-mapped IPv6 address
    /// (`::ffff:192.0.2.1`, RFC 4291 section 2.5.5.2) becomes the IPv4 address that a socket would
    /// really reach.
    V4(Ipv4Addr),
    /// An IPv6 address.
    V6(Ipv6Host),
}

/// A DNS name: lower-case A-labels, no trailing dot, 1 to 253 bytes, labels of 1 to 63 bytes out of
/// letters, digits, `-` and `_`. A resolver never takes it for an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// An IPv6 address with the zone it is meant in, if any (RFC 4007 section 11).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv6Host {
    address: Ipv6Addr,
    scope: Option<Arc<str>>,
}

/// Why a text is not a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing is left after trimming.
    #[error("the host is empty")]
    Empty,
    /// The name has more than 253 bytes.
    #[error("the host name is longer than 253 bytes")]
    TooLong,
    /// A label has more than 63 bytes.
    #[error("a label of the host name is longer than 63 bytes")]
    LabelTooLong,
    /// Two dots follow each other, or the name begins with one.
    #[error("the host name has an empty label")]
    EmptyLabel,
    /// A character that is not allowed in a host name.
    #[error("the host holds the character {0:?}, which is not allowed in a host name")]
    BadCharacter(char),
    /// The text is not valid UTF-8, or UTS 46 cannot map it to a valid name.
    #[error("the host is not a valid internationalised name (UTS 46)")]
    BadIdna,
    /// A name whose last label is a number, but which is not a spelling of an IPv4 address.
    #[error("the host looks like an IPv4 address but is not one")]
    BadIpv4,
    /// Colons or brackets, but not an IPv6 address.
    #[error("the host looks like an IPv6 address but is not one")]
    BadIpv6,
    /// A zone identifier that is empty, too long, or on an address that cannot have one.
    #[error("the zone identifier of the IPv6 address is not usable")]
    BadScope,
}

impl Host {
    /// Parses a host without a port: a name, an IPv4 address in any spelling that a resolver would
    /// take, or an IPv6 address with or without brackets and zone (`%25zone` means `%zone`,
    /// RFC 6874; `%25` alone is zone `25` without brackets and an empty zone in them). White space
    /// around the text and one trailing dot are dropped.
    ///
    /// # Errors
    ///
    /// A [`HostError`] for a text that is not a host. The cost is bounded for any input.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.trim();
        if text.len() > MAX_INPUT {
            return Err(HostError::TooLong);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::BadIpv6)?;
            return parse_v6(inner, Form::Bracketed);
        }
        if text.contains(':') {
            return parse_v6(text, Form::Bare);
        }
        let ascii = to_a_labels(text)?;
        let name = ascii.strip_suffix('.').unwrap_or(&ascii);
        check_name(name)?;
        if ends_in_number(name) {
            return parse_v4(name).map(Self::V4).ok_or(HostError::BadIpv4);
        }
        Ok(Self::Name(Name(Arc::from(name))))
    }

    /// [`parse`](Self::parse) for bytes off the wire.
    ///
    /// # Errors
    ///
    /// [`HostError::BadIdna`] when the bytes are not UTF-8, else as `parse`.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, HostError> {
        if bytes.len() > MAX_INPUT {
            return Err(HostError::TooLong);
        }
        Self::parse(core::str::from_utf8(bytes).map_err(|_| HostError::BadIdna)?)
    }

    /// The address, when the host is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(*address)),
            Self::V6(host) => Some(IpAddr::V6(host.address)),
        }
    }

    /// The name with U-labels (RFC 5890 section 2.3.2.1), if it has any. It is for people: names that look alike
    /// may differ, so show it only beside the canonical form.
    pub fn with_u_labels(&self) -> Option<String> {
        let Self::Name(name) = self else { return None };
        let (text, result) =
            Uts46::new().to_unicode(name.0.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
        (result.is_ok() && *text != *name.0).then(|| text.into_owned())
    }

    /// Whether the host is `localhost` or a name below it, which always means this machine
    /// (RFC 6761 section 6.3).
    pub fn is_localhost(&self) -> bool {
        let Self::Name(name) = self else { return false };
        is_localhost(&name.0)
    }
}

/// [`Host::is_localhost`] for a name in its canonical text.
pub(crate) fn is_localhost(name: &str) -> bool {
    name.strip_suffix("localhost")
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(Ipv6Host {
                address,
                scope: None,
            }),
        }
    }
}

impl core::str::FromStr for Host {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// The canonical text, IPv6 without brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(&name.0),
            Self::V4(address) => address.fmt(f),
            Self::V6(host) => host.fmt(f),
        }
    }
}

impl Name {
    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Ipv6Host {
    /// The address without its zone.
    pub fn address(&self) -> Ipv6Addr {
        self.address
    }

    /// The zone identifier as given: an interface's name or number.
    pub fn scope(&self) -> Option<&str> {
        self.scope.as_deref()
    }
}

impl fmt::Display for Ipv6Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        self.scope().map_or(Ok(()), |scope| write_scope(f, scope))
    }
}

/// Writes a zone with its `%`.
pub(crate) fn write_scope(f: &mut fmt::Formatter<'_>, scope: &str) -> fmt::Result {
    // `%251` would be read as zone `1`, and `%25` in brackets as an empty zone. So a zone that begins
    // with `25` needs the long form.
    let long = scope.starts_with("25");
    write!(f, "{}{scope}", if long { "%25" } else { "%" })
}

/// Maps a name to lower-case A-labels. Plain ASCII without an `xn--` label needs no table; nearly
/// every host is of this kind.
fn to_a_labels(text: &str) -> Result<Cow<'_, str>, HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if text.is_ascii() && !has_a_label(text) {
        return Ok(if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(text.to_ascii_lowercase())
        } else {
            Cow::Borrowed(text)
        });
    }
    // Lengths and characters are checked by `check_name`, with better errors.
    Uts46::new()
        .to_ascii(
            text.as_bytes(),
            AsciiDenyList::EMPTY,
            Hyphens::Allow,
            DnsLength::Ignore,
        )
        .map_err(|_| HostError::BadIdna)
}

fn has_a_label(text: &str) -> bool {
    text.split('.').any(|label| {
        label
            .get(..4)
            .is_some_and(|start| start.eq_ignore_ascii_case("xn--"))
    })
}

/// Checks the mapped name: letters, digits and hyphens as in RFC 1123 section 2.1, and the
/// underscore that real names have.
pub(crate) fn check_name(name: &str) -> Result<(), HostError> {
    if name.is_empty() {
        return Err(HostError::EmptyLabel);
    }
    if name.len() > MAX_NAME {
        return Err(HostError::TooLong);
    }
    let mut label = 0;
    for character in name.chars() {
        match character {
            '.' if label == 0 => return Err(HostError::EmptyLabel),
            '.' => label = 0,
            'a'..='z' | '0'..='9' | '-' | '_' => label += 1,
            other => return Err(HostError::BadCharacter(other)),
        }
        if label > MAX_LABEL {
            return Err(HostError::LabelTooLong);
        }
    }
    if label == 0 {
        return Err(HostError::EmptyLabel);
    }
    Ok(())
}

/// Whether a resolver might take the name for an IPv4 address: its last label is a number (the
/// WHATWG URL standard's "ends in a number checker"; no top-level domain is a number).
fn ends_in_number(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    last.bytes().all(|byte| byte.is_ascii_digit())
        || last
            .strip_prefix("0x")
            .is_some_and(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Reads every form that `inet_aton` reads: one to four numbers, each decimal, octal (`0…`) or
/// hexadecimal (`0x…`). The last number fills all remaining bytes of the address.
fn parse_v4(text: &str) -> Option<Ipv4Addr> {
    let mut numbers = [0_u32; 4];
    let mut count = 0;
    for part in text.split('.') {
        *numbers.get_mut(count)? = parse_v4_number(part)?;
        count += 1;
    }
    let last = numbers[count - 1];
    let mut address = 0_u32;
    for (index, number) in numbers[..count - 1].iter().enumerate() {
        let byte = u8::try_from(*number).ok()?;
        address |= u32::from(byte) << (24 - 8 * index);
    }
    // `count` is 1 to 4: the last number has 32, 24, 16 or 8 bits.
    let room = u64::from(u32::MAX) >> (8 * (count - 1));
    (u64::from(last) <= room).then(|| Ipv4Addr::from(address | last))
}

fn parse_v4_number(part: &str) -> Option<u32> {
    let (digits, radix) = if let Some(hex) = part.strip_prefix("0x") {
        (hex, 16)
    } else if part.len() > 1 && part.starts_with('0') {
        (&part[1..], 8)
    } else {
        (part, 10)
    };
    // `from_str_radix` accepts a leading `+`, which an address never has.
    if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
        return None;
    }
    u32::from_str_radix(digits, radix).ok()
}

/// How an IPv6 address is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The form of RFC 4007 section 11, without brackets.
    Bare,
    /// The form in a URI, in brackets.
    Bracketed,
}

fn parse_v6(text: &str, form: Form) -> Result<Host, HostError> {
    let (address, scope) = match text.split_once('%') {
        None => (text, None),
        Some((address, scope)) => {
            // RFC 6874 writes the `%` itself as `%25` in a URI. Outside of a URI, a zone `25` stays
            // as it is. Zone `251` can be written only as `%25251`, in both.
            let scope = match scope.strip_prefix("25") {
                Some(rest) if !rest.is_empty() || form == Form::Bracketed => rest,
                _ => scope,
            };
            (address, Some(scope))
        }
    };
    let address: Ipv6Addr = address.parse().map_err(|_| HostError::BadIpv6)?;
    if let Some(address) = address.to_ipv4_mapped() {
        return match scope {
            None => Ok(Host::V4(address)),
            Some(_) => Err(HostError::BadScope),
        };
    }
    let scope = scope.map(check_scope).transpose()?;
    Ok(Host::V6(Ipv6Host { address, scope }))
}

fn check_scope(scope: &str) -> Result<Arc<str>, HostError> {
    let sound =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if scope.is_empty() || scope.len() > MAX_SCOPE || !scope.bytes().all(sound) {
        return Err(HostError::BadScope);
    }
    Ok(Arc::from(scope))
}
