//! Managed constraints bind a running proxy, for every caller and every interface (SPEC
//! C6). The requirements are in an `/etc` of the proxy's own, which needs root to make.

use std::fs;
use std::net::Ipv4Addr;

use e2e::daemon::{Config, Daemon, StartScript};
use e2e::machine::{self, Need};
use e2e::origin::{Answer, Origin};
use e2e::program::{Program, Run};
use e2e::proxyctl::{proxyctl, proxyctl_json};
use serde_json::json;
use tempfile::TempDir;

const REQUIREMENTS: &str = "/etc/codex/requirements.toml";

/// A directory mounted over `/etc`, and the program that sees it.
struct Machine {
    etc: TempDir,
    program: StartScript,
}

impl Machine {
    /// A machine with this table of requirements; `None` if the test may not mount file systems.
    fn requiring(table: &str) -> Option<Self> {
        if !machine::has(Need::Mounts) {
            return None;
        }
        let etc = TempDir::new().expect("a temporary directory");
        fs::create_dir(etc.path().join("codex")).expect("a new directory");
        let program = StartScript::with_etc(etc.path());
        let machine = Self { etc, program };
        machine.require(table);
        Some(machine)
    }

    fn require(&self, table: &str) {
        let text = format!("[experimental_network]\n{table}\n");
        fs::write(self.etc.path().join("codex/requirements.toml"), text).expect("our own file");
    }

    fn start(&self, config: &Config) -> Daemon {
        Daemon::launch()
            .program(self.program.path())
            .config(config)
            .start()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Program::new(self.program.path()).args(arguments).run()
    }
}

