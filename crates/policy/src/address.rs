//! The class of an address: public, or one of the ranges that never leave a site (SPEC P5).
//!
//! The tables are the IANA IPv4 and IPv6 Special-Purpose Address Registries, with multicast and
//! broadcast. They name the registry's RFC for each range. Every range in them counts as
//! non-public, even the few globally reachable service blocks (AS112, AMT, PCP and TURN anycast):
//! no origin has an address there, and refusing is the safe side. An IPv6 address that carries an
//! IPv4 address is judged by that address, since the packets go there.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The purpose of an address range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressClass {
    /// Global unicast: the internet.
    Public,
    /// "This host", the unspecified address.
    Unspecified,
    /// The machine itself.
    Loopback,
    /// A site's own addresses: RFC 1918 and unique local IPv6.
    Private,
    /// The link, never routed.
    LinkLocal,
    /// Between a carrier and its customers (RFC 6598).
    SharedAddressSpace,
    /// For examples in texts.
    Documentation,
    /// For measuring networks.
    Benchmarking,
    /// An address of a group of receivers.
    Multicast,
    /// An address of all machines on the link.
    Broadcast,
    /// A protocol's own block: assignments, relays, translation, anycast services.
    Protocol,
    /// Not assigned.
    Reserved,
}

/// One row of a special-purpose registry.
#[derive(Clone, Copy, Debug)]
pub struct SpecialPurpose<A> {
    /// First address of the block.
    pub prefix: A,
    /// Leading bits that count.
    pub length: u32,
    /// Its purpose.
    pub class: AddressClass,
    /// The document that the registry cites for this block.
    pub source: &'static str,
}

const fn v4(
    prefix: [u8; 4],
    length: u32,
    class: AddressClass,
    source: &'static str,
) -> SpecialPurpose<Ipv4Addr> {
    let [a, b, c, d] = prefix;
    SpecialPurpose {
        prefix: Ipv4Addr::new(a, b, c, d),
        length,
        class,
        source,
    }
}

const fn v6(
    prefix: [u16; 4],
    length: u32,
    class: AddressClass,
    source: &'static str,
) -> SpecialPurpose<Ipv6Addr> {
    let [a, b, c, d] = prefix;
    SpecialPurpose {
        prefix: Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0),
        length,
        class,
        source,
    }
}

/// IANA IPv4 Special-Purpose Address Registry, and multicast. The narrower of two nested blocks
/// comes first.
#[rustfmt::skip]
pub const SPECIAL_PURPOSE_V4: &[SpecialPurpose<Ipv4Addr>] = &[
    v4([0, 0, 0, 0],        32, AddressClass::Unspecified,        "RFC 1122 section 3.2.1.3"),
    v4([0, 0, 0, 0],         8, AddressClass::Reserved,           "RFC 791 section 3.2"),
    v4([10, 0, 0, 0],        8, AddressClass::Private,            "RFC 1918"),
    v4([100, 64, 0, 0],     10, AddressClass::SharedAddressSpace, "RFC 6598"),
    v4([127, 0, 0, 0],       8, AddressClass::Loopback,           "RFC 1122 section 3.2.1.3"),
    v4([169, 254, 0, 0],    16, AddressClass::LinkLocal,          "RFC 3927"),
    v4([172, 16, 0, 0],     12, AddressClass::Private,            "RFC 1918"),
    v4([192, 0, 2, 0],      24, AddressClass::Documentation,      "RFC 5737"),
    v4([192, 0, 0, 0],      24, AddressClass::Protocol,           "RFC 6890"),
    v4([192, 31, 196, 0],   24, AddressClass::Protocol,           "RFC 7535"),
    v4([192, 52, 193, 0],   24, AddressClass::Protocol,           "RFC 7450"),
    v4([192, 88, 99, 0],    24, AddressClass::Protocol,           "RFC 7526"),
    v4([192, 168, 0, 0],    16, AddressClass::Private,            "RFC 1918"),
    v4([192, 175, 48, 0],   24, AddressClass::Protocol,           "RFC 7534"),
    v4([198, 18, 0, 0],     15, AddressClass::Benchmarking,       "RFC 2544"),
    v4([198, 51, 100, 0],   24, AddressClass::Documentation,      "RFC 5737"),
    v4([203, 0, 113, 0],    24, AddressClass::Documentation,      "RFC 5737"),
    v4([224, 0, 0, 0],       4, AddressClass::Multicast,          "RFC 5771"),
    v4([255, 255, 255, 255], 32, AddressClass::Broadcast,         "RFC 919 section 7"),
    v4([240, 0, 0, 0],       4, AddressClass::Reserved,           "RFC 1112 section 4"),
];

