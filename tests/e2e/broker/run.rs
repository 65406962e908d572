//! `proxyctl run` with a private proxy: the command holds a dummy, and what it sends has the real value (SPEC B3,
//! B9).

use std::ffi::OsStr;
use std::fs::metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::origin::{Answer, Origin};
use e2e::tls::{Server, TestCa};
use e2e::wait::{TIMEOUT, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sources::TokenFile;
use super::{REAL, VARIABLE, config, contains};
use crate::run::Installed;

const GITHUB: &str = "ghp_0123456789abcdefABCDEF0123456789abcd";

/// An origin over TLS.
fn origin(ca: &TestCa) -> Origin {
    let server = Server::of(ca, &["allowed.test"]).alpn(&["h2", "http/1.1"]);
    Origin::answering(|_| Answer::Echo).tls_as(&server).start()
}

#[test]
fn b3_b9_a_command_holds_a_dummy_and_the_origin_gets_the_real_value() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let (ca, installed) = (TestCa::new(), Installed::new());
    let origin = origin(&ca);
    let url = format!("https://allowed.test:{}/v1", origin.addr().port());
    let script = format!(
        "cat /proc/self/environ | tr '\\0' '\\n'; \
         curl -sS --max-time 20 -H \"Authorization: Bearer ${VARIABLE}\" {url}; \
         curl -sS --max-time 20 --noproxy '*' -H \"Authorization: Bearer ${VARIABLE}\" {url}?past-the-variables"
    );
    let run = installed
        .private(&config(origin.addr().port()))
        .args(["--", "sh", "-c", &script])
        .env("SSL_CERT_FILE", ca.file())
        .env("SSL_CERT_DIR", "/nonexistent")
        .env(VARIABLE, REAL)
        .env("HELPER_URL", format!("https://me:{REAL}@allowed.test/"))
        .run();
    run.succeeded();
    let requests = origin.requests();
    assert_eq!(requests.len(), 2, "{run:#?}");
    for request in &requests {
        let got = request.header("authorization").map(str::to_owned);
        assert_eq!(got, Some(format!("Bearer {REAL}")), "{run:#?}");
    }
    assert!(!contains(run.stdout.as_bytes(), REAL), "{run:#?}");
    assert!(!contains(run.stderr.as_bytes(), REAL), "{run:#?}");
    assert!(
        run.stdout.contains(&format!("{VARIABLE}=sk-proj-masked")),
        "{run:#?}"
    );
    assert!(
        run.stdout.contains("HELPER_URL=https://me:sk-proj-masked"),
        "{run:#?}"
    );
    assert!(
        run.stdout
            .contains("CODEX_NETWORK_PROXY_CREDENTIAL_BROKER_ACTIVE=1"),
        "{run:#?}"
    );
}

#[test]
fn b4_a_value_in_an_argument_gets_a_remark() {
    let installed = Installed::new();
    for (script, is_remarked) in [
        (format!("echo {REAL}"), true),
        (format!("echo ${VARIABLE}"), false),
    ] {
        let run = installed
            .private(&config(443))
            .args(["--isolation", "env", "--", "sh", "-c", &script])
            .env(VARIABLE, REAL)
            .run();
        run.succeeded();
        let remark = format!("argument 2 of the command contains the value of {VARIABLE}");
        assert_eq!(run.stderr.contains(&remark), is_remarked, "{run:#?}");
        assert!(!contains(run.stderr.as_bytes(), REAL), "{run:#?}");
    }
}

