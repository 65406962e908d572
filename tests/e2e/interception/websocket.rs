//! WebSocket, over plain HTTP and inside intercepted TLS: bytes from end to end, unchanged, until
//! either end closes or the policy forbids it (SPEC H9, P11).

use e2e::client::{Connection, Response};
use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::setup::TlsSetup;
use e2e::tls::TestCa;

use super::hooks::{hooked, secret, unhooked};

const EXTENSIONS: &str = "permessage-deflate; client_max_window_bits";

/// Upgrades `/socket`, and answers any other path as it says.
fn origin() -> e2e::origin::Builder {
    Origin::answering(|request| match request.target.as_str() {
        "/socket/400" => Answer::status(400),
        "/socket/200" => Answer::text("just a page"),
        "/socket/other" => Answer::Upgrade(vec![("Upgrade".into(), "other".into())]),
        _ => Answer::Upgrade(vec![
            ("Upgrade".into(), "websocket".into()),
            (
                "Sec-WebSocket-Accept".into(),
                "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".into(),
            ),
            (
                "Sec-WebSocket-Extensions".into(),
                "permessage-deflate; server_no_context_takeover".into(),
            ),
        ]),
    })
}

/// A route to an origin, over plain HTTP or inside TLS.
struct Route {
    daemon: Daemon,
    config: Config,
    origin: Origin,
    /// The authority that a client inside trusts; `None` over plain HTTP.
    proxy_ca: Option<String>,
    _secret: tempfile::TempDir,
}

fn routes() -> [Route; 2] {
    let (plain_secret, file) = secret();
    let config = hooked(&file);
    let plain = Route {
        daemon: Daemon::start_trusting(&config, &TestCa::new()),
        config,
        origin: origin().start(),
        proxy_ca: None,
        _secret: plain_secret,
    };
    let (inner_secret, file) = secret();
    let config = hooked(&file);
    let setup = TlsSetup::with(&config, &["http/1.1"], origin());
    let inside = Route {
        daemon: setup.daemon,
        config,
        origin: setup.origin,
        proxy_ca: Some(setup.proxy_ca),
        _secret: inner_secret,
    };
    [plain, inside]
}

impl Route {
    fn host(&self) -> &'static str {
        if self.proxy_ca.is_some() {
            "hooked.test"
        } else {
            "allowed.test"
        }
    }

    fn client(&self) -> Connection {
        let mut client = Connection::open(self.daemon.http_addr());
        let Some(ca) = &self.proxy_ca else {
            return client;
        };
        let authority = format!("hooked.test:{}", self.origin.addr().port());
        assert_eq!(client.connect(&authority).status, 200);
        let trusting = e2e::tls::Client::trusting_pem(ca);
        client.secure(&trusting, "hooked.test").0
    }

    fn handshake(&self, path: &str) -> String {
        let authority = format!("{}:{}", self.host(), self.origin.addr().port());
        let target = if self.proxy_ca.is_some() {
            path.to_owned()
        } else {
            format!("http://{authority}{path}")
        };
        format!(
            "GET {target} HTTP/1.1\r\nHost: {authority}\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Extensions: {EXTENSIONS}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
        )
    }

    /// A client whose connection has changed to WebSocket.
    fn switched(&self) -> (Connection, Response) {
        let mut client = self.client();
        client.send(self.handshake("/socket"));
        let head = client.read_head();
        assert_eq!(head.status, 101);
        (client, head)
    }
}

#[test]
fn h9_bytes_go_both_ways_and_the_handshake_is_untouched() {
    for route in routes() {
        let (mut client, head) = route.switched();
        assert_eq!(head.header("upgrade"), Some("websocket"));
        assert_eq!(
            head.header("sec-websocket-accept"),
            Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
        );
        assert_eq!(
            head.header("sec-websocket-extensions"),
            Some("permessage-deflate; server_no_context_takeover")
        );
        let seen = route.origin.requests().pop().expect("a request");
        assert_eq!(seen.header("sec-websocket-extensions"), Some(EXTENSIONS));
        assert_eq!(seen.header("sec-websocket-protocol"), Some("chat"));
        assert_eq!(seen.header("upgrade"), Some("websocket"));
        let frames = [
            &[0xc1, 0x07][..],
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
        ]
        .concat();
        for part in [&frames[..], b"GET / HTTP/1.1\r\n\r\n", &vec![0; 100_000]] {
            client.send(part);
            assert_eq!(client.read_exact(part.len()), part);
        }
    }
}

#[test]
fn h9_bytes_right_after_the_handshake_reach_the_origin_as_data() {
    for route in routes() {
        let mut client = route.client();
        let behind = "POST /api/x HTTP/1.1\r\nHost: denied.test\r\n\r\n";
        client.send(route.handshake("/socket") + behind);
        assert_eq!(client.read_head().status, 101);
        assert_eq!(client.read_exact(behind.len()), behind.as_bytes());
        assert_eq!(route.origin.requests().len(), 1);
    }
}

#[test]
fn h9_a_declined_upgrade_leaves_the_connection_usable() {
    for route in routes() {
        let mut client = route.client();
        for (path, status, text) in [
            ("/socket/400", 400, "400"),
            ("/socket/200", 200, "just a page"),
        ] {
            client.send(route.handshake(path));
            let answer = client.read_final_response();
            assert_eq!((answer.status, &*answer.text()), (status, text));
        }
        client.send(route.handshake("/socket/other"));
        assert_eq!(
            client.read_final_response().status,
            502,
            "not what was asked"
        );
    }
}

