//! A caller that writes its frames itself, and a service without a proxy.

use codex_network_control::message::{
    Approval, Approvals, ApprovalsQuery, Blocked, BlockedQuery, Ca, CaQuery, Config, Credentials,
    CredentialsQuery, Decisions, DecisionsQuery, Denied, ExplainQuery, Explained, Granted, Grants,
    ModeChange, ModeInForce, NoArguments, Patterns, QuestionId, ReloadRequest, Reloaded,
    SessionEnd, SessionEnded, SessionId, SessionOpened, SessionReport, SessionRequest, Sessions,
    Status, TemporaryGrant, WantedCredentials,
};
use codex_network_control::version::{Hello, Welcome};
use codex_network_control::{Access, ConnectionEnd, Context, Control, ControlError, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A hello of this version.
pub(crate) const HELLO: &str = r#"{"Hello":{"request":{"oldest":1,"newest":1,"program":"test"}}}"#;
/// A call that takes nothing.
pub(crate) const STATUS: &str = r#"{"Status":{"request":{}}}"#;

/// One message in its frame.
pub(crate) fn frame(message: &str) -> Vec<u8> {
    let length = u32::try_from(message.len()).expect("a short message");
    [&length.to_be_bytes(), message.as_bytes()].concat()
}

/// A call with a deadline in JSON.
pub(crate) fn message(id: u64, deadline: &str, call: &str) -> String {
    format!(r#"{{"Request":{{"context":{{"deadline":{deadline}}},"id":{id},"message":{call}}}}}"#)
}

/// A call with an ordinary deadline.
pub(crate) fn call(id: u64, call: &str) -> String {
    message(id, r#"{"secs":10,"nanos":0}"#, call)
}

/// Makes the calls one after the other, waiting for each answer, and disconnects. Returns the
/// answers and the end of the connection as the daemon saw it.
pub(crate) async fn serve_all(access: Access, calls: &[&str]) -> (Vec<Value>, ConnectionEnd) {
    let messages: Vec<String> = (1..).zip(calls).map(|(id, text)| call(id, text)).collect();
    serve_messages(access, &messages).await
}

/// The same with whole messages, numbered from 1.
pub(crate) async fn serve_messages(
    access: Access,
    messages: &[String],
) -> (Vec<Value>, ConnectionEnd) {
    let (mut caller, daemon) = tokio::io::duplex(4 << 20);
    let served = tokio::spawn(serve(
        daemon,
        access,
        TestService,
        std::future::pending::<()>(),
    ));
    let mut answers = Vec::new();
    for (id, message) in (1_u64..).zip(messages) {
        caller.write_all(&frame(message)).await.expect("it reads");
        let length = caller.read_u32().await.expect("an answer");
        let mut answer = vec![0; usize::try_from(length).expect("a length")];
        caller.read_exact(&mut answer).await.expect("all of it");
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert_eq!(answer["request_id"], id);
        answers.push(answer["message"].clone());
    }
    drop(caller);
    (answers, served.await.expect("no panic"))
}

/// Sends bytes as they are, and reads the answers until the daemon disconnects.
pub(crate) async fn serve_bytes(access: Access, bytes: &[u8]) -> (Vec<Value>, ConnectionEnd) {
    let (mut caller, daemon) = tokio::io::duplex(4 << 20);
    caller.write_all(bytes).await.expect("there is room");
    caller.shutdown().await.expect("an end");
    let ended = serve(daemon, access, TestService, std::future::pending::<()>()).await;
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).await.expect("the rest");
    let mut rest = &rest[..];
    let mut answers = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::try_from(u32::from_be_bytes(*length)).expect("a length");
        let answer: Value = serde_json::from_slice(&after[..length]).expect("JSON");
        answers.push(answer["message"].clone());
        rest = &after[length..];
    }
    (answers, ended)
}

/// A service without a proxy behind it.
#[derive(Clone)]
pub(crate) struct TestService;

impl Control for TestService {
    async fn hello(self, _: Context, request: Hello) -> Result<Welcome, ControlError> {
        let protocol = request.agree("test")?;
        Ok(Welcome {
            files: Vec::new(),
            protocol,
            version: "test".to_owned(),
            access: Access::Administer,
        })
    }

    async fn status(self, _: Context, _: NoArguments) -> Result<Status, ControlError> {
        let version = "test".to_owned();
        Ok(Status {
            version,
            ..Status::default()
        })
    }

    async fn mode(self, _: Context, _: NoArguments) -> Result<ModeInForce, ControlError> {
        let mode = "full".to_owned();
        Ok(ModeInForce {
            mode,
            ..ModeInForce::default()
        })
    }

    async fn set_mode(self, _: Context, change: ModeChange) -> Result<ModeInForce, ControlError> {
        assert_ne!(change.mode, "panic", "a panic for the test");
        Ok(ModeInForce {
            mode: change.mode,
            ..ModeInForce::default()
        })
    }

    async fn reload(self, _: Context, _: ReloadRequest) -> Result<Reloaded, ControlError> {
        let problems = Vec::new();
        Err(ControlError::ReloadFailed { problems })
    }

    async fn blocked(self, _: Context, query: BlockedQuery) -> Result<Blocked, ControlError> {
        if query.wait > 0 {
            std::future::pending::<()>().await;
        }
        Ok(Blocked {
            next: query.since,
            ..Blocked::default()
        })
    }

    async fn patterns(self, _: Context, _: NoArguments) -> Result<Patterns, ControlError> {
        Ok(Patterns::default())
    }

    async fn config(self, _: Context, _: NoArguments) -> Result<Config, ControlError> {
        Ok(Config::default())
    }

    async fn explain(self, _: Context, _: ExplainQuery) -> Result<Explained, ControlError> {
        let decision = "deny".to_owned();
        Ok(Explained {
            decision,
            ..Explained::default()
        })
    }

    async fn ca(self, _: Context, _: CaQuery) -> Result<Ca, ControlError> {
        let subject = "CN=test".to_owned();
        Ok(Ca {
            subject,
            ..Ca::default()
        })
    }

    async fn wanted_credentials(
        self,
        _: Context,
        query: CredentialsQuery,
    ) -> Result<WantedCredentials, ControlError> {
        Ok(WantedCredentials {
            variables: query.profile.into_iter().collect(),
            ..WantedCredentials::default()
        })
    }

    async fn credentials(self, _: Context, _: NoArguments) -> Result<Credentials, ControlError> {
        Ok(Credentials::default())
    }

    async fn open_session(
        self,
        _: Context,
        request: SessionRequest,
    ) -> Result<SessionOpened, ControlError> {
        Ok(SessionOpened {
            id: request.command,
            allow_rules: request.sockets.arrived.len(),
            ..SessionOpened::default()
        })
    }

    async fn session_report(
        self,
        _: Context,
        _: NoArguments,
    ) -> Result<SessionReport, ControlError> {
        Ok(SessionReport::default())
    }

    async fn session_end(self, _: Context, _: NoArguments) -> Result<SessionEnd, ControlError> {
        Ok(SessionEnd::default())
    }

    async fn sessions(self, _: Context, _: NoArguments) -> Result<Sessions, ControlError> {
        Ok(Sessions::default())
    }

    async fn end_session(self, _: Context, _: SessionId) -> Result<SessionEnded, ControlError> {
        Ok(SessionEnded::default())
    }

    async fn approvals(self, _: Context, _: ApprovalsQuery) -> Result<Approvals, ControlError> {
        Ok(Approvals::default())
    }

    async fn approve(self, _: Context, _: Approval) -> Result<Granted, ControlError> {
        Ok(Granted::default())
    }

    async fn deny(self, _: Context, _: QuestionId) -> Result<Denied, ControlError> {
        Ok(Denied::default())
    }

    async fn grants(self, _: Context, _: NoArguments) -> Result<Grants, ControlError> {
        Ok(Grants::default())
    }

    async fn decisions(self, _: Context, _: DecisionsQuery) -> Result<Decisions, ControlError> {
        Ok(Decisions::default())
    }

    async fn grant(self, _: Context, _: TemporaryGrant) -> Result<Granted, ControlError> {
        Ok(Granted::default())
    }

    async fn revoke(self, _: Context, _: QuestionId) -> Result<Granted, ControlError> {
        Ok(Granted::default())
    }
}
