//! The servers: each a process of its own on a free port of 127.0.0.1, with a program that reports
//! how it read each request.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use e2e::tls::{Server as Tls, TestCa};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A Java compiler, a JVM and Tomcat took more than two minutes on a machine with forty times its
/// normal load. A passing test never waits this long.
const TIMEOUT: Duration = Duration::from_secs(600);

/// A running server. It ends with the value.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    processes: Vec<Child>,
    _directory: TempDir,
}

/// nginx in front of PHP, by `FastCGI`. Fields with any name are passed on.
pub(crate) fn nginx() -> Server {
    let (directory, listener, addr) = place();
    let at = directory.path();
    let application = at.join("php.sock");
    let php = UnixListener::bind(&application).expect("a socket in an empty directory");
    let server = format!(
        r"underscores_in_headers on;
        ignore_invalid_headers off;
        listen {addr};
        location / {{
            fastcgi_pass unix:{application};
            fastcgi_param SCRIPT_FILENAME {program};
            fastcgi_param ROUTED_PATH $uri;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param REQUEST_URI $request_uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param REDIRECT_STATUS 200;
        }}",
        application = application.display(),
        program = program("report.php").display(),
    );
    // PHP takes a listening socket on standard input for FastCGI's. It answers any number of requests.
    let mut fastcgi = command("php-cgi");
    fastcgi
        .env("PHP_FCGI_MAX_REQUESTS", "0")
        .stdin(OwnedFd::from(php));
    let nginx = nginx_of(at, listener, &server);
    let processes = vec![spawn(fastcgi), nginx];
    Server::new(addr, processes, directory)
}

/// nginx that ends TLS, with a certificate for `collector.test`, and has these settings of a server, which get the
/// directory of `server.pem` and `server.key`.
pub(crate) fn nginx_with_tls(ca: &TestCa, settings: &dyn Fn(&Path) -> String) -> Server {
    let (directory, listener, addr) = place();
    let at = directory.path();
    Tls::of(ca, &["collector.test"])
        .write(at)
        .expect("files in an empty directory");
    let server = format!("listen {addr} ssl http2;\n        {}", settings(at));
    let nginx = nginx_of(at, listener, &server);
    Server::new(addr, vec![nginx], directory)
}

/// nginx with one server of these settings, at a socket that listens.
fn nginx_of(at: &Path, listener: TcpListener, server: &str) -> Child {
    let temporary = ["client_body", "fastcgi", "proxy", "scgi", "uwsgi"];
    let temporary = temporary.map(|name| format!("{name}_temp_path {}/{name};", at.display()));
    let temporary = temporary.join("\n    ");
    let settings = format!(
        r"daemon off;
worker_processes 1;
{user}
pid {at}/nginx.pid;
error_log stderr crit;
events {{}}
http {{
    access_log off;
    {temporary}
    server {{
        {server}
    }}
}}
",
        // As root it would become another user, who cannot reach the other socket.
        user = if e2e::machine::is_root() {
            "user root;"
        } else {
            ""
        },
        at = at.display(),
    );
    std::fs::write(at.join("nginx.conf"), settings).expect("a file in an empty directory");
    let mut nginx = command("nginx");
    nginx
        .arg("-p")
        .arg(at)
        .arg("-c")
        .arg(at.join("nginx.conf"))
        .args(["-e", "stderr"])
        // Sockets that it need not open, as after an upgrade of the program.
        .env("NGINX", "0;")
        .stdin(OwnedFd::from(listener));
    spawn(nginx)
}

