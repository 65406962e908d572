//! The hosts that a session reaches: the policy in force, narrowed by options, for programs that know a proxy and
//! for those that do not (SPEC J4, J6, J10, J11).

use e2e::daemon::{Config, Daemon};
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};
use e2e::shipped;

/// curl without any variable of a proxy.
const PLAIN: &str =
    "env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY curl -sS --max-time 20";

struct Setup {
    origin: Origin,
    daemon: Daemon,
}

impl Setup {
    fn new(config: &Config) -> Self {
        Self {
            origin: Origin::start(|_| Answer::Echo),
            daemon: Daemon::start(config),
        }
    }

    fn url(&self, host: &str) -> String {
        self.origin.url(host, "/")
    }

    /// `proxyctl --socket SOCKET run OPTIONS -- COMMAND`.
    fn run(&self, options: &[&str], command: &[&str]) -> Run {
        Program::new(shipped::proxyctl())
            .arg("--socket")
            .arg(self.daemon.control_socket())
            .arg("run")
            .args(options)
            .arg("--")
            .args(command)
            .run()
    }

    /// The status of curl's answer.
    fn status(&self, options: &[&str], curl: &str, host: &str) -> String {
        let script = format!("{curl} -o /dev/null -w '%{{http_code}}' {}", self.url(host));
        let run = self.run(options, &["sh", "-c", &script]);
        run.stdout
    }
}

#[test]
fn j4_the_warning_of_an_empty_list_counts_the_hosts_of_the_session() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::new());
    let words = "the allow list is empty";
    let run = setup.run(&[], &["true"]);
    run.succeeded().says(words);
    let run = setup.run(&["--allow", "allowed.test"], &["true"]);
    assert!(!run.succeeded().stderr.contains(words), "{run:#?}");
}

const CURL: &str = "curl -sS --max-time 20";

#[test]
fn j6_the_policy_decides_for_programs_with_and_without_proxy_variables() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    for curl in [CURL, PLAIN] {
        assert_eq!(setup.status(&[], curl, "allowed.test"), "200", "{curl}");
    }
    let refused = setup.run(&[], &["curl", "-sS", &setup.url("blocked.test")]);
    refused
        .succeeded()
        .says("proxyctl: uses the service of ")
        .says("blocked.test is not on the allow list of the network policy");
    // Policy DNS refuses the name.
    let script = format!("{PLAIN} {}", setup.url("blocked.test"));
    let refused = setup.run(&[], &["sh", "-c", &script]);
    refused.failed().says_one_of(&[
        "Could not resolve host: blocked.test",
        "is not on the allow list",
    ]);
    let paths = setup.origin.requests();
    assert_eq!(paths.len(), 2, "refused requests reach no origin");
}

#[test]
fn j4_options_narrow_a_session_and_nothing_else() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(
        &Config::example()
            .allow("other.test")
            .host("other.test", std::net::Ipv4Addr::LOCALHOST),
    );
    for (options, host, wanted) in [
        (&["--deny", "allowed.test"][..], "allowed.test", "403"),
        (&["--deny", "allowed.test"], "other.test", "200"),
        (&["--only", "other.test"], "allowed.test", "403"),
        (&["--only", "other.test"], "other.test", "200"),
        (&["--allow", "blocked.test"], "blocked.test", "200"),
        (&["--allow", "denied.test"], "denied.test", "403"),
        (&[], "allowed.test", "200"),
        (&[], "blocked.test", "403"),
    ] {
        assert_eq!(
            setup.status(options, CURL, host),
            wanted,
            "{options:?} {host}"
        );
    }
    let post = |options: &[&str]| {
        let curl = format!("{CURL} -X POST");
        setup.status(options, &curl, "allowed.test")
    };
    assert_eq!(post(&["--mode", "limited"]), "403");
    assert_eq!(post(&[]), "200");
}

#[test]
fn j10_a_forwarded_port_leads_to_its_destination_through_the_policy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    let port = setup.origin.addr().port();
    for (host, works) in [("allowed.test", true), ("blocked.test", false)] {
        let forward = format!("5432={host}:{port}");
        let script = format!("{PLAIN} -o /dev/null -w '%{{http_code}}' http://127.0.0.1:5432/");
        let run = setup.run(&["--forward", &forward], &["sh", "-c", &script]);
        assert_eq!(run.stdout.ends_with("200"), works, "{run:#?}");
    }
}

