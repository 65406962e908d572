//! Limited mode, hooks and interception for programs that ignore the proxy variables: the transparent door
//! judges each request (SPEC T2, T3, P7, M1, M2, M10, B2).
//!
//! The programs trust what the variables of B2 name, and nothing else names the proxy's CA to them.

use e2e::daemon::{Config, Daemon};
use e2e::origin::{Answer, Origin};
use e2e::program::Run;
use e2e::tls::{Server, TestCa};
use nix::unistd::User;

use super::{Installed, Jail, Proxy, Variables, for_users, users};
use crate::client::CONTENT;

const CURL: &str = "curl -sS --noproxy '*' --fail-with-body";
const FETCH: &str = "node -e 'fetch(process.argv[1], { method: process.argv[2] }).then(async answer => { \
                     console.log(await answer.text()); process.exitCode = answer.ok ? 0 : 1; \
                     }).catch(error => { console.error(error); process.exitCode = 1; })' --";

/// An origin over TLS and one without, and a proxy.
struct Scene {
    installed: Installed,
    plain: Origin,
    tls: Origin,
    daemon: Daemon,
    /// It has issued the certificate of the origin.
    ca: TestCa,
    user: Option<User>,
}

impl Scene {
    /// `None`, with a line about it, where no jail can be made. The user is the most ordinary one.
    fn new(config: &Config) -> Option<Self> {
        let user = users().pop()?;
        let config = for_users(config);
        let ca = TestCa::new();
        let server = Server::of(&ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
        let answer = |_: &_| Answer::text(CONTENT);
        Some(Self {
            installed: Installed::new(&config),
            plain: Origin::start(answer),
            tls: Origin::answering(answer).tls_as(&server).start(),
            daemon: Daemon::start_trusting(&config, &ca),
            ca,
            user,
        })
    }

    /// Runs a script in a jail, without proxy variables.
    fn run(&self, options: &[&str], script: &str) -> Run {
        let jail = Jail {
            installed: &self.installed,
            user: self.user.as_ref(),
            proxy: Proxy::Service(&self.daemon),
            variables: Variables::Unset,
        };
        let port = self.plain.addr().port().to_string();
        let (tools, http, https) = (
            self.installed.path().display().to_string(),
            self.plain.url("allowed.test", ""),
            self.tls.url("allowed.test", ""),
        );
        let variables = [
            ("TOOLS", tools.as_str()),
            ("PORT", &port),
            ("HTTP", &http),
            ("HTTPS", &https),
        ];
        jail.run(options, &variables, script)
    }

    #[track_caller]
    fn reads(&self, options: &[&str], script: &str) {
        let run = self.run(options, script);
        assert!(run.succeeded().stdout.contains(CONTENT), "{run:#?}");
    }

    /// The program is refused, and says this.
    #[track_caller]
    fn refuses(&self, options: &[&str], script: &str, words: &str) {
        let run = self.run(options, script);
        run.failed().says(words);
        assert!(!run.stdout.contains(CONTENT), "{run:#?}");
    }

    /// Neither origin has got another request than one that reads.
    fn assert_only_read(&self) {
        for origin in [&self.plain, &self.tls] {
            let requests = origin.requests();
            assert!(!requests.is_empty());
            assert!(
                requests.iter().all(|request| request.method == "GET"),
                "{requests:#?}"
            );
        }
    }
}

#[test]
fn p7_t2_limited_mode_holds_for_programs_that_know_no_proxy() {
    let Some(scene) = Scene::new(&Config::limited()) else {
        return;
    };
    super::programs::compile(scene.installed.path());
    let get = |method: &str| format!("$TOOLS/get allowed.test $PORT {method} /");
    let method = r#""reason":"method_not_allowed""#;
    scene.reads(&[], &get("GET"));
    scene.refuses(&[], &get("DELETE"), method);
    for url in ["$HTTP/", "$HTTPS/"] {
        scene.reads(&[], &format!("{CURL} {url}"));
        scene.reads(&[], &format!("{FETCH} {url} GET"));
        scene.refuses(&[], &format!("{CURL} --data x {url}"), "method_not_allowed");
        scene.refuses(&[], &format!("{FETCH} {url} POST"), "method_not_allowed");
    }
    // It is the variables that make curl trust the proxy.
    let distrusting = format!("env -u CURL_CA_BUNDLE -u SSL_CERT_FILE {CURL} $HTTPS/");
    scene.refuses(&[], &distrusting, "SSL certificate problem");
    // Neither HTTP nor TLS: it cannot be judged.
    let opaque = "exec 3<>/dev/tcp/allowed.test/$PORT; echo hello >&3; cat <&3";
    scene.refuses(
        &[],
        &format!("exec bash -c '{opaque}'"),
        "Connection reset by peer",
    );
    let entry = scene
        .daemon
        .wait_for_blocked(|entry| entry["reason"] == "mitm_required");
    assert_eq!(entry["protocol"], "transparent", "{entry}");
    scene.assert_only_read();
}

#[test]
fn j4_p7_a_session_in_limited_mode_judges_programs_that_know_no_proxy() {
    // A hook makes the proxy write the files of its CA: the mode of a session alone does not.
    let config = Config::example().hook("elsewhere", "hooked.test", &["GET"], "/");
    let Some(scene) = Scene::new(&config) else {
        return;
    };
    let limited = &["--mode", "limited"];
    for url in ["$HTTP/", "$HTTPS/"] {
        scene.reads(limited, &format!("{CURL} {url}"));
        scene.refuses(
            limited,
            &format!("{CURL} --data x {url}"),
            r#""reason":"method_not_allowed""#,
        );
    }
    scene.assert_only_read();
}

/// B2, M5: the files of the private proxy's CA are written for this session.
#[test]
fn j3_p7_a_limited_session_of_a_private_proxy_intercepts_tls() {
    let Some(scene) = Scene::new(&Config::example()) else {
        return;
    };
    let ca = scene.ca.file().display().to_string();
    for variables in [Variables::Set, Variables::Unset] {
        let jail = Jail {
            installed: &scene.installed,
            user: scene.user.as_ref(),
            proxy: Proxy::Private,
            variables,
        };
        let https = scene.tls.url("allowed.test", "/");
        let curl = |options: &str| {
            // The private proxy trusts what its user trusts.
            let variables = [("SSL_CERT_FILE", ca.as_str()), ("HTTPS", &https)];
            let script = format!("curl -sS --fail-with-body {options} $HTTPS");
            jail.run(&["--mode", "limited"], &variables, &script)
        };
        assert_eq!(curl("").succeeded().stdout, CONTENT);
        curl("--data x")
            .failed()
            .says(r#""reason":"method_not_allowed""#);
    }
}

#[test]
fn m10_t2_hooks_hold_for_programs_that_know_no_proxy() {
    let config = Config::example().hook("page", "allowed.test", &["GET"], "/page");
    let Some(scene) = Scene::new(&config) else {
        return;
    };
    let hook = r#""reason":"mitm_hook_denied""#;
    for program in [CURL, FETCH] {
        let method = if program == FETCH { "GET" } else { "" };
        scene.reads(&[], &format!("{program} $HTTPS/page {method}"));
        scene.refuses(&[], &format!("{program} $HTTPS/other {method}"), hook);
        // A hook judges requests inside TLS only.
        let plain = format!("{program} $HTTP/page {method}");
        scene.refuses(&[], &plain, r#""reason":"mitm_required""#);
    }
    let targets = scene.tls.requests();
    assert!(
        targets.iter().all(|request| request.target == "/page"),
        "{targets:#?}"
    );
    assert!(scene.plain.requests().is_empty());
}

/// P7: where interception is needed and forbidden, nothing is permitted, as for CONNECT.
#[test]
fn p7_p9_without_interception_limited_mode_refuses_programs_that_know_no_proxy() {
    let config = Config::limited().set("network", "mitm", "false");
    let Some(scene) = Scene::new(&config) else {
        return;
    };
    let plain = format!("{CURL} $HTTP/");
    scene.refuses(&[], &plain, r#""reason":"mitm_required""#);
    // A TLS alert, access_denied.
    scene.refuses(&[], &format!("{CURL} $HTTPS/"), "access denied");
    let http_door = "curl -sS --proxy http://127.0.0.1:3128 --proxytunnel --fail-with-body $HTTP/";
    scene.refuses(&[], http_door, "403");
    assert_eq!(scene.plain.connections() + scene.tls.connections(), 0);
    let blocked = scene.daemon.blocked();
    assert!(
        blocked
            .iter()
            .all(|entry| entry["reason"] == "mitm_required"),
        "{blocked:#?}"
    );
    assert_eq!(blocked.len(), 3, "{blocked:#?}");
}
