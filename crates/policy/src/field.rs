//! Header fields by name, in one table: which of them the proxy writes itself, which it removes, and
//! which it passes on (SPEC H3, P7, M9, M10). Forwarding and the check of hook actions use it.
//!
//! Names are compared as CGI compares them. CGI turns every field into a variable (RFC 3875 section
//! 4.1.18), and servers write `_` for each character that is not a letter or a digit: behind them
//! `X-Real-IP`, `x_real_ip` and `x.real!ip` are the same field. Names that give the same variable
//! are equal here.

use FieldClass::{Forwarding, Framing, HopByHop, MethodOverride, OwnAnswer, Retargeting, ToProxy};

use crate::host::Host;
use crate::method::Mode;
use crate::policy::Policy;

/// The class of a field, for the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldClass {
    /// Concerns one connection (RFC 9110 section 7.6.1).
    HopByHop,
    /// Frames a message or names its host. The proxy checks these fields and writes them itself.
    Framing,
    /// Is addressed to this proxy.
    ToProxy,
    /// Describes the way of the request so far (RFC 7239).
    Forwarding,
    /// Makes an origin act on another method than that of the request line.
    MethodOverride,
    /// Makes an origin act on another host, path or file than the request names.
    Retargeting,
    /// Is written only by this proxy, in answers (SPEC H5, H6).
    OwnAnswer,
}

/// The part of a request that is judged. A field that could change it is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scrutiny {
    /// The host.
    Host,
    /// The host and the method: limited mode.
    Method,
    /// All of the request's head: the host has hooks, or may get the credential of a session.
    Head,
}

/// Every field with a class.
const FIELDS: &[(&str, FieldClass)] = &[
    ("connection", HopByHop),
    ("http2-settings", HopByHop),
    ("keep-alive", HopByHop),
    ("proxy-authenticate", HopByHop),
    ("proxy-connection", HopByHop),
    ("te", HopByHop),
    ("transfer-encoding", HopByHop),
    ("upgrade", HopByHop),
    ("content-length", Framing),
    ("expect", Framing),
    ("host", Framing),
    ("trailer", Framing),
    ("proxy-authorization", ToProxy),
    ("x-unix-socket", ToProxy),
    ("forwarded", Forwarding),
    ("via", Forwarding),
    ("x-forwarded", Forwarding),
    ("x-real-ip", Forwarding),
    ("http-method-override", MethodOverride),
    ("method-override", MethodOverride),
    ("x-http-method", MethodOverride),
    ("x-http-method-override", MethodOverride),
    ("x-method-override", MethodOverride),
    ("x-original-method", MethodOverride),
    ("path-info", Retargeting),
    // CGI turns it into the variable that names the proxy for outgoing requests ("httpoxy").
    ("proxy", Retargeting),
    ("script-name", Retargeting),
    ("x-accel-mapping", Retargeting),
    ("x-forward-for", Retargeting),
    ("x-host", Retargeting),
    ("x-host-override", Retargeting),
    ("x-http-destinationurl", Retargeting),
    ("x-http-host", Retargeting),
    ("x-http-host-override", Retargeting),
    ("x-http-path-override", Retargeting),
    ("x-invoke-path", Retargeting),
    ("x-matched-path", Retargeting),
    ("x-ms-original-url", Retargeting),
    ("x-override-url", Retargeting),
    ("x-path-info", Retargeting),
    ("x-proxy-host", Retargeting),
    ("x-proxy-url", Retargeting),
    ("x-request-uri", Retargeting),
    ("x-script-name", Retargeting),
    ("x-sendfile-type", Retargeting),
    ("x-server-name", Retargeting),
    ("x-waws-unencoded-url", Retargeting),
    ("x-network-policy-decision", OwnAnswer),
    ("x-proxy-error", OwnAnswer),
];

/// Beginnings of names. A name in [`FIELDS`] is looked up there first.
const FAMILIES: &[(&str, FieldClass)] = &[
    ("x-envoy-original-", Retargeting),
    ("x-forwarded-", Forwarding),
    // Next.js skips or rewrites a request by these.
    ("x-middleware-", Retargeting),
    ("x-original-", Retargeting),
    ("x-rewrite-", Retargeting),
];

