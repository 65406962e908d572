//! The admin API of an embedded proxy: what it shows and changes, and when it exists (SPEC E1, A1).

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use codex_network_proxy::{
    NetworkMode, NetworkProxy, NetworkProxyError, Sources, run_http_proxy_with_std_listener,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::scene::{LOCAL, Scene, request, run};

/// Any address: in managed mode a free port of 127.0.0.1 is used instead.
const ANYWHERE: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)), 8080);
const LIMITED: &str = r#"{"mode":"limited"}"#;

/// A request to the API; gives the status and the body.
async fn ask(door: SocketAddr, method: &str, target: &str, body: &str) -> (u16, String) {
    let length = body.len();
    let fields = format!("Host: localhost\r\nContent-Length: {length}\r\n");
    let answer = exchange(door, method, target, &fields, body).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head[9..12].parse().expect("a status");
    (status, body.to_owned())
}

async fn exchange(
    door: SocketAddr,
    method: &str,
    target: &str,
    fields: &str,
    body: &str,
) -> String {
    let mut stream = TcpStream::connect(door).await.expect("the API");
    let head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n{fields}\r\n{body}");
    stream.write_all(head.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

async fn config(admin: SocketAddr) -> serde_json::Value {
    let (status, told) = ask(admin, "GET", "/config", "").await;
    assert_eq!(status, 200);
    serde_json::from_str(&told).expect("JSON")
}

/// Sources that read this file, and requirements below its directory.
fn sources(file: &tempfile::TempDir, text: &str) -> Sources {
    let path = file.path().join("policy.toml");
    std::fs::write(&path, text).expect("a configuration");
    Sources::file(path).with_requirements_under(file.path())
}

#[tokio::test]
async fn e1_a1_the_admin_api_of_an_embedded_proxy_answers_as_the_service_does() {
    let scene = Scene::new().await;
    let handle = run(scene.builder().admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    assert!(admin.ip().is_loopback());
    assert_eq!(
        ask(admin, "GET", "/health", "").await,
        (200, "ok".to_owned())
    );
    assert_eq!(
        ask(admin, "GET", "/patterns", "").await,
        (
            200,
            r#"{"allowed":["listed.test"],"denied":["denied.test"]}"#.to_owned()
        )
    );
    let told = config(admin).await;
    let http = handle.http_addr().expect("a door");
    let socks = handle.socks_addr().expect("a door");
    assert_eq!(told["mode"], "full");
    // The real addresses of the doors, not those of the configuration.
    assert_eq!(told["proxy_url"], format!("http://{http}"));
    assert_eq!(told["socks_url"], format!("socks5h://{socks}"));
    assert_eq!(told["admin_url"], format!("http://{admin}"));

    request(http, "GET", "http://denied.test/", "").await;
    let (status, blocked) = ask(admin, "GET", "/blocked", "").await;
    assert_eq!(status, 200);
    assert!(
        blocked.contains(r#""host":"denied.test","reason":"denied""#),
        "{blocked}"
    );
    assert_eq!(ask(admin, "GET", "/nothing", "").await.0, 404);
    assert_eq!(ask(admin, "DELETE", "/blocked", "").await.0, 405);
    handle.shutdown().await;
    assert_eq!(handle.tasks(), 0);
    assert_eq!(handle.admin_addr(), None);
}

#[tokio::test]
async fn e1_there_is_no_admin_api_unless_the_embedder_requests_it_and_the_settings_permit_it() {
    let scene = Scene::new().await;
    let asked_by_settings = format!("{LOCAL}\nadmin_url = \"http://127.0.0.1:0\"");
    let builder = scene
        .builder()
        .config_toml(scene.config(&asked_by_settings));
    let handle = run(builder.managed_by_codex(true)).await;
    assert_eq!(handle.admin_addr(), None, "nobody asked");
    handle.shutdown().await;

    let off = format!("{}[daemon.admin]\nenabled = false\n", scene.config(LOCAL));
    let builder = scene.builder().config_toml(off.clone());
    let handle = run(builder.admin_addr(ANYWHERE)).await;
    assert_eq!(handle.admin_addr(), None, "the settings switch it off");
    handle.shutdown().await;

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let builder = scene.builder().config_toml(off).admin_listener(listener);
    let refused = builder.build().await;
    assert!(
        matches!(
            refused,
            Err(NetworkProxyError::SwitchedOff { door: "admin" })
        ),
        "{refused:?}"
    );

    // An entry point for one server has only that server.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let builder = scene.builder().admin_listener(admin);
    let handle = run_http_proxy_with_std_listener(builder, listener).await;
    assert_eq!(handle.expect("it runs").admin_addr(), None);
}

#[tokio::test]
async fn l10_the_admin_api_is_reserved_at_build_and_the_same_socket_serves() {
    let scene = Scene::new().await;
    let proxy = scene.builder().admin_addr(ANYWHERE).build().await;
    let proxy = proxy.expect("a proxy");
    let admin = proxy.admin_addr().expect("an API");
    let mut early = TcpStream::connect(admin).await.expect("it is reserved");
    early
        .write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .await
        .expect("a request");
    let handle = proxy.run().await.expect("it runs");
    assert_eq!(handle.admin_addr(), Some(admin));
    let mut answer = String::new();
    early.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    handle.shutdown().await;
}

#[tokio::test]
async fn l10_the_admin_api_takes_a_bound_listener() {
    let scene = Scene::new().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let handle = run(scene.builder().admin_listener(listener)).await;
    assert_eq!(handle.admin_addr(), Some(address));
    assert_eq!(ask(address, "GET", "/health", "").await.0, 200);
    handle.shutdown().await;
}

#[tokio::test]
async fn l8_the_admin_api_leaves_loopback_only_with_its_own_opt_in() {
    let scene = Scene::new().await;
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let doors = "proxy_url = \"http://127.0.0.1:0\"\nenable_socks5 = false";
    for (opt_in, is_loopback) in [
        ("dangerously_allow_non_loopback_proxy = true", true),
        ("dangerously_allow_non_loopback_admin = true", false),
    ] {
        let settings = scene.config(&format!("{doors}\n{opt_in}"));
        let builder = NetworkProxy::builder().config_toml(settings.clone());
        let builder = builder.managed_by_codex(false).admin_addr(anywhere);
        let proxy = builder.build().await.expect("a proxy");
        let admin = proxy.admin_addr().expect("an API");
        assert_eq!(admin.ip().is_loopback(), is_loopback, "{opt_in}");

        let listener = TcpListener::bind(anywhere).expect("a listener");
        let builder = NetworkProxy::builder().config_toml(settings);
        match builder.admin_listener(listener).build().await {
            Ok(_) => assert!(!is_loopback, "{opt_in}"),
            Err(error) => {
                assert!(is_loopback, "{opt_in}: {error}");
                let told = error.to_string();
                assert!(told.contains("_admin = true"), "{told}");
            }
        }
    }
}

#[tokio::test]
async fn a1_c6_the_mode_changes_as_far_as_the_requirements_let_it() {
    let scene = Scene::new().await;
    let handle = run(scene.builder().admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    assert_eq!(
        ask(admin, "POST", "/mode", LIMITED).await,
        (200, r#"{"status":"ok","mode":"limited"}"#.to_owned())
    );
    assert_eq!(handle.settings().policy.mode(), NetworkMode::Limited);
    assert_eq!(config(admin).await["mode"], "limited");
    let http = handle.http_addr().expect("a door");
    let target = format!("http://listed.test:{}/", scene.port);
    let answer = request(http, "POST", &target, "Content-Length: 0\r\n").await;
    assert!(answer.contains("method_not_allowed"), "{answer}");
    handle.shutdown().await;

    let files = tempfile::tempdir().expect("a directory");
    let etc = files.path().join("etc/codex");
    std::fs::create_dir_all(&etc).expect("a directory");
    let bound = "[experimental_network]\nmode = \"limited\"\n";
    std::fs::write(etc.join("requirements.toml"), bound).expect("requirements");
    let limited = scene.config(&format!("{LOCAL}\nmode = \"limited\""));
    let builder = scene.builder().sources(sources(&files, &limited));
    let handle = run(builder.admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    let (status, why) = ask(admin, "POST", "/mode", r#"{"mode":"full"}"#).await;
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("(allowed limited)"), "{why}");
    assert_eq!(config(admin).await["mode"], "limited");
    handle.shutdown().await;
}

#[tokio::test]
async fn a1_c7_a_reload_reads_files_again_and_is_all_or_nothing() {
    let scene = Scene::new().await;
    let files = tempfile::tempdir().expect("a directory");
    let builder = scene
        .builder()
        .sources(sources(&files, &scene.config(LOCAL)));
    let handle = run(builder.admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    let http = handle.http_addr().expect("a door");
    let target = format!("http://other.test:{}/", scene.port);
    let refused = |answer: String| answer.starts_with("HTTP/1.1 403");
    assert!(refused(request(http, "GET", &target, "").await));

    sources(&files, "[network]\nallowed_domain = [\"other.test\"]\n");
    let (status, why) = ask(admin, "POST", "/reload", "").await;
    assert_eq!(status, 500);
    assert!(
        why.contains("policy.toml:2:1") && why.contains("allowed_domains"),
        "{why}"
    );
    assert!(refused(request(http, "GET", &target, "").await));

    let wider = LOCAL.replace("listed.test", "other.test");
    sources(&files, &scene.config(&wider));
    assert_eq!(
        ask(admin, "POST", "/reload", "").await,
        (200, r#"{"status":"reloaded"}"#.to_owned())
    );
    assert!(!refused(request(http, "GET", &target, "").await));
    assert_eq!(handle.admin_addr(), Some(admin), "it stays where it is");

    // A configuration that switches the API off closes it.
    let off = format!("{}[daemon.admin]\nenabled = false\n", scene.config(LOCAL));
    sources(&files, &off);
    assert_eq!(ask(admin, "POST", "/reload", "").await.0, 200);
    assert_eq!(handle.admin_addr(), None);
    handle.shutdown().await;
}

#[tokio::test]
async fn a1_c7_a_reload_undoes_nothing_that_the_embedder_did() {
    let scene = Scene::new().await;
    let handle = run(scene.builder().admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    let (status, why) = ask(admin, "POST", "/reload", "").await;
    assert_eq!(status, 409);
    assert!(why.contains("memory"), "{why}");
    handle.shutdown().await;

    let files = tempfile::tempdir().expect("a directory");
    let builder = scene
        .builder()
        .sources(sources(&files, &scene.config(LOCAL)));
    let handle = run(builder.admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    let narrower = scene.config("allowed_domains = []");
    handle.replace_toml(narrower).await.expect("settings");
    let (status, why) = ask(admin, "POST", "/reload", "").await;
    assert_eq!(status, 409);
    assert!(why.contains("other settings"), "{why}");
    assert!(handle.settings().policy.allowed().is_empty());
    handle.reload().await.expect("the embedder may");
    assert_eq!(ask(admin, "POST", "/reload", "").await.0, 200);
    handle.shutdown().await;
    let ended = handle.reload().await;
    assert!(matches!(ended, Err(NetworkProxyError::Ended)), "{ended:?}");
    assert_eq!(handle.http_addr(), None, "nothing is opened again");
}

#[tokio::test]
async fn a2_p6_no_web_page_and_no_client_of_the_proxy_reaches_the_admin_api() {
    let scene = Scene::new().await;
    let handle = run(scene.builder().admin_addr(ANYWHERE)).await;
    let admin = handle.admin_addr().expect("an API");
    let page = "Host: localhost\r\nOrigin: http://evil.test\r\n";
    let answer = exchange(admin, "GET", "/config", page, "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let rebound = "Host: evil.test\r\n";
    let answer = exchange(admin, "GET", "/config", rebound, "").await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    let http = handle.http_addr().expect("a door");
    let target = format!("http://listed.test:{}/health", admin.port());
    let answer = request(http, "GET", &target, "").await;
    assert!(answer.contains("loop_detected"), "{answer}");
    handle.shutdown().await;
}

#[tokio::test]
async fn e1_a_dropped_proxy_with_an_admin_api_leaves_nothing() {
    let scene = Scene::new().await;
    let kept = std::sync::Arc::new(());
    let gone = std::sync::Arc::downgrade(&kept);
    let builder = scene.builder().admin_addr(ANYWHERE).policy_decider(
        move |_: codex_network_proxy::NetworkPolicyRequest| {
            let _kept = std::sync::Arc::clone(&kept);
            async { codex_network_proxy::NetworkDecision::Allow }
        },
    );
    let handle = run(builder).await;
    let admin = handle.admin_addr().expect("an API");
    // A connection that is kept.
    let mut idle = TcpStream::connect(admin).await.expect("the API");
    assert_eq!(ask(admin, "GET", "/health", "").await.0, 200);
    drop(handle);
    let mut rest = Vec::new();
    let _ = idle.read_to_end(&mut rest).await;
    let gone = async {
        while gone.upgrade().is_some() || TcpStream::connect(admin).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), gone)
        .await
        .expect("the engine is gone, and its decider with it");
}
