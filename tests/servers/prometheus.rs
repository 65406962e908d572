//! A real Prometheus (SPEC O1): it scrapes the proxy, and the rules in `packaging/fleet/prometheus` fire.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use e2e::client::Connection;
use e2e::daemon::{Config, Daemon};
use e2e::port::Reserved;
use e2e::process::kill_process;
use e2e::wait::poll;
use serde_json::Value;
use tempfile::TempDir;

/// Prometheus takes a second to start. A passing test never waits this long.
const TIMEOUT: Duration = Duration::from_secs(120);

/// The metrics of SPEC O1, as Prometheus names them.
const METRICS: [&str; 22] = [
    "build_info",
    "decisions_total",
    "connections_open",
    "sessions_open",
    "questions_pending",
    "bytes_total",
    "dial_seconds_bucket",
    "dns_seconds_bucket",
    "handshake_seconds_bucket",
    "pool_idle",
    "leaf_cache_total",
    "reloads_total",
    "worker_restarts_total",
    "log_lines_lost_total",
    "telemetry_events_exported_total",
    "telemetry_events_lost_total",
    "telemetry_events_waiting",
    "descriptors_open",
    "descriptors_limit",
    "degraded",
    "dial_seconds_sum",
    "dial_seconds_count",
];

/// A running Prometheus. It ends with the value.
struct Prometheus {
    process: Child,
    port: Reserved,
    _directory: TempDir,
}

fn shipped() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging/fleet/prometheus")
}

fn promtool(arguments: &[&str]) {
    let run = Command::new("promtool")
        .args(arguments)
        .current_dir(shipped())
        .output()
        .expect("promtool, which .ci/servers installs");
    let said =
        String::from_utf8_lossy(&run.stderr).into_owned() + &String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{said}");
}

