//! [`Engine::explain`]: the decision that a request would get, and why (SPEC K5).
//!
//! A hypothetical request is read and judged by the functions that a real one meets, in the same order. It
//! is recorded nowhere, and nothing is dialled. A name is looked up only where the caller wants that
//! and the policy has permitted the name (SPEC P4): a question about a host must not reveal it otherwise.

use std::net::IpAddr;

use codex_network_config::DestinationScheme;
use codex_network_policy::{
    Authority, Decision, Explanation, Handling, HookMiss, HookVerdict, HttpHead, Protocol, Reach,
    Reason, RequestKind,
};

use crate::attempt::{Attempt, UNIX_SOCKET};
use crate::broker::{PredictedCredential, RequestPlace};
use crate::client::Client;
use crate::enforce::{EvaluatedAddress, Prediction};
use crate::http::hypothetical::{
    self, AuthorityMatch, HeadError, HypotheticalHead, InterceptedRequest,
};
use crate::live_policy::Generation;
use crate::resolve::ResolveError;
use crate::server::{Engine, SettingsView};
use crate::upstream;

/// A request that no client has sent.
#[derive(Clone, Debug)]
pub struct HypotheticalRequest {
    /// How it arrives; [`Protocol::Https`] means the same as [`Protocol::HttpConnect`].
    pub protocol: Protocol,
    /// The destination, or the text that stands in its place if its host is not valid.
    pub authority: Result<Authority, String>,
    /// The path and query, from `/` on.
    pub target: String,
    /// The method of the HTTP request, inside the tunnel if there is one.
    pub method: String,
    /// The header fields of the HTTP request. If `Host` is not among them, it is added.
    pub fields: Vec<(String, String)>,
    /// Whether to look the host's name up.
    pub lookup: Lookup,
}

/// Whether names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Looked up as for a real request.
    Made,
    /// Not looked up.
    LeftOut,
}

/// The error of a request that every door would refuse as malformed. The text repeats no part of
/// the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotJudged(String);

/// The decision that a hypothetical request would get.
#[derive(Debug)]
pub struct PredictedDecision<'g> {
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
    /// The verdict of the hooks of the host.
    pub hook: HookVerdict,
    /// For each hook the parts that it misses, where none matches; the nearest first.
    pub misses: Vec<HookMiss<'g>>,
    /// The names of fields that the proxy removes though they would matter to an origin.
    pub removed: Vec<String>,
    /// The addresses, if they are known.
    pub addresses: PredictedAddresses,
    /// The credentials of the session, if the proxy would read the request.
    pub credentials: Vec<PredictedCredential>,
}

/// The addresses of a hypothetical request, if they are known.
#[derive(Clone, Debug)]
pub enum PredictedAddresses {
    /// The decision came before addresses matter.
    Irrelevant,
    /// The host is an address.
    Literal,
    /// The name was not looked up. Its addresses may change the decision.
    NotLookedUp(Reach),
    /// The name has these addresses.
    Resolved(Vec<EvaluatedAddress>),
    /// The name does not resolve.
    Unresolved(ResolveError),
}

impl SettingsView {
    /// The decision of these settings on a hypothetical request. The listeners of the view's session are the
    /// proxy's own.
    ///
    /// # Errors
    ///
    /// The same as [`Engine::explain`].
    pub async fn explain<'g>(
        &self,
        generation: &'g Generation,
        request: &HypotheticalRequest,
    ) -> Result<PredictedDecision<'g>, NotJudged> {
        self.0.explain(generation, request).await
    }
}

