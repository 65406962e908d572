//! The contract at the level of bytes: what is answered, and what only ends the connection.

#[path = "contract/caller.rs"]
mod caller;

use std::time::Duration;

use caller::{HELLO, STATUS, Toy, call, frame, serve_all, serve_bytes, serve_messages};
use codex_network_control::client::{CallError, ConnectError};
use codex_network_control::message::{
    BlockedQuery, CaQuery, ExplainQuery, HeaderField, ModeChange,
};
use codex_network_control::version::NEWEST;
use codex_network_control::{Access, Client, ControlError, Ended, TrustedListeners, serve};
use codex_network_policy::Mode;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

#[tokio::test]
async fn k1_every_call_is_answered() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k1.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the caller");
        serve(stream, Access::Administer, Toy, std::future::pending()).await
    });
    let client = Client::connect(&path, TrustedListeners::Any, "test 1").await;
    let client = client.expect("a daemon");
    let owner = client.listener_owner();
    assert_eq!(owner.pid.map(i32::cast_unsigned), Some(std::process::id()));
    assert_eq!(client.welcome().protocol, NEWEST);
    assert_eq!(client.status().await.expect("an answer").version, "toy");
    assert_eq!(client.mode().await.expect("an answer").mode, "full");
    let limited = client.set_mode(ModeChange::to(Mode::Limited)).await;
    assert_eq!(limited.expect("an answer").mode, "limited");
    assert!(client.reload().await.is_err(), "the toy's files are broken");
    let blocked = client.blocked(BlockedQuery { since: 3, wait: 0 }).await;
    assert_eq!(blocked.expect("an answer").next, 3);
    assert_eq!(client.patterns().await.expect("an answer").allowed, []);
    assert!(client.config().await.expect("an answer").settings.is_null());
    let explained = client.explain(ExplainQuery::default()).await;
    assert_eq!(explained.expect("an answer").decision, "deny");
    let ca = client.ca(CaQuery::default()).await;
    assert_eq!(ca.expect("an answer").subject, "CN=toy");
    drop(client);
    let ended = served.await.expect("no panic");
    assert!(matches!(ended, Ended::HungUp), "{ended}");
}

#[tokio::test]
async fn k3_a_caller_who_is_hung_up_on_learns_that_and_no_more() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k3.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let doorman = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    // Often, since the hello may or may not be on its way when the other end closes.
    for _ in 0..100 {
        let error = Client::connect(&path, TrustedListeners::Any, "test")
            .await
            .expect_err("nobody");
        assert!(matches!(error, ConnectError::HungUp { .. }), "{error:?}");
    }
    doorman.abort();
}

/// The user of the test listens. A trust that excludes this user is like root's trust towards a
/// user's proxy.
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
            "not run as root, whom every trust includes; k2_root_talks_to_… of the e2e tests is"
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
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.expect("an end");
        assert_eq!(heard, b"", "the caller spoke first");
    }
}

#[tokio::test]
async fn k2_a_socket_of_something_else_is_told_apart() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("k2.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let stranger = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the caller");
        let page = b"HTTP/1.1 400 Bad Request\r\n\r\n";
        stream.write_all(page).await.expect("it listens");
        stream
    });
    let error = Client::connect(&path, TrustedListeners::Any, "test")
        .await
        .expect_err("a stranger");
    assert!(matches!(error, ConnectError::Stranger { .. }), "{error:?}");
    drop(stranger.await);
    let nobody = Client::connect(&path, TrustedListeners::Any, "test")
        .await
        .expect_err("nobody");
    assert!(
        matches!(nobody, ConnectError::Unreachable { .. }),
        "{nobody:?}"
    );
    assert!(
        nobody.to_string().ends_with("no process listens on it"),
        "{nobody}"
    );
}

#[tokio::test]
async fn k4_the_first_call_is_hello() {
    let (answers, ended) = serve_all(Access::Administer, &[STATUS, HELLO, STATUS]).await;
    assert_eq!(answers[0]["Ok"]["Status"]["Err"]["kind"], "hello_first");
    assert!(answers[1]["Ok"]["Hello"]["Ok"].is_object(), "{answers:?}");
    assert!(answers[2]["Ok"]["Status"]["Ok"].is_object(), "{answers:?}");
    assert!(matches!(ended, Ended::HungUp), "{ended}");
}

#[tokio::test]
async fn k4_versions_that_cannot_talk_say_so_and_nothing_else_is_answered() {
    let hello = r#"{"Hello":{"request":{"oldest":7,"newest":9,"program":"later"}}}"#;
    let (answers, _) = serve_all(Access::Administer, &[hello, STATUS]).await;
    let error = &answers[0]["Ok"]["Hello"]["Err"];
    assert_eq!(error["kind"], "version_mismatch");
    assert_eq!(error["caller_oldest"], 7);
    assert_eq!(error["daemon_newest"], NEWEST);
    assert_eq!(answers[1]["Ok"]["Status"]["Err"]["kind"], "hello_first");
}

