//! Upstream proxies (SPEC H12): which traffic goes through them, which goes past them, what they
//! are sent, and how invalid answers are handled.

mod scene;

use tokio::io::AsyncWriteExt as _;

use self::scene::{POLICY, Scene, Script, settings};
use crate::kit::stream::{read_head, read_until};

const ESTABLISHED: Script = Script::Tunnel("HTTP/1.1 200 Connection established\r\n\r\n");
const ALL: &[(&str, &str)] = &[("ALL_PROXY", "http://proxy.test:3128")];
const PROXY: &str = "10.0.0.9:3128";
const ORIGIN: &str = "93.184.216.34";

#[tokio::test]
async fn h12_each_kind_of_traffic_has_its_proxy() {
    let http = ("HTTP_PROXY", "http://proxy.test:3128");
    let tunnel = ("HTTPS_PROXY", "http://proxy.test:3128");
    for (variables, get, connect) in [
        (&[][..], false, false),
        (&[http], true, false),
        (&[tunnel], false, true),
        (&[http, tunnel], true, true),
        (ALL, true, true),
    ] {
        let scene = Scene::new(variables, ESTABLISHED).await;
        let way = |port, proxied| {
            let origin = format!("{ORIGIN}:{port}");
            vec![if proxied { PROXY.to_owned() } else { origin }]
        };
        let answer = scene.get("http://origin.test:8000/").await;
        let whose = if get { "proxy" } else { "origin" };
        assert!(answer.ends_with(whose), "{variables:?}: {answer}");
        assert_eq!(scene.dialled(), way(8000, get), "{variables:?}");
        scene.connect("origin.test:443").await.expect("a tunnel");
        assert_eq!(scene.dialled(), way(443, connect), "{variables:?}");
        assert_eq!(scene.socks5("origin.test", 22).await, 0);
        assert_eq!(scene.dialled(), way(22, connect), "{variables:?}");
        let counters = scene.doors.engine.counters();
        let counted = (
            counters.upstream_direct,
            counters.upstream_http_proxy,
            counters.upstream_tunnel_proxy,
        );
        let tunnels = if connect { 2 } else { 0 };
        let wanted = (3 - u64::from(get) - tunnels, u64::from(get), tunnels);
        assert_eq!(counted, wanted, "{variables:?}");
    }
}

#[tokio::test]
async fn h12_the_proxy_gets_the_needed_fields_and_no_others() {
    let scene = Scene::new(
        &[("ALL_PROXY", "http://us%40er:pass@proxy.test:3128")],
        ESTABLISHED,
    )
    .await;
    let request = "GET http://origin.test/a?b HTTP/1.1\r\nHost: origin.test\r\n\
         Proxy-Authorization: Basic Y2xpZW50\r\nX-Own: 1\r\nVia: 1.1 x\r\n";
    assert!(scene.ask(request).await.starts_with("HTTP/1.1 200"));
    scene.connect("origin.test:443").await.expect("a tunnel");
    scene.connect("93.184.216.9:8443").await.expect("a tunnel");
    assert_eq!(
        scene.heads(),
        [
            "GET http://origin.test/a?b HTTP/1.1\r\nHost: origin.test\r\nX-Own: 1\r\n\
             Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n",
            "CONNECT origin.test:443 HTTP/1.1\r\nHost: origin.test:443\r\n\
             Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n",
            "CONNECT 93.184.216.9:8443 HTTP/1.1\r\nHost: 93.184.216.9:8443\r\n\
             Proxy-Authorization: Basic dXNAZXI6cGFzcw==\r\n\r\n",
        ]
    );
    assert!(!format!("{:?}", scene.doors.engine.current().settings()).contains("pass"));
}

#[tokio::test]
async fn h12_connections_to_the_proxy_are_kept_for_their_authority() {
    let scene = Scene::new(ALL, ESTABLISHED).await;
    for _ in 0..3 {
        scene.get("http://origin.test/").await;
    }
    assert_eq!(scene.dialled(), [PROXY]);
    scene.get("http://other.test/").await;
    assert_eq!(scene.dialled(), [PROXY], "another authority, another one");
    let direct = settings(POLICY, &[]);
    scene.replace(direct);
    let answer = scene.get("http://origin.test/").await;
    assert!(answer.ends_with("origin"), "{answer}");
    assert_eq!(scene.dialled(), ["93.184.216.34:80"], "another generation");
}