impl Prometheus {
    /// Scrapes the daemon every second with the shipped rules, whose alerts wait for nothing.
    fn start(daemon: &Daemon) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let at = directory.path();
        let rules = std::fs::read_to_string(shipped().join("codex-network-proxy.rules.yml"));
        let mut eager = String::new();
        for line in rules.expect("the rules").lines() {
            if !line.trim_start().starts_with("for: ") {
                writeln!(eager, "{line}").expect("a string");
            }
        }
        std::fs::write(at.join("rules.yml"), eager).expect("a file of ours");
        let settings = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nscrape_configs:\n\
             - job_name: codex-network-proxy\n  static_configs: [{{targets: [\"{}\"]}}]\n",
            daemon.admin_addr()
        );
        std::fs::write(at.join("prometheus.yml"), settings).expect("a file of ours");
        Self::run(directory)
    }

    /// Runs with the settings in this directory.
    fn run(directory: TempDir) -> Self {
        let at = directory.path();
        let port = Reserved::open();
        let address = port.address();
        let process = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                at.join("prometheus.yml").display()
            ))
            .arg(format!("--storage.tsdb.path={}", at.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus, which .ci/servers installs");
        Self {
            process,
            port,
            _directory: directory,
        }
    }

    /// The data of an answer of its API; nothing until it serves.
    fn ask(&self, path: &str) -> Option<Value> {
        let mut connection = Connection::try_open(self.port.address()).ok()?;
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n",
            self.port.address()
        );
        connection.try_send(request).ok()?;
        let answer = connection.read_final_response();
        (answer.status == 200).then(|| answer.json()["data"].take())
    }

    /// The names of the alerts that fire.
    fn firing(&self) -> BTreeSet<String> {
        let alerts = self.ask("/api/v1/alerts").unwrap_or_default();
        let alerts = alerts["alerts"].as_array().cloned().unwrap_or_default();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing
            .filter_map(|alert| Some(alert["labels"]["alertname"].as_str()?.to_owned()))
            .collect()
    }

    fn names(&self) -> BTreeSet<String> {
        let names = self
            .ask("/api/v1/label/__name__/values")
            .unwrap_or_default();
        let names = names.as_array().cloned().unwrap_or_default();
        names
            .iter()
            .filter_map(|name| Some(name.as_str()?.to_owned()))
            .collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn o1_the_rules_are_valid_and_fire_on_what_they_are_for() {
    promtool(&["check", "rules", "codex-network-proxy.rules.yml"]);
    promtool(&["test", "rules", "codex-network-proxy.test.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

/// The commands of the fleet guide, in another place than `/etc/prometheus`.
#[test]
fn o1_the_commands_of_the_guide_set_prometheus_up() {
    let daemon = Daemon::start(&Config::example());
    let fleet = shipped().join("..");
    let guide = std::fs::read_to_string(fleet.join("README.md")).expect("the guide");
    let begin = guide.find("cp prometheus/").expect("the commands");
    let commands = guide[begin..].split("```").next().expect("a block");
    let directory = TempDir::new().expect("a temporary directory");
    let place = directory.path().to_str().expect("UTF-8");
    let reload = "systemctl reload prometheus";
    assert!(commands.contains(reload), "{commands}");
    // The machine's own Prometheus is left alone.
    let commands = commands
        .replace(reload, "")
        .replace("/etc/prometheus", place);
    let run = Command::new("sh")
        .args(["-ec", &commands])
        .current_dir(fleet)
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{commands}{said}");
    let settings = directory.path().join("prometheus.yml");
    let text = std::fs::read_to_string(&settings).expect("it was copied");
    let ours = daemon.admin_addr().to_string();
    let text = text.replace("127.0.0.1:8080", &ours).replace("15s", "1s");
    std::fs::write(&settings, text).expect("a file of ours");
    let prometheus = Prometheus::run(directory);
    let up = poll(TIMEOUT, || {
        let answer = prometheus.ask("/api/v1/query?query=up")?;
        let value = answer["result"][0]["value"][1].as_str()?.to_owned();
        (value == "1").then_some(())
    });
    assert_eq!(up, Some(()));
    let rules = prometheus.ask("/api/v1/rules").unwrap_or_default();
    assert_eq!(rules["groups"].as_array().map(Vec::len), Some(2), "{rules}");
}

#[test]
fn o1_every_metric_of_the_rules_and_of_the_dashboard_exists() {
    let recorded = "codex_network_proxy:";
    for file in ["codex-network-proxy.rules.yml", "grafana-dashboard.json"] {
        let text = std::fs::read_to_string(shipped().join(file)).expect("a shipped file");
        if file.ends_with("json") {
            let dashboard: Value = serde_json::from_str(&text).expect("JSON");
            assert!(
                dashboard["panels"]
                    .as_array()
                    .is_some_and(|panels| panels.len() > 10)
            );
        }
        for name in text.split("codex_network_proxy_").skip(1) {
            let end =
                name.find(|c: char| !c.is_ascii_lowercase() && c != '_' && !c.is_ascii_digit());
            let name = &name[..end.unwrap_or(name.len())];
            assert!(METRICS.contains(&name), "{file}: {name}");
        }
        assert!(text.contains(recorded), "{file}");
    }
}

#[test]
fn o1_a_real_prometheus_scrapes_every_metric_and_its_alerts_fire() {
    let daemon = Daemon::start(&Config::example());
    // So that a decision was made.
    assert_eq!(daemon.get("http://blocked.test/").status, 403);
    let prometheus = Prometheus::start(&daemon);
    let expected: BTreeSet<_> = METRICS
        .map(|name| format!("codex_network_proxy_{name}"))
        .into();
    let seen = poll(TIMEOUT, || {
        Some(prometheus.names()).filter(|names| names.is_superset(&expected))
    });
    assert!(
        seen.is_some(),
        "missing: {:?}",
        &expected - &prometheus.names()
    );
    assert_eq!(prometheus.firing(), BTreeSet::new());
    kill_process(daemon.worker());
    let fires = |alert: &str| {
        let seen = poll(TIMEOUT, || {
            prometheus.firing().contains(alert).then_some(())
        });
        assert!(seen.is_some(), "{alert}: {:?}", prometheus.firing());
    };
    fires("CodexNetworkProxyWorkerRestarting");
    assert!(
        !prometheus
            .firing()
            .contains("CodexNetworkProxyReloadFailing")
    );
    daemon.rewrite_config_text("[network\n");
    assert_eq!(daemon.reload().status, 500);
    fires("CodexNetworkProxyReloadFailing");
}
