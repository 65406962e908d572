//! `explain`: reads a URL and returns the decision of the policy in force.
//!
//! Nothing is resolved and nothing is dialled: a question about a host must not reveal it to
//! anyone. A URL may hold a secret, so no message repeats it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use codex_network_control::message::{ExplainQuery, Explained};
use codex_network_engine::Generation;
use codex_network_policy::{
    Authority, AuthorityError, Content, Fields, Handling, HookRequest, HookVerdict, Hooked, Host,
    LocalAddresses, Protocol, Reach, Reason, Request, Source, Verdict,
};

/// The destination that a text names.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Destination {
    protocol: Protocol,
    authority: Authority,
    /// The path and query.
    target: String,
    /// The protocol that the URL's scheme changes to.
    upgrade: Option<&'static str>,
    /// Whether the text states the kind of request, or it is assumed.
    stated: Stated,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stated {
    Scheme,
    Nothing,
}

/// Why a text is not a destination that the proxy could judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum NoDestination {
    #[error(
        "the proxy carries http, https, ws, wss and, through SOCKS5, any TCP (socks5h://HOST:PORT); this URL has another scheme"
    )]
    Scheme,
    #[error("leave the user information (the part before @) out of the URL")]
    Userinfo,
    #[error("this is neither a URL, nor a host, nor host:port: {0}")]
    Authority(AuthorityError),
}

impl From<AuthorityError> for NoDestination {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Userinfo => Self::Userinfo,
            error => Self::Authority(error),
        }
    }
}