#[tokio::test]
async fn h12_refused_requests_reach_no_proxy() {
    let scene = Scene::new(ALL, ESTABLISHED).await;
    assert!(
        scene
            .get("http://a.example/")
            .await
            .starts_with("HTTP/1.1 403")
    );
    assert!(scene.connect("a.example:443").await.is_err());
    assert_eq!(scene.socks5("a.example", 443).await, 2);
    // Allowed by name, and then refused for its address or for the lack of one.
    assert!(
        scene
            .get("http://local.test/")
            .await
            .starts_with("HTTP/1.1 403")
    );
    assert!(
        scene
            .get("http://missing.test/")
            .await
            .starts_with("HTTP/1.1 502")
    );
    let refused = scene
        .connect("missing.test:443")
        .await
        .expect_err("no address");
    assert!(refused.contains("dns_failure"), "{refused}");
    assert_eq!(scene.dialled(), [""; 0]);
    assert_eq!(scene.heads(), [""; 0]);
}

#[tokio::test]
async fn h12_local_and_excepted_targets_bypass_the_proxy() {
    let scene = Scene::new(
        &[ALL[0], ("NO_PROXY", "other.test,93.184.216.0/28")],
        ESTABLISHED,
    )
    .await;
    for (target, dialled) in [
        ("other.test", "93.184.216.34:80"),
        ("93.184.216.9", "93.184.216.9:80"),
        ("127.0.0.1", "127.0.0.1:80"),
    ] {
        let answer = scene.get(&format!("http://{target}/")).await;
        assert!(answer.ends_with("origin"), "{target}: {answer}");
        let tunnel = scene.connect(&format!("{target}:80")).await;
        tunnel.expect("a tunnel");
        assert_eq!(scene.dialled(), [dialled, dialled], "{target}");
    }
    let local = POLICY.replacen('\n', "\nallow_local_binding = true\n", 1);
    let scene = Scene::with(settings(&local, ALL), ESTABLISHED).await;
    scene.get("http://local.test/").await;
    scene.connect("local.test:443").await.expect("a tunnel");
    assert_eq!(scene.dialled(), ["127.0.0.1:80", "127.0.0.1:443"]);
    assert_eq!(scene.heads(), [""; 0]);
}

#[tokio::test]
async fn h12_without_the_switch_there_is_no_proxy() {
    let mut given = settings(POLICY, ALL);
    given.0.allow_upstream_proxy = false;
    let scene = Scene::with(given, ESTABLISHED).await;
    scene.get("http://origin.test/").await;
    scene.connect("origin.test:443").await.expect("a tunnel");
    assert_eq!(scene.dialled(), ["93.184.216.34:80", "93.184.216.34:443"]);
}

#[tokio::test]
async fn h12_the_proxy_never_loops_through_itself() {
    for (proxy, own) in [
        ("http://proxy.test:3128", "10.0.0.9:3128"),
        ("http://127.0.0.1:3128", "127.0.0.1:3128"),
        ("http://localhost:3128", "127.0.0.1:3128"),
        ("http://local.test:3128", "127.0.0.1:3128"),
    ] {
        let scene = Scene::new(&[("ALL_PROXY", proxy)], ESTABLISHED).await;
        let own = scene.own(own);
        let named = usize::from(!proxy.contains(".test"));
        assert_eq!(scene.doors.engine.looping_proxies().len(), named, "{proxy}");
        if proxy.contains("localhost") {
            // It has no address on this machine; the test only checks how it is classified.
            continue;
        }
        let answer = scene.get("http://origin.test/").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{proxy}: {answer}");
        assert!(answer.contains("loop_detected"), "{proxy}: {answer}");
        assert!(answer.contains("HTTP_PROXY"), "{proxy}: {answer}");
        assert!(scene.connect("origin.test:443").await.is_err(), "{proxy}");
        assert_eq!(scene.socks5("origin.test", 443).await, 2, "{proxy}");
        assert_eq!(scene.dialled(), [""; 0], "{proxy}");
        let blocked = scene.doors.engine.blocked().entries(0);
        assert_eq!(blocked.len(), 3, "{proxy}");
        drop(own);
        let answer = scene.get("http://origin.test/").await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{proxy}: {answer}");
    }
}

