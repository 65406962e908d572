//! Why a command failed, and its exit code (SPEC K1).

use std::io::{Error, ErrorKind};
use std::process::ExitCode;

use codex_network_control::ControlError;
use codex_network_control::client::CallError;

use crate::output::Output;

/// Why a command failed. Each variant has its exit code. clap uses 2 for an invalid command line.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The proxy or this program could not carry out the command.
    Failed(String),
    /// No proxy answers.
    Unreachable(String),
    /// The command is not permitted, to this user or to any user.
    NotPermitted(String),
    /// The error has already been printed.
    AlreadyReported,
    /// The answer could not be written.
    Output(Error),
    /// A signal with this number ended the command, which had something to end first.
    Signal(i32),
    /// `run` made no session, or no jail (SPEC J1).
    NoSession(String),
    /// The command of `run` has ended, or could not be started.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "`run` needs Linux")
    )]
    Session(EndedSession),
}

/// How the command of `run` ended.
#[derive(Debug)]
pub(crate) struct EndedSession {
    /// The exit code, as a shell reports it.
    pub(crate) code: u8,
    /// The message of `run`, if the command had no chance to write its own.
    message: Option<String>,
}

impl EndedSession {
    /// The exit code of `run` without a session.
    pub(crate) const NO_SESSION: u8 = 125;

    /// A command that ran.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "`run` needs Linux")
    )]
    pub(crate) fn silent(code: u8) -> Self {
        Self {
            code,
            message: None,
        }
    }

    /// A command that could not be started.
    #[cfg_attr(
        not(target_os = "linux"),
        expect(dead_code, reason = "`run` needs Linux")
    )]
    pub(crate) fn said(code: u8, message: String) -> Self {
        Self {
            code,
            message: Some(message),
        }
    }
}

impl Failure {
    /// The proxy has no CA.
    pub(crate) fn no_ca() -> Self {
        Self::Failed(
            "there is no CA, since the configuration forbids interception (mitm = false)"
                .to_owned(),
        )
    }

    /// The same failure, with a further line.
    pub(crate) fn followed_by(self, line: &str) -> Self {
        let with = |message: String| format!("{message}\n{line}");
        match self {
            Self::Failed(message) => Self::Failed(with(message)),
            Self::Unreachable(message) => Self::Unreachable(with(message)),
            Self::NotPermitted(message) => Self::NotPermitted(with(message)),
            other => other,
        }
    }

    /// Prints the error unless it has already been printed, and returns the program's exit code.
    pub(crate) fn report(self, output: &Output) -> ExitCode {
        let (message, code) = match self {
            Self::Failed(message) => (message, 1),
            Self::Unreachable(message) => (message, 3),
            Self::NotPermitted(message) => (message, 4),
            Self::NoSession(message) => (message, EndedSession::NO_SESSION),
            Self::Session(ended) => match ended.message {
                Some(message) => (message, ended.code),
                None => return ExitCode::from(ended.code),
            },
            Self::AlreadyReported => return ExitCode::from(1),
            // As a shell reports it.
            Self::Signal(number) => {
                return ExitCode::from(u8::try_from(128 + number).unwrap_or(u8::MAX));
            }
            // The reader of the answer has closed it early.
            Self::Output(error) if error.kind() == ErrorKind::BrokenPipe => {
                return ExitCode::SUCCESS;
            }
            Self::Output(error) => (format!("cannot write the answer: {error}"), 1),
        };
        output.complain(&message);
        ExitCode::from(code)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Output(error)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused(
                refused @ (ControlError::NotPermitted { .. }
                | ControlError::ConstraintViolation { .. }),
            ) => Self::NotPermitted(refused.to_string()),
            CallError::Disconnected => Self::Unreachable(error.to_string()),
            CallError::Refused(_)
            | CallError::TimedOut
            | CallError::Malformed(_)
            | CallError::TooOld { .. } => Self::Failed(error.to_string()),
        }
    }
}
