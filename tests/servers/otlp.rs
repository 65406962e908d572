//! A real receiver of OTLP (SPEC O2): Rotel shows what it reads. nginx in front of it ends TLS, demands a token and
//! speaks HTTP/1.1 and HTTP/2, as before a collector of many machines.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use e2e::client::{Connection, Socks5Target};
use e2e::daemon::{Config, Daemon, LogLine};
use e2e::origin::{Answer, Origin};
use e2e::port::Reserved;
use e2e::tls::TestCa;
use e2e::wait::{Watched, poll};
use serde_json::Value;
use tempfile::TempDir;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::start::{self, Server};

/// A passing test never waits this long.
const TIMEOUT: Duration = Duration::from_secs(120);

const TOKEN: &str = "Bearer token-of-the-collector-4711";

/// nginx and Rotel. They end with the value.
struct Collector {
    nginx: Server,
    _rotel: Server,
    _ports: [Reserved; 2],
    lines: Arc<Watched<Vec<String>>>,
}

/// A log record as Rotel shows it: values as `Str(text)`, `Int(7)` or `Bool(true)`.
#[derive(Clone, Debug, Default)]
struct Record {
    resource: BTreeMap<String, String>,
    scope: String,
    fields: BTreeMap<String, String>,
    attributes: BTreeMap<String, String>,
}

