//! Turns decisions and failures into answers: the only file that writes a status code of our own
//! (SPEC H5 to H8, S2).
//!
//! Sentences for clients name the cause and the remedy. They never hold paths, rules or
//! resolver detail (SPEC H7): those are for the operator, in the log and the blocked entries.

mod approval;
mod credential;
mod dns;
mod failure;
mod own_destination;
mod unix_socket;

use bytes::Bytes;
use codex_network_config::allow_command;
use codex_network_policy::{Protocol, Reason, Source, Verdict};
pub(crate) use dns::{DnsAnswer, DnsTransport, dns_answer, dns_error};
pub(crate) use failure::{failure, socks_failure};
use http::header::{CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use serde::Serialize;

use crate::attempt::{DestinationKind, Refusal};
use crate::enforce::{AUTHORITY_MISMATCH, CONTENT, MANAGED_LIST};

/// The kind of block (SPEC H6).
pub(crate) const PROXY_ERROR: HeaderName = HeaderName::from_static("x-proxy-error");
/// The decision as JSON (SPEC H5).
pub(crate) const POLICY_DECISION: HeaderName = HeaderName::from_static("x-network-policy-decision");
/// The beginning of the first line of a text answer to a blocked request (SPEC H5).
const DECISION_LINE: &str = "CODEX_NETWORK_POLICY_DECISION";

/// The format of a refusal (SPEC H5): JSON for plain HTTP, text for CONNECT and inside intercepted TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RefusalFormat {
    Json,
    Text,
}

/// The fields that machines read, in the order that SPEC H5 gives.
#[derive(Serialize)]
struct DecisionFields<'a> {
    decision: &'a str,
    reason: &'a str,
    source: &'a str,
    protocol: &'a str,
    host: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<&'a str>,
}

/// The body of a block of plain HTTP.
#[derive(Serialize)]
struct BlockedBody<'a> {
    status: &'static str,
    host: &'a str,
    reason: &'a str,
    decision: &'a str,
    source: &'a str,
    protocol: &'a str,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval_id: Option<&'a str>,
    message: String,
}

/// The answer to a refused request.
pub(crate) fn refusal(refusal: &Refusal, format: RefusalFormat) -> Response<Bytes> {
    let decision = &refusal.decision;
    let reason = decision.reason();
    let fields = DecisionFields {
        decision: decision.verdict().as_str(),
        reason: refusal.reason(),
        source: decision.source().as_str(),
        protocol: refusal.protocol.audit_name(),
        host: &refusal.host,
        port: refusal.port,
        approval_id: refusal.approval.as_ref().map(|approval| &*approval.id),
    };
    let json = Bytes::from(to_json(&fields));
    let sentence = match refusal.destination {
        DestinationKind::Host => sentence(refusal),
        DestinationKind::UnixSocket => unix_socket::sentence(refusal),
    };
    let (status, content_type, body) = match format {
        _ if reason == Reason::ProxyDisabled => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "network proxy is disabled".into(),
        ),
        _ if reason == Reason::ConfigurationUnusable => (
            StatusCode::SERVICE_UNAVAILABLE,
            "text/plain",
            "the configuration cannot be used; run `codex-network-proxy check` and fix the problems that it prints"
                .into(),
        ),
        _ if reason == Reason::UnixSocketUnsupported => (
            StatusCode::NOT_IMPLEMENTED,
            "text/plain",
            "unix sockets unsupported".into(),
        ),
        RefusalFormat::Json => {
            let body = BlockedBody {
                status: "blocked",
                host: fields.host,
                reason: fields.reason,
                decision: fields.decision,
                source: fields.source,
                protocol: fields.protocol,
                port: fields.port,
                approval_id: fields.approval_id,
                message: sentence,
            };
            (
                StatusCode::FORBIDDEN,
                "application/json",
                to_json(&body),
            )
        }
        RefusalFormat::Text => (
            StatusCode::FORBIDDEN,
            "text/plain",
            [
                DECISION_LINE.as_bytes(),
                b" ",
                &json,
                b"\n",
                sentence.as_bytes(),
                b"\n",
            ]
            .concat(),
        ),
    };
    let mut response = own(status, content_type, body);
    let headers = response.headers_mut();
    headers.insert(PROXY_ERROR, HeaderValue::from_static(proxy_error(reason)));
    // The host is canonical or escaped, so the JSON is printable ASCII.
    if let Ok(json) = HeaderValue::from_maybe_shared(json) {
        headers.insert(POLICY_DECISION, json);
    }
    if let Some(after) = approval::retry_after(refusal) {
        headers.insert(RETRY_AFTER, after);
    }
    response
}

