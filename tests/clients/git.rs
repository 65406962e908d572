//! git over smart HTTP, served by `git http-backend` as a CGI program of the test's own origin: a
//! clone fetches a repository, a push stores one.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use e2e::daemon::Config;
use e2e::origin::{Answer, Body, Builder, Origin, Reply, Request};
use e2e::program::{Program, Run};
use tempfile::TempDir;

use crate::client::{Attempt, CONTENT, Client, Outcome, ProxyProtocol, Scheme};
use crate::intercepted::{Intercepted, attempt_through, limited_setup, setup_for};

/// A bare repository `tiny.git` with one commit, and a place for clones.
pub(crate) struct Repository {
    directory: TempDir,
}

impl Repository {
    pub(crate) fn new() -> Self {
        let repository = Self {
            directory: TempDir::new().expect("a temporary directory"),
        };
        let start = repository.path("start");
        git(&["init", "--quiet", "--initial-branch=main"], &start);
        commit_content(&start, "file");
        let root = repository.directory.path();
        git(&["clone", "--quiet", "--bare", "start", "tiny.git"], root);
        let bare = root.join("tiny.git");
        git(&["config", "http.receivepack", "true"], &bare);
        // The protocol without a program on the other side needs these files.
        git(&["update-server-info"], &bare);
        repository
    }

    /// Creates a directory beside the repository.
    fn path(&self, name: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// An origin that serves it.
    fn origin(&self) -> Builder {
        let root = self.directory.path().to_owned();
        Origin::answering(move |request| http_backend(&root, request))
    }

    /// The answer of a server that has it.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        http_backend(self.directory.path(), request)
    }

    /// Writes this to the client after each push.
    pub(crate) fn says_after_a_push(&self, words: &str) {
        let hook = self.path("tiny.git/hooks").join("post-receive");
        fs::write(&hook, format!("#!/bin/sh\necho '{words}'\n")).expect("our own repository");
        let may_run = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&hook, may_run).expect("our own file");
    }

    /// The file that was pushed.
    pub(crate) fn pushed(&self) -> Option<String> {
        let shown = Program::new("git")
            .args(["show", "main:pushed"])
            .current_dir(&self.path("tiny.git"))
            .run();
        (shown.code == Some(0)).then_some(shown.stdout)
    }

    /// `git clone`, with these variables.
    fn clone(&self, attempt: &Attempt<'_>, variables: &[(&str, &str)]) -> Outcome {
        let directory = self.path(".");
        let git = over_http(attempt, &["clone", &url(attempt), "cloned"]).current_dir(&directory);
        let git = variables
            .iter()
            .fold(git, |git, (name, value)| git.env(name, value));
        let run = git.run();
        let fetched = fs::read_to_string(directory.join("cloned/file")).ok();
        Outcome { run, fetched }
    }

    /// `git push` of a new commit.
    fn push(&self, attempt: &Attempt<'_>) -> Run {
        let work = self.path("start");
        commit_content(&work, "pushed");
        over_http(attempt, &["push", &url(attempt), "main"])
            .current_dir(&work)
            .run()
    }
}

/// `git clone`.
struct Clone(Repository);

impl Client for Clone {
    fn origin(&self, _scheme: Scheme) -> Builder {
        self.0.origin()
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        self.0.clone(attempt, &[])
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        refusals(scheme, through)
    }
}

/// `git push`.
struct Push(Repository);

impl Client for Push {
    fn origin(&self, _scheme: Scheme) -> Builder {
        self.0.origin()
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        let run = self.0.push(attempt);
        let fetched = self.0.pushed();
        Outcome { run, fetched }
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        refusals(scheme, through)
    }
}

/// `git clone` with `GIT_SMART_HTTP=0`, which makes it fetch files only: otherwise it reads by
/// `POST`.
struct DumbClone(Repository);

impl Client for DumbClone {
    fn origin(&self, _scheme: Scheme) -> Builder {
        self.0.origin()
    }

    fn attempt(&self, attempt: &Attempt<'_>) -> Outcome {
        self.0.clone(attempt, &[("GIT_SMART_HTTP", "0")])
    }

    fn refusals(&self, scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
        refusals(scheme, through)
    }
}

impl Intercepted for DumbClone {
    fn write(&self, attempt: &Attempt<'_>) -> Run {
        self.0.push(attempt)
    }

    fn write_refusals(&self) -> &'static [&'static str] {
        &["HTTP 403"]
    }

    fn distrusts(&self) -> &'static [&'static str] {
        &[
            "SSL certificate problem",
            "server certificate verification failed",
        ]
    }

    fn versions(&self) -> &'static [&'static str] {
        &["HTTP/2.0"]
    }
}