#[tokio::test]
async fn k4_fields_of_later_versions_are_passed_over_and_missing_ones_have_defaults() {
    let hello = r#"{"Hello":{"request":{"newest":9,"mood":"good"}}}"#;
    let blocked = r#"{"Blocked":{"request":{"colour":"red"}}}"#;
    let (answers, _) = serve_all(Access::Observe, &[hello, blocked]).await;
    assert_eq!(answers[0]["Ok"]["Hello"]["Ok"]["protocol"], NEWEST);
    assert_eq!(answers[1]["Ok"]["Blocked"]["Ok"]["next"], 0);
}

/// An older daemon would judge the request without its fields, and say nothing about that.
#[tokio::test]
async fn k4_k5_fields_and_lookups_are_not_asked_of_a_daemon_that_passes_them_over() {
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
    assert_eq!(older.await.expect("no panic"), b"", "nothing was asked");
}

#[tokio::test]
async fn k3_an_observer_changes_nothing_and_sees_everything() {
    let nothing = |name: &str| json!({ name: { "request": {} } }).to_string();
    for (name, wanted) in [
        ("Status", true),
        ("Mode", true),
        ("SetMode", false),
        ("Reload", false),
        ("Blocked", true),
        ("Patterns", true),
        ("Config", true),
        ("Explain", true),
        ("Ca", true),
    ] {
        let (answers, _) = serve_all(Access::Observe, &[HELLO, &nothing(name)]).await;
        let error = &answers[1]["Ok"][name]["Err"];
        assert_eq!(error["kind"] != "not_permitted", wanted, "{name}: {error}");
    }
}

#[tokio::test]
async fn a_deadline_in_the_far_future_is_clamped() {
    for deadline in [
        r#"{"secs":18446744073709551615,"nanos":999999999}"#,
        r#"{"secs":9223372036854775807,"nanos":0}"#,
        r#"{"secs":100000000000,"nanos":0}"#,
    ] {
        let status = caller::message(2, deadline, STATUS);
        let (answers, ended) = serve_messages(Access::Observe, &[call(1, HELLO), status]).await;
        assert!(answers[1]["Ok"]["Status"]["Ok"].is_object(), "{deadline}");
        assert!(matches!(ended, Ended::HungUp), "{deadline}: {ended}");
    }
}

/// Why the clamp is before tarpc. If this fails, tarpc now accepts such a deadline.
#[test]
fn without_the_clamp_tarpc_panics() {
    let context = r#"{"deadline":{"secs":18446744073709551615,"nanos":0},
        "trace_context":{"trace_id":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"span_id":0,"sampling_decision":"Unsampled"}}"#;
    let read = || serde_json::from_str::<codex_network_control::Context>(context);
    let hushed = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panicked = std::panic::catch_unwind(read).is_err();
    std::panic::set_hook(hushed);
    assert!(panicked);
}

#[tokio::test]
async fn what_is_no_message_ends_the_connection_with_a_reason() {
    let unknown = call(2, r#"{"SelfDestruct":{"request":{}}}"#);
    let bare = call(2, r#"{"Status":{}}"#);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let overflow = caller::message(
        2,
        r#"{"secs":18446744073709551615,"nanos":4294967295}"#,
        STATUS,
    );
    for (what, said) in [
        (frame(&unknown), "SelfDestruct"),
        (frame(&bare), "missing field `request`"),
        (frame(&deep), "no message"),
        (frame(&overflow), "no message"),
        (frame(""), "no message"),
        (frame("null"), "no message"),
        (frame("{\"Request\":"), "no message"),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "longer than 1048576 bytes",
        ),
        (vec![0xff; 64], "longer than 1048576 bytes"),
        (((1_u32 << 20) + 1).to_be_bytes().to_vec(), "longer than"),
    ] {
        let (_, ended) = serve_bytes(Access::Administer, &what).await;
        assert!(matches!(ended, Ended::Broken(_)), "{said}: {ended:?}");
        assert!(ended.is_the_callers_fault());
        assert!(ended.to_string().contains(said), "{said}: {ended}");
    }
}

#[tokio::test]
async fn the_largest_frame_is_taken() {
    let mut hello = call(1, HELLO);
    hello.push_str(&" ".repeat((1 << 20) - hello.len()));
    let (answers, _) = serve_messages(Access::Observe, &[hello]).await;
    assert!(answers[0]["Ok"]["Hello"]["Ok"].is_object(), "{answers:?}");
}

