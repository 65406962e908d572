//! `openssl s_client`, which makes the tunnel itself and shows the TLS inside.

use e2e::daemon::Config;
use e2e::origin::{Answer, Builder, Origin};
use e2e::program::Run;
use e2e::setup::TlsSetup;

use crate::client::{Attempt, CONTENT};
use crate::intercepted::{
    attempt_through, base, distrust_is_logged_once, limited_setup, proxy, setup_for,
};

const ISSUER: &str = "issuer=CN=codex-network-proxy CA";

fn origin() -> Builder {
    Origin::answering(|_| Answer::text(CONTENT))
}

/// Runs `openssl s_client`, which sends these requests if the handshake succeeds.
fn s_client(attempt: &Attempt<'_>, arguments: &[&str], requests: &str) -> Run {
    let proxy = attempt.proxy_or_empty().trim_start_matches("http://");
    attempt
        .program("openssl")
        .args(["s_client", "-proxy", proxy])
        .args(["-connect", attempt.authority()])
        .args(["-verify_return_error", "-verify_hostname", "allowed.test"])
        // A form of names that all versions print.
        .args(["-nameopt", "RFC2253"])
        .args(arguments)
        .stdin(requests.as_bytes())
        .run()
}

fn request(line: &str, setup: &TlsSetup, connection: &str) -> String {
    let port = setup.origin.addr().port();
    format!(
        "{line} HTTP/1.1\r\nHost: allowed.test:{port}\r\nContent-Length: 0\r\n\
         Connection: {connection}\r\n\r\n"
    )
}

/// Each request on a connection is decided by itself.
#[test]
fn m6_m7_p7_h5_s_client_may_read_and_not_write_on_one_connection() {
    for version in ["-tls1_2", "-tls1_3"] {
        let setup = limited_setup(origin());
        let requests = [
            request("GET /first", &setup, "keep-alive"),
            request("POST /second", &setup, "keep-alive"),
            request("GET /third", &setup, "close"),
        ]
        .concat();
        // Without `-ign_eof`, the end of the input would end the session.
        let arguments = ["-alpn", "http/1.1", version, "-ign_eof"];
        let run = attempt_through(&setup, |attempt| s_client(attempt, &arguments, &requests));
        run.succeeded()
            .says("ALPN protocol: http/1.1")
            .says("Verify return code: 0 (ok)")
            .says(ISSUER)
            .says("HTTP/1.1 403 Forbidden")
            .says("x-proxy-error: blocked-by-method-policy");
        assert_eq!(run.stdout.matches(CONTENT).count(), 2, "{run:#?}");
        let asked = setup.origin.requests();
        let asked: Vec<_> = asked.iter().map(|request| &*request.target).collect();
        assert_eq!(asked, ["/first", "/third"]);
    }
}

/// M6: ALPN chooses a protocol that both sides speak.
#[test]
fn m6_s_client_gets_a_protocol_that_the_origin_supports() {
    let setup = limited_setup(origin());
    for (offered, spoken) in [
        (&["-alpn", "h2,http/1.1"][..], "ALPN protocol: h2"),
        (&["-alpn", "h2"], "ALPN protocol: h2"),
        (&["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&[], "No ALPN negotiated"),
        (&["-noservername"], "No ALPN negotiated"),
    ] {
        attempt_through(&setup, |attempt| s_client(attempt, offered, ""))
            .succeeded()
            .says(spoken)
            .says(ISSUER)
            .says("Verification: OK");
    }
}

#[test]
fn m6_s_client_resumes_its_session() {
    let setup = limited_setup(origin());
    let file = setup.daemon.directory().join("session");
    let file = file.to_string_lossy();
    let arguments = ["-tls1_3", "-alpn", "http/1.1", "-ign_eof"];
    let get = request("GET /", &setup, "close");
    attempt_through(&setup, |attempt| {
        s_client(
            attempt,
            &[&arguments[..], &["-sess_out", &file]].concat(),
            &get,
        )
    })
    .succeeded()
    .says("New, TLSv1.3");
    attempt_through(&setup, |attempt| {
        s_client(
            attempt,
            &[&arguments[..], &["-sess_in", &file]].concat(),
            &get,
        )
    })
    .succeeded()
    .says("Reused, TLSv1.3")
    .says(CONTENT);
}

/// Issue 4, "Bad input".
#[test]
fn m7_s_client_that_names_another_host_gets_an_alert() {
    let setup = limited_setup(origin());
    attempt_through(&setup, |attempt| {
        s_client(attempt, &["-servername", "denied.test"], "")
    })
    .failed()
    .says("unrecognized name");
    let entry = setup.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "policy_denied", "{entry}");
}

#[test]
fn m5_s_client_without_the_ca_reports_it() {
    let setup = limited_setup(origin());
    let attempt = Attempt {
        base: base(&setup),
        proxy: Some(proxy(&setup.daemon)),
        ca: setup.ca.file(),
    };
    s_client(&attempt, &[], "")
        .failed()
        .says("self-signed certificate in certificate chain");
    distrust_is_logged_once(&setup.daemon);
}

/// M1: a hook for another host makes no difference either.
#[test]
fn m1_s_client_sees_the_origins_certificate_in_full_mode() {
    let hooked = Config::example().hook("other", "other.test", &["GET"], "/");
    for config in [Config::example(), hooked] {
        let setup = setup_for(origin(), &config);
        attempt_through(&setup, |attempt| s_client(attempt, &["-alpn", "h2"], ""))
            .succeeded()
            .says("issuer=CN=authority of one test");
    }
}
