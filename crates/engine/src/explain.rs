//! [`Engine::explain`]: the decision that a request would get, and why (SPEC K5).
//!
//! A described request is read and judged by the functions that a real one meets, in the same order. It
//! is recorded nowhere, and nothing is dialled. A name is looked up only where the caller asks for that
//! and the policy has permitted the name (SPEC P4): a question about a host must not reveal it otherwise.

use std::net::IpAddr;

use codex_network_policy::{
    Authority, Decision, Explanation, Handling, HookMiss, HookVerdict, HttpHead, Protocol, Reach,
    Reason, RequestKind,
};

use crate::attempt::{Attempt, UNIX_SOCKET};
use crate::client::Client;
use crate::enforce::{Foreseen, JudgedAddress};
use crate::http::described::{self, AskedWithin, DescribedHead, Place, Unreadable};
use crate::live_policy::Generation;
use crate::resolve::ResolveError;
use crate::server::Engine;
use crate::upstream;

/// A request that is described and not made.
#[derive(Clone, Debug)]
pub struct DescribedRequest {
    /// How it arrives: [`Protocol::Http`], [`Protocol::HttpConnect`], [`Protocol::Socks5Tcp`] or
    /// [`Protocol::Socks5Udp`].
    pub protocol: Protocol,
    /// The destination, or the text in place of one whose host is not valid.
    pub authority: Result<Authority, String>,
    /// The path and query, from `/` on.
    pub target: String,
    /// The method of the HTTP request, inside the tunnel if there is one.
    pub method: String,
    /// The header fields of the HTTP request. Without a `Host` among them it has the right one.
    pub fields: Vec<(String, String)>,
    /// Whether to look its name up.
    pub lookup: Lookup,
}

/// Whether names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// As for a real request.
    Made,
    /// Never.
    LeftOut,
}

/// Why no door would judge such a request. It repeats nothing of the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotJudged(String);

/// The decision that a described request would get.
#[derive(Debug)]
pub struct ForeseenDecision<'g> {
    /// The protocol of the record that the decision would leave.
    pub protocol: Protocol,
    /// The host in canonical form; empty if it is not valid.
    pub host: String,
    /// The port; 0 for a request without a port.
    pub port: u16,
    /// The method, where the proxy would see it.
    pub method: Option<String>,
    /// The decision in words.
    pub explanation: Explanation,
    /// The detail of its record.
    pub detail: Option<&'static str>,
    /// Whether its TLS is intercepted.
    pub handling: Handling,
    /// What the hooks of the host say.
    pub hook: HookVerdict,
    /// What each hook misses where none matches; the nearest first.
    pub misses: Vec<HookMiss<'g>>,
    /// The names of fields that the proxy removes though they would matter to an origin.
    pub removed: Vec<String>,
    /// What is known of the addresses.
    pub addresses: ForeseenAddresses,
}

/// What is known of the addresses of a described request.
#[derive(Clone, Debug)]
pub enum ForeseenAddresses {
    /// The decision came before addresses matter.
    Irrelevant,
    /// The host is an address.
    Literal,
    /// The name was not looked up. Its addresses may change the decision.
    NotLookedUp(Reach),
    /// The name has these addresses.
    Resolved(Vec<JudgedAddress>),
    /// The name does not resolve.
    Unresolved(ResolveError),
}

