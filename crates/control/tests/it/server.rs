//! The daemon's side: which calls are answered, and which input ends a connection.

use std::time::Duration;

use codex_network_control::version::NEWEST;
use codex_network_control::{Access, ConnectionEnd, serve};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::caller::{
    self, HELLO, STATUS, TestService, call, frame, serve_all, serve_bytes, serve_messages,
};

#[tokio::test]
async fn k4_the_first_call_is_hello() {
    let (answers, ended) = serve_all(Access::Administer, &[STATUS, HELLO, STATUS]).await;
    assert_eq!(answers[0]["Ok"]["Status"]["Err"]["kind"], "hello_first");
    assert!(answers[1]["Ok"]["Hello"]["Ok"].is_object(), "{answers:?}");
    assert!(answers[2]["Ok"]["Status"]["Ok"].is_object(), "{answers:?}");
    assert!(matches!(ended, ConnectionEnd::Disconnected), "{ended}");
}

#[tokio::test]
async fn k4_without_a_common_version_no_call_is_answered() {
    let oldest = NEWEST + 1;
    let request = json!({ "oldest": oldest, "newest": oldest + 2, "program": "later" });
    let hello = json!({ "Hello": { "request": request } }).to_string();
    let (answers, _) = serve_all(Access::Administer, &[&hello, STATUS]).await;
    let error = &answers[0]["Ok"]["Hello"]["Err"];
    assert_eq!(error["kind"], "version_mismatch");
    assert_eq!(error["caller_oldest"], oldest);
    assert_eq!(error["daemon_newest"], NEWEST);
    assert_eq!(answers[1]["Ok"]["Status"]["Err"]["kind"], "hello_first");
}

#[tokio::test]
async fn k4_unknown_fields_are_ignored_and_missing_ones_have_defaults() {
    let hello = r#"{"Hello":{"request":{"newest":9,"mood":"good"}}}"#;
    let blocked = r#"{"Blocked":{"request":{"colour":"red"}}}"#;
    let (answers, _) = serve_all(Access::Observe, &[hello, blocked]).await;
    assert_eq!(answers[0]["Ok"]["Hello"]["Ok"]["protocol"], NEWEST);
    assert_eq!(answers[1]["Ok"]["Blocked"]["Ok"]["next"], 0);
}