/// `400` for a request that cannot be served.
pub(crate) fn bad_request(why: &str) -> Response<Bytes> {
    closing(text(StatusCode::BAD_REQUEST, why))
}

/// Marks an answer as the last one of its connection.
pub(crate) fn closing(mut response: Response<Bytes>) -> Response<Bytes> {
    let close = HeaderValue::from_static("close");
    response
        .headers_mut()
        .insert(http::header::CONNECTION, close);
    response
}

/// `405` for a CONNECT inside intercepted TLS (SPEC M7).
pub(crate) fn connect_inside() -> Response<Bytes> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        "CONNECT is for the proxy itself, not for a connection through it",
    );
    let allowed = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
    response.headers_mut().insert(http::header::ALLOW, allowed);
    response
}

/// `421` for a request inside intercepted TLS that names another authority (SPEC M7, RFC 9110
/// section 15.5.20).
pub(crate) fn misdirected(refused: &Refusal) -> Response<Bytes> {
    let mut response = refusal(refused, RefusalFormat::Text);
    *response.status_mut() = StatusCode::MISDIRECTED_REQUEST;
    response
}

/// A fatal TLS alert (RFC 8446 section 6.2), for a client that cannot get any other answer.
pub(crate) fn tls_alert(alert: TlsAlert) -> [u8; 7] {
    // A record of type alert, version 3.3, two bytes: level fatal, and the alert.
    [21, 3, 3, 0, 2, 2, alert as u8]
}

/// Why a TLS client is refused before there is a session (RFC 8446 section 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum TlsAlert {
    AccessDenied = 49,
    DecodeError = 50,
    InternalError = 80,
    UnrecognizedName = 112,
}

/// `200` for a CONNECT whose other end is connected, as a whole message.
pub(crate) const CONNECTED: [u8; 19] = *b"HTTP/1.1 200 OK\r\n\r\n";

/// The same for hyper.
pub(crate) fn connected() -> Response<Bytes> {
    Response::new(Bytes::new())
}

/// A whole message for a client whose bytes were not a valid request (SPEC H4), with the status and
/// the reason that the parser gives.
pub(crate) fn malformed(status: u16, why: &dyn std::fmt::Display) -> Vec<u8> {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    whole_message(status, &why.to_string())
}

/// A whole message for a client that began a request and did not finish it in time.
pub(crate) fn slow_head() -> Vec<u8> {
    whole_message(
        StatusCode::REQUEST_TIMEOUT,
        "the request's header did not arrive in time",
    )
}

/// A message to write on a connection that hyper no longer serves.
fn whole_message(status: StatusCode, why: &str) -> Vec<u8> {
    let phrase = status.canonical_reason().unwrap_or_default();
    let body = format!("{why}\n");
    format!(
        "HTTP/1.1 {} {phrase}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        status.as_u16(),
        body.len(),
    )
    .into_bytes()
}

/// An origin's interim answer, as a client over HTTP/2 gets it.
pub(crate) fn interim_head(status: StatusCode, fields: HeaderMap) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = fields;
    head
}

/// An origin's interim answer, as a client over HTTP/1 gets it.
pub(crate) fn interim(status: StatusCode, fields: &HeaderMap) -> Bytes {
    let mut message = head_lines(status, fields);
    message.extend_from_slice(b"\r\n");
    message.into()
}

/// An answer as a whole message, to write on a connection that hyper does not serve.
pub(crate) fn message(answer: &Response<Bytes>) -> Vec<u8> {
    let body = answer.body();
    let mut message = head_lines(answer.status(), answer.headers());
    message.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    message.extend_from_slice(body);
    message
}

