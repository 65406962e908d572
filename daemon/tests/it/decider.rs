//! The decider (SPEC P8) at every door.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use codex_network_proxy::{
    NetworkDecision, NetworkPolicyDecider, NetworkPolicyRequest, NetworkProtocol,
};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UdpSocket;

use crate::scene::{LOCAL, Scene, connect, named, request, run, socks5};

/// Remembers the questions and always gives the same answer.
#[derive(Clone)]
struct Says {
    decision: NetworkDecision,
    asked: Arc<Mutex<Vec<NetworkPolicyRequest>>>,
}

impl Says {
    fn always(decision: NetworkDecision) -> Self {
        Self {
            decision,
            asked: Arc::default(),
        }
    }

    fn decider(&self) -> impl NetworkPolicyDecider {
        let says = self.clone();
        move |request| {
            says.asked.lock().push(request);
            std::future::ready(says.decision.clone())
        }
    }

    fn asked(&self) -> Vec<NetworkPolicyRequest> {
        std::mem::take(&mut self.asked.lock())
    }
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_default()
}

#[tokio::test]
async fn p8_h11_the_decider_is_called_at_every_door_and_its_decision_counts() {
    let scene = Scene::new().await;
    let says = Says::always(NetworkDecision::Allow);
    let handle = run(scene.builder().policy_decider(says.decider())).await;
    let (http, socks) = (handle.http_addr().expect("a door"), handle.socks_addr());
    let (socks, port) = (socks.expect("a door"), scene.port);

    let target = format!("http://Asked.test.:{port}/");
    // "codex-net-attempt-a7:"
    let marked = "Proxy-Authorization: Basic Y29kZXgtbmV0LWF0dGVtcHQtYTc6\r\n";
    assert_eq!(status(&request(http, "GET", &target, marked).await), "200");
    let asked = says.asked();
    assert_eq!(asked.len(), 1);
    let asked = &asked[0];
    assert_eq!(asked.protocol, NetworkProtocol::Http);
    assert_eq!((asked.host.as_str(), asked.port), ("asked.test", port));
    assert_eq!(asked.method.as_deref(), Some("GET"));
    assert_eq!(asked.attempt_id.as_deref(), Some("a7"));
    assert!(
        asked
            .client_addr
            .is_some_and(|client| client.ip().is_loopback())
    );

    let (_, answer) = connect(http, &format!("asked.test:{port}")).await;
    assert_eq!(status(&answer), "200");
    assert_eq!(says.asked()[0].protocol, NetworkProtocol::HttpConnect);

    let (reply, _, _) = socks5(socks, 1, "asked.test", port).await;
    assert_eq!(reply, 0);
    assert_eq!(says.asked()[0].protocol, NetworkProtocol::Socks5Tcp);

    let target = format!("http://listed.test:{port}/");
    assert_eq!(status(&request(http, "GET", &target, "").await), "200");
    assert_eq!(says.asked(), [], "the list has it");
    handle.shutdown().await;
}

#[tokio::test]
async fn p8_s3_h11_datagrams_wait_for_the_decider_once_for_each_destination() {
    let scene = Scene::new().await;
    let origin = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("an origin");
    let port = origin.local_addr().expect("an address").port();
    let says = Says::always(NetworkDecision::Allow);
    let handle = run(scene.builder().policy_decider(says.decider())).await;
    let door = handle.socks_addr().expect("a door");
    let (reply, relay, _control) = socks5(door, 3, "0.0.0.0", 0).await;
    assert_eq!(reply, 0);
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .expect("a client");
    for text in ["one", "two"] {
        let mut datagram = vec![0, 0, 0];
        datagram.extend(named("asked.test", port));
        datagram.extend_from_slice(text.as_bytes());
        client.send_to(&datagram, relay).await.expect("it is sent");
        let mut buffer = [0; 64];
        let (read, _) = origin.recv_from(&mut buffer).await.expect("it arrives");
        assert_eq!(&buffer[..read], text.as_bytes());
    }
    let asked = says.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].protocol, NetworkProtocol::Socks5Udp);
    assert_eq!(asked[0].attempt_id.as_deref(), Some("a7"));
    handle.shutdown().await;
}

#[tokio::test]
async fn p8_the_decider_is_not_called_for_denied_or_local_destinations() {
    let scene = Scene::new().await;
    let says = Says::always(NetworkDecision::Allow);
    let config = scene.config("");
    let builder = scene.builder().config_toml(config);
    let handle = run(builder.policy_decider(says.decider())).await;
    let http = handle.http_addr().expect("a door");
    let port = scene.port;
    for (host, reason) in [
        ("denied.test", "denied"),
        ("127.0.0.1", "not_allowed_local"),
        ("localhost", "not_allowed_local"),
    ] {
        let answer = request(http, "GET", &format!("http://{host}:{port}/"), "").await;
        assert!(
            answer.contains(&format!("\"reason\":\"{reason}\"")),
            "{answer}"
        );
        assert_eq!(says.asked(), [], "{host}");
    }
    // Allowed by the decider, and then its address is judged (SPEC P4).
    let answer = request(http, "GET", &format!("http://asked.test:{port}/"), "").await;
    assert!(
        answer.contains("\"reason\":\"not_allowed_local\""),
        "{answer}"
    );
    assert_eq!(says.asked().len(), 1);
    handle.shutdown().await;
}