#[test]
fn b13_a_private_proxy_reads_a_source_with_the_rights_of_its_user() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let (ca, installed) = (TestCa::new(), Installed::new());
    let origin = origin(&ca);
    let token = TokenFile::new(REAL);
    let source = format!("source = {{ file = \"{}\" }}\n", token.path.display());
    let failing = "source = { file = \"/nonexistent/token\" }\n";
    let failing = config(origin.addr().port()).append(failing);
    let config = config(origin.addr().port()).append(&source);
    let url = format!("https://allowed.test:{}/v1", origin.addr().port());
    let script = format!(
        "tr '\\0' '\\n' < /proc/self/environ; \
         curl -sS --max-time 20 -H \"Authorization: Bearer ${VARIABLE}\" {url}"
    );
    let run = installed
        .private(&config)
        .args(["--", "sh", "-c", &script])
        .env("SSL_CERT_FILE", ca.file())
        .env("SSL_CERT_DIR", "/nonexistent")
        // The caller's own value is not the one of the proxy, and gets the dummy too.
        .env(VARIABLE, GITHUB)
        .env("REMOTE", format!("https://{GITHUB}@allowed.test/"))
        .run();
    run.succeeded();
    let requests = origin.requests();
    assert_eq!(requests.len(), 1, "{run:#?}");
    let got = requests[0].header("authorization").map(str::to_owned);
    assert_eq!(got, Some(format!("Bearer {REAL}")), "{run:#?}");
    for secret in [REAL, GITHUB] {
        assert!(!contains(run.stdout.as_bytes(), secret), "{run:#?}");
        assert!(!contains(run.stderr.as_bytes(), secret), "{run:#?}");
    }
    let masked = format!("{VARIABLE}=sk-proj-masked");
    assert!(run.stdout.contains(&masked), "{run:#?}");
    let without = installed
        .private(&config)
        .args(["--no-credentials", "--", "env"])
        .env(VARIABLE, GITHUB)
        .run();
    without.succeeded();
    assert!(!without.stdout.contains(VARIABLE), "{without:#?}");
    // A source that fails gives the command neither a dummy nor the caller's own value.
    let lacking = installed
        .private(&failing)
        .args(["--", "env"])
        .env(VARIABLE, GITHUB)
        .env("REMOTE", format!("https://{GITHUB}@allowed.test/"))
        .run();
    lacking.succeeded();
    assert!(!contains(lacking.stdout.as_bytes(), GITHUB), "{lacking:#?}");
    assert!(!contains(lacking.stderr.as_bytes(), GITHUB), "{lacking:#?}");
}

#[test]
fn b14_a_named_credential_comes_from_the_program_that_has_it() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let tools = tempfile::tempdir().expect("a directory");
    let program = |name: &str, script: &str| {
        let path = tools.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("our own directory");
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&path, all).expect("our own file");
    };
    program(
        "gh",
        &format!("test \"$*\" = 'auth token --hostname github.com' && echo {GITHUB}"),
    );
    program(
        "secret-tool",
        &format!("test \"$5\" = openai && printf {REAL}"),
    );
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", tools.path().display());
    let run = |arguments: &[&str]| {
        let program = installed.private(&config(443)).args(arguments);
        program.args(["--", "env"]).env("PATH", &path).run()
    };
    let both = run(&["--credential", "github", "--credential", "openai"]);
    both.succeeded().says("GH_TOKEN=ghp_masked");
    both.says(&format!("{VARIABLE}=sk-proj-masked"));
    for secret in [REAL, GITHUB] {
        assert!(!contains(both.stdout.as_bytes(), secret), "{both:#?}");
        assert!(!contains(both.stderr.as_bytes(), secret), "{both:#?}");
    }
    let unknown = run(&["--credential", "githb"]);
    assert_eq!(unknown.code, Some(125), "{unknown:#?}");
    assert!(
        unknown.stderr.contains("it has openai, github"),
        "{unknown:#?}"
    );
    program("gh", "echo 'no oauth token found' >&2; exit 1");
    let lacking = run(&["--credential", "github"]);
    assert_eq!(lacking.code, Some(125), "{lacking:#?}");
    assert!(
        lacking.stderr.contains("no oauth token found"),
        "{lacking:#?}"
    );
    assert!(
        lacking.stderr.contains("run `gh auth login`"),
        "{lacking:#?}"
    );
}

#[test]
fn b3_without_credentials_a_command_has_no_variable_of_a_known_one() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let run = installed
        .private(&config(443))
        .args(["--no-credentials", "--", "env"])
        .env(VARIABLE, REAL)
        .env("GH_TOKEN", GITHUB)
        .env("REMOTE", format!("https://{GITHUB}@github.com/"))
        .env("MINE", "kept")
        .run();
    run.succeeded().says("MINE=kept");
    assert!(!run.stdout.contains(GITHUB), "{run:#?}");
    assert!(run.stderr.contains("REMOTE is removed"), "{run:#?}");
    assert!(
        !run.stdout.contains(VARIABLE) && !run.stdout.contains("GH_TOKEN"),
        "{run:#?}"
    );
}