impl Collector {
    fn start(ca: &TestCa) -> Self {
        let ports = [Reserved::open(), Reserved::open()];
        let [grpc, http] = ports.each_ref().map(|port| port.address().to_string());
        let directory = TempDir::new().expect("a temporary directory");
        let at = directory.path();
        let mut rotel = start::command("rotel-agent");
        rotel
            .arg("start")
            .args(["--otlp-grpc-endpoint", &grpc, "--otlp-http-endpoint", &http])
            .args(["--exporter", "blackhole"])
            .args(["--debug-log", "logs", "--debug-log-verbosity", "detailed"])
            .arg("--pid-file")
            .arg(at.join("rotel.pid"))
            .arg("--log-file")
            .arg(at.join("rotel.log"))
            .current_dir(at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut rotel = start::spawn(rotel);
        let lines = read(&mut rotel);
        let servers = ports.each_ref().map(Reserved::address);
        let is_up = || servers.iter().all(|server| e2e::port::accepts(*server));
        let served = poll(TIMEOUT, || is_up().then_some(()));
        served.expect("Rotel listens");
        Self {
            nginx: start::nginx_with_tls(ca, &|at| locations(at, &http, &grpc)),
            _rotel: Server::new(servers[0], vec![rotel], directory),
            _ports: ports,
            lines,
        }
    }

    /// Waits for this many records.
    #[track_caller]
    fn records(&self, count: usize) -> Vec<Record> {
        let seen = self.lines.wait(TIMEOUT, |lines| {
            Some(records(lines)).filter(|records| records.len() >= count)
        });
        seen.unwrap_or_else(|| panic!("Rotel shows {:#?}", self.lines.lock()))
    }

    /// The settings of a daemon that exports to it, with this token.
    fn config(&self, protocol: &str, token: &str, ca: &TestCa, directory: &Path) -> Config {
        let file = directory.join("headers");
        fs::write(&file, format!("authorization: {token}\n")).expect("a file of ours");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of ours");
        let url = format!("https://collector.test:{}", self.nginx.addr.port());
        Config::example()
            .host("collector.test", Ipv4Addr::LOCALHOST)
            .set("daemon.telemetry", "otlp", &format!("{url:?}"))
            .set("daemon.telemetry", "protocol", &format!("{protocol:?}"))
            .set("daemon.telemetry", "headers_file", &quoted(&file))
            .set("daemon.telemetry", "ca_file", &quoted(ca.file()))
    }
}

/// The part of nginx's settings that passes requests on to Rotel, if they have the token.
fn locations(at: &Path, http: &str, grpc: &str) -> String {
    format!(
        r#"ssl_certificate {at}/server.pem;
        ssl_certificate_key {at}/server.key;
        if ($http_authorization != "{TOKEN}") {{ return 401; }}
        location = /v1/logs {{ proxy_pass http://{http}; }}
        location /opentelemetry.proto.collector.logs.v1.LogsService/ {{ grpc_pass grpc://{grpc}; }}"#,
        at = at.display(),
    )
}

fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}

/// Reads what Rotel prints to its end.
fn read(rotel: &mut Child) -> Arc<Watched<Vec<String>>> {
    let lines = Arc::<Watched<Vec<String>>>::default();
    let (seen, stdout) = (Arc::clone(&lines), rotel.stdout.take().expect("a pipe"));
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            seen.update(|lines| lines.push(line));
        }
    });
    lines
}

/// The whole records among these lines.
fn records(lines: &[String]) -> Vec<Record> {
    let mut whole = Vec::new();
    let mut record = Record::default();
    let mut is_resource = true;
    for line in lines {
        if line.starts_with("ResourceLog #") {
            record = Record::default();
            is_resource = true;
        } else if line.starts_with("LogRecord #") {
            record.fields.clear();
            record.attributes.clear();
            is_resource = false;
        } else if let Some(scope) = line.strip_prefix("InstrumentationScope ") {
            scope.clone_into(&mut record.scope);
        } else if let Some(attribute) = line.trim_start().strip_prefix("-> ") {
            let (name, value) = attribute.split_once(": ").expect("a name and a value");
            let attributes = if is_resource {
                &mut record.resource
            } else {
                &mut record.attributes
            };
            let former = attributes.insert(name.to_owned(), value.to_owned());
            assert_eq!(former, None, "{name} is there once");
        } else if let Some((name, value)) = line.split_once(':') {
            record
                .fields
                .insert(name.to_owned(), value.trim().to_owned());
            if name == "Flags" {
                whole.push(record.clone());
            }
        }
    }
    whole
}

/// The fields of a line of the log as Rotel shows attributes.
fn shown(line: &LogLine) -> BTreeMap<String, String> {
    let json: Value = serde_json::from_str(&line.raw).expect("JSON");
    let fields = json["fields"].as_object().expect("fields");
    let shown = fields.iter().map(|(name, value)| {
        let value = match value {
            Value::String(text) => format!("Str({text})"),
            Value::Number(number) => format!("Int({number})"),
            Value::Bool(flag) => format!("Bool({flag})"),
            other => panic!("{name} is {other}"),
        };
        (name.clone(), value)
    });
    shown.collect()
}

/// Four decisions, by each door.
fn decide(daemon: &Daemon) {
    let origin = Origin::start(|_| Answer::text("hello"));
    let authority = format!("allowed.test:{}", origin.addr().port());
    assert_eq!(daemon.get("http://blocked.test/a?b=c").status, 403);
    assert_eq!(daemon.get(&format!("http://{authority}/")).status, 200);
    let mut client = Connection::open(daemon.http_addr());
    assert_eq!(client.connect(&authority).status, 200);
    let mut client = Connection::open(daemon.socks_addr());
    let target = Socks5Target::name("blocked.test", 443);
    assert_eq!(client.socks5_connect(&target).reply, 2);
}

fn arrives(protocol: &str) {
    let ca = TestCa::new();
    let collector = Collector::start(&ca);
    let directory = TempDir::new().expect("a temporary directory");
    let settings = |token| collector.config(protocol, token, &ca, directory.path());
    // nginx lets nobody pass without the token.
    let daemon = Daemon::start(&settings("Bearer another"));
    assert_eq!(daemon.get("http://lost.test/").status, 403);
    daemon.wait_for_message("it answers with the HTTP status 401");
    daemon.reload_with(&settings(TOKEN));
    decide(&daemon);
    let is_event = |line: &LogLine| line.field("network.policy.decision").is_some();
    let lines = daemon.wait_for_logs(5, is_event).split_off(1);
    let records = collector.records(lines.len());
    assert_eq!(records.len(), lines.len());
    for (record, line) in records.iter().zip(&lines) {
        let mut wanted = shown(line);
        let time = line.field("event.timestamp").and_then(Value::as_str);
        let time = OffsetDateTime::parse(time.expect("a time"), &Rfc3339).expect("RFC 3339");
        for name in ["Timestamp", "ObservedTimestamp"] {
            let nanoseconds: i128 = record.fields[name].parse().expect("a number");
            // The log has milliseconds.
            let milliseconds = time.unix_timestamp_nanos() / 1_000_000;
            assert_eq!(nanoseconds / 1_000_000, milliseconds, "{name}");
        }
        for (name, value) in [
            ("SeverityText", "INFO".to_owned()),
            ("SeverityNumber", "SEVERITY_NUMBER_INFO(9)".to_owned()),
            (
                "EventName",
                "codex.network_proxy.policy_decision".to_owned(),
            ),
            ("Body", wanted.remove("message").expect("a message")),
        ] {
            assert_eq!(record.fields.get(name), Some(&value), "{name}");
        }
        assert_eq!(record.attributes, wanted);
        assert!(record.scope.starts_with("codex_otel"), "{}", record.scope);
        for (name, value) in [
            ("service.name", "Str(codex-network-proxy)".to_owned()),
            (
                "service.version",
                format!("Str({})", env!("CARGO_PKG_VERSION")),
            ),
            ("process.pid", format!("Int({})", daemon.worker())),
        ] {
            assert_eq!(record.resource.get(name), Some(&value), "{name}");
        }
        assert!(record.resource.contains_key("host.name"));
    }
}

#[test]
fn o2_a_real_receiver_reads_every_event_over_http() {
    arrives("http/protobuf");
}

#[test]
fn o2_a_real_receiver_reads_every_event_over_grpc() {
    arrives("grpc");
}
