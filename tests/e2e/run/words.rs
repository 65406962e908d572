//! The words of `proxyctl run` when it starts no command: one line that says what to do (SPEC J1, J4, J10).

use std::net::TcpListener;

use e2e::daemon::Config;
use e2e::machine::{Need, has};
use e2e::program::Run;

use super::Installed;

/// The last line of standard error, which is the only one that is not about the proxy.
#[track_caller]
fn last_line(run: &Run) -> &str {
    let lines = run.failed().stderr.lines();
    let mut lines = lines.filter(|line| !line.starts_with("proxyctl: uses "));
    let line = lines.next().expect("a line");
    assert_eq!(lines.next(), None, "{run:#?}");
    line
}

#[test]
fn j10_forwarded_ports_must_be_free_and_few() {
    let installed = Installed::new();
    let run = |options: &[&str]| installed.private(&Config::example()).args(options);
    let many: Vec<String> = (1..12)
        .map(|at| format!("--forward={at}=db.test:1"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    for (options, wanted) in [
        (
            &["--forward", "3128=db.test:1"][..],
            "port 3128 of the jail is the HTTP door of the session; choose another one",
        ),
        (
            &["--forward", "53=db.test:1"],
            "port 53 of the jail is the DNS door of the session; choose another one",
        ),
        (
            &["--forward", "5=db.test:1", "--forward", "5=other.test:1"],
            "port 5 is given twice; choose another one",
        ),
        (&many, "a session has at most 10 forwarded ports"),
    ] {
        let run = run(options).args(["--", "echo", "started"]).run();
        assert_eq!(run.code, Some(2), "{run:#?}");
        assert!(last_line(&run).contains(wanted), "{run:#?}");
        assert_eq!(run.stdout, "");
    }
}

#[test]
fn j10_a_port_of_the_machine_that_is_in_use_is_named() {
    let installed = Installed::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let run = installed
        .private(&Config::example())
        .args(["--isolation", "env", "--forward"])
        .arg(format!("{port}=allowed.test:1"))
        .args(["--", "echo", "started"])
        .run();
    assert_eq!(run.code, Some(125), "{run:#?}");
    run.says(&format!(
        "cannot open the ports of the session: cannot bind a listener: port {port} of --forward: another program has it"
    ));
    assert_eq!(run.stdout, "");
    assert_eq!(installed.left_over(), [""; 0]);
}

#[test]
fn j1_a_command_that_cannot_be_started_says_why() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let script = installed.path().join("script");
    std::fs::write(&script, "#!/nonexistent/shell\n").expect("our own directory");
    let script = script.to_str().expect("a plain path").to_owned();
    let plain = script.clone();
    let executable = || {
        use std::os::unix::fs::PermissionsExt as _;
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&script, all).expect("our own file");
    };
    let run = |command: &str| {
        installed
            .private(&Config::example())
            .args(["--", command])
            .run()
    };
    let not_executable = run(&plain);
    executable();
    for (run, code, wanted) in [
        (
            not_executable,
            126,
            "cannot be started: it is not executable (chmod +x)",
        ),
        (run(&script), 127, "the program that its first line names"),
        (run("/"), 126, "cannot be started: it is a directory"),
        (
            run("no-such-command"),
            127,
            "command not found in the directories of PATH",
        ),
        (run("./no-such-file"), 127, "there is no such file"),
        (run(""), 127, "the name of the command is empty"),
    ] {
        assert_eq!(run.code, Some(code), "{run:#?}");
        assert!(last_line(&run).contains(wanted), "{run:#?}");
    }
}

#[test]
fn j4_a_profile_that_does_not_exist_is_one_line_with_those_that_do() {
    if !has(Need::UserNamespaces) {
        return;
    }
    let installed = Installed::new();
    let config = Config::example().append("[permissions.build.network]\nenabled = true\n");
    let run = installed
        .private(&config)
        .args(["--profile", "biuld", "--", "echo", "started"])
        .run();
    assert_eq!(run.code, Some(125), "{run:#?}");
    let line = last_line(&run);
    assert!(
        line.contains("there is no permission profile \"biuld\""),
        "{line}"
    );
    assert!(line.contains("build"), "{line}");
    assert_eq!(run.stdout, "");
}
