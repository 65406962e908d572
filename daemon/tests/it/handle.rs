//! The handle: listeners, settings, records and the environment of children.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use codex_network_proxy::{
    BlockedRequest, NetworkProxy, NetworkProxyError, run_http_proxy_with_std_listener,
    run_socks5_with_std_listener,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::scene::{LOCAL, Scene, request, run, socks5};

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

#[tokio::test]
async fn l10_unmanaged_the_configured_and_the_explicit_addresses_count() {
    let scene = Scene::new().await;
    let (held, taken) = listener();
    let builder = scene.builder().managed_by_codex(false);
    let error = builder.http_addr(taken).build().await;
    assert!(
        matches!(error, Err(NetworkProxyError::Listen { door: "http", .. })),
        "{error:?}"
    );
    drop(held);
    // Another program may get a port that was free just now. Then another one is tried.
    for _ in 0..20 {
        let (http, socks) = (listener().1, listener().1);
        let config = scene.config(&format!("{LOCAL}\nproxy_url = \"http://{http}\""));
        let builder = NetworkProxy::builder().config_toml(config);
        let built = builder
            .managed_by_codex(false)
            .socks_addr(socks)
            .build()
            .await;
        let Ok(proxy) = built else { continue };
        let handle = proxy.run().await.expect("it runs");
        assert_eq!(handle.http_addr(), Some(http));
        assert_eq!(handle.socks_addr(), Some(socks));
        return handle.shutdown().await;
    }
    panic!("no port stayed free");
}

