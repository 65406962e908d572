//! Which fields are passed on and which end at the proxy (SPEC H3, P7; RFC 9110 section 7.6.1).

use codex_network_config::Action;
use codex_network_policy::{
    Authority, HeaderNameText, Scrutiny, ends_here, ends_here_in_answers, is_same_field,
};
use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, TE, TRANSFER_ENCODING,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue};

use crate::tls::Wire;

/// Turns the client's fields into those of the request upstream.
pub(super) fn to_upstream(
    headers: &mut HeaderMap,
    authority: &Authority,
    wire: Wire,
    scrutiny: Scrutiny,
) {
    let trailers = wants_trailers(headers);
    remove_what_ends_here(headers, scrutiny);
    if trailers {
        // Set anew for the upstream connection (RFC 9110 section 10.1.4).
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if wire == Wire::TlsHttp2 {
        // In HTTP/2 the pseudo-header field replaces it (RFC 9113 section 8.3.1), and connections
        // have no options.
        headers.remove(HOST);
        return;
    }
    if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    let own_port = if wire == Wire::Plain { 80 } else { 443 };
    headers.insert(HOST, host_field(authority, own_port));
}

/// Applies an action of a hook: strips fields, then injects others in their place (SPEC M9). Strips
/// every spelling that origins behind CGI read as the name.
pub(super) fn act(
    headers: &mut HeaderMap,
    action: &Action,
) -> Result<(), http::header::InvalidHeaderValue> {
    strip(headers, action);
    for injection in &action.inject {
        let mut value = HeaderValue::from_bytes(injection.value.expose())?;
        value.set_sensitive(true);
        if let Ok(name) = HeaderName::from_bytes(injection.name.as_str().as_bytes()) {
            headers.insert(name, value);
        }
    }
    Ok(())
}

/// Removes the fields that an action strips or replaces, from header fields and from trailer
/// fields.
pub(super) fn strip(headers: &mut HeaderMap, action: &Action) {
    let injected = action.inject.iter().map(|injection| &injection.name);
    let unwanted: Vec<_> = action.strip.iter().chain(injected).collect();
    remove_where(headers, |name| {
        let is_it = |unwanted: &&HeaderNameText| is_same_field(name, unwanted.as_str());
        unwanted.iter().any(is_it)
    });
}

/// Turns the client's trailer fields into those upstream. A field that may not precede the content
/// may not follow it either.
pub(super) fn trailers_to_upstream(trailers: &mut HeaderMap, scrutiny: Scrutiny) {
    remove_what_ends_here(trailers, scrutiny);
}

fn remove_what_ends_here(headers: &mut HeaderMap, scrutiny: Scrutiny) {
    remove_named_by_connection(headers);
    remove_where(headers, |name| ends_here(name, scrutiny));
}

/// Joins the `Cookie` fields, of which HTTP/2 allows several, into one (RFC 9113 section 8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    let mut fields = headers.get_all(COOKIE).iter();
    let (first, second) = (fields.next(), fields.next());
    if first.is_none() || second.is_none() {
        return;
    }
    let values: Vec<_> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Writes a `Content-Length` that is a list of equal values as one value (RFC 9110 section 8.6).
/// hyper or h2 has checked that they are equal.
pub(super) fn one_length(headers: &mut HeaderMap) {
    let Some(field) = headers.get(CONTENT_LENGTH) else {
        return;
    };
    let first = elements(headers, &CONTENT_LENGTH).next();
    let first = first.unwrap_or_default();
    if first.len() < field.len()
        && let Ok(first) = HeaderValue::from_bytes(first)
    {
        headers.insert(CONTENT_LENGTH, first);
    }
}

/// Turns an origin's fields into those of the answer to the client.
pub(super) fn to_client(headers: &mut HeaderMap) {
    // RFC 9112 section 6.3: the transfer coding overrides the length, which must not be passed on
    // beside it.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    fields_to_client(headers);
}

/// Turns an origin's trailer fields into those to the client.
pub(super) fn trailers_to_client(trailers: &mut HeaderMap) {
    fields_to_client(trailers);
}

/// Clients trust the proxy's own fields, so they are removed from an origin's answer (SPEC H5, H6).
fn fields_to_client(headers: &mut HeaderMap) {
    remove_named_by_connection(headers);
    remove_where(headers, ends_here_in_answers);
}

fn remove_where(headers: &mut HeaderMap, is_unwanted: impl Fn(&str) -> bool) {
    let unwanted: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_unwanted(name.as_str()))
        .cloned()
        .collect();
    for name in unwanted {
        headers.remove(name);
    }
}