#[test]
fn b4_a_command_does_not_get_the_secrets_of_hooks() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let (ca, installed) = (TestCa::new(), Installed::new());
    let origin = origin(&ca);
    let port = origin.addr().port();
    let config = Config::example().append(
        r#"
[network.mitm.hooks.api]
host = "allowed.test"
methods = ["GET"]
path_prefixes = ["/"]
action = ["authorise"]

[network.mitm.actions.authorise]
inject_request_headers = [{ name = "authorization", secret_env_var = "HOOK_TOKEN", prefix = "Bearer " }]
"#,
    );
    for options in [&[][..], &["--no-credentials"]] {
        let script =
            format!("env; curl -sS --max-time 20 -o /dev/null https://allowed.test:{port}/v1");
        let run = installed
            .private(&config)
            .args(options)
            .args(["--", "sh", "-c", &script])
            .env("SSL_CERT_FILE", ca.file())
            .env("SSL_CERT_DIR", "/nonexistent")
            .env("HOOK_TOKEN", REAL)
            .env("COPY", format!("https://me:{REAL}@allowed.test/"))
            .env("MINE", "kept")
            .run();
        run.succeeded().says("MINE=kept");
        assert!(!run.stdout.contains(REAL), "{run:#?}");
        assert!(!run.stdout.contains("HOOK_TOKEN"), "{run:#?}");
        let request = origin.requests().pop().expect("a request");
        assert_eq!(
            request.header("authorization"),
            Some(&*format!("Bearer {REAL}"))
        );
    }
}

#[test]
fn b3_a_command_gets_no_value_that_cannot_have_a_dummy() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let config = config(443).append(
        r#"
[network.credentials.narrow]
env = "NARROW_TOKEN"
patterns = ["narrow-[a-z0-9]{40}"]
url_prefixes = ["https://allowed.test"]
"#,
    );
    let long = "l".repeat(8193);
    let not_text = [GITHUB.as_bytes(), b"\xff"].concat();
    let unfit = [
        ("GH_TOKEN", OsStr::new("ghp_real-with-space ")),
        ("GITHUB_TOKEN", OsStr::new("seven77")),
        ("GH_ENTERPRISE_TOKEN", OsStr::new(&long)),
        ("GITHUB_ENTERPRISE_TOKEN", OsStr::from_bytes(&not_text)),
        ("NARROW_TOKEN", OsStr::new("wide-real-value")),
    ];
    let mut program = installed
        .private(&config)
        .args(["--", "env"])
        .env(VARIABLE, format!("{REAL}\n"))
        .env("REMOTE", "https://wide-real-value@github.com/")
        .env("MINE", "kept");
    for (name, value) in unfit {
        program = program.env(name, value);
    }
    let run = program.run();
    run.succeeded()
        .says("MINE=kept")
        .says(&format!("{VARIABLE}=sk-proj-masked"));
    for secret in ["ghp_", "seven77", &long, "wide-real-value", REAL] {
        assert!(!run.stdout.contains(secret), "{secret} {run:#?}");
        assert!(!run.stderr.contains(secret), "{secret} {run:#?}");
    }
    for name in unfit.map(|(name, _)| name).into_iter().chain(["REMOTE"]) {
        assert!(!run.stdout.contains(&format!("{name}=")), "{name} {run:#?}");
        let remark = format!("proxyctl: {name} is removed");
        assert!(run.stderr.contains(&remark), "{name} {run:#?}");
    }
}

#[test]
fn b4_a_command_without_isolation_reads_no_value_in_the_processes_that_started_it() {
    if !has(Need::Root) {
        return;
    }
    let installed = Installed::new();
    // The stages started the command, and `run` the stages.
    let script = "process=$PPID; \
                  while grep -q '__jai[l]' /proc/$process/cmdline; do \
                  cat /proc/$process/environ && echo stage; \
                  process=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$process/status); done; \
                  tr '\\0' ' ' < /proc/$process/cmdline; \
                  cat /proc/$process/environ; echo \"cat: $?\"";
    // Without these capabilities, root reads as an ordinary user does.
    let run = installed
        .confined(
            "setpriv",
            &["--bounding-set=-sys_ptrace,-perfmon,-sys_admin"],
            &config(443),
        )
        .args(["--isolation", "env", "--", "sh", "-c", script])
        .env(VARIABLE, REAL)
        .run();
    run.succeeded();
    for text in ["stage\n", "proxyctl run --config", "cat: 1\n"] {
        assert!(run.stdout.contains(text), "{text} {run:#?}");
    }
    assert!(!contains(run.stdout.as_bytes(), REAL), "{run:#?}");
}