fn refusals(scheme: Scheme, through: ProxyProtocol) -> &'static [&'static str] {
    match (scheme, through) {
        (Scheme::Http, ProxyProtocol::Http) => &["The requested URL returned error: 403"],
        (Scheme::Https, ProxyProtocol::Http) => &[
            "CONNECT tunnel failed, response 403",
            "HTTP code 403 from proxy after CONNECT",
        ],
        (_, ProxyProtocol::Socks5) => &["blocked.test. (2)"],
    }
}

/// The repository at the origin.
fn url(attempt: &Attempt<'_>) -> String {
    format!("{}/tiny.git", attempt.base)
}

/// git as a user behind the proxy would run it.
pub(crate) fn over_http(attempt: &Attempt<'_>, arguments: &[&str]) -> Program {
    attempt
        .program("git")
        .arg("-c")
        .arg(format!("http.proxy={}", attempt.proxy_or_empty()))
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_TERMINAL_PROMPT", "0")
}

/// Runs git on local files.
pub(crate) fn git(arguments: &[&str], directory: &Path) {
    Program::new("git")
        .args(arguments)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .current_dir(directory)
        .run()
        .succeeded();
}

/// Commits a file that has [`CONTENT`].
fn commit_content(directory: &Path, file: &str) {
    fs::write(directory.join(file), CONTENT).expect("a file");
    commit(directory, file);
}

/// Commits all files.
pub(crate) fn commit(directory: &Path, message: &str) {
    git(&["add", "."], directory);
    let author = ["-c", "user.name=Test", "-c", "user.email=test@allowed.test"];
    let commit = ["commit", "--quiet", "--message", message];
    git(&[&author[..], &commit[..]].concat(), directory);
}

/// One request through the CGI interface (RFC 3875; git-http-backend(1)).
fn http_backend(root: &Path, request: &Request) -> Answer {
    let (path, query) = request
        .target
        .split_once('?')
        .unwrap_or((&request.target, ""));
    let mut program = Program::new("git")
        .arg("http-backend")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", &request.method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("REMOTE_ADDR", "127.0.0.1")
        .stdin(&request.body);
    for (field, variable) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(field) {
            program = program.env(variable, value);
        }
    }
    let (run, output) = program.run_for_bytes();
    run.succeeded();
    let end = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .expect("a CGI program ends its fields");
    let head = String::from_utf8_lossy(&output[..end]);
    let mut reply = Reply::new(200, Body::Sized(output[end + 4..].to_vec()));
    for line in head.lines() {
        match line.split_once(": ").expect("a CGI program writes fields") {
            ("Status", status) => {
                let code = status.split(' ').next().unwrap_or_default();
                reply.status = code.parse().expect("a numeric status");
            }
            (name, value) => reply = reply.header(name, value),
        }
    }
    Answer::Reply(reply)
}

mod clone {
    use super::{Clone, Repository};
    crate::client::client_tests!(Clone(Repository::new()); http, https, socks5);
}

mod dumb_clone {
    use super::{DumbClone, Repository};
    crate::intercepted::intercepted_tests!(DumbClone(Repository::new()));
}

/// By default, git reads by `POST`.
#[test]
fn p7_a_clone_over_smart_http_is_refused_in_limited_mode() {
    let clone = Clone(Repository::new());
    let setup = limited_setup(clone.origin(Scheme::Https));
    let outcome = attempt_through(&setup, |attempt| clone.attempt(attempt));
    outcome.run.failed().says("HTTP 403");
    let entry = setup.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["method"], "POST", "{entry}");
}

/// M9, M10: the hooks that codex-network-proxy(7) gives for a repository that can be read only.
#[test]
fn m9_m10_hooks_permit_a_clone_and_no_push() {
    let config = Config::example().append(
        r#"
        [network.mitm.hooks.clone]
        host = "allowed.test"
        methods = ["GET"]
        path_prefixes = ["/tiny.git/info/refs"]
        query = { service = ["git-upload-pack"] }
        [network.mitm.hooks.fetch]
        host = "allowed.test"
        methods = ["POST"]
        path_prefixes = ["/tiny.git/git-upload-pack"]
        "#,
    );
    let clone = Clone(Repository::new());
    let setup = setup_for(clone.origin(Scheme::Https), &config);
    let outcome = attempt_through(&setup, |attempt| clone.attempt(attempt));
    outcome.run.succeeded();
    assert_eq!(outcome.fetched.as_deref(), Some(CONTENT));
    let push = Push(Repository::new());
    let outcome = attempt_through(&setup, |attempt| push.attempt(attempt));
    outcome.run.failed().says("403");
    let entry = setup.daemon.wait_for_blocked(|_| true);
    assert_eq!(entry["reason"], "mitm_hook_denied", "{entry}");
}

mod push {
    use super::{Push, Repository};
    crate::client::client_tests!(Push(Repository::new()); http, https, socks5);
}