#[tokio::test]
async fn l10_each_server_takes_a_bound_listener() {
    let scene = Scene::new().await;
    let (http, address) = listener();
    let handle = run_http_proxy_with_std_listener(scene.builder(), http).await;
    let handle = handle.expect("it runs");
    assert_eq!(
        (handle.http_addr(), handle.socks_addr()),
        (Some(address), None)
    );
    let answer = request(
        address,
        "GET",
        &format!("http://listed.test:{}/", scene.port),
        "",
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    handle.shutdown().await;

    let (socks, address) = listener();
    let handle = run_socks5_with_std_listener(scene.builder(), socks).await;
    let handle = handle.expect("it runs");
    assert_eq!(
        (handle.http_addr(), handle.socks_addr()),
        (None, Some(address))
    );
    assert_eq!(socks5(address, 1, "listed.test", scene.port).await.0, 0);
    handle.shutdown().await;
}

#[tokio::test]
async fn l8_a_listener_that_leaves_loopback_is_refused() {
    let scene = Scene::new().await;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
    let refused = scene.builder().http_listener(listener).build().await;
    assert!(
        matches!(refused, Err(NetworkProxyError::NotLoopback { .. })),
        "{refused:?}"
    );
}

#[tokio::test]
async fn l8_settings_that_keep_a_listener_on_loopback_are_refused_while_one_is_elsewhere() {
    const ANYWHERE: &str = "[network]\ndangerously_allow_non_loopback_proxy = true\n";
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let builder = NetworkProxy::builder().config_toml(ANYWHERE);
    let handle = run(builder.http_listener(listener)).await;
    let unix_sockets = format!("{ANYWHERE}allow_unix_sockets = [\"/run/a.sock\"]\n");
    for settings in ["[network]\n", &unix_sockets] {
        let refused = handle.replace_toml(settings).await;
        assert!(
            matches!(refused, Err(NetworkProxyError::NotLoopback { .. })),
            "{refused:?}"
        );
    }
    handle.replace_toml(ANYWHERE).await.expect("as before");
    assert_eq!(handle.http_addr(), Some(address));
    handle.shutdown().await;
}

#[tokio::test]
async fn e1_c7_settings_are_replaced_whole_or_not_at_all() {
    let scene = Scene::new().await;
    let handle = run(scene.builder()).await;
    let http = handle.http_addr().expect("a door");
    let target = format!("http://other.test:{}/", scene.port);
    assert!(
        request(http, "GET", &target, "")
            .await
            .starts_with("HTTP/1.1 403")
    );
    let broken = handle
        .replace_toml("[network]\nallowed_domain = [\"other.test\"]")
        .await;
    let error = broken.expect_err("an unknown key").to_string();
    assert!(error.contains("allowed_domains"), "{error}");
    assert!(
        request(http, "GET", &target, "")
            .await
            .starts_with("HTTP/1.1 403")
    );
    let wider = scene.config(&LOCAL.replace("listed.test", "other.test"));
    handle.replace_toml(wider).await.expect("settings");
    assert!(
        request(http, "GET", &target, "")
            .await
            .starts_with("HTTP/1.1 200")
    );
    // A door that is switched off is closed, and the other one stays where it is.
    let socks = handle.socks_addr().expect("a door");
    let without = scene.config(&format!("{LOCAL}\nenable_socks5 = false"));
    handle.replace_toml(without).await.expect("settings");
    assert_eq!(
        (handle.http_addr(), handle.socks_addr()),
        (Some(http), None)
    );
    let refused = async {
        while TcpStream::connect(socks).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let within = std::time::Duration::from_secs(5);
    tokio::time::timeout(within, refused)
        .await
        .expect("it closes");
    handle.shutdown().await;
}

#[tokio::test]
async fn e1_l14_a_changed_hosts_file_is_noticed_and_a_proxy_that_has_ended_leaves_no_task() {
    let scene = Scene::new().await;
    let nowhere = "127.0.0.9 listed.test\n"; // nothing listens there
    scene.write_hosts(nowhere);
    let handle = run(scene.builder()).await;
    let http = handle.http_addr().expect("a door");
    let target = format!("http://listed.test:{}/", scene.port);
    let here = "127.0.0.1 listed.test\n";
    // The first change may come before the first look, the others come after it.
    for (hosts, status) in [(here, "200"), (nowhere, "502"), (here, "200")] {
        scene.write_hosts(hosts);
        let wanted = format!("HTTP/1.1 {status}");
        let followed = async {
            // Nothing tells when the file is read, so the test asks until the answer changes.
            let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
            while !request(http, "GET", &target, "").await.starts_with(&wanted) {
                looks.tick().await;
            }
        };
        let within = std::time::Duration::from_secs(60);
        let followed = tokio::time::timeout(within, followed).await;
        followed.expect("the file is read again");
    }
    handle.shutdown().await;
    assert_eq!(handle.tasks(), 0);
}

#[tokio::test]
async fn e1_r1_an_observer_gets_every_refusal_even_after_it_panicked() {
    let scene = Scene::new().await;
    let (told, mut heard) = mpsc::unbounded_channel();
    let observer = move |entry: BlockedRequest| {
        let told = told.clone();
        async move {
            assert_ne!(entry.host, "denied.test", "on purpose");
            let _ = told.send(entry);
        }
    };
    let handle = run(scene.builder().blocked_request_observer(observer)).await;
    let http = handle.http_addr().expect("a door");
    for host in ["asked.test", "denied.test", "other.test"] {
        request(http, "GET", &format!("http://{host}/"), "").await;
    }
    handle.shutdown().await;
    for (host, sequence) in [("asked.test", 1), ("other.test", 3)] {
        let entry = heard.recv().await.expect("an entry");
        assert_eq!((entry.host.as_str(), entry.sequence), (host, sequence));
    }
}

#[tokio::test]
async fn b1_b2_a_childs_environment_leads_to_the_proxy_and_its_bundle() {
    let scene = Scene::new().await;
    let directory = tempfile::tempdir().expect("a directory");
    let builder = scene.builder().config_toml(scene.config(""));
    let handle = run(builder.bundle_directory(directory.path())).await;
    let mut environment = HashMap::from([("https_proxy".to_owned(), "http://x".to_owned())]);
    handle.apply_to_env(&mut environment);
    let http = format!("http://{}", handle.http_addr().expect("a door"));
    assert_eq!(environment["https_proxy"], http);
    let socks = format!("socks5h://{}", handle.socks_addr().expect("a door"));
    assert_eq!(environment["ALL_PROXY"], socks);
    assert_eq!(environment["NO_PROXY"], "");
    let bundle = std::fs::read_to_string(&environment["CURL_CA_BUNDLE"]).expect("the bundle");
    assert!(bundle.ends_with(&handle.ca_certificate_pem()));
    handle.shutdown().await;
}

#[tokio::test]
async fn e1_a_handle_that_is_dropped_ends_the_proxy() {
    let scene = Scene::new().await;
    let handle = run(scene.builder()).await;
    let http = handle.http_addr().expect("a door");
    drop(handle);
    let ended = async {
        while TcpStream::connect(http).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    let within = std::time::Duration::from_secs(5);
    tokio::time::timeout(within, ended).await.expect("it ends");
}
