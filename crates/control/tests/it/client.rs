//! The caller's side, against services and sockets of the test.

use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{
    BlockedQuery, CaQuery, ExplainQuery, HeaderField, ModeChange,
};
use codex_network_control::version::NEWEST;
use codex_network_control::{
    Access, Client, ConnectionEnd, ControlError, ControlStream, TrustedListeners, serve,
};
use codex_network_policy::Mode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use crate::caller::{TestService, frame};

#[tokio::test]
async fn k1_every_call_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k1.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the caller");
        serve(
            ControlStream::from(stream),
            Access::Administer,
            TestService,
            std::future::pending(),
        )
        .await
    });
    let client = Client::connect(&path, TrustedListeners::Any, "test 1").await;
    let client = client.expect("a daemon");
    let owner = client.listener_owner();
    assert_eq!(owner.pid.map(i32::cast_unsigned), Some(std::process::id()));
    assert_eq!(client.welcome().protocol, NEWEST);
    assert_eq!(client.status().await.expect("an answer").version, "test");
    assert_eq!(client.mode().await.expect("an answer").mode, "full");
    let limited = client.set_mode(ModeChange::to(Mode::Limited)).await;
    assert_eq!(limited.expect("an answer").mode, "limited");
    assert!(
        client.reload().await.is_err(),
        "the test service refuses to reload"
    );
    let blocked = client.blocked(BlockedQuery { since: 3, wait: 0 }).await;
    assert_eq!(blocked.expect("an answer").next, 3);
    assert_eq!(client.patterns().await.expect("an answer").allowed, []);
    assert!(client.config().await.expect("an answer").settings.is_null());
    let explained = client.explain(ExplainQuery::default()).await;
    assert_eq!(explained.expect("an answer").decision, "deny");
    let ca = client.ca(CaQuery::default()).await;
    assert_eq!(ca.expect("an answer").subject, "CN=test");
    drop(client);
    let ended = served.await.expect("no panic");
    assert!(matches!(ended, ConnectionEnd::Disconnected), "{ended}");
}

#[tokio::test]
async fn k3_a_caller_without_access_sees_only_a_closed_connection() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k3.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let daemon = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    // Many times, because the other side may close before or after `hello` is sent.
    for _ in 0..100 {
        let error = Client::connect(&path, TrustedListeners::Any, "test")
            .await
            .expect_err("it is closed");
        assert!(
            matches!(error, ConnectError::Disconnected { .. }),
            "{error:?}"
        );
    }
    daemon.abort();
}

/// The listener belongs to the user of the test, whom the caller does not trust here.
#[expect(
    clippy::print_stderr,
    reason = "the test runner shows why the test did not run"
)]
#[tokio::test]
async fn k2_nothing_is_sent_to_a_listener_of_an_untrusted_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k2.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let (mine, _) = tokio::net::UnixStream::pair().expect("a pair");
    let uid = mine.peer_cred().expect("credentials").uid();
    if uid == 0 {
        eprintln!(
            "cannot run here: client::k2_nothing_is_sent_to_a_listener_of_an_untrusted_user: needs a user other than root"
        );
        return;
    }
    for trusted in [TrustedListeners::RootAnd(uid + 1), TrustedListeners::Root] {
        let error = Client::connect(&path, trusted, "test").await;
        assert!(
            matches!(error, Err(ConnectError::Untrusted { owner, .. }) if owner.uid == uid),
            "{error:?}"
        );
        let (mut stream, _) = listener.accept().await.expect("the caller");
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.expect("an end");
        assert_eq!(received, b"", "the caller sent something");
    }
}

#[tokio::test]
async fn k2_another_program_and_no_program_are_different_errors() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k2.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the caller");
        let page = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(page).await.expect("it listens");
        stream
    });
    let error = Client::connect(&path, TrustedListeners::Any, "test")
        .await
        .expect_err("another program");
    assert!(matches!(error, ConnectError::NotAProxy { .. }), "{error:?}");
    drop(other.await);
    let error = Client::connect(&path, TrustedListeners::Any, "test")
        .await
        .expect_err("no program");
    assert!(
        matches!(error, ConnectError::Unreachable { .. }),
        "{error:?}"
    );
    assert!(
        error.to_string().ends_with("no process listens on it"),
        "{error}"
    );
}

/// An older daemon would ignore the header fields, and answer for another request.
#[tokio::test]
async fn k4_k5_an_older_daemon_is_not_asked_about_header_fields_or_lookups() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k5.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let older = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the caller");
        let length = stream.read_u32().await.expect("a hello");
        let mut hello = vec![0; usize::try_from(length).expect("a length")];
        stream.read_exact(&mut hello).await.expect("all of it");
        let hello: Value = serde_json::from_slice(&hello).expect("JSON");
        let id = &hello["Request"]["id"];
        let welcome = json!({"protocol": 2, "version": "older", "access": "observe"});
        let message = json!({"Ok": {"Hello": {"Ok": welcome}}});
        let answer = json!({"request_id": id, "message": message}).to_string();
        stream.write_all(&frame(&answer)).await.expect("it reads");
        let mut further = Vec::new();
        stream.read_to_end(&mut further).await.expect("an end");
        further
    });
    let client = Client::connect(&path, TrustedListeners::Any, "test").await;
    let client = client.expect("a daemon");
    let with_field = ExplainQuery {
        headers: vec![HeaderField::default()],
        ..ExplainQuery::default()
    };
    let with_lookup = ExplainQuery {
        resolve: true,
        ..ExplainQuery::default()
    };
    for query in [with_field, with_lookup] {
        let error = client.explain(query).await.expect_err("it is too old");
        assert!(matches!(error, CallError::TooOld { .. }), "{error}");
    }
    drop(client);
    assert_eq!(older.await.expect("no panic"), b"", "a call was sent");
}

#[test]
fn k3_the_error_names_the_access_that_a_call_needs() {
    let error = ControlError::NotPermitted {
        call: "reload".to_owned(),
        needed: Access::Administer,
        has: Access::Observe,
    };
    assert_eq!(
        error.to_string(),
        "reload needs the right to administer, and this user may only observe"
    );
}