#[test]
fn b4_the_programs_that_have_the_value_cannot_be_traced() {
    if !has(Need::Root) {
        return;
    }
    let installed = Installed::new();
    // As `strace -p` begins: `PTRACE_ATTACH`.
    let call = if cfg!(target_arch = "x86_64") {
        101
    } else {
        117
    };
    let attach = format!(
        r#"perl -e 'print(syscall({call}, 16, $ARGV[0] + 0, 0, 0) == 0 ? "attached" : $! + 0, " $ARGV[1]\n")'"#
    );
    // The proxy is a child of `run`, which is above the stages.
    let script = format!(
        "children() {{ grep -l \"^PPid:[[:space:]]*$1$\" /proc/[0-9]*/status 2>/dev/null | cut -d/ -f3; }}; \
         process=$PPID; \
         while grep -q '__jai[l]' /proc/$process/cmdline; do \
         process=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$process/status); done; \
         for pid in $(children $process); do \
         if grep -q codex-network-p /proc/$pid/comm; then proxy=$pid; fi; done; \
         for pid in $process $proxy $(children $proxy); do \
         name=$(cat /proc/$pid/comm); \
         for user in '' 'setpriv --reuid=65534 --regid=65534 --clear-groups'; do \
         $user {attach} $pid $name; done; done; \
         sleep 1000 & {attach} $! control; kill -KILL $!"
    );
    // Without these capabilities, root traces as an ordinary user does.
    let run = installed
        .confined(
            "setpriv",
            &["--bounding-set=-sys_ptrace,-perfmon,-sys_admin"],
            &config(443),
        )
        .args(["--isolation", "env", "--", "sh", "-c", &script])
        .env(VARIABLE, REAL)
        .run();
    run.succeeded();
    let mut lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.pop(), Some("attached control"), "{run:#?}");
    for name in ["proxyctl", "codex-network-p", "codex-np-worker"] {
        let of_program = lines.iter().filter(|line| line.ends_with(name));
        assert_eq!(of_program.count(), 2, "{name} {run:#?}");
    }
    // EPERM
    assert!(lines.iter().all(|line| line.starts_with("1 ")), "{run:#?}");
}

/// A user without rights.
const NOBODY: u32 = 65_534;

/// The memory of a process belongs to root if it cannot be traced or dumped.
fn owner_of_memory(pid: u32) -> u32 {
    metadata(format!("/proc/{pid}/mem"))
        .expect("the process lives")
        .uid()
}

#[test]
fn b4_run_cannot_be_dumped_before_it_has_a_proxy() {
    if !has(Need::Root) {
        return;
    }
    let installed = Installed::new();
    let socket = installed.path().join("control.sock");
    let service = UnixListener::bind(&socket).expect("our own directory");
    chown(&socket, Some(NOBODY), Some(NOBODY)).expect("we are root");
    let started = |words: &[&str]| {
        let mut child = Command::new(installed.path().join("proxyctl"))
            .arg("--socket")
            .arg(&socket)
            .args(words)
            .uid(NOBODY)
            .gid(NOBODY)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("proxyctl starts");
        // It gets no answer.
        let connection = service.accept().expect("it connects");
        let owner = owner_of_memory(child.id());
        drop(connection);
        child.kill().expect("our own child");
        child.wait().expect("our own child");
        owner
    };
    assert_eq!(started(&["status"]), NOBODY, "another command");
    assert_eq!(started(&["run", "--service", "--", "true"]), 0);
}

#[test]
fn b4_no_process_of_a_private_proxy_of_a_user_can_be_dumped() {
    if !has(Need::Root) {
        return;
    }
    let installed = Installed::new();
    let configuration = installed.write(&config(443));
    chown(installed.path(), Some(NOBODY), Some(NOBODY)).expect("we are root");
    let mut child = Command::new(installed.path().join("proxyctl"))
        .args(["run", "--isolation", "env", "--config"])
        .arg(configuration)
        .args(["--", "tail", "-f", "/dev/null"])
        .env("XDG_RUNTIME_DIR", installed.path())
        .env("HOME", installed.path())
        .env(VARIABLE, REAL)
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("proxyctl starts");
    let name = |pid: u32| {
        let status = e2e::process::status(pid)?;
        e2e::process::find_field(&status, "Name").map(str::to_owned)
    };
    let mut roles = Vec::new();
    let has_begun = || {
        let all = e2e::process::descendants(child.id());
        let named = |wanted: &str| {
            all.iter()
                .copied()
                .find(|pid| name(*pid).as_deref() == Some(wanted))
        };
        let command = named("tail");
        roles = vec![named("codex-network-p")?, named("codex-np-worker")?];
        command.map(|_| ())
    };
    let begun = poll(TIMEOUT, has_begun);
    let of_roles: Vec<_> = roles
        .iter()
        .map(|pid| {
            let line = e2e::process::command_line(*pid);
            (owner_of_memory(*pid), line)
        })
        .collect();
    let proxyctl = Pid::from_raw(child.id().try_into().expect("a process id"));
    kill(proxyctl, Signal::SIGTERM).expect("our own child");
    child.wait().expect("our own child");
    assert!(begun.is_some(), "{roles:?}");
    for (owner, line) in &of_roles {
        assert_eq!(*owner, 0, "{line}");
        assert!(line.contains("codex-network-proxy"), "{line}");
    }
}
