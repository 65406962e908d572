//! Descriptors beside a call, over real sockets (SPEC J2).

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use codex_network_control::client::CallError;
use codex_network_control::message::{CloseDescriptor, MAX_DOORS, SessionRequest};
use codex_network_control::{
    Access, Client, ConnectionEnd, ControlError, ControlStream, TrustedListeners, serve,
};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::caller::{HELLO, STATUS, TestService, call, frame};

/// A client of the test service, and how the service's side ends.
async fn connected(access: Access) -> (Client, JoinHandle<ConnectionEnd>) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let served = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("the caller");
        let stream = ControlStream::from(stream);
        serve(stream, access, TestService, std::future::pending()).await
    });
    let client = Client::connect(&path, TrustedListeners::Any, "test 1").await;
    (client.expect("a daemon"), served)
}

fn sockets(count: usize) -> Vec<OwnedFd> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let copy = |_| listener.try_clone().expect("a copy").into();
    (0..count).map(copy).collect()
}

fn request(count: usize) -> SessionRequest {
    SessionRequest {
        command: "curl".to_owned(),
        sockets: sockets(count).into(),
        ..SessionRequest::default()
    }
}

#[tokio::test]
async fn j2_descriptors_arrive_with_the_call_that_they_were_sent_with() {
    let (client, served) = connected(Access::UseSessions).await;
    for count in [0, 1, 3, MAX_DOORS] {
        // Other calls of the same connection are under way.
        let (opened, listed, again) = tokio::join!(
            client.open_session(request(count)),
            client.sessions(),
            client.open_session(request(2)),
        );
        assert_eq!(opened.expect("an answer").allow_rules, count);
        assert_eq!(again.expect("an answer").allow_rules, 2);
        assert_eq!(listed.expect("an answer").sessions, []);
    }
    drop(client);
    let ended = served.await.expect("no panic");
    assert!(matches!(ended, ConnectionEnd::Disconnected), "{ended}");
}

#[tokio::test]
async fn j2_an_observer_opens_no_session() {
    let (client, _served) = connected(Access::Observe).await;
    let refused = client.open_session(request(1)).await;
    let Err(CallError::Refused(refused)) = refused else {
        panic!("{refused:?}");
    };
    let wanted = ControlError::NotPermitted {
        call: "open_session".to_owned(),
        needed: Access::UseSessions,
        has: Access::Observe,
    };
    assert_eq!(refused, wanted);
}

#[tokio::test]
async fn j2_descriptors_with_any_other_call_end_the_connection() {
    let (caller, daemon) = std::os::unix::net::UnixStream::pair().expect("a pair");
    daemon.set_nonblocking(true).expect("a mode");
    let daemon = tokio::net::UnixStream::from_std(daemon).expect("a stream");
    let messages = [frame(&call(1, HELLO)), frame(&call(2, STATUS))].concat();
    send_beside(&caller, &messages, &sockets(1));
    let ended = serve(
        ControlStream::from(daemon),
        Access::Administer,
        TestService,
        std::future::pending(),
    )
    .await;
    assert!(ended.is_callers_fault(), "{ended}");
    assert!(ended.to_string().contains("descriptors"), "{ended}");
}

/// Sends these bytes, and descriptors beside them.
fn send_beside(socket: &std::os::unix::net::UnixStream, bytes: &[u8], descriptors: &[OwnedFd]) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let borrowed: Vec<_> = descriptors.iter().map(std::os::fd::AsFd::as_fd).collect();
    assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
    let buffers = [std::io::IoSlice::new(bytes)];
    let sent = sendmsg(socket, &buffers, &mut control, SendFlags::empty());
    assert_eq!(sent.expect("there is room"), bytes.len());
}

#[tokio::test]
async fn j13_all_that_a_caller_sends_is_closed_by_the_given_function() {
    for (bytes, count, is_served, wanted) in [
        // Unread, they are closed with the connection.
        (vec![0], 3, false, 1),
        // With a call that takes none, before the caller is gone.
        (frame(&call(1, STATUS)), 1, true, 2),
        // Before a frame is whole.
        (vec![0], 253, true, 253),
    ] {
        let (caller, daemon) = std::os::unix::net::UnixStream::pair().expect("a pair");
        daemon.set_nonblocking(true).expect("a mode");
        let daemon = tokio::net::UnixStream::from_std(daemon).expect("a stream");
        let closed = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&closed);
        let close = CloseDescriptor::with(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        send_beside(&caller, &bytes, &sockets(count));
        let daemon = ControlStream::closed_by(daemon, close);
        if is_served {
            caller.shutdown(std::net::Shutdown::Write).expect("open");
            let forever = std::future::pending();
            serve(daemon, Access::Administer, TestService, forever).await;
        } else {
            drop(daemon);
        }
        assert_eq!(closed.load(Ordering::Relaxed), wanted);
    }
}

#[tokio::test]
async fn j2_the_caller_sees_the_end_of_its_connection() {
    let (client, served) = connected(Access::Administer).await;
    served.abort();
    client.ended().await;
    let after = client.session_report().await;
    assert!(matches!(after, Err(CallError::Disconnected)), "{after:?}");
}
