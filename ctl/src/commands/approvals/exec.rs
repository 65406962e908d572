//! `proxyctl approvals --follow --exec COMMAND`: a command that answers questions (SPEC Q6).
//!
//! The shell runs it once for each question, with the question as JSON on its standard input, several at the same
//! time. Exit status 0 approves, with the scope on its standard output; 1 rejects; every other end leaves the question
//! open. It runs as the user who follows, never in the proxy, and in a process group of its own, which ends with the
//! follower. So it cannot read the follower's terminal.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use codex_network_config::parse_duration;
use codex_network_control::Client;
use codex_network_control::message::{Approval, Question, QuestionId, Scope};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{destination, granted_sentence};
use crate::output::{Output, printable_line};

/// Commands that run at once. Further questions stay open.
const MAX_RUNNING: usize = 64;
/// The longest answer that is read.
const MAX_ANSWER: u64 = 4096;
/// Interval of checks whether a command has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// How long the answer of a command that has ended may take: a process that it left may hold its output open.
const OUTPUT_TIMEOUT: Duration = Duration::from_secs(1);

/// The commands that run.
#[derive(Debug)]
pub(super) struct Answerers {
    command: String,
    running: JoinSet<(Question, Result<Answer, String>)>,
    /// The open questions that have had their command.
    asked: HashSet<String>,
}

/// The answer of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Approve { scope: Scope, any_port: bool },
    Reject,
    LeaveOpen,
}

impl Answerers {
    pub(super) fn new(command: String) -> Self {
        Self {
            command,
            running: JoinSet::new(),
            asked: HashSet::new(),
        }
    }

    /// Notes a change of a question. One that is open gets its command, once.
    pub(super) fn note(&mut self, output: &Output, question: &Question) {
        if question.state != "pending" {
            self.asked.remove(&question.id);
            return;
        }
        if self.asked.contains(&question.id) {
            return;
        }
        if self.running.len() >= MAX_RUNNING {
            output.remark(&format!(
                "({MAX_RUNNING} commands run already, so the question {} gets none)",
                printable_line(&question.id)
            ));
            return;
        }
        self.asked.insert(question.id.clone());
        let (command, question) = (self.command.clone(), question.clone());
        self.running.spawn(async move {
            let answer = run(&command, &question).await;
            (question, answer)
        });
    }