#[tokio::test]
async fn h12_a_failed_tunnel_is_a_502_that_names_the_party_at_fault() {
    for (script, status, text, reply) in [
        (
            Script::Close("HTTP/1.1 407 No\r\n\r\n"),
            502,
            "wants other credentials",
            1,
        ),
        (
            Script::Close("HTTP/1.1 503 No\r\n\r\n"),
            502,
            "answered with status 503",
            1,
        ),
        (
            Script::Close("HTTP/1.1 302 No\r\n\r\n"),
            502,
            "answered with status 302",
            1,
        ),
        (
            Script::Close("SSH-2.0-x\r\n"),
            502,
            "as an HTTP proxy does",
            1,
        ),
        (
            Script::Close("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\npage"),
            502,
            "as an HTTP proxy does",
            1,
        ),
        (
            Script::Close("HTTP/1.1 200 OK\r\nhalf: a"),
            502,
            "closed the connection",
            1,
        ),
        (Script::Close(""), 502, "closed the connection", 1),
        (Script::Silent, 504, "did not answer in time", 6),
    ] {
        let scene = Scene::new(ALL, script).await;
        let answer = scene
            .connect("origin.test:443")
            .await
            .expect_err("no tunnel");
        let line = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&line), "{script:?}: {answer}");
        assert!(answer.contains(text), "{script:?}: {answer}");
        assert!(
            answer.contains("the fault lies with its upstream proxy"),
            "{answer}"
        );
        assert!(!answer.contains("proxy.test"), "SPEC H7: {answer}");
        assert_eq!(scene.socks5("origin.test", 443).await, reply, "{script:?}");
        assert_eq!(scene.doors.engine.counters().upstream_tunnel_proxy, 0);
    }
}

#[tokio::test]
async fn h12_a_proxy_without_an_address_is_a_502() {
    let scene = Scene::new(
        &[("ALL_PROXY", "http://missing-proxy.test:3128")],
        ESTABLISHED,
    )
    .await;
    let answer = scene
        .connect("origin.test:443")
        .await
        .expect_err("no tunnel");
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("name of the upstream proxy"), "{answer}");
    let answer = scene.get("http://origin.test/").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert_eq!(scene.dialled(), [""; 0], "never directly instead");
}

#[tokio::test]
async fn h12_a_client_never_gets_the_proxys_challenge() {
    let no =
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let scene = Scene::new(ALL, Script::Close(no)).await;
    let answer = scene.get("http://origin.test/").await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
    assert!(answer.contains("wants other credentials"), "{answer}");
    let no = "HTTP/1.1 504 Gateway Timeout\r\nContent-Length: 2\r\n\r\nno";
    let scene = Scene::new(ALL, Script::Close(no)).await;
    let answer = scene.get("http://origin.test/").await;
    assert!(
        answer.starts_with("HTTP/1.1 504"),
        "its own answer: {answer}"
    );
}

#[tokio::test]
async fn h12_bytes_behind_the_proxys_answer_belong_to_the_tunnel() {
    let yes = Script::Tunnel("HTTP/1.1 200 OK\r\n\r\nSSH-2.0-early\r\n");
    let scene = Scene::new(ALL, yes).await;
    let mut tunnel = scene.connect("origin.test:22").await.expect("a tunnel");
    assert_eq!(read_until(&mut tunnel, "\n").await, "SSH-2.0-early\r\n");
    tunnel
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("a tunnel");
    assert!(
        read_until(&mut tunnel, "origin")
            .await
            .starts_with("HTTP/1.1 200")
    );
}

#[tokio::test]
async fn h12_websocket_over_plain_http_is_tunnelled_through_its_proxy() {
    let scene = Scene::new(&[("HTTP_PROXY", "http://proxy.test:3128")], ESTABLISHED).await;
    // A kept connection leads to the proxy, which changes nothing.
    scene.get("http://origin.test/").await;
    let mut client = scene.client().await;
    let request = "GET http://origin.test/ws HTTP/1.1\r\nHost: origin.test\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n";
    client
        .write_all(request.as_bytes())
        .await
        .expect("a request");
    let answer = read_head(&mut client).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer:?}");
    assert_eq!(read_until(&mut client, "frames").await, "frames");
    let heads = scene.heads();
    assert!(heads[1].starts_with("CONNECT origin.test:80 "), "{heads:?}");
}

#[tokio::test]
async fn p11_a_tunnel_through_a_proxy_is_judged_by_its_destination() {
    let scene = Scene::new(ALL, ESTABLISHED).await;
    let mut tunnel = scene.connect("origin.test:443").await.expect("a tunnel");
    // The proxy's own address is private, which is permitted.
    let same = settings(POLICY, ALL);
    scene.replace(same);
    tunnel
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("a tunnel");
    read_until(&mut tunnel, "origin").await;
    let denying = POLICY.replacen('\n', "\ndenied_domains = [\"93.184.216.34\"]\n", 1);
    let denying = settings(&denying, ALL);
    scene.replace(denying);
    assert!(
        read_head(&mut tunnel).await.is_none(),
        "the tunnel has ended"
    );
}