#[tokio::test]
async fn a_connection_cut_anywhere_ends_alone() {
    let whole = [frame(&call(1, HELLO)), frame(&call(2, STATUS))].concat();
    let first = frame(&call(1, HELLO)).len();
    for length in 0..whole.len() {
        let (answers, ended) = serve_bytes(Access::Observe, &whole[..length]).await;
        // Answers to a caller that has already gone may be lost; none may be invented.
        assert!(answers.len() <= usize::from(length >= first), "{length}");
        // A cut right behind a frame's length looks like the end of the previous frame.
        let clean = [0, 4, first, first + 4].contains(&length);
        assert_eq!(matches!(ended, Ended::HungUp), clean, "{length}: {ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn k3_a_caller_that_says_nothing_or_half_a_word_is_hung_up_on() {
    let hello = frame(&call(1, HELLO));
    for said in [&hello[..0], &hello[..2], &hello[..20]] {
        let (mut caller, daemon) = tokio::io::duplex(1 << 16);
        caller.write_all(said).await.expect("there is room");
        let ended = serve(daemon, Access::Observe, Toy, std::future::pending()).await;
        assert!(matches!(ended, Ended::NoHello), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_never_reads_is_hung_up_on() {
    // Too small for one answer: the rest of it waits to be read.
    let (mut caller, daemon) = tokio::io::duplex(64);
    let served = tokio::spawn(serve(
        daemon,
        Access::Observe,
        Toy,
        std::future::pending::<()>(),
    ));
    let hello = frame(&call(1, HELLO));
    caller.write_all(&hello).await.expect("it is read");
    let ended = served.await.expect("no panic");
    assert!(matches!(ended, Ended::Broken(_)), "{ended:?}");
    assert!(ended.to_string().contains("took no byte"), "{ended}");
}

#[tokio::test]
async fn a_caller_that_asks_and_asks_is_hung_up_on() {
    let wait = r#"{"Blocked":{"request":{"wait":30}}}"#;
    let mut bytes = frame(&call(1, HELLO));
    for id in 2..100 {
        bytes.extend(frame(&call(id, wait)));
    }
    let (mut caller, daemon) = tokio::io::duplex(1 << 20);
    caller.write_all(&bytes).await.expect("there is room");
    let ended = serve(daemon, Access::Observe, Toy, std::future::pending()).await;
    assert!(matches!(ended, Ended::TooManyCalls), "{ended}");
}

#[tokio::test]
async fn a_panic_ends_the_connection_that_caused_it() {
    let panics = r#"{"SetMode":{"request":{"mode":"panic"}}}"#;
    let bytes = [frame(&call(1, HELLO)), frame(&call(2, panics))].concat();
    let (mut caller, daemon) = tokio::io::duplex(1 << 16);
    caller.write_all(&bytes).await.expect("there is room");
    let served = serve(
        daemon,
        Access::Administer,
        Toy,
        std::future::pending::<()>(),
    );
    let error = tokio::spawn(served).await.expect_err("the toy panics");
    assert!(error.is_panic());
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).await.expect("the end");
    let (answers, _) = serve_all(Access::Administer, &[HELLO]).await;
    assert_eq!(answers.len(), 1, "others are served");
}

#[tokio::test]
async fn a_stop_lets_the_answer_in_hand_out_and_ends_idle_callers() {
    let (mut caller, daemon) = tokio::io::duplex(1 << 16);
    let bytes = frame(&call(1, HELLO));
    caller.write_all(&bytes).await.expect("there is room");
    let ended = serve(daemon, Access::Observe, Toy, async move {
        // An answer has arrived: the connection is idle.
        let mut one = [0];
        caller.read_exact(&mut one).await.expect("an answer");
        std::mem::forget(caller);
    })
    .await;
    assert!(matches!(ended, Ended::Stopped), "{ended}");
}

#[test]
fn errors_are_told_in_words() {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn garbage_never_panics(
        before in prop::bool::ANY,
        garbage in prop::collection::vec(any::<u8>(), 0..256),
        framed in prop::bool::ANY,
    ) {
        let mut bytes = Vec::new();
        if before {
            bytes.extend(frame(&call(1, HELLO)));
        }
        if framed {
            bytes.extend(u32::try_from(garbage.len()).expect("short").to_be_bytes());
        }
        bytes.extend(&garbage);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime");
        let served = serve_bytes(Access::Administer, &bytes);
        let within = async { tokio::time::timeout(Duration::from_secs(30), served).await };
        let (answers, _): (Vec<Value>, Ended) = runtime
            .block_on(within)
            .expect("it ends");
        prop_assert!(answers.len() <= usize::from(before));
    }
}
