//! The sizes of the values that are moved for each request: its future and its messages. Their rare parts are
//! boxed, since every request would move them.

use super::*;

/// The largest future of a request, in bytes.
const MAX_FUTURE: usize = 6_400;
/// The largest message, in bytes.
const MAX_MESSAGE: usize = 480;

fn answer_size<F>(_: impl FnOnce(&'static Session, Request<Incoming>) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn h1_the_future_of_a_request_and_its_messages_stay_small() {
    let future = answer_size(Session::answer);
    assert!(future <= MAX_FUTURE, "{future} bytes");
    for size in [
        size_of::<Request<RequestBody>>(),
        size_of::<Response<AnswerBody>>(),
    ] {
        assert!(size <= MAX_MESSAGE, "{size} bytes");
    }
    assert!(size_of::<RequestBody>() <= 24);
}