/// lighttpd with PHP by CGI.
pub(crate) fn lighttpd() -> Server {
    let (directory, listener, addr) = place();
    let at = directory.path();
    std::fs::copy(program("report.php"), at.join("report.php")).expect("a copy");
    let settings = format!(
        r#"server.document-root = "{at}"
server.bind = "/dev/stdin"
server.modules = ("mod_alias", "mod_cgi")
alias.url = ("/" => "{at}/report.php/")
cgi.assign = (".php" => "{interpreter}")
"#,
        at = at.display(),
        interpreter = find("php-cgi").display(),
    );
    std::fs::write(at.join("lighttpd.conf"), settings).expect("a file in an empty directory");
    let mut lighttpd = command("lighttpd");
    lighttpd
        .arg("-D")
        .arg("-f")
        .arg(at.join("lighttpd.conf"))
        .stdin(OwnedFd::from(listener));
    Server::new(addr, vec![spawn(lighttpd)], directory)
}

/// express with method-override.
pub(crate) fn express() -> Server {
    let modules = installed("node");
    assert!(modules.exists(), "express is missing: run .ci/servers");
    let mut node = command("node");
    node.arg(program("report.js")).arg(modules);
    announced(node, "listening ")
}

/// puma with Rack.
pub(crate) fn puma() -> Server {
    let mut puma = command("puma");
    puma.args(["--bind", "tcp://127.0.0.1:0", "--threads", "1:4"])
        .args(["--environment", "none"])
        .arg(program("config.ru"));
    announced(puma, "* Listening on http://127.0.0.1:")
}

/// Tomcat.
pub(crate) fn tomcat() -> Server {
    let mut java = command("java");
    java.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .args(["-cp", "/usr/share/java/tomcat10-embed-core.jar"])
        .arg(program("Report.java"))
        .arg(".");
    announced(java, "listening ")
}

impl Server {
    pub(crate) fn new(addr: SocketAddr, processes: Vec<Child>, directory: TempDir) -> Self {
        Self {
            addr,
            processes,
            _directory: directory,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.processes {
            let group = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
            // The group may have ended already.
            let _: nix::Result<()> = killpg(group, Signal::SIGKILL);
            child.wait().expect("our own child");
        }
    }
}

/// A directory, and a socket that already listens. A server that inherits the socket can accept
/// from its start.
fn place() -> (TempDir, TcpListener, SocketAddr) {
    let directory = TempDir::new().expect("a temporary directory");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let addr = listener.local_addr().expect("a listener has an address");
    (directory, listener, addr)
}

/// Starts a server that prints its port on standard output.
fn announced(mut command: Command, before_port: &str) -> Server {
    let directory = TempDir::new().expect("a temporary directory");
    command
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = spawn(command);
    let stdout = child.stdout.take().expect("a piped stdout");
    let (ports, announced) = mpsc::channel();
    let before = before_port.to_owned();
    // Reads to the end, so that the server never waits for a reader.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let port = line
                .strip_prefix(&before)
                .and_then(|port| port.trim().parse().ok());
            if let Some(port) = port {
                let _: Result<(), _> = ports.send(port);
            }
        }
    });
    let server = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut starting = Server::new(server(0), vec![child], directory);
    let port = announced.recv_timeout(TIMEOUT);
    starting.addr = server(port.expect("the server says where it listens"));
    starting
}

/// A program in an environment without anything of this machine.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(find(name));
    command.env_clear().env("LANG", "C.UTF-8");
    for name in ["PATH", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    // A group of its own, so that its children can be ended too.
    command.process_group(0);
    command
}

pub(crate) fn spawn(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|error| {
        panic!("cannot start {command:?}: {error}; when it is not installed, run .ci/servers")
    })
}

/// The path of a program. Debian installs servers in folders that only root's `PATH` contains.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = [PathBuf::from("/usr/sbin"), installed("rotel")];
    let mut places = std::env::split_paths(&path).chain(more);
    let found = places.find_map(|place| Some(place.join(name)).filter(|file| file.exists()));
    found.unwrap_or_else(|| panic!("there is no {name}: run .ci/servers"))
}

/// A folder that `.ci/servers` fills.
fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/servers")
        .join(name)
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("servers/programs")
        .join(name)
}