impl Engine {
    /// The decision of these settings on a hypothetical request.
    ///
    /// # Errors
    ///
    /// Returns an error if a door would refuse such a request as malformed, without a decision.
    pub async fn explain<'g>(
        &self,
        generation: &'g Generation,
        request: &HypotheticalRequest,
    ) -> Result<PredictedDecision<'g>, NotJudged> {
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
            HypotheticalHead::read(generation, protocol, authority, method, &request.fields)
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
            Protocol::Transparent => RequestKind::Transparent,
            Protocol::Dns => RequestKind::Dns,
            // A request inside TLS is in a tunnel.
            Protocol::HttpConnect | Protocol::Https => RequestKind::HttpConnect,
        };
        let attempt = Attempt {
            client: client.clone(),
            kind,
        };
        let prediction = Prediction {
            enforcer: self.enforcer(),
            generation,
            attempt: &attempt,
            authority,
        };
        let (decision, detail) = prediction.decision();
        let is_lookup = attempt.kind == RequestKind::Dns;
        let mut predicted = PredictedDecision {
            handling: decision.handling(),
            port: if is_lookup { 0 } else { authority.port },
            ..PredictedDecision::of(&prediction, decision, detail)
        };
        // A lookup of a name in a jail contacts no name server.
        if !decision.is_allow() || is_lookup {
            return Ok(predicted);
        }
        if matches!(attempt.kind, RequestKind::Http(_)) {
            let scrutiny = generation.scrutiny(DestinationScheme::Http, authority);
            predicted.removed = head.removed(authority, scrutiny);
            predicted.credentials =
                credentials(generation, DestinationScheme::Http, authority, request);
        }
        let (refused, addresses) = self.look_up(&prediction, decision, request.lookup).await;
        predicted.addresses = addresses;
        if let Some((decision, detail)) = refused {
            predicted.explanation = prediction.explain(decision);
            predicted.detail = detail;
            return Ok(predicted);
        }
        if decision.handling() == Handling::Intercept {
            let head = read(&request.target)?;
            let within = head.within(generation, &client, authority)?;
            self.inside(&mut predicted, generation, (&head, &within), authority);
            predicted.credentials =
                credentials(generation, DestinationScheme::Https, authority, request);
        }
        Ok(predicted)
    }

    /// Looks an allowed name up, if the caller wants that, and judges its addresses. Returns the refusal, if
    /// there is one.
    async fn look_up(
        &self,
        prediction: &Prediction<'_>,
        allowed: Decision,
        lookup: Lookup,
    ) -> (Option<(Decision, Option<&'static str>)>, PredictedAddresses) {
        let (generation, host) = (prediction.generation, &prediction.authority.host);
        let resolver = generation.resolver();
        let is_literal = host.ip().is_some();
        if !is_literal && lookup == Lookup::LeftOut {
            return (None, PredictedAddresses::NotLookedUp(allowed.reach()));
        }
        let addresses = match upstream::lookup(resolver, host).await {
            Ok(addresses) => addresses,
            Err(error) => {
                let decision = prediction.on_addresses(allowed, &[]);
                let unresolved = PredictedAddresses::Unresolved(error);
                return (Some((decision, None)), unresolved);
            }
        };
        let shown = if is_literal {
            PredictedAddresses::Literal
        } else {
            let judged = addresses.iter();
            let judged = judged.map(|address| prediction.judge_address(allowed, *address));
            PredictedAddresses::Resolved(judged.collect())
        };
        let decision = prediction.on_addresses(allowed, &addresses);
        if !decision.is_allow() {
            let detail = prediction.detail_of_loop(decision);
            return (Some((decision, detail)), shown);
        }
        (looping_proxy(prediction, &addresses, lookup).await, shown)
    }

    /// Goes on with the request inside a connection whose TLS is intercepted.
    fn inside<'g>(
        &self,
        predicted: &mut PredictedDecision<'g>,
        generation: &'g Generation,
        (head, within): (&HypotheticalHead, &InterceptedRequest),
        authority: &Authority,
    ) {
        let prediction = Prediction {
            enforcer: self.enforcer(),
            generation,
            attempt: &within.attempt,
            authority,
        };
        let (decision, detail) = match within.authority {
            AuthorityMatch::Same => prediction.decision(),
            AuthorityMatch::Other => prediction.misdirected(),
        };
        let inside = PredictedDecision::of(&prediction, decision, detail);
        predicted.protocol = inside.protocol;
        predicted.method = inside.method;
        predicted.explanation = inside.explanation;
        predicted.detail = inside.detail;
        predicted.hook = within.verdict;
        if within.verdict == HookVerdict::NoMatch {
            predicted.misses = head.misses(generation, authority, within);
        }
        let scrutiny = generation.scrutiny(DestinationScheme::Https, authority);
        predicted.removed = head.removed(authority, scrutiny);
    }

    fn unix_socket<'g>(
        &self,
        generation: &'g Generation,
        head: &HttpHead<'static>,
        authority: &Authority,
        path: &[u8],
    ) -> PredictedDecision<'g> {
        let attempt = Attempt::http(Client::unconnected(), head.clone());
        let prediction = Prediction {
            enforcer: self.enforcer(),
            generation,
            attempt: &attempt,
            authority,
        };
        let (decision, detail) = prediction.on_unix_socket(head, path);
        let mut predicted = PredictedDecision::of(&prediction, decision, detail);
        UNIX_SOCKET.clone_into(&mut predicted.host);
        predicted.port = 0;
        predicted.explanation.because = match decision.reason() {
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
            _ => predicted.explanation.because,
        };
        if matches!(decision.reason(), Reason::Allow | Reason::NotAllowed) {
            predicted.explanation.remedy.clear();
        }
        predicted
    }
}

