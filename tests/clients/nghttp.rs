//! `nghttp`, which does not support proxies: `proxychains4` makes its connections tunnels.

use std::fs;

use e2e::origin::{Answer, Builder, Origin};
use e2e::program::Run;

use crate::intercepted::Scene;
use crate::scene::{Attempt, CONTENT};

fn origin() -> Builder {
    Origin::answering(|_| Answer::text(CONTENT))
}

fn nghttp(attempt: &Attempt<'_>, arguments: &[&str]) -> Run {
    let program = attempt.program("proxychains4");
    let config = program.home().join("proxychains.conf");
    let proxy = attempt.proxy_or_empty().trim_start_matches("http://");
    let proxy = proxy.replace(':', " ");
    // The proxy resolves the name.
    let text = format!("strict_chain\nproxy_dns\n[ProxyList]\nhttp {proxy}\n");
    fs::write(&config, text).expect("a file");
    program
        .args(["-q", "-f"])
        .arg(config)
        .arg("nghttp")
        .arg("--verbose")
        .args(arguments)
        .arg(format!("{}/some/path", attempt.base))
        .run()
}

/// M5, M6: with several streams on one connection.
#[test]
fn nghttp_reads_over_http2() {
    let scene = Scene::limited(origin());
    let run = scene.attempt(|attempt| nghttp(attempt, &["--multiply=20"]));
    run.succeeded().says("The negotiated protocol: h2");
    assert!(!run.stdout.contains("verification failed"), "{run:#?}");
    assert_eq!(run.stdout.matches(CONTENT).count(), 20, "{run:#?}");
    scene.was_read(&["HTTP/2.0"]);
    assert_eq!(scene.origin.requests().len(), 20);
    // One carries sixteen requests at once.
    assert!(scene.origin.connections() <= 2);
}

/// P7, H5, M7.
#[test]
fn nghttp_may_not_write() {
    let scene = Scene::limited(origin());
    let post = ["--header=:method: POST"];
    scene
        .attempt(|attempt| nghttp(attempt, &post))
        .succeeded()
        .says(":status: 403")
        .says("x-proxy-error: blocked-by-method-policy");
    assert!(scene.origin.requests().is_empty());
}

/// It warns and goes on, so the proxy cannot notice it.
#[test]
fn nghttp_warns_where_the_ca_is_not_trusted() {
    let scene = Scene::limited(origin());
    let attempt = Attempt {
        base: scene.base(),
        proxy: Some(crate::intercepted::proxy(&scene.daemon)),
        ca: scene.ca.file(),
    };
    nghttp(&attempt, &[]).says("Certificate verification failed");
}