    /// The next answer. It never resolves while no command runs.
    pub(super) async fn next(&mut self) -> NextAnswer {
        loop {
            match self.running.join_next().await {
                Some(Ok((question, answer))) => return NextAnswer { question, answer },
                // It panicked, which is reported.
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// The answer of a command that has ended.
#[derive(Debug)]
pub(super) struct NextAnswer {
    question: Question,
    answer: Result<Answer, String>,
}

impl NextAnswer {
    /// Gives the answer to the proxy, and says so.
    pub(super) async fn give(self, client: &Client, output: &Output) {
        let Question { id, host, port, .. } = self.question;
        let to = destination(&host, Some(port));
        let given = match self.answer {
            Ok(Answer::Approve { scope, any_port }) => {
                let approval = Approval {
                    id: id.clone(),
                    scope,
                    any_port,
                };
                let granted = client.approve(approval).await;
                granted.map(|granted| granted_sentence(&granted.grant))
            }
            Ok(Answer::Reject) => {
                let denied = client.deny(QuestionId { id: id.clone() }).await;
                denied.map(|_| format!("denied {to}"))
            }
            Ok(Answer::LeaveOpen) => Ok(format!("left open: {to}")),
            Err(why) => Ok(format!("left open: {to}: {}", printable_line(&why))),
        };
        let id = printable_line(&id);
        match given {
            Ok(said) => output.remark(&format!("({id}: {said})")),
            Err(error) => output.remark(&format!("({id}: the answer does not count: {error})")),
        }
    }
}

/// A command that runs. Dropping it ends its process group.
struct Running {
    child: Child,
    /// Whether its status was taken. Its number may stand for another process then.
    has_ended: bool,
}

impl Running {
    /// The exit status of the command; `None` if the question expired before. -1 stands for a signal.
    async fn status(&mut self, expires: i64) -> std::io::Result<Option<i32>> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.has_ended = true;
                return Ok(Some(status.code().unwrap_or(-1)));
            }
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            let now = now.map_or(0, |now| now.as_secs());
            if i64::try_from(now).is_ok_and(|now| now >= expires) {
                return Ok(None);
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if let Ok(group) = i32::try_from(self.child.id()) {
            // An error means that no process is left.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Runs the command until it ends, or until the question expires.
async fn run(command: &str, question: &Question) -> Result<Answer, String> {
    let json = serde_json::to_string(question).map_err(|error| error.to_string())?;
    let failed = |error: std::io::Error| format!("the command cannot be run: {error}");
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let mut running = Running {
        child,
        has_ended: false,
    };
    let (sender, answer) = oneshot::channel();
    if let Some(stdout) = running.child.stdout.take() {
        thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stdout.take(MAX_ANSWER).read_to_end(&mut text);
            let _ = sender.send(String::from_utf8_lossy(&text).into_owned());
        });
    }
    if let Some(mut stdin) = running.child.stdin.take() {
        // A question is shorter than a pipe. A command need not read it.
        let _ = writeln!(stdin, "{json}");
    }
    let Some(code) = running.status(question.expires).await.map_err(failed)? else {
        return Err("the command did not end before the question expired".to_owned());
    };
    match code {
        0 => match tokio::time::timeout(OUTPUT_TIMEOUT, answer).await {
            Ok(Ok(printed)) => parsed(&printed),
            _ => Err("the command's output does not end".to_owned()),
        },
        1 => Ok(Answer::Reject),
        _ => Ok(Answer::LeaveOpen),
    }
}

/// Reads a scope: `once`, `session` or a time, and `any-port`. Nothing stands for the default.
fn parsed(text: &str) -> Result<Answer, String> {
    let (mut scope, mut any_port) = (Scope::Default, false);
    for word in text.split_whitespace() {
        match word {
            "any-port" if !any_port => any_port = true,
            _ if scope != Scope::Default => return Err(format!("{word:?} is one word too many")),
            "once" => scope = Scope::Once,
            "session" => scope = Scope::Session,
            time => {
                let time = parse_duration(time).map_err(|_| {
                    format!("the command printed {time:?}, which is not `once`, `session`, a time or `any-port`")
                })?;
                scope = Scope::Seconds(time.as_secs());
            }
        }
    }
    Ok(Answer::Approve { scope, any_port })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn approve(scope: Scope, any_port: bool) -> Answer {
        Answer::Approve { scope, any_port }
    }

    #[test]
    fn q6_a_command_prints_a_scope() {
        for (text, wanted) in [
            ("", Some(approve(Scope::Default, false))),
            ("once\n", Some(approve(Scope::Once, false))),
            ("session", Some(approve(Scope::Session, false))),
            ("15m any-port\n", Some(approve(Scope::Seconds(900), true))),
            ("any-port", Some(approve(Scope::Default, true))),
            ("once session", None),
            ("any-port any-port", None),
            ("permanent", None),
            ("yes", None),
        ] {
            assert_eq!(parsed(text).ok(), wanted, "{text:?}");
        }
    }

    #[tokio::test]
    async fn q6_the_exit_status_of_a_command_is_its_answer() {
        let question = |expires| Question {
            id: "0a1b2c3d".to_owned(),
            host: "a.test".to_owned(),
            expires,
            ..Question::default()
        };
        let reads = r#"grep -q '"host":"a.test"' && echo once"#;
        for (command, wanted) in [
            ("exit 0", Ok(approve(Scope::Default, false))),
            (reads, Ok(approve(Scope::Once, false))),
            ("exit 1", Ok(Answer::Reject)),
            ("echo once; exit 2", Ok(Answer::LeaveOpen)),
            ("kill -9 $$", Ok(Answer::LeaveOpen)),
        ] {
            let answer = run(command, &question(i64::MAX)).await;
            assert_eq!(answer, wanted, "{command}");
        }
        let late = run("exec cat /dev/zero > /dev/null", &question(0)).await;
        let late = late.unwrap_err();
        assert!(late.contains("did not end"), "{late}");
    }

    #[tokio::test]
    async fn q6_a_command_that_is_given_up_ends_with_its_children() {
        // Both processes hold the pipe open until they end.
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "sleep 1000 & wait"]);
        let child = command.stdout(writer).process_group(0).spawn();
        // It holds the writing end too.
        drop(command);
        let running = Running {
            child: child.expect("a shell"),
            has_ended: false,
        };
        drop(running);
        let (sender, ended) = std::sync::mpsc::channel();
        thread::spawn(move || sender.send(reader.read_to_end(&mut Vec::new())));
        let ended = ended.recv_timeout(Duration::from_secs(20));
        assert_eq!(ended.expect("the pipe ends").ok(), Some(0));
    }
}
