//! An engine that serves unix sockets on every platform, and programs that listen on some in a
//! folder of the test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use codex_network_config::Settings;
use codex_network_engine::{EngineParts, NetworkDecision, NetworkPolicyRequest, Scope};
use codex_network_policy::UnixSocketSupport;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::kit::doors::{Doors, status};
use crate::kit::records::Records;
use crate::kit::server::answer;
use crate::kit::stream::next_head;

pub(crate) struct Scene {
    pub(crate) doors: Doors,
    folder: Arc<TempDir>,
    records: Arc<Records>,
}

/// A folder with sockets in it, and the settings that name them.
pub(crate) struct SocketFolder(Arc<TempDir>);

impl SocketFolder {
    pub(crate) fn new() -> Self {
        Self(Arc::new(TempDir::new().expect("a folder")))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings of `[permissions.p.network]`: `{}` in the text stands for the folder.
    fn settings(&self, text: &str) -> Settings {
        let folder = self.0.path().to_str().expect("ASCII");
        let text = format!(
            "default_permissions = \"p\"\n[permissions.p.network]\n{}\n",
            text.replace("{}", folder)
        );
        crate::kit::settings(&text)
    }

    pub(crate) fn scene(&self, text: &str) -> Scene {
        self.scene_with(text, UnixSocketSupport::Served)
    }

    pub(crate) fn scene_with(&self, text: &str, unix_sockets: UnixSocketSupport) -> Scene {
        // `verdict reason scope address:port`
        let records = Records::new(|event| {
            let scope = match event.scope {
                Scope::Domain => "domain",
                Scope::NonDomain => "non_domain",
            };
            format!(
                "{} {} {scope} {}:{}",
                event.decision.verdict(),
                event.reason,
                event.server_address,
                event.server_port
            )
        });
        let never = |request: NetworkPolicyRequest| async move {
            panic!("the decider ran for {}", request.host);
            #[expect(unreachable_code, reason = "gives the closure its type")]
            NetworkDecision::Allow
        };
        let parts = EngineParts {
            audit: Arc::clone(&records) as _,
            decider: Some(Arc::new(never)),
            unix_sockets,
            ..EngineParts::default()
        };
        Scene {
            doors: Doors::open(self.settings(text), parts),
            folder: Arc::clone(&self.0),
            records,
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Scene {
    /// Other settings.
    pub(crate) fn replace(&self, text: &str) {
        let folder = SocketFolder(Arc::clone(&self.folder));
        let settings = Arc::new(folder.settings(text));
        let replaced = self.doors.engine.replace(&settings);
        replaced.expect("usable settings");
    }

    pub(crate) async fn client(&self) -> TcpStream {
        self.doors.client().await
    }

    /// `GET` on a connection of its own.
    pub(crate) async fn get(&self, socket: &Path) -> Answer {
        self.ask("GET", &field(socket), "").await
    }

    /// One request on a connection of its own, with these fields and this content.
    pub(crate) async fn ask(&self, method: &str, fields: &str, content: &str) -> Answer {
        let length = match content.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} http://localhost/containers/json?all=1 HTTP/1.1\r\nHost: localhost\r\n{fields}{length}Connection: close\r\n\r\n{content}"
        );
        Answer::of(&self.doors.exchange(request.as_bytes()).await)
    }

    /// The records since the last call.
    pub(crate) fn records(&self) -> Vec<String> {
        self.records.take()
    }

    /// The reasons of the blocked entries, and their full text.
    pub(crate) fn blocked(&self) -> (Vec<String>, String) {
        let entries = self.doors.engine.blocked().entries(0);
        let reasons = entries.iter().map(|entry| entry.reason.to_string());
        let text = serde_json::to_string(&entries).expect("JSON");
        (reasons.collect(), text)
    }

    /// Whether a text contains the folder's name, which no record and no answer may.
    pub(crate) fn is_named_in(&self, text: &str) -> bool {
        text.contains(self.folder.path().to_str().expect("ASCII"))
    }
}

impl Answer {
    pub(crate) fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        Self {
            status: status(head),
            head: head.to_lowercase(),
            body: body.to_owned(),
        }
    }
}

/// The field that names a socket.
pub(crate) fn field(socket: &Path) -> String {
    format!("X-Unix-Socket: {}\r\n", socket.display())
}

/// A program that listens on a unix socket.
#[derive(Clone, Default)]
pub(crate) struct Program {
    connections: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

/// How a program answers each request.
#[derive(Clone, Copy)]
pub(crate) enum Script {
    /// Always answers with this text, and keeps the connection.
    Answer(&'static str),
    /// Answers with the content of the request.
    Echo,
    /// Writes this text and nothing else.
    Write(&'static str),
    /// Accepts an upgrade to this protocol, and then echoes all bytes.
    Upgrade(&'static str),
}

impl Program {
    pub(crate) fn listen(path: &Path, script: Script) -> Self {
        let program = Self::default();
        let listener = UnixListener::bind(path).expect("a socket");
        let accepting = program.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(accepting.clone().serve(stream, script));
            }
        });
        program
    }

    /// How often it was connected to.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// The heads that it was sent since the last call.
    pub(crate) fn heads(&self) -> Vec<String> {
        std::mem::take(&mut *self.heads.lock().expect("not poisoned"))
    }

    async fn serve(self, mut stream: UnixStream, script: Script) {
        while let Some(head) = next_head(&mut stream).await {
            let length = head.lines().find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            let mut content = vec![0; length.unwrap_or(0)];
            if stream.read_exact(&mut content).await.is_err() {
                return;
            }
            self.heads.lock().expect("not poisoned").push(head);
            let answer = match script {
                Script::Answer(text) => answer(text.as_bytes()),
                Script::Echo => answer(&content),
                Script::Write(text) => text.as_bytes().to_vec(),
                Script::Upgrade(protocol) => {
                    let head = format!(
                        "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                    );
                    head.into_bytes()
                }
            };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            if let Script::Upgrade(_) = script {
                let (mut from, mut to) = stream.split();
                // The client ends it.
                let _ = tokio::io::copy(&mut from, &mut to).await;
                return;
            }
        }
    }
}
