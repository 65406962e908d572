//! The worker's side of a certificate, with a scripted monitor on the other end of the channel.

use std::os::unix::net::UnixStream;
use std::time::SystemTime;

use super::*;
use crate::privsep::channel::{self, Receiver};
use crate::privsep::message::MAX_TO_MONITOR;
use crate::privsep::ticket::{QuestionId, Ticket};
use crate::worker::link;

fn scene() -> (Arc<MonitorIssuer>, Receiver) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (link, _) = link::over(ours).unwrap();
    let (_, mut heard) = channel::split(theirs, MAX_TO_MONITOR).unwrap();
    link.send(ToMonitor::Applied {
        ticket: Ticket::FIRST,
    });
    heard.receive().unwrap().expect("that the worker serves");
    let issuer = MonitorIssuer::new(link);
    let ca = CaCertificate {
        der: Arc::from(&b"the CA"[..]),
        ..CaCertificate::default()
    };
    issuer.use_ca(Some(&ca));
    (issuer, heard)
}

fn host(text: &str) -> Host {
    Host::parse(text).expect("a host")
}

const KEY: PublicKey = [4; 65];

fn leaf() -> Leaf {
    Leaf {
        certificate: b"the leaf".to_vec(),
        not_before: SystemTime::UNIX_EPOCH,
        not_after: SystemTime::UNIX_EPOCH,
    }
}

/// Waits for the next question.
async fn question(mut heard: Receiver) -> (ToMonitor, Receiver) {
    tokio::task::spawn_blocking(move || {
        let frame = heard.receive().unwrap().expect("a question");
        let message = ToMonitor::decode(frame.operation, &frame.payload).unwrap();
        (message, heard)
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn m4_a_leaf_comes_with_the_ca_that_issued_it() {
    let (issuer, heard) = scene();
    let asking = {
        let issuer = Arc::clone(&issuer);
        tokio::spawn(async move { issuer.issue_for(&host("A.test."), &KEY, Some(7)).await })
    };
    let (asked, _heard) = question(heard).await;
    let ToMonitor::IssueLeaf {
        question,
        authority,
        public_key,
        name,
        user,
    } = asked
    else {
        panic!("{asked:?}");
    };
    assert_eq!((name.as_str(), public_key, user), ("a.test", KEY, Some(7)));
    assert_eq!(authority, fingerprint(b"the CA"));
    // The CA changes while the answer is on its way.
    issuer.use_ca(None);
    issuer.answered(QuestionId::numbered(7), Ok(leaf()));
    issuer.answered(question, Ok(leaf()));
    let outcome = asking.await.unwrap().expect("a leaf");
    let chain: Vec<&[u8]> = outcome.chain.iter().map(AsRef::as_ref).collect();
    assert_eq!(chain, [&b"the leaf"[..], b"the CA"]);
}

#[tokio::test]
async fn m4_a_request_above_the_limit_is_refused_and_one_counts_until_it_is_answered() {
    let (issuer, mut heard) = scene();
    for _ in 0..MAX_LEAVES_REQUESTED {
        // The caller goes away, and the question stays pending.
        let host = host("a.test");
        let ask = issuer.issue(&host, &KEY);
        assert!(ask.now_or_never().is_none());
        heard.receive().unwrap().expect("a question");
    }
    let over = issuer.issue(&host("a.test"), &KEY).await;
    assert!(matches!(over, Err(IssueError::Busy)), "{over:?}");
    issuer.answered(QuestionId::numbered(0), Ok(leaf()));
    let host = host("a.test");
    let next = issuer.issue(&host, &KEY);
    assert!(next.now_or_never().is_none(), "there is room for one");
}

#[tokio::test]
async fn m4_refusals_have_a_text() {
    for (why, told) in [
        (NoLeaf::Busy, "try again"),
        (NoLeaf::TooManyHosts, "add the hosts to the allow list"),
        (NoLeaf::OtherCa, "just been replaced"),
        (NoLeaf::NotValidNow, "has expired"),
        (NoLeaf::Failed, "signing failed"),
    ] {
        let (issuer, heard) = scene();
        let asking = tokio::spawn({
            let issuer = Arc::clone(&issuer);
            async move { issuer.issue(&host("a.test"), &KEY).await }
        });
        let (_, _heard) = question(heard).await;
        issuer.answered(QuestionId::numbered(0), Err(why));
        let error = asking.await.unwrap().expect_err("a refusal").to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn m4_every_caller_gets_an_error_when_the_monitor_is_gone() {
    let (issuer, heard) = scene();
    let asking = tokio::spawn({
        let issuer = Arc::clone(&issuer);
        async move { issuer.issue(&host("a.test"), &KEY).await }
    });
    let (_, _heard) = question(heard).await;
    issuer.close();
    let waited = asking.await.unwrap();
    assert!(matches!(waited, Err(IssueError::Gone)), "{waited:?}");
    let late = issuer.issue(&host("a.test"), &KEY).await;
    assert!(matches!(late, Err(IssueError::Gone)), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn m4_a_monitor_that_does_not_answer_is_not_waited_for() {
    let (issuer, _heard) = scene();
    let waited = issuer.issue(&host("a.test"), &KEY).await;
    assert!(matches!(waited, Err(IssueError::Gone)), "{waited:?}");
}

#[tokio::test]
async fn m4_without_a_ca_or_with_a_scope_nothing_is_requested() {
    let (issuer, _heard) = scene();
    let scoped = issuer.issue(&host("[fe80::1%eth0]"), &KEY).await;
    assert!(matches!(scoped, Err(IssueError::Refused(_))), "{scoped:?}");
    issuer.use_ca(None);
    let without = issuer.issue(&host("a.test"), &KEY).await;
    assert!(
        matches!(without, Err(IssueError::Refused(_))),
        "{without:?}"
    );
    assert_eq!(issuer.waiting().callers.len(), 0);
}