/// The status line of an answer over HTTP/1, and its fields.
fn head_lines(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let phrase = status.canonical_reason().unwrap_or_default();
    let mut lines = format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).into_bytes();
    for (name, value) in fields {
        lines.extend_from_slice(name.as_str().as_bytes());
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value.as_bytes());
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// The reply field of a SOCKS5 answer (RFC 1928 section 6, SPEC S2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Succeeded = 0x00,
    GeneralFailure = 0x01,
    NotAllowed = 0x02,
    HostUnreachable = 0x04,
    ConnectionRefused = 0x05,
    TtlExpired = 0x06,
    CommandNotSupported = 0x07,
    AddressTypeNotSupported = 0x08,
}

fn text(status: StatusCode, line: &str) -> Response<Bytes> {
    own(status, "text/plain", format!("{line}\n"))
}

/// As JSON.
fn to_json(fields: &impl Serialize) -> Vec<u8> {
    /// Most bodies and decisions are shorter, so they do not grow.
    const USUAL_LENGTH: usize = 512;
    let mut json = Vec::with_capacity(USUAL_LENGTH);
    if serde_json::to_writer(&mut json, fields).is_err() {
        json.clear();
    }
    json
}

fn own(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn proxy_error(reason: Reason) -> &'static str {
    match reason {
        Reason::NotAllowed | Reason::NotAllowedLocal => "blocked-by-allowlist",
        Reason::Denied => "blocked-by-denylist",
        Reason::MethodNotAllowed => "blocked-by-method-policy",
        Reason::MitmRequired => "blocked-by-mitm-required",
        Reason::MitmHookDenied => "blocked-by-mitm-hook",
        Reason::Allow
        | Reason::PolicyDenied
        | Reason::ProxyDisabled
        | Reason::ConfigurationUnusable
        | Reason::UnixSocketUnsupported
        | Reason::InvalidHost
        | Reason::DnsFailure
        | Reason::LoopDetected
        | Reason::CredentialUnbound => "blocked-by-policy",
    }
}

/// The cause of a refusal and its remedy (SPEC H7).
fn sentence(refusal: &Refusal) -> String {
    let host = &refusal.host;
    if let Some(approval) = &refusal.approval {
        return approval::sentence(host, approval);
    }
    match refusal.decision.reason() {
        _ if refusal.decision.verdict() == Verdict::Ask => format!(
            "{host} is not on the allow list of the network policy, and a user must approve it first; try again \
             once it is allowed."
        ),
        _ if refusal.decision.source() == Source::Decider => format!(
            "{host} is not on the allow list of the network policy, and the program that decides about such \
             hosts refuses it ({}).",
            refusal.reason()
        ),
        Reason::Denied if refusal.decision.source() == Source::Session => {
            format!("{host} is explicitly denied for this session (`proxyctl run --deny`).")
        }
        Reason::Denied => format!(
            "{host} is explicitly denied by the network policy; to allow it, remove its deny rule (an allow rule \
             does not lift it)."
        ),
        Reason::NotAllowed if refusal.detail == Some(MANAGED_LIST) => format!(
            "{host} is not on the allow list of the network policy (nothing denies it explicitly), and that list is \
             managed: the administrator of requirements.toml on this machine can add it there; allowed_domains \
             elsewhere does not count."
        ),
        Reason::NotAllowed if refusal.decision.source() == Source::Session => format!(
            "{host} is not among the hosts that this session is limited to (`proxyctl run --only`)."
        ),
        Reason::NotAllowed => format!(
            "{host} is not on the allow list of the network policy (nothing denies it explicitly); to allow it, run \
             `{}`, or add it to allowed_domains, or as \"allow\" to the table of domains, and \
             reload the proxy.",
            allow_command(host)
        ),
        Reason::NotAllowedLocal => format!(
            "{host} is, or resolves to, a local or private address; the network policy allows those only when \
             allow_local_binding is on or the address itself is on the allow list."
        ),
        Reason::MethodNotAllowed if refusal.detail == Some(CONTENT) => format!(
            "the network policy is in limited mode, which allows no request with content to {host}; send it \
             without content (no Content-Length, no Transfer-Encoding), or use full mode."
        ),
        Reason::MethodNotAllowed
            if matches!(refusal.protocol, Protocol::Http | Protocol::Https) =>
        {
            format!(
                "the network policy is in limited mode, which lets only GET, HEAD and OPTIONS requests through to {host}; \
             full mode is needed for this one."
            )
        }
        Reason::MethodNotAllowed => format!(
            "the network policy is in limited mode, which lets no such connection through to {host}; use HTTP, or \
             full mode."
        ),
        Reason::MitmRequired => format!(
            "the proxy must judge each request to {host}, which needs TLS interception, and this connection \
             cannot be intercepted; use https on port 443 through this proxy, or full mode without hooks for this \
             host."
        ),
        Reason::MitmHookDenied if refusal.detail == Some(CONTENT) => format!(
            "a rule of the network policy for {host} matches this request, but its method does not define content \
             (RFC 9110 section 9.3); send it without content (no Content-Length, no Transfer-Encoding)."
        ),
        Reason::MitmHookDenied => match refusal.detail {
            Some(detail) => format!(
                "servers could read this request in different ways ({detail}), so no rule of the network policy for \
                 {host} matches it."
            ),
            None => format!("no rule of the network policy for {host} matches this request."),
        },
        Reason::InvalidHost => {
            "the host is neither a valid host name nor an address; check the URL.".to_owned()
        }
        Reason::CredentialUnbound => credential::sentence(refusal),
        Reason::LoopDetected => own_destination::sentence(refusal).to_owned(),
        Reason::PolicyDenied if refusal.detail == Some(AUTHORITY_MISMATCH) => format!(
            "this connection leads to {host} port {}, and its request names another host or port; name this one in \
             the URL, or in the Host field (curl: -H 'Host: {host}').",
            refusal.port
        ),
        _ => format!("the network policy refuses {host} ({}).", refusal.reason()),
    }
}