/// A program with SOCKS5 may look the name up itself, and then asks for the address that stands for it.
#[test]
fn t1_an_address_of_the_session_stands_for_its_name_at_each_door() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    let script = |host: &str| {
        format!(
            "address=$(getent hosts {host} | cut -d' ' -f1); echo $address; \
             for proxy in socks5://${{FTP_PROXY##*/}} ${{http_proxy}}; do for tunnel in '' -p; do \
             curl -sS --max-time 20 -o /dev/null -w '%{{http_code}} ' --noproxy '' -x $proxy $tunnel \
             http://${{address:-198.18.0.9}}:{}/; done; done",
            setup.origin.addr().port()
        )
    };
    let run = setup.run(&[], &["sh", "-c", &script("allowed.test")]);
    assert_eq!(run.stdout, "198.18.0.1\n200 200 200 200 ", "{run:#?}");
    // An address that was given for no name is a literal.
    let run = setup.run(&[], &["sh", "-c", &script("blocked.test")]);
    assert_eq!(run.stdout, "\n000 000 403 000 ", "{run:#?}");
}

#[test]
fn j13_a_session_that_ends_logs_no_failure_of_its_doors() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    for _ in 0..10 {
        setup.run(&[], &["true"]).succeeded();
    }
    for line in setup.daemon.logs() {
        assert!(!line.message_contains("cannot accept"), "{}", line.raw);
    }
}

#[test]
fn j11_the_summary_says_what_was_reached_and_what_would_allow_the_rest() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    let script = format!(
        "curl -sS {} {} >/dev/null",
        setup.url("allowed.test"),
        setup.url("blocked.test")
    );
    let command = ["sh", "-c", &script];
    let run = setup.run(&["--summary"], &command);
    let port = setup.origin.addr().port();
    run.succeeded()
        .says("proxyctl: 1 allowed, 1 refused, ")
        .says(&format!("  allowed allowed.test:{port} (once)"))
        .says(&format!(
            "  refused blocked.test:{port} (once, not_allowed)"
        ))
        .says("(\"blocked.test\" = \"allow\"):\n  blocked.test");
    // Without a terminal, only where something was refused.
    let allowed = ["curl", "-sS", &setup.url("allowed.test")];
    for (options, command, is_there) in [
        (&[][..], &command[..], true),
        (&[], &allowed, false),
        (&["--summary=never"], &command, false),
    ] {
        let run = setup.run(options, command);
        assert_eq!(run.stderr.contains("  allowed "), is_there, "{run:#?}");
    }
    let run = setup.run(&["--summary", "--isolation", "env"], &command);
    run.succeeded().says(", unconfined");
}

#[test]
fn j11_sessions_lists_a_session_and_ends_it() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    // The command lists the sessions from outside of the jail's network: by a file.
    let list = e2e::proxyctl::proxyctl_json(&setup.daemon, &["sessions"]);
    assert_eq!(list, serde_json::json!([]));
    let socket = setup.daemon.control_socket();
    let running = std::thread::scope(|scope| {
        let session = scope.spawn(|| setup.run(&[], &["tail", "-f", "/dev/null"]));
        let listed = e2e::wait::poll(e2e::wait::TIMEOUT, || {
            let list = e2e::proxyctl::proxyctl_at(&socket, &["sessions", "--json"]);
            let list: serde_json::Value = serde_json::from_str(&list.stdout).ok()?;
            list.get(0).cloned()
        });
        let listed = listed.expect("a session");
        assert_eq!(listed["command"], "tail");
        assert_eq!(listed["isolation"], "jail");
        let id = listed["id"].as_str().expect("an id").to_owned();
        let text = e2e::proxyctl::proxyctl_at(&socket, &["sessions"]);
        text.succeeded().says(&id).says("tail");
        let ended = e2e::proxyctl::proxyctl_at(&socket, &["sessions", "end", &id]);
        ended
            .succeeded()
            .says(&format!("ended session {id} of tail"));
        session.join().expect("a run")
    });
    assert_eq!(running.code, Some(125));
    running.says("the proxy ended the session");
    let unknown = e2e::proxyctl::proxyctl_at(&socket, &["sessions", "end", "nope"]);
    assert_eq!(unknown.failed().code, Some(1));
}

#[test]
fn j16_a_preset_allows_what_it_stands_for_and_run_names_it() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let setup = Setup::new(&Config::example());
    let run = setup.run(&["--preset", "anthropic,gitlab"], &["true"]);
    run.succeeded()
        .says("proxyctl: preset anthropic allows api.anthropic.com")
        .says("proxyctl: preset gitlab allows ");
    let run = setup.run(&["--preset", "nope"], &["echo", "started"]);
    assert_eq!(run.failed().code, Some(125));
    assert!(!run.stdout.contains("started"));
}