#[tokio::test]
async fn k3_an_observer_may_make_every_call_that_only_reads() {
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
async fn k4_a_deadline_in_the_far_future_is_clamped() {
    for deadline in [
        r#"{"secs":18446744073709551615,"nanos":999999999}"#,
        r#"{"secs":9223372036854775807,"nanos":0}"#,
        r#"{"secs":100000000000,"nanos":0}"#,
    ] {
        let status = caller::message(2, deadline, STATUS);
        let (answers, ended) = serve_messages(Access::Observe, &[call(1, HELLO), status]).await;
        assert!(answers[1]["Ok"]["Status"]["Ok"].is_object(), "{deadline}");
        assert!(
            matches!(ended, ConnectionEnd::Disconnected),
            "{deadline}: {ended}"
        );
    }
}

/// Why the clamp is before tarpc. If this fails, tarpc now accepts such a deadline.
#[test]
fn k4_without_the_clamp_tarpc_panics() {
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
async fn k3_a_malformed_message_ends_the_connection_with_a_reason() {
    let unknown = call(2, r#"{"SelfDestruct":{"request":{}}}"#);
    let bare = call(2, r#"{"Status":{}}"#);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let overflow = caller::message(
        2,
        r#"{"secs":18446744073709551615,"nanos":4294967295}"#,
        STATUS,
    );
    for (bytes, reason) in [
        (frame(&unknown), "no message"),
        (frame(&bare), "no message"),
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
        let (_, ended) = serve_bytes(Access::Administer, &bytes).await;
        assert!(
            matches!(ended, ConnectionEnd::Failed(_)),
            "{reason}: {ended:?}"
        );
        assert!(ended.is_callers_fault());
        assert!(ended.to_string().contains(reason), "{reason}: {ended}");
    }
}

#[tokio::test]
async fn k3_the_longest_frame_is_accepted() {
    let mut hello = call(1, HELLO);
    hello.push_str(&" ".repeat((1 << 20) - hello.len()));
    let (answers, _) = serve_messages(Access::Observe, &[hello]).await;
    assert!(answers[0]["Ok"]["Hello"]["Ok"].is_object(), "{answers:?}");
}

#[tokio::test]
async fn k3_a_connection_may_be_cut_at_any_byte() {
    let whole = [frame(&call(1, HELLO)), frame(&call(2, STATUS))].concat();
    let first = frame(&call(1, HELLO)).len();
    for length in 0..whole.len() {
        let (answers, ended) = serve_bytes(Access::Observe, &whole[..length]).await;
        // Answers to a caller that has already gone may be lost; none may be invented.
        assert!(answers.len() <= usize::from(length >= first), "{length}");
        let clean = [0, first].contains(&length);
        assert_eq!(
            matches!(ended, ConnectionEnd::Disconnected),
            clean,
            "{length}: {ended}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn k3_a_caller_that_sends_no_whole_hello_is_disconnected() {
    let hello = frame(&call(1, HELLO));
    for part in [&hello[..0], &hello[..2], &hello[..20]] {
        let (mut caller, daemon) = tokio::io::duplex(1 << 16);
        caller.write_all(part).await.expect("there is room");
        let ended = serve(daemon, Access::Observe, TestService, std::future::pending()).await;
        assert!(matches!(ended, ConnectionEnd::NoHello), "{ended}");
    }
}

#[tokio::test(start_paused = true)]
async fn k3_a_caller_that_never_reads_is_disconnected() {
    // The pipe is too small for one answer, so the daemon waits until the caller reads.
    let (mut caller, daemon) = tokio::io::duplex(64);
    let served = tokio::spawn(serve(
        daemon,
        Access::Observe,
        TestService,
        std::future::pending::<()>(),
    ));
    let hello = frame(&call(1, HELLO));
    caller.write_all(&hello).await.expect("it is read");
    let ended = served.await.expect("no panic");
    assert!(matches!(ended, ConnectionEnd::Failed(_)), "{ended:?}");
    assert!(ended.to_string().contains("took no byte"), "{ended}");
}

#[tokio::test]
async fn k3_a_caller_with_too_many_unanswered_calls_is_disconnected() {
    let wait = r#"{"Blocked":{"request":{"wait":30}}}"#;
    let mut bytes = frame(&call(1, HELLO));
    for id in 2..100 {
        bytes.extend(frame(&call(id, wait)));
    }
    let (mut caller, daemon) = tokio::io::duplex(1 << 20);
    caller.write_all(&bytes).await.expect("there is room");
    let ended = serve(daemon, Access::Observe, TestService, std::future::pending()).await;
    assert!(matches!(ended, ConnectionEnd::TooManyCalls), "{ended}");
}

#[tokio::test]
async fn k3_a_panic_ends_only_the_connection_that_caused_it() {
    let panics = r#"{"SetMode":{"request":{"mode":"panic"}}}"#;
    let bytes = [frame(&call(1, HELLO)), frame(&call(2, panics))].concat();
    let (mut caller, daemon) = tokio::io::duplex(1 << 16);
    caller.write_all(&bytes).await.expect("there is room");
    let served = serve(
        daemon,
        Access::Administer,
        TestService,
        std::future::pending::<()>(),
    );
    let error = tokio::spawn(served)
        .await
        .expect_err("the test service panics");
    assert!(error.is_panic());
    let mut rest = Vec::new();
    caller.read_to_end(&mut rest).await.expect("the end");
    let (answers, _) = serve_all(Access::Administer, &[HELLO]).await;
    assert_eq!(answers.len(), 1, "others are served");
}

#[tokio::test]
async fn k3_a_stop_ends_an_idle_connection_after_its_answer() {
    let (mut caller, daemon) = tokio::io::duplex(1 << 16);
    let bytes = frame(&call(1, HELLO));
    caller.write_all(&bytes).await.expect("there is room");
    let ended = serve(daemon, Access::Observe, TestService, async move {
        // An answer has arrived: the connection is idle.
        let mut one = [0];
        caller.read_exact(&mut one).await.expect("an answer");
        std::mem::forget(caller);
    })
    .await;
    assert!(matches!(ended, ConnectionEnd::Stopped), "{ended}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn k3_garbage_never_panics(
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
        let (answers, _): (Vec<Value>, ConnectionEnd) = runtime
            .block_on(within)
            .expect("it ends");
        prop_assert!(answers.len() <= usize::from(before));
    }
}