impl Engine {
    /// The decision of these settings on a described request.
    ///
    /// # Errors
    ///
    /// When a door would not judge such a request but answer that it is malformed.
    pub async fn explain<'g>(
        &self,
        generation: &'g Generation,
        request: &DescribedRequest,
    ) -> Result<ForeseenDecision<'g>, NotJudged> {
        let authority = match &request.authority {
            Ok(authority) => authority,
            Err(text) => return invalid_host(generation, request.protocol, text),
        };
        let client = Client::unconnected();
        // A tunnel that is not intercepted may carry any target.
        let target = match request.protocol {
            Protocol::Http => &request.target,
            _ => "/",
        };
        let read = |target| {
            let method = (request.method.as_str(), target);
            let protocol = request.protocol;
            DescribedHead::read(generation, protocol, authority, method, &request.fields)
        };
        let head = read(target)?;
        let kind = match request.protocol {
            Protocol::Http => {
                let plain = head.plain(authority)?;
                if let Some(path) = plain.socket {
                    return Ok(self.unix_socket(generation, &plain.head, authority, &path));
                }
                RequestKind::Http(plain.head)
            }
            Protocol::Socks5Tcp => RequestKind::Socks5Tcp,
            Protocol::Socks5Udp => RequestKind::Socks5Udp,
            // A request inside TLS is in a tunnel.
            Protocol::HttpConnect | Protocol::Https => RequestKind::HttpConnect,
        };
        let attempt = Attempt {
            client: client.clone(),
            kind,
        };
        let foreseen = Foreseen {
            enforcer: self.enforcer(),
            generation,
            attempt: &attempt,
            authority,
        };
        let (decision, detail) = foreseen.decision();
        let mut told = ForeseenDecision {
            handling: decision.handling(),
            ..ForeseenDecision::of(&foreseen, decision, detail)
        };
        if !decision.is_allow() {
            return Ok(told);
        }
        if matches!(attempt.kind, RequestKind::Http(_)) {
            let scrutiny = generation.policy().scrutiny(&authority.host);
            told.removed = head.removed(authority, scrutiny);
        }
        let (refused, addresses) = self.look_up(&foreseen, decision, request.lookup).await;
        told.addresses = addresses;
        if let Some((decision, detail)) = refused {
            told.explanation = foreseen.explain(decision);
            told.detail = detail;
            return Ok(told);
        }
        if decision.handling() == Handling::Intercept {
            let head = read(&request.target)?;
            let within = head.within(generation, &client, authority)?;
            self.inside(&mut told, generation, (&head, &within), authority);
        }
        Ok(told)
    }

    /// Looks an allowed name up, if that is asked for, and judges its addresses. Returns the refusal, if
    /// there is one.
    async fn look_up(
        &self,
        foreseen: &Foreseen<'_>,
        allowed: Decision,
        lookup: Lookup,
    ) -> (Option<(Decision, Option<&'static str>)>, ForeseenAddresses) {
        let (generation, host) = (foreseen.generation, &foreseen.authority.host);
        let resolver = generation.resolver();
        let is_literal = host.ip().is_some();
        if !is_literal && lookup == Lookup::LeftOut {
            return (None, ForeseenAddresses::NotLookedUp(allowed.reach()));
        }
        let addresses = match upstream::lookup(resolver, host).await {
            Ok(addresses) => addresses,
            Err(error) => {
                let decision = foreseen.on_addresses(allowed, &[]);
                let unresolved = ForeseenAddresses::Unresolved(error);
                return (Some((decision, None)), unresolved);
            }
        };
        let shown = if is_literal {
            ForeseenAddresses::Literal
        } else {
            let judged = addresses.iter();
            let judged = judged.map(|address| foreseen.judge_address(allowed, *address));
            ForeseenAddresses::Resolved(judged.collect())
        };
        let decision = foreseen.on_addresses(allowed, &addresses);
        if !decision.is_allow() {
            return (Some((decision, None)), shown);
        }
        (looping_proxy(foreseen, &addresses, lookup).await, shown)
    }

    /// Goes on with the request inside a connection whose TLS is intercepted.
    fn inside<'g>(
        &self,
        told: &mut ForeseenDecision<'g>,
        generation: &'g Generation,
        (head, within): (&DescribedHead, &AskedWithin),
        authority: &Authority,
    ) {
        let foreseen = Foreseen {
            enforcer: self.enforcer(),
            generation,
            attempt: &within.attempt,
            authority,
        };
        let (decision, detail) = match within.place {
            Place::Here => foreseen.decision(),
            Place::Elsewhere => foreseen.misdirected(),
        };
        let inside = ForeseenDecision::of(&foreseen, decision, detail);
        told.protocol = inside.protocol;
        told.method = inside.method;
        told.explanation = inside.explanation;
        told.detail = inside.detail;
        told.hook = within.verdict;
        if within.verdict == HookVerdict::NoMatch {
            told.misses = head.misses(generation, authority, within);
        }
        let scrutiny = generation.policy().scrutiny(&authority.host);
        told.removed = head.removed(authority, scrutiny);
    }

    fn unix_socket<'g>(
        &self,
        generation: &'g Generation,
        head: &HttpHead<'static>,
        authority: &Authority,
        path: &[u8],
    ) -> ForeseenDecision<'g> {
        let attempt = Attempt::http(Client::unconnected(), head.clone());
        let foreseen = Foreseen {
            enforcer: self.enforcer(),
            generation,
            attempt: &attempt,
            authority,
        };
        let (decision, detail) = foreseen.on_unix_socket(head, path);
        let mut told = ForeseenDecision::of(&foreseen, decision, detail);
        UNIX_SOCKET.clone_into(&mut told.host);
        told.port = 0;
        told.explanation.because = match decision.reason() {
            Reason::UnixSocketUnsupported => {
                "this platform does not proxy to unix sockets (x-unix-socket)".to_owned()
            }
            Reason::Allow => {
                "allow_unix_sockets permits the socket; the file behind it is looked at \
                              when a request comes"
                    .to_owned()
            }
            Reason::NotAllowed => {
                "allow_unix_sockets does not permit the socket, unless its path leads \
                                   to the file of a path that it permits"
                    .to_owned()
            }
            _ => told.explanation.because,
        };
        if matches!(decision.reason(), Reason::Allow | Reason::NotAllowed) {
            told.explanation.remedy.clear();
        }
        told
    }
}

