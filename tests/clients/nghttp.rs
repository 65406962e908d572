//! `nghttp`, which does not support proxies: `proxychains4` makes its connections tunnels.

use std::fs;

use e2e::origin::{Answer, Builder, Origin};
use e2e::program::Run;

use crate::client::{Attempt, CONTENT};
use crate::intercepted::{assert_only_read, attempt_through, base, limited_setup};

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
fn m5_m6_nghttp_reads_over_http2() {
    let setup = limited_setup(origin());
    let run = attempt_through(&setup, |attempt| nghttp(attempt, &["--multiply=20"]));
    run.succeeded().says("The negotiated protocol: h2");
    assert!(!run.stdout.contains("verification failed"), "{run:#?}");
    assert_eq!(run.stdout.matches(CONTENT).count(), 20, "{run:#?}");
    assert_only_read(&setup, &["HTTP/2.0"]);
    assert_eq!(setup.origin.requests().len(), 20);
    // One carries sixteen requests at once.
    assert!(setup.origin.connections() <= 2);
}

#[test]
fn p7_h5_m7_nghttp_may_not_write() {
    let setup = limited_setup(origin());
    let post = ["--header=:method: POST"];
    attempt_through(&setup, |attempt| nghttp(attempt, &post))
        .succeeded()
        .says(":status: 403")
        .says("x-proxy-error: blocked-by-method-policy");
    assert!(setup.origin.requests().is_empty());
}

/// It warns and goes on, so the proxy cannot notice it.
#[test]
fn m5_nghttp_warns_without_the_ca() {
    let setup = limited_setup(origin());
    let attempt = Attempt {
        base: base(&setup),
        proxy: Some(crate::intercepted::proxy(&setup.daemon)),
        ca: setup.ca.file(),
    };
    nghttp(&attempt, &[]).says("Certificate verification failed");
}