#[test]
fn c6_a_mode_beyond_the_requirement_is_403_and_exit_code_4() {
    let Some(machine) = Machine::requiring("mode = \"limited\"") else {
        return;
    };
    let daemon = machine.start(&Config::example());
    let reported = daemon.admin("GET", "/config", None).json();
    assert_eq!(reported["mode"], "limited");
    let place = format!("{REQUIREMENTS}:2");
    assert_eq!(
        (&reported["pinned"]["mode"], &reported["sources"]["mode"]),
        (&json!({ "allowed": "limited", "by": place }), &json!(place))
    );
    let why = format!(
        "invalid value for network.mode: full (allowed limited); {REQUIREMENTS}:2 requires it"
    );
    let refused = daemon.admin("POST", "/mode", Some(r#"{"mode":"full"}"#));
    assert_eq!((refused.status, refused.text().trim_end()), (403, &*why));
    let refused = proxyctl(&daemon, &["mode", "full"]);
    assert_eq!(refused.failed().code, Some(4));
    refused.says(&why);
    assert_eq!(proxyctl_json(&daemon, &["mode"])["mode"], "limited");
    let arguments = ["explain", "http://allowed.test/", "--method", "POST"];
    proxyctl(&daemon, &arguments).says(&format!(
        "mode may only be limited while {REQUIREMENTS}:2 requires it"
    ));
    let same = daemon.admin("POST", "/mode", Some(r#"{"mode":"limited"}"#));
    assert_eq!(same.status, 200);
    daemon.wait_for_log(|line| {
        line.message().is_some_and(|reported| {
            reported.starts_with("refused a change of the mode through the control")
        })
    });
}

#[test]
fn c6_config_shows_who_set_each_value_and_what_bounds_it() {
    let Some(machine) =
        Machine::requiring("allow_upstream_proxy = false\ndenied_domains = [\"managed.test\"]")
    else {
        return;
    };
    let daemon = machine.start(&Config::example());
    let file = daemon.config_path().display().to_string();
    let reported = proxyctl_json(&daemon, &["config"]);
    let denied = reported["sources"]["denied_domains"]
        .as_str()
        .expect("places");
    assert!(
        denied.starts_with(&file) && denied.ends_with(&format!(", {REQUIREMENTS}:3")),
        "{denied}"
    );
    let shown = proxyctl(&daemon, &["config"]).succeeded().stdout.clone();
    let row = |key: &str| {
        let row = shown
            .lines()
            .find(|line| line.split(' ').next() == Some(key));
        let words: Vec<&str> = row.expect("a row").split_whitespace().collect();
        words.join(" ")
    };
    assert_eq!(row("mode"), "mode default \"full\"");
    assert_eq!(
        row("allow_upstream_proxy"),
        format!("allow_upstream_proxy {REQUIREMENTS}:2 false (allowed false, by {REQUIREMENTS}:2)")
    );
    assert!(row("daemon.log_format").contains(&format!("{file}:")));
    assert_eq!(row("daemon.state_dir").split(' ').nth(1), Some("-c:1"));
    proxyctl(&daemon, &["mode", "limited"]).succeeded();
    assert_eq!(
        proxyctl_json(&daemon, &["config"])["sources"]["mode"],
        "run time"
    );
}

/// SPEC C7: if the files violate a requirement, the old settings stay in force. A requirement that
/// they obey holds from the reload on, also for values that were set at run time.
#[test]
fn c6_a_reload_brings_a_requirement_or_fails_on_it() {
    let Some(machine) = Machine::requiring("") else {
        return;
    };
    let daemon = machine.start(&Config::example());
    assert_eq!(daemon.get("http://allowed.test:1/").status, 502);
    machine.require("allow_local_binding = false");
    let failed = daemon.reload();
    assert_eq!(failed.status, 500);
    let why = "invalid value for network.allow_local_binding: true (allowed false)";
    assert!(failed.text().contains(why), "{}", failed.text());
    assert_eq!(daemon.get("http://allowed.test:1/").status, 502);
    // The test's own resolver must be in the requirements too.
    let resolver = daemon.admin("GET", "/config", None).json()["daemon"]["resolver"].clone();
    let (servers, hosts) = (&resolver["nameservers"], &resolver["hosts_file"]);
    machine.require(&format!(
        "allowed_domains = [\"managed.test\"]\nmanaged_allowed_domains_only = true\n\
         [experimental_network.daemon.resolver]\nnameservers = {servers}\nhosts_file = {hosts}"
    ));
    let reloaded = daemon.reload();
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    let refused = daemon.get("http://allowed.test:1/");
    let reported = refused.json();
    assert_eq!(reported["reason"], "not_allowed");
    // It names who can help, and not the path of the file (SPEC H7).
    let message = reported["message"].as_str().expect("a sentence");
    assert!(
        message.contains("the administrator of requirements.toml") && !message.contains("/etc"),
        "{message}"
    );
    assert!(!message.contains("reload"), "{message}");
    assert_eq!(
        daemon.blocked()[0]["detail"],
        "managed_allowed_domains_only"
    );
    let explained = proxyctl_json(&daemon, &["explain", "http://allowed.test/"]);
    let remedy = explained["remedy"].as_str().expect("a remedy");
    assert!(
        remedy.contains("the administrator of requirements.toml to add \"allowed.test\""),
        "{remedy}"
    );
    assert_eq!(
        daemon.admin("GET", "/patterns", None).json()["allowed"],
        json!(["managed.test"])
    );
    daemon.wait_for_message("only the managed allow list counts");
    machine.require("mode = \"limited\"");
    assert_eq!(daemon.reload().status, 200);
    assert_eq!(proxyctl_json(&daemon, &["mode"])["mode"], "limited");
}

/// The resolver decides where an allowed name leads, so a resolver of the user could lead a managed
/// name to any server.
#[test]
fn c6_a_users_resolver_cannot_redirect_managed_names() {
    let only = "allowed_domains = [\"managed.test\"]\nmanaged_allowed_domains_only = true";
    let Some(machine) = Machine::requiring(only) else {
        return;
    };
    let origin = Origin::start(|_| Answer::text("the managed one"));
    let users = Config::new().host("managed.test", Ipv4Addr::LOCALHOST);
    let started = Daemon::launch()
        .program(machine.program.path())
        .config(&users)
        .try_start();
    let Err(exit) = started else {
        panic!("it starts with a hosts file of the user's own");
    };
    assert_eq!(exit.code, Some(78), "{}", exit.text());
    for key in ["nameservers", "hosts_file"] {
        let text = format!("invalid value for daemon.resolver.{key}: ");
        assert!(exit.text().contains(&text), "{}", exit.text());
    }

    // Without a resolver in the configuration, that of the requirements applies.
    let hosts = "127.0.0.1 managed.test\n";
    fs::write(machine.etc.path().join("codex/hosts"), hosts).expect("our own file");
    let own = "[experimental_network.daemon.resolver]\nnameservers = [\"127.0.0.1:9\"]\nhosts_file = \"/etc/codex/hosts\"";
    machine.require(&format!("{only}\n{own}"));
    let silent = "[network]\nproxy_url = \"127.0.0.1:0\"\nsocks_url = \"127.0.0.1:0\"\nadmin_url = \"127.0.0.1:0\"\nallow_local_binding = true\n[daemon]\nlog_format = \"json\"\n";
    let daemon = Daemon::launch()
        .program(machine.program.path())
        .config_text(silent)
        .start();
    let host = format!("managed.test:{}", origin.addr().port());
    assert_eq!(
        daemon.get(&format!("http://{host}/")).text(),
        "the managed one"
    );
    let pinned = daemon.admin("GET", "/config", None).json()["pinned"].clone();
    assert_eq!(
        pinned["daemon.resolver.hosts_file"]["allowed"],
        "/etc/codex/hosts"
    );
    let row = proxyctl(&daemon, &["config"]);
    row.succeeded()
        .says("(allowed /etc/codex/hosts, by /etc/codex/requirements.toml:");
    daemon.rewrite_config_text(&format!(
        "{silent}[daemon.resolver]\nhosts_file = \"/etc/hosts\"\n"
    ));
    assert_eq!(daemon.reload().status, 500);
    assert_eq!(
        daemon.get(&format!("http://{host}/")).text(),
        "the managed one"
    );
}

#[test]
fn c6_check_and_a_start_apply_requirements_whatever_the_flags() {
    let Some(machine) = Machine::requiring("enabled = true\nmode = \"limited\"") else {
        return;
    };
    let fine = machine.run(&["check", "-c", "network.enabled=false"]);
    fine.succeeded()
        .says("disabled, limited mode")
        .says(&format!("read {REQUIREMENTS}"));
    let full = "[network]\nmode = \"full\"\n";
    fs::write(machine.etc.path().join("full.toml"), full).expect("a new file");
    let named = "/etc/full.toml";
    for arguments in [
        &["check", "-c", "network.mode=full"][..],
        &["check", named],
        &["check", "--config", named],
    ] {
        let run = machine.run(arguments);
        assert_eq!(run.failed().code, Some(1));
        run.says("invalid value for network.mode: full (allowed limited)")
            .says(&format!("{REQUIREMENTS}:3 has `mode = \"limited\"`"));
    }
    let start = machine.run(&["-c", "network.mode=full"]);
    assert_eq!(start.failed().code, Some(78));
    machine.require("mode = \"strict\"\nallowed_domains = [\"*\"]");
    let run = machine.run(&["check"]);
    assert_eq!(run.failed().code, Some(1));
    run.says(&format!("{REQUIREMENTS}:2:8: "))
        .says(&format!("{REQUIREMENTS}:3:20: bad pattern `*`"));
}