/// Whether the fields belong to an authentication scheme that authenticates the connection and not
/// the request, against RFC 9110 section 11.1 (RFC 4559 section 6). A connection that was used with
/// one must not carry requests of other clients.
pub(super) fn authenticate_the_connection(headers: &HeaderMap) -> bool {
    let of_connection = |field: &HeaderValue| {
        let scheme = field.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| {
            scheme.eq_ignore_ascii_case(b"ntlm") || scheme.eq_ignore_ascii_case(b"negotiate")
        })
    };
    [AUTHORIZATION, WWW_AUTHENTICATE]
        .iter()
        .any(|name| headers.get_all(name).iter().any(of_connection))
}

/// The `Host` field for an authority whose scheme has this port.
pub(super) fn host_field(authority: &Authority, own_port: u16) -> HeaderValue {
    // A field can hold every byte of a canonical host.
    HeaderValue::from_str(&authority.host_field(Some(own_port)))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The elements of a field that is a list (RFC 9110 section 5.6.1), in the order of the fields. Empty
/// ones are among them; no list here has quoted strings that could hold a comma.
pub(super) fn elements<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|field| field.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    elements(headers, &TE).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn remove_named_by_connection(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = elements(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .collect();
    for name in named {
        // A client must not be able to have these removed: without them the message means something
        // else.
        if name != HOST && name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a field name");
            headers.append(name, HeaderValue::from_str(value).expect("a field value"));
        }
        headers
    }

    fn list(headers: &HeaderMap) -> Vec<(&str, &str)> {
        headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
            .collect()
    }

    fn upstream(fields: &[(&str, &str)], scrutiny: Scrutiny) -> Vec<(String, String)> {
        let mut headers = map(fields);
        let authority = Authority::parse("example.com", Some(80)).expect("an authority");
        to_upstream(&mut headers, &authority, Wire::Plain, scrutiny);
        let mut list: Vec<_> = list(&headers)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        list.retain(|(name, _)| name != "host");
        list
    }

    #[test]
    fn h3_a_list_is_all_fields_of_its_name() {
        let fields = map(&[("te", "a,\tb ,"), ("via", "x"), ("te", ""), ("TE", " c d")]);
        let wanted: [&[u8]; 5] = [b"a", b"b", b"", b"", b"c d"];
        assert!(elements(&fields, &TE).eq(wanted));
        assert_eq!(elements(&fields, &CONNECTION).count(), 0);
    }

    #[test]
    fn h3_what_concerns_one_connection_stays_here() {
        for name in [
            "connection",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "proxy-authenticate",
            "te",
            "transfer-encoding",
            "upgrade",
            "x-unix-socket",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-anything",
            "x-real-ip",
            "via",
            "x_forwarded_for",
            "x.forwarded!for",
            "x-real_ip",
            "x'real.ip",
            "proxy.authorization",
            "x+unix+socket",
            "transfer_encoding",
            "content_length",
            "content.length",
            "keep_alive",
            "http2-settings",
        ] {
            assert_eq!(upstream(&[(name, "x")], Scrutiny::Host), [], "{name}");
        }
        assert_eq!(
            upstream(
                &[("connection", "close, X-Mine"), ("x-mine", "1")],
                Scrutiny::Host
            ),
            []
        );
    }

    #[test]
    fn h3_everything_else_goes_on_unchanged_and_in_order() {
        let fields = [
            ("accept", "a"),
            ("cookie", "1"),
            ("x-two", "b"),
            ("x-two", "a"),
            ("x-two", ""),
        ];
        let wanted: Vec<_> = fields
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        assert_eq!(upstream(&fields, Scrutiny::Host), wanted);
    }

    #[test]
    fn h3_connection_cannot_take_the_framing_away() {
        let fields = [
            ("connection", "content-length, host"),
            ("content-length", "5"),
        ];
        assert_eq!(
            upstream(&fields, Scrutiny::Host),
            [("content-length".to_owned(), "5".to_owned())]
        );
    }

    #[test]
    fn h5_h6_an_origin_cannot_speak_for_the_proxy() {
        for (name, goes_on) in [
            ("x-proxy-error", false),
            ("X-Proxy-Error", false),
            ("x-network-policy-decision", false),
            ("X-NETWORK-POLICY-DECISION", false),
            ("keep-alive", false),
            ("x-proxy-errors", true),
            ("x-network-policy", true),
            ("x-error", true),
        ] {
            for make in [to_client, trailers_to_client] {
                let mut headers = map(&[(name, "1"), (name, "2")]);
                make(&mut headers);
                assert_eq!(headers.len(), if goes_on { 2 } else { 0 }, "{name}");
            }
        }
    }

    #[test]
    fn h1_trailers_are_asked_for_anew() {
        let sent = upstream(
            &[("te", "gzip, Trailers"), ("connection", "TE")],
            Scrutiny::Host,
        );
        assert_eq!(
            sent,
            [
                ("te".into(), "trailers".into()),
                ("connection".into(), "te".into())
            ]
        );
    }

    #[test]
    fn p7_m10_what_overrides_the_method_ends_here_where_the_method_is_judged() {
        for name in [
            "x-http-method-override",
            "x-http-method",
            "x-method-override",
            "x_http_method_override",
            "x.http.method.override",
            "x!http~method'override",
        ] {
            let field = [(name, "DELETE")];
            assert_eq!(upstream(&field, Scrutiny::Host).len(), 1, "{name}");
            for scrutiny in [Scrutiny::Method, Scrutiny::Head] {
                assert_eq!(upstream(&field, scrutiny), [], "{name}");
                let mut trailers = map(&field);
                trailers_to_upstream(&mut trailers, scrutiny);
                assert!(trailers.is_empty(), "{name} as a trailer");
            }
        }
    }

    #[test]
    fn m10_what_targets_a_request_anew_ends_here_where_its_head_is_judged() {
        for name in [
            "x-original-url",
            "x-rewrite-url",
            "x-original-host",
            "x-host",
            "x-http-host-override",
            "x-script-name",
            "script_name",
            "proxy",
            "x.rewrite.url",
        ] {
            for (scrutiny, passed) in [
                (Scrutiny::Host, 1),
                (Scrutiny::Method, 1),
                (Scrutiny::Head, 0),
            ] {
                let sent = upstream(&[(name, "/admin")], scrutiny);
                assert_eq!(sent.len(), passed, "{name} {scrutiny:?}");
            }
        }
    }

    #[test]
    fn h1_a_connection_that_was_authenticated_itself_is_not_pooled() {
        for (name, value, wanted) in [
            ("www-authenticate", "Negotiate", true),
            ("WWW-Authenticate", "ntlm TlRMTVNTUAAC", true),
            ("authorization", "NTLM TlRMTVNTUAAB", true),
            ("authorization", "negotiate YII", true),
            ("authorization", "Basic bnRsbQ==", false),
            ("www-authenticate", "Bearer", false),
            ("x-authorization", "NTLM", false),
        ] {
            let fields = map(&[(name, value)]);
            assert_eq!(
                authenticate_the_connection(&fields),
                wanted,
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn h2_the_host_field_is_the_canonical_authority() {
        for (authority, wanted) in [
            ("EXAMPLE.com.:80", "example.com"),
            ("example.com:8080", "example.com:8080"),
            ("example.com:180", "example.com:180"),
            ("[2001:db8::1]:80", "[2001:db8::1]"),
            ("[fe80::1%25eth0]:81", "[fe80::1]:81"),
            ("0x7f.1:80", "127.0.0.1"),
        ] {
            let authority = Authority::parse(authority, None).expect("an authority");
            assert_eq!(host_field(&authority, 80), wanted, "{authority}");
        }
    }
}