/// A request after a refused handshake is an ordinary request, and is decided as one.
#[test]
fn h9_a_request_after_a_refused_handshake_is_decided() {
    for route in routes() {
        let mut client = route.client();
        let handshake = route.handshake("/socket/200");
        let hidden = if route.proxy_ca.is_some() {
            handshake.replace("GET", "DELETE")
        } else {
            handshake.replace("allowed.test", "denied.test")
        };
        client.send(handshake + &hidden);
        assert_eq!(client.read_final_response().status, 200);
        assert_eq!(client.read_final_response().status, 403);
        assert_eq!(route.origin.requests().len(), 1);
    }
}

#[test]
fn h9_hooks_apply_to_a_handshake_as_to_any_request() {
    let [_, route] = routes();
    let mut client = route.client();
    client.send(route.handshake("/elsewhere"));
    assert_eq!(client.read_final_response().status, 403);
    assert_eq!(route.origin.requests().len(), 0);
    let handshake = route
        .handshake("/socket")
        .replace("Sec-WebSocket-Version", "Cookie");
    client.send(handshake);
    assert_eq!(client.read_head().status, 101);
    let seen = route.origin.requests().pop().expect("a request");
    assert_eq!(seen.header("cookie"), None, "stripped");
}

#[test]
fn h9_a_close_on_either_side_closes_the_other() {
    for route in routes() {
        let (client, _) = route.switched();
        drop(client);
        route.origin.wait_until_idle();
        let (mut client, _) = route.switched();
        drop(route.origin);
        client.expect_closed();
    }
}

#[test]
fn p11_a_stricter_policy_ends_a_websocket() {
    for route in routes() {
        let (mut client, _) = route.switched();
        let denied = route.config.clone().deny(route.host());
        route.daemon.reload_with(&denied);
        client.expect_closed();
        route.origin.wait_until_idle();
        route.daemon.wait_for_message("no longer permits");
    }
}

#[test]
fn p11_limited_mode_ends_a_websocket() {
    for route in routes() {
        let (mut client, _) = route.switched();
        route.daemon.set_mode("limited");
        client.expect_closed();
    }
}

/// Even if a reload meanwhile made the interception unnecessary.
#[test]
fn p11_a_websocket_inside_tls_ends_with_its_permission_and_not_with_its_hook() {
    let [_, route] = routes();
    let (mut client, _) = route.switched();
    route.daemon.reload_with(&unhooked());
    client.send("still");
    assert_eq!(client.read_exact(5), b"still");
    route.daemon.reload_with(&unhooked().deny("hooked.test"));
    client.expect_closed();
}

/// Changed hooks cannot apply to a handshake that is over, so the connection ends.
#[test]
fn p11_changed_hooks_end_a_websocket_inside_tls() {
    let [_, route] = routes();
    let (mut client, _) = route.switched();
    let other = route
        .config
        .clone()
        .hook("last", "hooked.test", &["GET"], "/last")
        .set("network.mitm.hooks.last", "action", r#"["clean"]"#);
    route.daemon.reload_with(&other);
    client.expect_closed();
}

#[test]
fn h9_wss_through_connect_is_a_tunnel_in_full_mode() {
    let setup = TlsSetup::with(&Config::example(), &["http/1.1"], origin());
    let theirs = e2e::tls::Client::trusting(&setup.ca);
    let (mut client, _) = setup.tunnel("allowed.test").secure(&theirs, "allowed.test");
    client.send(setup.message(
        "GET",
        "allowed.test",
        "/socket",
        &[("Connection", "Upgrade"), ("Upgrade", "websocket")],
    ));
    assert_eq!(client.read_head().status, 101);
    client.send("ping");
    assert_eq!(client.read_exact(4), b"ping");
}

/// A protocol other than WebSocket could carry requests that no hook checks.
#[test]
fn h9_hooked_hosts_upgrade_to_websocket_only() {
    let (_secret, file) = secret();
    let answering = Origin::answering(|request| match request.header("upgrade") {
        Some(offered) => Answer::Upgrade(vec![("Upgrade".into(), offered.to_owned())]),
        None if request.target == "/api/unasked" => {
            Answer::Upgrade(vec![("Upgrade".into(), "tcp".into())])
        }
        None => Answer::Echo,
    });
    let setup = TlsSetup::with(&hooked(&file), &["http/1.1"], answering);
    let mut client = setup.http1("hooked.test");
    for (method, offered, length) in [
        ("GET", "tcp", "0"),
        ("POST", "SPDY/3.1, tcp", "0"),
        ("POST", "websocket", "0"),
        ("POST", "websocket", "2"),
    ] {
        let fields = [
            ("Connection", "upgrade"),
            ("Upgrade", offered),
            ("Content-Length", length),
        ];
        let body = if length == "2" { "hi" } else { "" };
        let message = setup.message(method, "hooked.test", "/api/x", &fields) + body;
        let answer = client.exchange(&message);
        assert_eq!(answer.status, 200, "{method} {offered}");
        assert_eq!(answer.json()["body"], body);
    }
    let fields = [("Connection", "upgrade"), ("Upgrade", "tcp")];
    let message = setup.message("GET", "hooked.test", "/api/unasked", &fields);
    client.send(message);
    assert_eq!(client.read_final_response().status, 502);
    let mut client = setup.http1("hooked.test");
    let fields = [("Connection", "upgrade"), ("Upgrade", "tcp, websocket")];
    client.send(setup.message("GET", "hooked.test", "/socket", &fields));
    let head = client.read_head();
    assert_eq!(
        (head.status, head.header("upgrade")),
        (101, Some("websocket"))
    );
}
