//! Doors that several runtimes serve.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use codex_network_engine::{
    Dial, EngineParts, LauncherCredentials, SessionDoor, SessionParts, TcpDialler,
};
use codex_network_policy::Narrowing;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::kit::doors::Doors;
use crate::kit::server;
use crate::kit::settings;
use crate::kit::stream::{in_time, next_head, read_head};

const POLICY: &str = "[network]\nallowed_domains = [\"127.0.0.1\"]\nallow_local_binding = true\n";

/// Runtimes on threads of their own, until they are dropped.
struct Runtimes {
    handles: Vec<Handle>,
    _stop: Vec<oneshot::Sender<()>>,
}

/// Keeps a runtime from running anything until it is dropped.
struct Blocked(#[expect(dead_code, reason = "its drop ends the block")] mpsc::Sender<()>);

impl Runtimes {
    fn start(count: usize) -> Self {
        let start_one = |number| {
            let runtime = Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let handle = runtime.handle().clone();
            let (stop, stopped) = oneshot::channel::<()>();
            let thread = thread::Builder::new().name(format!("serves-{number}"));
            let ran = thread.spawn(move || drop(runtime.block_on(stopped)));
            ran.expect("a thread");
            (handle, stop)
        };
        let (handles, stop) = (0..count).map(start_one).unzip();
        Self {
            handles,
            _stop: stop,
        }
    }

    /// Blocks one runtime, and returns once it is blocked.
    fn block(&self, number: usize) -> Blocked {
        let (blocks, is_blocked) = mpsc::channel();
        let (blocked, release) = mpsc::channel::<()>();
        self.handles[number].spawn(async move {
            blocks.send(()).expect("the test waits");
            let _ = release.recv();
        });
        is_blocked.recv().expect("a running task");
        Blocked(blocked)
    }
}

/// Dials, and remembers the threads on which it did.
#[derive(Default)]
struct ThreadLog(Mutex<Vec<String>>);

impl ThreadLog {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("not poisoned"))
    }
}

impl Dial for ThreadLog {
    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        let name = thread::current().name().unwrap_or_default().to_owned();
        self.0.lock().expect("not poisoned").push(name);
        TcpDialler.dial(address)
    }
}

/// Doors on two runtimes, and an origin that answers every request on a connection.
struct Scene {
    runtimes: Runtimes,
    doors: Doors,
    dials: Arc<ThreadLog>,
    origin: SocketAddr,
}

impl Scene {
    async fn start() -> Self {
        Self::with("").await
    }

    /// A scene with further settings.
    async fn with(further: &str) -> Self {
        let runtimes = Runtimes::start(2);
        let dials = Arc::<ThreadLog>::default();
        let parts = EngineParts {
            runtimes: runtimes.handles.clone(),
            dialler: Arc::clone(&dials) as Arc<dyn Dial>,
            ..EngineParts::default()
        };
        let doors = Doors::open(settings(&format!("{POLICY}{further}")), parts);
        let origin = server::serve(|mut stream: TcpStream| async move {
            while next_head(&mut stream).await.is_some() {
                let sent = stream.write_all(&server::answer(b"ok")).await;
                sent.expect("an open connection");
            }
        });
        let origin = origin.await;
        Self {
            runtimes,
            doors,
            dials,
            origin,
        }
    }

    /// Sends a request on this connection and reads its answer.
    async fn request(&self, client: &mut TcpStream) {
        let origin = self.origin;
        let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: {origin}\r\n\r\n");
        let sent = client.write_all(request.as_bytes()).await;
        sent.expect("an open connection");
        let head = read_head(client).await.expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut content = [0; 2];
        let read = in_time(client.read_exact(&mut content)).await;
        read.expect("the content");
    }
}

#[tokio::test]
async fn a_connection_and_its_origins_stay_on_the_runtime_that_accepted_it() {
    let scene = Scene::start().await;
    let mut clients = Vec::new();
    for (blocked, serves) in [(0, "serves-1"), (1, "serves-0")] {
        let _blocked = scene.runtimes.block(blocked);
        let mut client = scene.doors.client().await;
        scene.request(&mut client).await;
        // The second client would have to wait for the other runtime if it got its kept connection.
        assert_eq!(scene.dials.take(), [serves]);
        clients.push((blocked, client));
    }
    for (blocked, client) in &mut clients {
        let _blocked = scene.runtimes.block(*blocked);
        scene.request(client).await;
        assert_eq!(scene.dials.take(), [""; 0]);
    }
}

#[tokio::test]
async fn connections_are_spread_but_a_runtime_that_does_not_run_gets_only_one() {
    let scene = Scene::start().await;
    let blocked = scene.runtimes.block(1);
    let mut first = scene.doors.client().await;
    scene.request(&mut first).await;
    // Passed on to the runtime without connections, which cannot begin to serve it.
    let mut second = scene.doors.client().await;
    let mut third = scene.doors.client().await;
    scene.request(&mut third).await;
    scene.request(&mut first).await;
    assert_eq!(scene.dials.take(), ["serves-0"]);
    drop(blocked);
    scene.request(&mut second).await;
    assert_eq!(scene.dials.take(), ["serves-1"]);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn j13_a_reset_connection_of_a_session_keeps_no_runtime_from_getting_others() {
    let scene = Scene::with("[daemon.sessions]\nmax_connections = 1\n").await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let door = listener.local_addr().expect("bound");
    let session = scene.doors.engine.open_session(SessionParts {
        uid: 1,
        user: None,
        command: "curl".to_owned(),
        pid: 1,
        isolation: "jail",
        profile: None,
        narrowing: Narrowing::default(),
        credentials: LauncherCredentials::default(),
        doors: vec![SessionDoor::Http],
        sockets: vec![listener.into()],
    });
    let _session = session.expect("a session");
    let mut first = TcpDialler.dial(door).await.expect("it listens");
    scene.request(&mut first).await;
    assert_eq!(scene.dials.take(), ["serves-1"]);
    // The other runtime has no connection, and would get this one.
    let mut beyond = TcpDialler.dial(door).await.expect("it listens");
    let reset = in_time(beyond.read_u8()).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    let blocked = scene.runtimes.block(0);
    let mut second = scene.doors.client().await;
    let mut third = scene.doors.client().await;
    scene.request(&mut third).await;
    assert_eq!(scene.dials.take(), ["serves-1"]);
    drop(blocked);
    scene.request(&mut second).await;
    assert_eq!(scene.dials.take(), ["serves-0"]);
}

#[tokio::test]
async fn a_closed_door_accepts_on_no_runtime() {
    let Scene {
        doors, runtimes, ..
    } = Scene::start().await;
    let address = doors.http();
    drop(doors);
    let is_refused = async {
        while TcpDialler.dial(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    in_time(is_refused).await;
    drop(runtimes);
}
