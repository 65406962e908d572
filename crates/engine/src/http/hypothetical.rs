//! Reads a hypothetical request as the door would read a real one (SPEC K5).
//!
//! The head is written as a client writes it and goes through the same scanner and readers. A head that
//! a door answers with `400`, `414` or `431` is an error here.

use codex_network_policy::{
    Authority, Content, FieldClass, HookMiss, HookVerdict, HttpHead, Protocol, Scrutiny,
};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::framing::{Framing, FramingError};
use super::headers;
use super::inside::{self, Head, InsideRequest, OriginFields};
use super::target::{self, TargetError};
use super::unix_socket::{self, SocketFieldError};
use super::upgrade::UpgradeOffer;
use crate::attempt::Attempt;
use crate::client::Client;
use crate::http_bytes::{is_token, is_visible};
use crate::live_policy::Generation;

/// The head of a hypothetical request.
pub(crate) struct HypotheticalHead {
    method: Method,
    /// In origin-form.
    target: String,
    headers: HeaderMap,
    content: Content,
}

/// The error of a request that every door would refuse as malformed. The text repeats no part of
/// the request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HeadError {
    #[error("the method is not a token (RFC 9110 section 5.6.2)")]
    Method,
    #[error("CONNECT opens a tunnel: ask about https://HOST or HOST:PORT instead")]
    Connect,
    #[error("the proxy answers such a request with status {status}: {0}", status = .0.status())]
    Malformed(FramingError),
    #[error("the proxy answers such a request with status 400: {0}")]
    Target(TargetError),
    #[error("the proxy answers such a request with status 400: {0}")]
    Socket(SocketFieldError),
}

/// A plain request at the HTTP door.
pub(crate) struct PlainRequest {
    pub(crate) head: HttpHead<'static>,
    /// The path of the unix socket that it is for.
    pub(crate) socket: Option<Vec<u8>>,
}

/// A request inside an intercepted connection.
pub(crate) struct InterceptedRequest {
    pub(crate) attempt: Attempt,
    pub(crate) verdict: HookVerdict,
    fields: OriginFields,
    /// Whether it is for the authority of the connection.
    pub(crate) authority: AuthorityMatch,
}

/// Whether a request names the authority of its connection, or another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AuthorityMatch {
    Same,
    Other,
}

/// Whether a text can stand in a request line as an authority.
pub(crate) fn is_readable(authority: &str) -> bool {
    authority.parse::<http::uri::Authority>().is_ok()
}

impl HypotheticalHead {
    /// Reads a head. If `fields` lacks `Host`, the head gets one from `authority`.
    pub(crate) fn read(
        generation: &Generation,
        protocol: Protocol,
        authority: &Authority,
        (method, target): (&str, &str),
        fields: &[(String, String)],
    ) -> Result<Self, HeadError> {
        if method.is_empty() || !method.bytes().all(is_token) {
            return Err(HeadError::Method);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| HeadError::Method)?;
        if method == Method::CONNECT {
            return Err(HeadError::Connect);
        }
        let own_port = if protocol == Protocol::Http { 80 } else { 443 };
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| HeadError::Malformed(FramingError::FieldName))?;
            let value = HeaderValue::from_bytes(value.trim_ascii().as_bytes());
            let value = value.map_err(|_| HeadError::Malformed(FramingError::FieldValue))?;
            let full = headers.try_append(name, value);
            full.map_err(|_| HeadError::Malformed(FramingError::TooManyFields))?;
        }
        if !headers.contains_key(HOST) {
            headers.insert(HOST, headers::host_field(authority, own_port));
        }
        // No byte of the target ends the request line.
        if !target.bytes().all(is_visible) {
            return Err(HeadError::Malformed(FramingError::RequestLine));
        }
        let mut head = format!("{method} {target} HTTP/1.1\r\n").into_bytes();
        for (name, value) in &headers {
            let line = [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"];
            head.extend_from_slice(&line.concat());
        }
        head.extend_from_slice(b"\r\n");
        let limit = generation.settings().daemon.limits.max_header_bytes;
        let scanned = Framing::new(limit).scan(&head);
        scanned.map_err(|cut| HeadError::Malformed(cut.error))?;
        let content = content(&headers);
        Ok(Self {
            method,
            target: target.to_owned(),
            headers,
            content,
        })
    }

    /// The request in the form in which the HTTP door would read it.
    pub(crate) fn plain(&self, authority: &Authority) -> Result<PlainRequest, HeadError> {
        let uri: Uri = format!("http://{authority}{}", self.target)
            .parse()
            .map_err(|_| HeadError::Malformed(FramingError::Target))?;
        target::absolute(&uri, &self.headers).map_err(HeadError::Target)?;
        let socket = unix_socket::path(&self.headers).map_err(HeadError::Socket)?;
        let upgrade = UpgradeOffer::read(&self.headers, Version::HTTP_11);
        Ok(PlainRequest {
            head: HttpHead {
                method: self.method.as_str().to_owned().into(),
                upgrade: upgrade.token().map(|token| token.to_owned().into()),
                content: self.content,
            },
            socket: socket.map(<[u8]>::to_owned),
        })
    }

    /// The request as it is read inside intercepted TLS to this authority.
    pub(crate) fn within(
        &self,
        generation: &Generation,
        client: &Client,
        authority: &Authority,
    ) -> Result<InterceptedRequest, HeadError> {
        let uri: Uri = self
            .target
            .parse()
            .map_err(|_| HeadError::Malformed(FramingError::Target))?;
        let protocol = Protocol::Https;
        let named = match inside::path(&uri, &self.headers, authority, protocol) {
            Some(_) => AuthorityMatch::Same,
            None => AuthorityMatch::Other,
        };
        let request = self.head().request(generation, client, authority, protocol);
        let InsideRequest {
            attempt,
            verdict,
            fields,
            ..
        } = request;
        Ok(InterceptedRequest {
            attempt,
            verdict,
            fields,
            authority: named,
        })
    }

    /// For each hook of the authority, the parts that it misses in a request that none matches.
    pub(crate) fn misses<'g>(
        &self,
        generation: &'g Generation,
        authority: &Authority,
        request: &InterceptedRequest,
    ) -> Vec<HookMiss<'g>> {
        let hooks = &generation.settings().mitm.hooks;
        hooks.misses(&self.head().for_hooks(authority, &request.fields))
    }

    /// The names of the fields that the proxy removes though they would change the request for an
    /// origin: which method, host or path it acts on, and where it came from.
    pub(crate) fn removed(&self, authority: &Authority, scrutiny: Scrutiny) -> Vec<String> {
        use FieldClass::{Forwarding, MethodOverride, Retargeting};
        let mut sent = self.headers.clone();
        headers::to_upstream(&mut sent, authority, crate::tls::Wire::TlsHttp1, scrutiny);
        let telling = |name: &&HeaderName| {
            let class = FieldClass::of(name.as_str());
            matches!(
                class,
                None | Some(Forwarding | MethodOverride | Retargeting)
            ) && !sent.contains_key(*name)
        };
        self.headers
            .keys()
            .filter(telling)
            .map(ToString::to_string)
            .collect()
    }

    fn head(&self) -> Head<'_> {
        Head {
            method: &self.method,
            target: &self.target,
            headers: &self.headers,
            version: Version::HTTP_11,
            content: self.content,
        }
    }
}

/// Whether hyper would find content: the framing has been checked.
fn content(headers: &HeaderMap) -> Content {
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    let is_empty = |length: &[u8]| length.iter().all(|digit| *digit == b'0');
    if headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| !is_empty(length)) {
        Content::Present
    } else {
        Content::Absent
    }
}