/// IANA IPv6 Special-Purpose Address Registry, and multicast, without the blocks that
/// [`AddressClass::of`] judges by the IPv4 address inside. Addresses outside `2000::/3`, the only
/// global unicast block in use (RFC 4291 section 2.4), are reserved without a row here.
#[rustfmt::skip]
pub const SPECIAL_PURPOSE_V6: &[SpecialPurpose<Ipv6Addr>] = &[
    v6([0x0100, 0, 0, 0],           64, AddressClass::Protocol,      "RFC 6666"),
    v6([0x0100, 0, 0, 1],           64, AddressClass::Protocol,      "RFC 9780"),
    v6([0x2001, 0x0002, 0, 0],      48, AddressClass::Benchmarking,  "RFC 5180"),
    v6([0x2001, 0x0db8, 0, 0],      32, AddressClass::Documentation, "RFC 3849"),
    v6([0x2001, 0, 0, 0],           23, AddressClass::Protocol,      "RFC 2928"),
    v6([0x2620, 0x004f, 0x8000, 0], 48, AddressClass::Protocol,      "RFC 7534"),
    v6([0x3fff, 0, 0, 0],           20, AddressClass::Documentation, "RFC 9637"),
    v6([0x5f00, 0, 0, 0],           16, AddressClass::Protocol,      "RFC 9602"),
    v6([0xfc00, 0, 0, 0],            7, AddressClass::Private,       "RFC 4193"),
    v6([0xfe80, 0, 0, 0],           10, AddressClass::LinkLocal,     "RFC 4291 section 2.5.6"),
    v6([0xfec0, 0, 0, 0],           10, AddressClass::Private,       "RFC 3879"),
    v6([0xff00, 0, 0, 0],            8, AddressClass::Multicast,     "RFC 4291 section 2.7"),
];

impl AddressClass {
    /// Classifies an address. An IPv6 address that embeds IPv4 addresses (mapped, compatible,
    /// NAT64, 6to4, Teredo, ISATAP) is public only if every one of them is.
    pub fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => classify_v4(address),
            IpAddr::V6(address) => classify_v6(address),
        }
    }

    /// Whether the address is on the internet.
    pub fn is_public(self) -> bool {
        self == Self::Public
    }

    /// A short text for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::SharedAddressSpace => "shared address space",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Protocol => "protocol assignment",
            Self::Reserved => "reserved",
        }
    }
}

impl fmt::Display for AddressClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The IPv4 addresses inside an IPv6 address, to which its packets may go. A list entry for one of
/// them applies to the IPv6 form too.
pub(crate) fn embedded_v4(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let bytes = address.octets();
    let take = |at: [usize; 4]| Ipv4Addr::from(at.map(|index| bytes[index]));
    let last = take([12, 13, 14, 15]);
    // ISATAP interface identifiers (RFC 5214 section 6.1), below any prefix that has 64 bits.
    let isatap = matches!(address.segments(), [.., 0 | 0x200, 0x5efe, _, _]).then_some(last);
    let found: [Option<Ipv4Addr>; 4] = match address.segments() {
        // The unspecified address and loopback look like compatible ones but are not.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => [None; 4],
        // IPv4-compatible and -mapped (RFC 4291 sections 2.5.5.1 and 2.5.5.2), IPv4-translated
        // (RFC 2765 section 2.1), and NAT64 with the well-known prefix (RFC 6052 section 2.1).
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(last), None, None, None],
        // NAT64, local use (RFC 8215). The address does not show the prefix length of the site, so
        // each reading of RFC 6052 section 2.2 counts. Readings in 0.0.0.0/8 do not: no packet goes
        // there, and a wrong reading often begins with zeros.
        [0x64, 0xff9b, 1, ..] => [
            take([6, 7, 9, 10]),
            take([7, 9, 10, 11]),
            take([9, 10, 11, 12]),
            last,
        ]
        .map(|reading| (reading.octets()[0] != 0).then_some(reading)),
        // 6to4 (RFC 3056 section 2).
        [0x2002, ..] => [Some(take([2, 3, 4, 5])), isatap, None, None],
        // Teredo: server, and the client's address with its bits turned (RFC 4380 section 4).
        [0x2001, 0, ..] => {
            let client = Ipv4Addr::from(!u32::from(last));
            [Some(take([4, 5, 6, 7])), Some(client), None, None]
        }
        _ => [isatap, None, None, None],
    };
    found.into_iter().flatten()
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    let bits = u32::from(address);
    SPECIAL_PURPOSE_V4
        .iter()
        .find(|row| (bits ^ u32::from(row.prefix)) >> (32 - row.length) == 0)
        .map_or(AddressClass::Public, |row| row.class)
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    if address.is_unspecified() {
        return AddressClass::Unspecified;
    }
    if address.is_loopback() {
        return AddressClass::Loopback;
    }
    let mut inner = embedded_v4(address).map(classify_v4).peekable();
    let carries = inner.peek().is_some();
    if let Some(class) = inner.find(|class| !class.is_public()) {
        return class;
    }
    match address.segments() {
        // In these forms only the embedded IPv4 address decides.
        [0, 0, 0, 0, 0, 0 | 0xffff, ..]
        | [0x64, 0xff9b, 0, 0, 0, 0, ..]
        | [0x64, 0xff9b, 1, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..]
            if carries =>
        {
            AddressClass::Public
        }
        [first, ..] => classify_v6_prefix(address, first),
    }
}

fn classify_v6_prefix(address: Ipv6Addr, first: u16) -> AddressClass {
    let bits = u128::from(address);
    let row = SPECIAL_PURPOSE_V6
        .iter()
        .find(|row| (bits ^ u128::from(row.prefix)) >> (128 - row.length) == 0);
    match row {
        Some(row) => row.class,
        None if first >> 13 == 0b001 => AddressClass::Public,
        None => AddressClass::Reserved,
    }
}
