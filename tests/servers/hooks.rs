//! Every server reads a permitted request as one that the hooks permit (SPEC M9, M10).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use e2e::daemon::{Config, Daemon};
use e2e::proxyctl::exported_ca;
use e2e::tls::{Client, TestCa};
use serde::Deserialize;
use serde_json::Value;

use crate::reading::{self, Reading};
use crate::recorder::Recorder;
use crate::start::Server;

const HOST: &str = "hooked.test";
const SECRET: &str = "hunter2";

/// The rules of [`permits`] as a configuration.
const HOOKS: &str = r#"
[network.mitm.hooks.list]
host = "hooked.test"
methods = ["GET"]
path_prefixes = ["pattern:/orgs/*/repos"]
action = ["token"]
[network.mitm.hooks.open]
host = "hooked.test"
methods = ["GET"]
path_prefixes = ["/repos/mine/"]
query = { state = ["open"] }
action = ["token"]
[network.mitm.hooks.write]
host = "hooked.test"
methods = ["POST"]
path_prefixes = ["/repos/mine/"]
headers = { content-type = ["application/json"] }
action = ["token"]
[[network.mitm.actions.token.inject_request_headers]]
name = "x-api-key"
secret_env_var = "TOKEN"
"#;

/// Fields, by their CGI names, that must never reach a program behind a hook.
const FORBIDDEN: [&str; 14] = [
    "HTTP_X_HTTP_METHOD_OVERRIDE",
    "HTTP_X_HTTP_METHOD",
    "HTTP_X_METHOD_OVERRIDE",
    "HTTP_X_ORIGINAL_URL",
    "HTTP_X_REWRITE_URL",
    "HTTP_X_ORIGINAL_HOST",
    "HTTP_X_HOST",
    "HTTP_X_FORWARDED_HOST",
    "HTTP_X_FORWARDED_PREFIX",
    "HTTP_X_SCRIPT_NAME",
    "HTTP_SCRIPT_NAME",
    "HTTP_FORWARDED",
    "HTTP_TRANSFER_ENCODING",
    "HTTP_PROXY",
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cases: Vec<Row>,
}

/// One spelling of a request.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[expect(dead_code, reason = "for the reader, and the tidy tests")]
    spec: String,
    #[serde(default = "get")]
    method: String,
    target: String,
    #[serde(default)]
    fields: Vec<(String, String)>,
    #[serde(default)]
    content: String,
    /// Whether the proxy passes it. Every server must then read it as permitted.
    #[serde(default)]
    passes: bool,
}

fn get() -> String {
    "GET".to_owned()
}

/// A row, and the proxy's decision.
struct Judged {
    row: Row,
    /// The bytes that were sent to the origin, unless it was refused.
    sent: Option<Vec<u8>>,
}

/// Every row through one proxy.
static JUDGED: LazyLock<Vec<Judged>> = LazyLock::new(|| {
    let table = include_str!("../cases/server-hooks.toml");
    let table: Table = toml::from_str(table).expect("a table");
    let proxy = Proxy::start();
    let judge = |row: Row| Judged {
        sent: proxy.judge(&row),
        row,
    };
    table.cases.into_iter().map(judge).collect()
});

struct Proxy {
    daemon: Daemon,
    origin: Recorder,
    addr: SocketAddr,
    client: Client,
}

impl Proxy {
    fn start() -> Self {
        let ca = TestCa::new();
        let (origin, addr) = Recorder::start(Some(ca.server(&[HOST])));
        let config = Config::new()
            .allow(HOST)
            .host(HOST, Ipv4Addr::LOCALHOST)
            .append(HOOKS);
        let daemon = Daemon::launch()
            .config(&config)
            .trusting(&ca)
            .env("TOKEN", SECRET)
            .start();
        let client = Client::trusting_pem(&exported_ca(&daemon)).alpn(&["http/1.1"]);
        Self {
            daemon,
            origin,
            addr,
            client,
        }
    }

    fn judge(&self, row: &Row) -> Option<Vec<u8>> {
        let authority = format!("{HOST}:{}", self.addr.port());
        let tunnel = self.daemon.tunnel(&authority);
        let (mut client, _) = tunnel.secure(&self.client, HOST);
        let (before, _) = self.origin.last();
        client.send(row.message(&authority));
        let answer = client.read_final_response();
        let (after, last) = self.origin.last();
        match answer.status {
            200 => assert_eq!(after, before + 1, "{}", row.name),
            400 | 403 | 421 => assert_eq!(after, before, "{}", row.name),
            status => panic!("{}: {status} {}", row.name, answer.text()),
        }
        assert_eq!(
            answer.status == 200,
            row.passes,
            "{}: {}",
            row.name,
            answer.text()
        );
        last.filter(|_| answer.status == 200)
    }
}

impl Row {
    fn message(&self, authority: &str) -> String {
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {authority}\r\n",
            self.method, self.target
        );
        for (name, value) in &self.fields {
            text.extend([name, ": ", value, "\r\n"]);
        }
        if !self.content.is_empty() {
            let length = self.content.len().to_string();
            text.extend(["Content-Length: ", &length, "\r\n"]);
        }
        text + "\r\n" + &self.content
    }
}

/// Whether the hooks permit the request as a server reports it.
fn permits(report: &Value) -> bool {
    let path = report["path"].as_str().unwrap_or_default();
    let segments: Vec<&str> = path.split('/').collect();
    let list = matches!(&segments[..], ["", "orgs", org, repos, ..]
        if !org.is_empty() && repos.starts_with("repos"));
    let mine = path.starts_with("/repos/mine/");
    let fields = &report["fields"];
    let is_bare = FORBIDDEN.iter().all(|name| fields[name].is_null());
    is_bare
        && !segments.contains(&"..")
        && match report["method"].as_str() {
            Some("GET") => list || (mine && is_open(&report["query"]["state"])),
            Some("POST") => mine,
            _ => false,
        }
}

/// Whether a parameter is `open`, once or more often.
fn is_open(state: &Value) -> bool {
    match state {
        Value::String(state) => state == "open",
        Value::Array(states) => !states.is_empty() && states.iter().all(is_open),
        _ => false,
    }
}

fn check(server: &Server) {
    let mut told_apart = 0;
    for Judged { row, sent } in JUDGED.iter() {
        let plain = row.message(HOST);
        let directly = one(server, plain.as_bytes(), &row.name);
        told_apart += usize::from(directly.as_ref().is_some_and(|report| !permits(report)));
        let Some(sent) = sent else { continue };
        let report = one(server, sent, &row.name);
        let report = report.unwrap_or_else(|| panic!("{}: the server refuses it", row.name));
        assert!(permits(&report), "{} is read as {report}", row.name);
        assert_eq!(
            report["fields"]["HTTP_X_API_KEY"], SECRET,
            "{}: {report}",
            row.name
        );
    }
    // Otherwise the server could not distinguish the spellings.
    assert!(told_apart > 10, "{told_apart}");
}

fn one(server: &Server, bytes: &[u8], name: &str) -> Option<Value> {
    let answer = reading::one(server.addr, bytes);
    let answer = answer.unwrap_or_else(|error| panic!("{name}: {error}"));
    answer.as_ref().and_then(Reading::report)
}

mod m10_servers_read_a_permitted_request_as_the_hook_does {
    crate::each_server!(super::check);
}