/// The refusal because the upstream proxy that would carry the request is this proxy itself.
async fn looping_proxy(
    foreseen: &Foreseen<'_>,
    addresses: &[IpAddr],
    lookup: Lookup,
) -> Option<(Decision, Option<&'static str>)> {
    let Foreseen {
        generation,
        authority,
        attempt,
        ..
    } = *foreseen;
    let proxy = upstream::proxy_for(generation, authority, addresses, attempt.kind.protocol())?;
    let proxy = &proxy.authority;
    if lookup == Lookup::LeftOut {
        return foreseen.looping_proxy(proxy, None);
    }
    let resolver = generation.resolver();
    // A proxy whose name does not resolve is no refusal by the policy.
    let found = upstream::lookup(resolver, &proxy.host).await.ok()?;
    foreseen.looping_proxy(proxy, Some(&found))
}

fn invalid_host<'g>(
    generation: &'g Generation,
    protocol: Protocol,
    text: &str,
) -> Result<ForeseenDecision<'g>, NotJudged> {
    let is_socks = matches!(protocol, Protocol::Socks5Tcp | Protocol::Socks5Udp);
    if !is_socks && !described::is_readable(text) {
        let error = crate::http::framing::FramingError::Target;
        return Err(Unreadable::Malformed(error).into());
    }
    let explanation = Explanation::without_host(generation.policy().decide_invalid_host());
    Ok(ForeseenDecision {
        protocol,
        host: String::new(),
        port: 0,
        method: None,
        explanation,
        detail: None,
        handling: Handling::Carry,
        hook: HookVerdict::NotHooked,
        misses: Vec::new(),
        removed: Vec::new(),
        addresses: ForeseenAddresses::Irrelevant,
    })
}

impl ForeseenDecision<'_> {
    fn of(foreseen: &Foreseen<'_>, decision: Decision, detail: Option<&'static str>) -> Self {
        let is_literal = foreseen.authority.host.ip().is_some();
        let head = foreseen.attempt.kind.head();
        Self {
            protocol: foreseen.attempt.kind.protocol(),
            host: foreseen.authority.host.to_string(),
            port: foreseen.authority.port,
            method: head.map(|head| head.method.clone().into_owned()),
            explanation: foreseen.explain(decision),
            detail,
            handling: Handling::Carry,
            hook: HookVerdict::NotHooked,
            misses: Vec::new(),
            removed: Vec::new(),
            addresses: if is_literal && decision.is_allow() {
                ForeseenAddresses::Literal
            } else {
                ForeseenAddresses::Irrelevant
            },
        }
    }
}

impl From<Unreadable> for NotJudged {
    fn from(error: Unreadable) -> Self {
        Self(error.to_string())
    }
}