/// Whether the request may carry the credentials of these settings' session.
fn credentials(
    generation: &Generation,
    scheme: DestinationScheme,
    authority: &Authority,
    request: &HypotheticalRequest,
) -> Vec<PredictedCredential> {
    let place = RequestPlace {
        scheme,
        host: &authority.host,
        port: authority.port,
        target: &request.target,
        method: &request.method,
    };
    let usable = generation.usable_credentials(scheme).is_some();
    let all = generation.credentials();
    all.map_or_else(Vec::new, |all| all.predict(&place, usable))
}

/// The refusal because the upstream proxy that would carry the request is this proxy itself.
async fn looping_proxy(
    prediction: &Prediction<'_>,
    addresses: &[IpAddr],
    lookup: Lookup,
) -> Option<(Decision, Option<&'static str>)> {
    let Prediction {
        generation,
        authority,
        attempt,
        ..
    } = *prediction;
    let proxy = upstream::proxy_for(generation, authority, addresses, attempt.kind.protocol())?;
    let proxy = &proxy.authority;
    if lookup == Lookup::LeftOut {
        return prediction.looping_proxy(proxy, None);
    }
    let resolver = generation.resolver();
    // A proxy whose name does not resolve is no refusal by the policy.
    let found = upstream::lookup(resolver, &proxy.host).await.ok()?;
    prediction.looping_proxy(proxy, Some(&found))
}

fn invalid_host<'g>(
    generation: &'g Generation,
    protocol: Protocol,
    text: &str,
) -> Result<PredictedDecision<'g>, NotJudged> {
    let has_head = matches!(
        protocol,
        Protocol::Http | Protocol::HttpConnect | Protocol::Https
    );
    if has_head && !hypothetical::is_readable(text) {
        let error = crate::http::framing::FramingError::Target;
        return Err(HeadError::Malformed(error).into());
    }
    let explanation = Explanation::without_host(generation.policy().decide_invalid_host());
    Ok(PredictedDecision {
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
        addresses: PredictedAddresses::Irrelevant,
        credentials: Vec::new(),
    })
}

impl PredictedDecision<'_> {
    fn of(prediction: &Prediction<'_>, decision: Decision, detail: Option<&'static str>) -> Self {
        let is_literal = prediction.authority.host.ip().is_some();
        let head = prediction.attempt.kind.head();
        Self {
            protocol: prediction.attempt.kind.protocol(),
            host: prediction.authority.host.to_string(),
            port: prediction.authority.port,
            method: head.map(|head| head.method.clone().into_owned()),
            explanation: prediction.explain(decision),
            detail,
            handling: Handling::Carry,
            hook: HookVerdict::NotHooked,
            misses: Vec::new(),
            removed: Vec::new(),
            addresses: if is_literal && decision.is_allow() {
                PredictedAddresses::Literal
            } else {
                PredictedAddresses::Irrelevant
            },
            credentials: Vec::new(),
        }
    }
}

impl From<HeadError> for NotJudged {
    fn from(error: HeadError) -> Self {
        Self(error.to_string())
    }
}