/// Judges a destination under one generation. `listeners` are the proxy's own, by name.
pub(super) fn explain(
    generation: &Generation,
    listeners: &[(&'static str, SocketAddr)],
    query: &ExplainQuery,
) -> Result<Explained, String> {
    let destination = destination(&query.url).map_err(|error| error.to_string())?;
    let Destination {
        protocol,
        authority,
        target,
        upgrade,
        stated,
    } = &destination;
    let method = query.method.as_deref();
    let mut request = Request {
        protocol: *protocol,
        host: &authority.host,
        port: authority.port,
        // The proxy sees no method in a tunnel.
        method: (*protocol == Protocol::Http).then(|| method.unwrap_or("GET")),
        upgrade: upgrade.filter(|_| *protocol == Protocol::Http),
        content: Content::Absent,
        hooked: Hooked::Unasked,
        machine: generation.machine(),
    };
    let policy = generation.policy();
    let mut notes = Vec::new();
    let mut explanation = policy.explain(&request);
    if explanation.decision.handling() == Handling::Intercept {
        // The client gets the decision on the request inside.
        request.protocol = Protocol::Https;
        request.method = Some(method.unwrap_or("GET"));
        request.upgrade = *upgrade;
        let (hooked, told) = ask_hooks(generation, &request, target);
        request.hooked = hooked;
        notes.push("TLS is intercepted, and every request inside is judged by itself".to_owned());
        notes.extend(told);
        explanation = policy.explain(&request);
    }
    let protocol = &request.protocol;
    let mut explained = Explained::of(&request, &explanation);
    explained.notes.extend(notes);
    policy.mode().as_str().clone_into(&mut explained.mode);
    explained.generation = generation.number();
    if let Some(listener) = own_listener(listeners, authority, generation.machine()) {
        Verdict::Deny.as_str().clone_into(&mut explained.decision);
        Source::ProxyState
            .as_str()
            .clone_into(&mut explained.source);
        Reason::LoopDetected
            .as_str()
            .clone_into(&mut explained.reason);
        explained.rule = None;
        explained.because = format!("this is the proxy's own {listener} listener");
        explained.remedy.clear();
    } else if explanation.decision.is_allow() {
        explained
            .notes
            .extend(address_note(&authority.host, explanation.decision.reach()));
    } else {
        let reason = explanation.decision.reason();
        if generation.settings().managed.allowed_domains_only {
            explained.remedy = managed_remedy(reason, &authority.host).unwrap_or(explained.remedy);
        }
        let bounds = bounds(generation, reason);
        explained.notes.extend(bounds);
    }
    if *stated == Stated::Nothing {
        explained.notes.push(supposed(*protocol, authority.port));
    }
    if method.is_some() && request.method.is_none() {
        let note = "the method is inside the tunnel, where it is not seen: the answer is the same for all methods";
        explained.notes.push(note.to_owned());
    }
    Ok(explained)
}

/// How to lift a refusal where the requirements alone fill the allow list (SPEC C6).
fn managed_remedy(reason: Reason, host: &Host) -> Option<String> {
    let ask = format!(
        "ask the administrator of requirements.toml to add \"{host}\" to its allowed_domains: what configurations allow \
         does not count"
    );
    match reason {
        Reason::NotAllowed => Some(format!("To allow it, {ask}")),
        Reason::NotAllowedLocal => Some(format!(
            "To allow it, set allow_local_binding = true, or {ask}"
        )),
        _ => None,
    }
}

/// The requirements that prevent the remedy of a refusal (SPEC C6).
fn bounds(generation: &Generation, reason: Reason) -> impl Iterator<Item = String> {
    let keys: &[&str] = match reason {
        Reason::NotAllowed => &["allowed_domains"],
        Reason::NotAllowedLocal => &["allowed_domains", "allow_local_binding"],
        Reason::MethodNotAllowed | Reason::MitmRequired => &["mode"],
        Reason::ProxyDisabled => &["enabled"],
        _ => &[],
    };
    let pins = generation.settings().managed.pins();
    let pins = pins.iter().filter(|pin| keys.contains(&pin.key));
    pins.map(|pin| {
        format!(
            "{} may only be {} while {} requires it",
            pin.key, pin.allowed, pin.origin
        )
    })
}

/// The verdict of the host's hooks on a request without header fields, and a sentence about it.
fn ask_hooks(
    generation: &Generation,
    request: &Request<'_>,
    target: &str,
) -> (Hooked, Option<String>) {
    let hooks = &generation.settings().mitm.hooks;
    let verdict = hooks.judge(&HookRequest {
        host: request.host,
        method: request.method.unwrap_or_default(),
        target,
        fields: &NoFields,
    });
    match verdict {
        HookVerdict::NotHooked => (Hooked::Unasked, None),
        HookVerdict::Matched(id) => {
            let told = hooks.get(id).map(|hook| {
                let origin = hook.origin.as_ref().map(|at| format!(" ({at})"));
                format!(
                    "the hook {}{} matches",
                    hook.name,
                    origin.unwrap_or_default()
                )
            });
            (Hooked::Matched, told)
        }
        HookVerdict::Ambiguous(ambiguity) => (Hooked::Ambiguous(ambiguity), None),
        HookVerdict::NoMatch => {
            let told = "hooks are asked here as if the request had no header fields";
            (Hooked::Unmatched, Some(told.to_owned()))
        }
    }
}

struct NoFields;

impl Fields for NoFields {
    fn for_each_value(&self, _name: &str, _each: &mut dyn FnMut(&[u8])) {}
}

fn address_note(host: &Host, reach: Reach) -> Option<String> {
    if host.ip().is_some() {
        return None;
    }
    let note = match reach {
        Reach::Any => "its addresses are checked against the deny list when it is dialled",
        Reach::Loopback => {
            "its addresses are checked when it is dialled: all of them must be loopback or public"
        }
        Reach::Public => {
            "its addresses are checked when it is dialled: if any of them is local, private or denied, the connection is refused"
        }
    };
    Some(note.to_owned())
}

fn supposed(protocol: Protocol, port: u16) -> String {
    let how = match protocol {
        Protocol::Http => "a plain HTTP request",
        _ => "a tunnel (CONNECT), as https makes it,",
    };
    format!("judged as {how} to port {port}; give a URL to ask about another way")
}

/// Reads `http://…`, `https://…`, `ws://…`, `wss://…`, `socks5h://host:port`, `host` and
/// `host:port`. Without a scheme port 80 means plain HTTP, and everything else a tunnel.
fn destination(text: &str) -> Result<Destination, NoDestination> {
    let text = text.trim();
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
        None => (None, text),
    };
    let known = match scheme.as_deref() {
        Some("http" | "ws") => Some((Protocol::Http, 80)),
        Some("https" | "wss") => Some((Protocol::HttpConnect, 443)),
        Some("socks5" | "socks5h") => Some((Protocol::Socks5Tcp, 443)),
        Some(_) => return Err(NoDestination::Scheme),
        None => None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let target = rest[end..].split('#').next().unwrap_or_default();
    let slash = if target.starts_with('/') { "" } else { "/" };
    let upgrade = matches!(scheme.as_deref(), Some("ws" | "wss")).then_some("websocket");
    let authority = Authority::parse(&rest[..end], Some(known.map_or(443, |(_, port)| port)))?;
    let (protocol, stated) = match known {
        Some((protocol, _)) => (protocol, Stated::Scheme),
        None if authority.port == 80 => (Protocol::Http, Stated::Nothing),
        None => (Protocol::HttpConnect, Stated::Nothing),
    };
    Ok(Destination {
        protocol,
        authority,
        target: format!("{slash}{target}"),
        upgrade,
        stated,
    })
}

/// The name of our own listener, if the authority spells it out. The addresses that a name resolves
/// to are checked when it is dialled.
fn own_listener(
    listeners: &[(&'static str, SocketAddr)],
    authority: &Authority,
    machine: &dyn LocalAddresses,
) -> Option<&'static str> {
    let wanted: Vec<IpAddr> = match authority.host.ip() {
        Some(address) => vec![address.to_canonical()],
        None if authority.host.is_localhost() => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        None => return None,
    };
    listeners
        .iter()
        .find(|(_, own)| {
            let ip = own.ip().to_canonical();
            own.port() == authority.port
                && wanted.iter().any(|wanted| {
                    ip == *wanted
                        || (wanted.is_unspecified() && ip.is_loopback())
                        || (ip.is_unspecified()
                            && (wanted.is_loopback() || machine.contains(*wanted)))
                })
        })
        .map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OneAddress(IpAddr);

    impl LocalAddresses for OneAddress {
        fn contains(&self, address: IpAddr) -> bool {
            address == self.0
        }
    }

    fn parsed(text: &str) -> (Protocol, String) {
        let destination = destination(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        (destination.protocol, destination.authority.to_string())
    }

    #[test]
    fn k1_explain_reads_urls_and_hosts_as_people_write_them() {
        for (text, protocol, authority) in [
            ("example.com", Protocol::HttpConnect, "example.com:443"),
            (
                "example.com:8443",
                Protocol::HttpConnect,
                "example.com:8443",
            ),
            ("example.com:80", Protocol::Http, "example.com:80"),
            (
                "example.com/path?q",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "http://EXAMPLE.com./a?b#c",
                Protocol::Http,
                "example.com:80",
            ),
            (
                "HTTPS://example.com",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "https://example.com?q=1",
                Protocol::HttpConnect,
                "example.com:443",
            ),
            (
                "wss://example.com:9/x",
                Protocol::HttpConnect,
                "example.com:9",
            ),
            ("ws://example.com/x", Protocol::Http, "example.com:80"),
            (
                "socks5h://example.com:22",
                Protocol::Socks5Tcp,
                "example.com:22",
            ),
            (
                "[2001:db8::1]:8080",
                Protocol::HttpConnect,
                "[2001:db8::1]:8080",
            ),
            ("2001:db8::1", Protocol::HttpConnect, "[2001:db8::1]:443"),
            ("0x7f.1", Protocol::HttpConnect, "127.0.0.1:443"),
        ] {
            assert_eq!(parsed(text), (protocol, authority.to_owned()), "{text}");
        }
    }

    #[test]
    fn k1_explain_refuses_what_is_no_destination_without_repeating_it() {
        for text in [
            "",
            "http://",
            "ftp://example.com",
            "https://user:hunter2@example.com/",
            "http://example.com:99999",
            "hunter2 hunter2",
            "file:///etc/hunter2",
        ] {
            let error = destination(text).expect_err(text).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn p6_explain_knows_the_proxys_own_listeners() {
        let listeners = [
            ("http", SocketAddr::from(([127, 0, 0, 1], 3128))),
            ("socks5", SocketAddr::from(([0, 0, 0, 0], 8081))),
        ];
        let machine = OneAddress(IpAddr::from([192, 31, 1, 1]));
        let own = |text: &str| {
            own_listener(
                &listeners,
                &destination(text).expect("a destination").authority,
                &machine,
            )
        };
        assert_eq!(own("http://127.0.0.1:3128/"), Some("http"));
        assert_eq!(own("http://localhost:3128/"), Some("http"));
        assert_eq!(own("[::ffff:127.0.0.1]:3128"), Some("http"));
        assert_eq!(own("0.0.0.0:3128"), Some("http"));
        assert_eq!(own("127.0.0.1:8081"), Some("socks5"));
        assert_eq!(own("192.31.1.1:8081"), Some("socks5"));
        assert_eq!(own("192.31.1.1:3128"), None);
        assert_eq!(own("192.31.1.2:8081"), None);
        assert_eq!(own("127.0.0.1:3129"), None);
        assert_eq!(own("example.com:3128"), None);
    }
}
