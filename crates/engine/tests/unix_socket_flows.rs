//! Requests to unix sockets leave one flow event each, without their path (SPEC R5, H10). The test is a
//! program of its own: the last handle of a flow may end on any thread, so the log is that of the
//! process.

#[path = "unix_sockets/scene.rs"]
#[expect(dead_code, reason = "the other tests of unix sockets need the rest")]
mod scene;

use std::io::{self, Write};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt as _;

use scene::{Plays, Program, Stage, TIMEOUT, field, head};

const ONE: &str = "allow_unix_sockets = [\"{}/one\"]";

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
    let log = Log::default();
    let writer = log.clone();
    let lines = fmt::layer().json().with_writer(move || writer.clone());
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines))
        .expect("the only log");

    let stage = Stage::new();
    Program::listen(&stage.path("one"), Plays::Says("hello"));
    Program::listen(&stage.path("two"), Plays::Switches("tcp"));
    // A socket that is closed refuses connections.
    drop(UnixListener::bind(stage.path("closed")).expect("a socket"));
    let scene =
        stage.scene("allow_unix_sockets = [\"{}/one\", \"{}/two\", \"{}/closed\", \"{}/missing\"]");
    let said = scene
        .ask("POST", &field(&stage.path("one")), "content")
        .await;
    assert_eq!(said.status, 200);
    assert_eq!(scene.get(&stage.path("closed")).await.status, 502);
    assert_eq!(scene.get(&stage.path("missing")).await.status, 502);
    assert_eq!(scene.get(&stage.path("unlisted")).await.status, 403);
    let mut client = scene.client().await;
    let request = format!(
        "GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: tcp\r\n{}\r\n",
        field(&stage.path("two"))
    );
    client.write_all(request.as_bytes()).await.expect("a door");
    head(&mut client).await.expect("an answer");
    scene.replace(ONE);
    let flows = tokio::time::timeout(TIMEOUT, log.flows(4))
        .await
        .expect("four events");
    let told: Vec<Value> = flows
        .iter()
        .map(|line| {
            let fields = &line["fields"];
            let told = [
                "server.address",
                "server.port",
                "network.flow.outcome",
                "network.flow.sent_bytes",
                "network.flow.received_bytes",
            ];
            json!(told.map(|name| fields[name].clone()))
        })
        .collect();
    assert_eq!(
        told,
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
