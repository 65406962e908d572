//! The answer to a client when plain HTTP is refused (SPEC H5, H6, H7).

use std::thread;

use e2e::daemon::Config;
use e2e::origin::{Answer, Origin};
use e2e::setup::PlainSetup;

#[test]
fn h5_a_block_is_json_with_its_keys_in_order() {
    let setup = PlainSetup::echoing();
    let port = setup.origin.addr().port();
    let answer = setup.ask("GET", "blocked.test", "/secret?q=1", &[]);
    assert_eq!(answer.start, "HTTP/1.1 403 Forbidden");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-allowlist"));
    let decision = format!(
        r#""reason":"not_allowed","decision":"deny","source":"baseline_policy","protocol":"http","port":{port},"message":""#
    );
    let body = answer.text();
    let begin = format!(r#"{{"status":"blocked","host":"blocked.test",{decision}"#);
    assert!(body.starts_with(&begin) && body.ends_with("\"}"), "{body}");
    assert_eq!(
        answer.header("x-network-policy-decision"),
        Some(&*format!(
            r#"{{"decision":"deny","reason":"not_allowed","source":"baseline_policy","protocol":"http","host":"blocked.test","port":{port}}}"#
        ))
    );
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h5_a_block_adds_no_other_fields() {
    let setup = PlainSetup::echoing();
    let answer = setup.ask("GET", "denied.test", "/", &[]);
    let mut names: Vec<String> = answer
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase())
        .collect();
    names.sort();
    let wanted = [
        "content-length",
        "content-type",
        "x-network-policy-decision",
        "x-proxy-error",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn h6_each_kind_of_block_has_its_name() {
    let config = Config::new()
        .allow("allowed.test")
        .allow("*.pattern.test")
        .deny("denied.test")
        .unset("network", "allow_local_binding")
        .set("network", "mode", r#""limited""#)
        .host("allowed.test", std::net::Ipv4Addr::LOCALHOST);
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for (method, host, reason, error) in [
        ("GET", "blocked.test", "not_allowed", "blocked-by-allowlist"),
        (
            "GET",
            "10.0.0.1",
            "not_allowed_local",
            "blocked-by-allowlist",
        ),
        (
            "GET",
            "allowed.test",
            "not_allowed_local",
            "blocked-by-allowlist",
        ),
        ("GET", "denied.test", "denied", "blocked-by-denylist"),
        (
            "POST",
            "a.pattern.test",
            "method_not_allowed",
            "blocked-by-method-policy",
        ),
        ("GET", "a..test", "invalid_host", "blocked-by-policy"),
    ] {
        let answer = setup.ask(method, host, "/", &[]);
        assert_eq!(answer.status, 403, "{host}");
        assert_eq!(answer.json()["reason"], reason, "{host}");
        assert_eq!(answer.header("x-proxy-error"), Some(error), "{host}");
    }
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h7_texts_distinguish_a_miss_from_a_deny_and_name_the_remedy() {
    let setup = PlainSetup::echoing();
    let message = |host| {
        let answer = setup.ask("GET", host, "/", &[]);
        answer.json()["message"]
            .as_str()
            .expect("a sentence")
            .to_owned()
    };
    let (miss, deny) = (message("blocked.test"), message("denied.test"));
    assert!(
        miss.starts_with("blocked.test is not on the allow list"),
        "{miss}"
    );
    assert!(miss.contains("allowed_domains"), "{miss}");
    assert!(
        deny.starts_with("denied.test is explicitly denied"),
        "{deny}"
    );
    assert!(!deny.contains("allowed_domains"), "{deny}");
}

#[test]
fn h7_answers_contain_no_paths_rules_or_addresses() {
    let config = Config::example()
        .allow("inside.test")
        .host("inside.test", std::net::Ipv4Addr::new(10, 11, 12, 13))
        .deny("**.secret-rule.test")
        .unset("network", "allow_local_binding");
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    let directory = setup.daemon.directory().display().to_string();
    for host in [
        "denied.test",
        "blocked.test",
        "inside.test",
        "x.secret-rule.test",
    ] {
        let answer = setup.ask("GET", host, "/the/path", &[]);
        let text = format!("{:?}{}", answer.headers, answer.text());
        for secret in ["config.toml", &directory, "/the/path", "10.11.12.13", "**."] {
            assert!(!text.contains(secret), "{host}: {text}");
        }
    }
}

#[test]
fn h5_head_to_a_blocked_host_has_the_fields_and_no_body() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    for _ in 0..3 {
        let answer = client.exchange(&setup.message("HEAD", "blocked.test", "/", &[]));
        assert_eq!(answer.status, 403);
        assert_eq!(answer.header("x-proxy-error"), Some("blocked-by-allowlist"));
    }
    // If the answers above had bodies, this request would read them as its answer.
    let answer = client.exchange(&setup.get("allowed.test", "/"));
    assert_eq!(answer.status, 200);
}

#[test]
fn h5_a_block_leaves_the_connection_usable() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let small = setup.message("POST", "blocked.test", "/", &["Content-Length: 4"]) + "body";
    let chunked = setup.message("PUT", "denied.test", "/", &["Transfer-Encoding: chunked"]);
    for request in [
        setup.get("blocked.test", "/"),
        small,
        chunked + "1\r\nx\r\n0\r\n\r\n",
        setup.get("denied.test", "/"),
    ] {
        assert_eq!(client.exchange(&request).status, 403, "{request}");
        let answer = client.exchange(&setup.get("allowed.test", "/"));
        assert_eq!(answer.status, 200);
    }
}

/// The client sends before it reads, as most do. The answer must survive until then.
#[test]
fn h5_a_block_reaches_a_client_that_is_still_sending() {
    const PART: usize = 64 * 1024;
    const PARTS: usize = 512;
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let length = format!("Content-Length: {}", PART * PARTS);
    client.send(setup.message("POST", "blocked.test", "/", &[&length]));
    let part = vec![0; PART];
    let sent = (0..PARTS)
        .take_while(|_| client.try_send(&part).is_ok())
        .count();
    let answer = client.read_final_response();
    assert_eq!(answer.status, 403, "after {sent} parts");
    assert_eq!(answer.json()["reason"], "not_allowed");
    assert_eq!(setup.origin.connections(), 0);
}

#[test]
fn h5_a_block_arrives_before_the_body_has_been_sent() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    let fields = ["Content-Length: 1000000"];
    client.send(setup.message("POST", "blocked.test", "/", &fields));
    client.send([0; 1000]);
    let answer = client.read_final_response();
    assert_eq!(answer.status, 403);
    // No further answer is possible on a connection whose request has not ended. There is no reset,
    // which could overtake the answer.
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn p7_limited_mode_permits_only_get_head_and_options() {
    let config = Config::limited();
    let setup = PlainSetup::with(&config, Origin::start(|_| Answer::Echo));
    for (method, status) in [
        ("GET", 200),
        ("HEAD", 200),
        ("OPTIONS", 200),
        ("POST", 403),
        ("PUT", 403),
        ("DELETE", 403),
        ("PATCH", 403),
        ("TRACE", 403),
        ("get", 403),
        ("Head", 403),
        ("GETX", 403),
        ("PROPFIND", 403),
    ] {
        let answer = setup.ask(method, "allowed.test", "/", &[]);
        assert_eq!(answer.status, status, "{method}");
        if status == 403 {
            let block = answer.json();
            assert_eq!(block["reason"], "method_not_allowed");
            assert_eq!(block["source"], "mode_guard");
            let error = answer.header("x-proxy-error");
            assert_eq!(error, Some("blocked-by-method-policy"));
        }
    }
    assert_eq!(setup.origin.requests().len(), 3);
    // The lists come before the mode.
    let answer = setup.ask("POST", "denied.test", "/", &[]);
    assert_eq!(answer.json()["reason"], "denied");
}

#[test]
fn p7_a_change_of_mode_applies_to_open_connections() {
    let setup = PlainSetup::echoing();
    let mut client = setup.client();
    for (mode, status) in [("limited", 403), ("full", 200)] {
        setup.daemon.set_mode(mode);
        let request = setup.message("DELETE", "allowed.test", "/", &[]);
        assert_eq!(client.exchange(&request).status, status, "{mode}");
    }
}

#[test]
fn h5_blocks_and_answers_do_not_mix_among_many_clients() {
    let setup = PlainSetup::echoing();
    thread::scope(|scope| {
        for number in 0..16 {
            let setup = &setup;
            scope.spawn(move || {
                let mut client = setup.client();
                for round in 0..10 {
                    let path = format!("/{number}/{round}");
                    let answer = client.exchange(&setup.get("allowed.test", &path));
                    assert_eq!(answer.json()["target"], path);
                    let answer = client.exchange(&setup.get("blocked.test", &path));
                    assert_eq!(answer.json()["host"], "blocked.test");
                }
            });
        }
    });
    assert_eq!(setup.origin.requests().len(), 160);
}
