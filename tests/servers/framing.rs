//! Every server reads each request that the proxy passes as one request (SPEC H4).

use std::sync::LazyLock;

use e2e::daemon::{Config, Daemon};
use serde::Deserialize;
use serde_json::Value;

use crate::reading::{self, Reading};
use crate::recorder::Recorder;
use crate::start::Server;

/// This must never be read as a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: allowed.test\r\n\r\n";
/// The request that is sent after each tested one.
const NEXT: &str = "GET /next HTTP/1.1\r\nHost: allowed.test\r\nConnection: close\r\n\r\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    cases: Vec<Row>,
}

/// One way of framing a request. In its texts `{smuggled}` is a whole request, `{length}` its
/// length, and `{hex}` its length in hexadecimal.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    #[expect(dead_code, reason = "for the reader, and the tidy tests")]
    spec: String,
    #[serde(default = "post")]
    method: String,
    #[serde(default = "version")]
    version: String,
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    content: String,
    /// How much content each server must find; `None` if the proxy refuses the request.
    passes: Option<usize>,
}

fn post() -> String {
    "POST".to_owned()
}

fn version() -> String {
    "HTTP/1.1".to_owned()
}

/// The rows that the proxy passes, and the bytes that it sends for them.
static SENT: LazyLock<Vec<(Row, Vec<u8>)>> = LazyLock::new(|| {
    let table = include_str!("../cases/server-framing.toml");
    let table: Table = toml::from_str(table).expect("a table");
    let (origin, addr) = Recorder::start(None);
    let daemon = Daemon::start(&Config::example());
    let authority = format!("allowed.test:{}", addr.port());
    let mut sent = Vec::new();
    for row in table.cases {
        let answer = reading::one(daemon.http_addr(), row.message(&authority).as_bytes());
        let answer = answer.unwrap_or_else(|error| panic!("{}: {error}", row.name));
        let status = answer.map_or(0, |answer| answer.status);
        let (count, last) = origin.last();
        if row.passes.is_some() {
            assert_eq!(status, 200, "{}", row.name);
            let bytes = last.unwrap_or_else(|| panic!("{} came to nothing", row.name));
            sent.push((row, bytes));
        } else {
            assert!(matches!(status, 0 | 400..=499), "{}: {status}", row.name);
        }
        assert_eq!(count, sent.len(), "requests to the origin");
    }
    sent
});

impl Row {
    fn message(&self, authority: &str) -> String {
        let mut fields = self.fields.join("\r\n");
        if !fields.is_empty() {
            fields += "\r\n";
        }
        let (method, version) = (&self.method, &self.version);
        let text = format!(
            "{method} http://{authority}/framed {version}\r\nHost: {authority}\r\n{fields}\r\n{}",
            self.content
        );
        let length = SMUGGLED.len();
        text.replace("{smuggled}", SMUGGLED)
            .replace("{length}", &length.to_string())
            .replace("{hex}", &format!("{length:x}"))
    }
}

fn check(server: &Server) {
    for (row, sent) in SENT.iter() {
        let name = &row.name;
        let readings = reading::all(server.addr, sent, NEXT.as_bytes());
        let readings = readings.unwrap_or_else(|error| panic!("{name}: {error}"));
        let reports: Vec<_> = readings.iter().map(Reading::report).collect();
        let first = reports.first().cloned().flatten();
        let first = first.unwrap_or_else(|| panic!("{name}: {readings:?}"));
        let reported = (first["path"].as_str(), first["content"].as_u64());
        let length = row.passes.and_then(|length| length.try_into().ok());
        assert_eq!(reported, (Some("/framed"), length), "{name}: {first}");
        let is_next =
            |report: &Option<Value>| matches!(report, Some(report) if report["path"] == "/next");
        match &reports[1..] {
            [next] => assert!(is_next(next), "{name}: {next:?}"),
            [] => assert!(readings[0].closes, "{name}: the next request is lost"),
            _ => panic!("{name} is more than one request: {reports:?}"),
        }
    }
    assert!(SENT.len() > 10);
}

mod h4_servers_read_a_passed_request_as_one_request {
    crate::each_server!(super::check);
}