#[cfg(test)]
mod tests {
    use codex_network_policy::{
        Authority, Content, Facts, HostCredentials, HttpHead, InterceptionSupport, ListKind,
        Narrowing, NoLocalAddresses, NoProxyListeners, Pattern, Policy, PolicySpec, Request,
        RequestKind,
    };

    use super::*;

    /// The refusal of a request to `blocked.example` by this policy.
    fn refused(spec: &PolicySpec, kind: &RequestKind<'_>) -> Refusal {
        let authority = Authority::parse("blocked.example:443", None).expect("an authority");
        let request = Request {
            host: &authority.host,
            port: authority.port,
            kind,
            facts: Facts {
                machine: &NoLocalAddresses,
                listeners: &NoProxyListeners,
                interception: InterceptionSupport::Unavailable,
                credentials: HostCredentials::None,
            },
        };
        let policy = Policy::compile(spec).expect("short lists");
        Refusal {
            decision: policy.decide(&request),
            destination: DestinationKind::Host,
            protocol: kind.protocol(),
            host: "blocked.example".to_owned(),
            port: 443,
            detail: None,
            decider_reason: None,
            credential: None,
            approval: None,
        }
    }

    fn get() -> RequestKind<'static> {
        RequestKind::Http(HttpHead {
            method: "GET".into(),
            upgrade: None,
            content: Content::Absent,
        })
    }

    fn read(response: Response<Bytes>) -> (u16, HeaderMap, String) {
        let (parts, body) = response.into_parts();
        (
            parts.status.as_u16(),
            parts.headers,
            String::from_utf8(body.to_vec()).expect("UTF-8"),
        )
    }

    #[test]
    fn h5_a_block_of_plain_http_is_json() {
        let refusal_ = refused(&PolicySpec::default(), &get());
        let (status, headers, body) = read(refusal(&refusal_, RefusalFormat::Json));
        assert_eq!(status, 403);
        assert_eq!(headers[CONTENT_TYPE], "application/json");
        assert_eq!(headers[PROXY_ERROR], "blocked-by-allowlist");
        assert!(body.starts_with(
            r#"{"status":"blocked","host":"blocked.example","reason":"not_allowed","decision":"deny","source":"baseline_policy","protocol":"http","port":443,"message":"#
        ), "{body}");
        assert_eq!(
            headers[POLICY_DECISION],
            r#"{"decision":"deny","reason":"not_allowed","source":"baseline_policy","protocol":"http","host":"blocked.example","port":443}"#
        );
    }

    #[test]
    fn h5_a_block_of_connect_is_text_with_the_decision_first() {
        let denied = Pattern::parse("blocked.example", ListKind::Deny).expect("a pattern");
        let spec = PolicySpec {
            denied: vec![(denied, None)],
            ..PolicySpec::default()
        };
        let refusal_ = refused(&spec, &RequestKind::HttpConnect);
        let (status, headers, body) = read(refusal(&refusal_, RefusalFormat::Text));
        assert_eq!(status, 403);
        assert_eq!(headers[CONTENT_TYPE], "text/plain");
        assert_eq!(headers[PROXY_ERROR], "blocked-by-denylist");
        let (first, rest) = body.split_once('\n').expect("two lines");
        assert_eq!(
            first,
            r#"CODEX_NETWORK_POLICY_DECISION {"decision":"deny","reason":"denied","source":"baseline_policy","protocol":"https_connect","host":"blocked.example","port":443}"#
        );
        assert!(
            rest.contains("explicitly denied") && rest.ends_with(".\n"),
            "{rest}"
        );
    }

    #[test]
    fn h7_a_refusal_names_the_command_that_allows_the_host_where_one_does() {
        let policy = Policy::compile(&PolicySpec::default()).expect("short lists");
        let message = |narrowing: &Narrowing| {
            let narrowed = policy.narrowed(narrowing).expect("short lists");
            let authority = Authority::parse("blocked.example:443", None).expect("an authority");
            let mut refusal = refused(&PolicySpec::default(), &get());
            refusal.decision = narrowed.decide(&Request {
                host: &authority.host,
                port: authority.port,
                kind: &get(),
                facts: Facts {
                    machine: &NoLocalAddresses,
                    listeners: &NoProxyListeners,
                    interception: InterceptionSupport::Unavailable,
                    credentials: HostCredentials::None,
                },
            });
            sentence(&refusal)
        };
        let plain = message(&Narrowing::default());
        assert!(
            plain.contains("`proxyctl allow blocked.example`"),
            "{plain}"
        );
        let pattern = |text| vec![Pattern::parse(text, ListKind::Allow).expect("a pattern")];
        let only = message(&Narrowing {
            only: pattern("other.example"),
            ..Narrowing::default()
        });
        assert!(only.contains("--only"), "{only}");
        let denied = message(&Narrowing {
            denied: pattern("blocked.example"),
            ..Narrowing::default()
        });
        assert!(denied.contains("--deny"), "{denied}");
        for other in [only, denied] {
            assert!(!other.contains("proxyctl allow"), "{other}");
        }
    }

    /// The client of a forwarded port names that port (SPEC J10).
    #[test]
    fn h7_a_request_for_another_host_than_its_connection_learns_which_one_to_name() {
        let mut refusal = refused(&PolicySpec::default(), &get());
        let policy = Policy::compile(&PolicySpec::default()).expect("short lists");
        refusal.decision = policy.decide_misdirected();
        refusal.detail = Some(AUTHORITY_MISMATCH);
        let (status, _, body) = read(misdirected(&refusal));
        assert_eq!(status, 421);
        assert!(
            body.contains("leads to blocked.example port 443")
                && body.contains("-H 'Host: blocked.example'"),
            "{body}"
        );
    }

    #[test]
    fn l6_a_disabled_proxy_answers_503() {
        let spec = PolicySpec {
            enabled: false,
            ..PolicySpec::default()
        };
        let refusal_ = refused(&spec, &get());
        for format in [RefusalFormat::Json, RefusalFormat::Text] {
            let (status, headers, body) = read(refusal(&refusal_, format));
            assert_eq!((status, body.as_str()), (503, "network proxy is disabled"));
            assert_eq!(headers[PROXY_ERROR], "blocked-by-policy");
        }
    }

    #[test]
    fn h6_every_reason_has_its_proxy_error() {
        for (reason, wanted) in [
            (Reason::NotAllowed, "blocked-by-allowlist"),
            (Reason::NotAllowedLocal, "blocked-by-allowlist"),
            (Reason::Denied, "blocked-by-denylist"),
            (Reason::MethodNotAllowed, "blocked-by-method-policy"),
            (Reason::MitmRequired, "blocked-by-mitm-required"),
            (Reason::MitmHookDenied, "blocked-by-mitm-hook"),
            (Reason::PolicyDenied, "blocked-by-policy"),
            (Reason::InvalidHost, "blocked-by-policy"),
            (Reason::LoopDetected, "blocked-by-policy"),
            (Reason::UnixSocketUnsupported, "blocked-by-policy"),
        ] {
            assert_eq!(proxy_error(reason), wanted, "{reason}");
        }
    }
}
