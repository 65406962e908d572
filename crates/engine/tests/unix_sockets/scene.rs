//! An engine that serves unix sockets on every platform, and programs that listen on some in a
//! folder of the test's own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use codex_network_config::{Settings, Sources, load};
use codex_network_engine::{
    AuditEvent, AuditSink, Door, Engine, EngineParts, Listening, NetworkDecision,
    NetworkPolicyRequest, Scope,
};
use codex_network_policy::UnixSocketSupport;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

/// Time limit for everything in these tests.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Scene {
    pub(crate) engine: Engine,
    http: Listening,
    folder: Arc<TempDir>,
    audit: Arc<Audit>,
}

/// A folder with sockets in it, and the settings for a scene there.
pub(crate) struct Stage(Arc<TempDir>);

/// Keeps the records, as `verdict reason scope address:port`.
#[derive(Default)]
struct Audit(Mutex<Vec<String>>);

impl AuditSink for Audit {
    fn record(&self, event: &AuditEvent<'_>) {
        let scope = match event.scope {
            Scope::Domain => "domain",
            Scope::NonDomain => "non_domain",
        };
        let line = format!(
            "{} {} {scope} {}:{}",
            event.decision.verdict(),
            event.reason,
            event.server_address,
            event.server_port
        );
        self.0.lock().expect("not poisoned").push(line);
    }
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self(Arc::new(TempDir::new().expect("a folder")))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings of `[permissions.p.network]`: `{}` in the text stands for the folder.
    fn settings(&self, text: &str) -> Arc<Settings> {
        let folder = self.0.path().to_str().expect("ASCII");
        let text = format!(
            "default_permissions = \"p\"\n[permissions.p.network]\n{}\n",
            text.replace("{}", folder)
        );
        let loaded = load(&Sources::none().with_text("test", &text)).expect("a policy");
        Arc::new(loaded.settings)
    }

    pub(crate) fn scene(&self, text: &str) -> Scene {
        self.scene_with(text, UnixSocketSupport::Served)
    }

    pub(crate) fn scene_with(&self, text: &str, unix_sockets: UnixSocketSupport) -> Scene {
        let audit = Arc::new(Audit::default());
        let never = |request: NetworkPolicyRequest| async move {
            panic!("the decider was asked about {}", request.host);
            #[expect(unreachable_code, reason = "says what a decider gives")]
            NetworkDecision::Allow
        };
        let parts = EngineParts {
            audit: Arc::clone(&audit) as Arc<dyn AuditSink>,
            decider: Some(Arc::new(never)),
            unix_sockets,
            ..EngineParts::default()
        };
        let engine = Engine::new(self.settings(text), parts).expect("an engine");
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
        let http = engine.open(Door::Http, listener).expect("a door");
        Scene {
            engine,
            http,
            folder: Arc::clone(&self.0),
            audit,
        }
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Scene {
    /// Other settings.
    pub(crate) fn replace(&self, text: &str) {
        let stage = Stage(Arc::clone(&self.folder));
        let settings = stage.settings(text);
        self.engine.replace(&settings).expect("usable settings");
    }

    #[expect(clippy::disallowed_methods, reason = "the test's own client")]
    pub(crate) async fn client(&self) -> TcpStream {
        let door = self.http.address();
        TcpStream::connect(door).await.expect("an open door")
    }

    /// `GET` on a connection of its own.
    pub(crate) async fn get(&self, socket: &Path) -> Said {
        self.ask("GET", &field(socket), "").await
    }

    /// One request on a connection of its own, with these fields and this content.
    pub(crate) async fn ask(&self, method: &str, fields: &str, content: &str) -> Said {
        let length = match content.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\n"),
        };
        let request = format!(
            "{method} http://localhost/containers/json?all=1 HTTP/1.1\r\nHost: localhost\r\n{fields}{length}Connection: close\r\n\r\n{content}"
        );
        let mut client = self.client().await;
        client.write_all(request.as_bytes()).await.expect("a door");
        let mut answer = String::new();
        let read = timeout(TIMEOUT, client.read_to_string(&mut answer));
        read.await.expect("an answer in time").expect("an answer");
        Said::of(&answer)
    }

    /// What was audited since the last call.
    pub(crate) fn audited(&self) -> Vec<String> {
        std::mem::take(&mut *self.audit.0.lock().expect("not poisoned"))
    }

    /// The reasons of the blocked entries, and their full text.
    pub(crate) fn blocked(&self) -> (Vec<String>, String) {
        let entries = self.engine.blocked().entries(0);
        let reasons = entries.iter().map(|entry| entry.reason.to_string());
        let text = serde_json::to_string(&entries).expect("JSON");
        (reasons.collect(), text)
    }

    /// Whether a text contains the folder's name, which no record and no answer may.
    pub(crate) fn is_named_in(&self, text: &str) -> bool {
        text.contains(self.folder.path().to_str().expect("ASCII"))
    }
}

impl Said {
    pub(crate) fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        Self {
            status: head[9..12].parse().expect("a status"),
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

/// How a program answers a request.
#[derive(Clone, Copy)]
pub(crate) enum Plays {
    /// Always answers with this text, and keeps the connection.
    Says(&'static str),
    /// Answers with the content of the request.
    Echoes,
    /// Writes this text and nothing else.
    Writes(&'static str),
    /// Changes to this protocol, and echoes.
    Switches(&'static str),
}

impl Program {
    pub(crate) fn listen(path: &Path, plays: Plays) -> Self {
        let program = Self::default();
        let listener = UnixListener::bind(path).expect("a socket");
        let accepting = program.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepting.connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(accepting.clone().serve(stream, plays));
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

    async fn serve(self, mut stream: UnixStream, plays: Plays) {
        while let Some(head) = head(&mut stream).await {
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
            let answer = match plays {
                Plays::Says(text) => answer(text.as_bytes()),
                Plays::Echoes => answer(&content),
                Plays::Writes(text) => text.as_bytes().to_vec(),
                Plays::Switches(protocol) => {
                    let head = format!(
                        "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                    );
                    head.into_bytes()
                }
            };
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            if let Plays::Switches(_) = plays {
                let (mut from, mut to) = stream.split();
                // The client ends it.
                let _ = tokio::io::copy(&mut from, &mut to).await;
                return;
            }
        }
    }
}

fn answer(content: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
        content.len()
    );
    [head.as_bytes(), content].concat()
}

/// Reads up to the end of a head; `None` when there is none.
pub(crate) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