impl FieldClass {
    /// The class of a field, if it has one.
    pub fn of(name: &str) -> Option<Self> {
        let exact = |(listed, _): &&(&str, _)| is_same_field(listed, name);
        let family = |(beginning, _): &&(&str, _)| {
            let head = name.as_bytes().get(..beginning.len());
            head.is_some_and(|head| is_same(beginning.as_bytes(), head))
        };
        let found = FIELDS.iter().find(exact);
        found
            .or_else(|| FAMILIES.iter().find(family))
            .map(|(_, class)| *class)
    }
}

impl Policy {
    /// The part of a request to a host that is judged.
    pub fn scrutiny(&self, host: &Host) -> Scrutiny {
        match self.mode() {
            _ if self.is_hooked(host) => Scrutiny::Head,
            Mode::Limited => Scrutiny::Method,
            Mode::Full => Scrutiny::Host,
        }
    }
}

/// Whether some origin reads fields of these two names as the same field.
pub fn is_same_field(one: &str, other: &str) -> bool {
    is_same(one.as_bytes(), other.as_bytes())
}

/// Whether the proxy removes the field of this name, in lower case, from a request.
pub fn ends_here(name: &str, scrutiny: Scrutiny) -> bool {
    match FieldClass::of(name) {
        Some(HopByHop | ToProxy | Forwarding) => true,
        // Another spelling does not frame the message here, but might for the origin.
        Some(Framing) => !FIELDS.iter().any(|(listed, _)| *listed == name),
        Some(MethodOverride) => scrutiny != Scrutiny::Host,
        Some(Retargeting) => scrutiny == Scrutiny::Head,
        Some(OwnAnswer) | None => false,
    }
}

/// Whether the proxy removes the field of this name, in lower case, from an answer. Clients compare
/// names exactly.
pub fn ends_here_in_answers(name: &str) -> bool {
    let listed = FIELDS.iter().find(|(listed, _)| *listed == name);
    matches!(listed, Some((_, HopByHop | OwnAnswer)))
}

/// The names of the fields that override methods.
pub(crate) fn method_overrides() -> impl Iterator<Item = &'static str> {
    let overrides = FIELDS.iter().filter(|(_, class)| *class == MethodOverride);
    overrides.map(|(name, _)| *name)
}

fn is_same(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| fold(*a) == fold(*b))
}

/// A byte of a name as it stands in the CGI variable.
fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'_'
    }
}

#[cfg(test)]
mod tests {
    use std::string::String;

    use super::*;

    /// A field name as CGI programs read it.
    fn variable(name: &str) -> String {
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
            .to_uppercase()
    }

    #[test]
    fn m10_two_names_are_one_field_where_they_give_one_cgi_variable() {
        let names = [
            "x-real-ip",
            "X_Real_IP",
            "x.real!ip",
            "x~real'ip",
            "xrealip",
            "x-real-i",
            "x-real-ipp",
            "te",
            "via",
            "VIA",
            "t-e",
            "",
        ];
        for one in names {
            for other in names {
                let wanted = variable(one) == variable(other);
                assert_eq!(is_same_field(one, other), wanted, "{one} {other}");
            }
        }
    }

    #[test]
    fn h3_the_table_has_each_name_once_in_lower_case() {
        for (number, (name, class)) in FIELDS.iter().enumerate() {
            assert_eq!(*name, name.to_lowercase());
            let before = &FIELDS[..number];
            assert!(
                !before.iter().any(|(other, _)| is_same_field(other, name)),
                "{name} twice"
            );
            assert_eq!(FieldClass::of(name), Some(*class));
            let shouted = name.to_uppercase().replace('-', ".");
            assert_eq!(FieldClass::of(&shouted), Some(*class), "{shouted}");
        }
    }

    #[test]
    fn h3_only_the_spellings_of_framing_fields_end_here() {
        for (name, wanted) in [
            ("content-length", false),
            ("content_length", true),
            ("content.length", true),
            ("transfer-encoding", true),
            ("transfer_encoding", true),
            ("host", false),
            ("trailer", false),
            ("content-type", false),
            ("content_type", false),
        ] {
            assert_eq!(ends_here(name, Scrutiny::Host), wanted, "{name}");
        }
    }
}