#[tokio::test]
async fn p8_every_refusal_of_a_decider_reaches_the_client_and_the_record() {
    let scene = Scene::new().await;
    for (decision, reason, verdict) in [
        (NetworkDecision::deny("no_budget"), "no_budget", "deny"),
        (NetworkDecision::deny(""), "policy_denied", "deny"),
        (NetworkDecision::Ask, "not_allowed", "ask"),
    ] {
        let says = Says::always(decision);
        let handle = run(scene.builder().policy_decider(says.decider())).await;
        let http = handle.http_addr().expect("a door");
        let target = format!("http://asked.test:{}/", scene.port);
        let answer = request(http, "GET", &target, "").await;
        let told =
            format!("\"reason\":\"{reason}\",\"decision\":\"{verdict}\",\"source\":\"decider\"");
        assert!(
            answer.starts_with("HTTP/1.1 403") && answer.contains(&told),
            "{answer}"
        );
        let blocked = handle.blocked();
        assert_eq!(blocked.len(), 1);
        let entry = &blocked[0];
        assert_eq!(
            (&*entry.reason, entry.decision, entry.source),
            (reason, verdict, "decider")
        );
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_decider_that_panics_or_hangs_refuses_in_bounded_time() {
    let scene = Scene::new().await;
    let decider = |request: NetworkPolicyRequest| async move {
        if request.host == "asked.test" {
            std::future::pending::<()>().await;
        }
        assert_ne!(request.host, "other.test", "on purpose");
        NetworkDecision::Allow
    };
    let builder = scene.builder().policy_decider(decider);
    let handle = run(builder.decider_timeout(Duration::from_millis(20))).await;
    let http = handle.http_addr().expect("a door");
    for host in ["asked.test", "other.test"] {
        let answer = request(http, "GET", &format!("http://{host}/"), "").await;
        assert!(answer.contains("\"reason\":\"policy_denied\""), "{answer}");
    }
    handle.shutdown().await;
}

#[tokio::test]
async fn p8_p7_mode_and_interception_apply_to_hosts_that_the_decider_allows() {
    let scene = Scene::new().await;
    let says = Says::always(NetworkDecision::Allow);
    let limited = scene.config(&format!("{LOCAL}\nmode = \"limited\""));
    let builder = scene.builder().config_toml(limited);
    let handle = run(builder.policy_decider(says.decider())).await;
    let http = handle.http_addr().expect("a door");
    let target = format!("http://asked.test:{}/", scene.port);
    assert_eq!(status(&request(http, "GET", &target, "").await), "200");
    let answer = request(http, "POST", &target, "Content-Length: 0\r\n").await;
    assert!(
        answer.contains("\"reason\":\"method_not_allowed\""),
        "{answer}"
    );
    let socks = handle.socks_addr().expect("a door");
    assert_eq!(socks5(socks, 1, "asked.test", scene.port).await.0, 2);
    // A decider allows the tunnel, which is intercepted: bytes that are not TLS are refused.
    let (mut tunnel, answer) = connect(http, &format!("asked.test:{}", scene.port)).await;
    assert_eq!(status(&answer), "200");
    tunnel.write_all(b"SSH-2.0-x\r\n").await.expect("no TLS");
    let mut rest = Vec::new();
    let _ = tunnel.read_to_end(&mut rest).await;
    assert_eq!(rest, b"", "nothing came back from the origin");
    assert_eq!(
        &*handle.blocked().last().expect("an entry").reason,
        "mitm_required"
    );
    handle.shutdown().await;
}

#[tokio::test]
async fn p8_p11_a_tunnel_that_the_decider_allowed_ends_when_the_settings_deny_it_and_not_before() {
    let scene = Scene::new().await;
    let says = Says::always(NetworkDecision::Allow);
    let handle = run(scene.builder().policy_decider(says.decider())).await;
    let http = handle.http_addr().expect("a door");
    let (mut tunnel, _) = connect(http, &format!("asked.test:{}", scene.port)).await;
    handle.reload().await.expect("the same settings");
    tunnel.write_all(b"echo").await.expect("it is open");
    let mut echo = [0; 4];
    tunnel.read_exact(&mut echo).await.expect("it is open");
    assert_eq!(says.asked().len(), 1, "a reload does not ask again");
    let denied = scene.config(LOCAL).replace("denied.test", "asked.test");
    handle.replace_toml(denied).await.expect("settings");
    let end = tunnel.read(&mut echo).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    handle.shutdown().await;
}
