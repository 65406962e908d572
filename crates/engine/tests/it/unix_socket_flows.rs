//! Requests to unix sockets leave one flow event each, without their path (SPEC R5, H10). The test runs
//! in a process of its own: the last handle of a flow may end on any thread, so the log is that of the
//! process.

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::kit::process::{is_alone, run_alone};
use crate::kit::stream::{in_time, read_head};
use crate::unix_sockets::ONE;
use crate::unix_sockets::scene::{Program, Script, SocketFolder, field};

const TEST: &str =
    "unix_socket_flows::r5_h10_a_request_to_a_unix_socket_leaves_one_event_without_its_path";

/// The log of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Waits for this many flow events.
    async fn flows(&self, count: usize) -> Vec<Value> {
        loop {
            let text = String::from_utf8_lossy(&self.0.lock().expect("no panic")).into_owned();
            let lines = text.lines().map(serde_json::from_str);
            let flows: Vec<Value> = lines
                .map(|line| line.expect("JSON"))
                .filter(|line: &Value| line["target"] == "codex_network_proxy.flow")
                .collect();
            if flows.len() >= count {
                assert_eq!(flows.len(), count, "{flows:#?}");
                return flows;
            }
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn r5_h10_a_request_to_a_unix_socket_leaves_one_event_without_its_path() {
    if !is_alone() {
        return run_alone(TEST, &[]).expect("the test starts");
    }
    let log = Log::default();
    let writer = log.clone();
    let lines = fmt::layer().json().with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines))
        .expect("the only log");

    let folder = SocketFolder::new();
    Program::listen(&folder.path("one"), Script::Answer("hello"));
    Program::listen(&folder.path("two"), Script::Upgrade("tcp"));
    // A socket that is closed refuses connections.
    drop(UnixListener::bind(folder.path("closed")).expect("a socket"));
    let scene = folder
        .scene("allow_unix_sockets = [\"{}/one\", \"{}/two\", \"{}/closed\", \"{}/missing\"]");
    let answer = scene
        .ask("POST", &field(&folder.path("one")), "content")
        .await;
    assert_eq!(answer.status, 200);
    assert_eq!(scene.get(&folder.path("closed")).await.status, 502);
    assert_eq!(scene.get(&folder.path("missing")).await.status, 502);
    assert_eq!(scene.get(&folder.path("unlisted")).await.status, 403);
    let mut client = scene.client().await;
    let request = format!(
        "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: tcp\r\n{}\r\n",
        field(&folder.path("two"))
    );
    client.write_all(request.as_bytes()).await.expect("a door");
    read_head(&mut client).await.expect("an answer");
    scene.replace(ONE);
    let flows = in_time(log.flows(4)).await;
    let recorded: Vec<Value> = flows
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            let names = [
                "server.address",
                "server.port",
                "network.flow.outcome",
                "network.flow.sent_bytes",
                "network.flow.received_bytes",
            ];
            json!(names.map(|name| fields[name].clone()))
        })
        .collect();
    assert_eq!(
        recorded,
        [
            json!(["unix-socket", 0, "completed", 7, 5]),
            json!(["unix-socket", 0, "upstream_failed", 0, 0]),
            json!(["unix-socket", 0, "upstream_failed", 0, 0]),
            json!(["unix-socket", 0, "forbidden", 0, 0]),
        ]
    );
    for flow in flows {
        assert!(!scene.is_named_in(&flow.to_string()), "{flow}");
        assert_eq!(flow["fields"].get("network.peer.address"), None, "{flow}");
    }
}
