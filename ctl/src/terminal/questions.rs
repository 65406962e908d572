//! The queue between the relay, which waits for descriptors, and the calls to the proxy, which run on another thread.

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::prompt::{AskedQuestion, Choice};

/// A change of a question.
#[derive(Debug)]
pub(crate) enum News {
    /// A request waits for the answer to this question.
    Asked(AskedQuestion),
    /// No request waits for the question with this id any more. It stays open.
    Unawaited(String),
    /// A question has its answer, or needs none any more.
    Closed {
        /// The id of the question.
        id: String,
        /// A sentence about it, for the terminal.
        said: String,
    },
}

/// The user's answer to a question.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct GivenAnswer {
    /// The id of the question.
    pub(crate) id: String,
    /// Never [`Choice::Leave`].
    pub(crate) choice: Choice,
}

/// The side of the calls to the proxy.
#[derive(Debug)]
pub(crate) struct QuestionDesk {
    news: mpsc::Sender<News>,
    wake: UnixStream,
    answers: UnboundedReceiver<GivenAnswer>,
}

/// The side of the relay.
#[derive(Debug)]
pub(super) struct Questions {
    news: mpsc::Receiver<News>,
    woken: UnixStream,
    answers: UnboundedSender<GivenAnswer>,
}

/// Both sides of a queue.
pub(super) fn sides() -> io::Result<(QuestionDesk, Questions)> {
    let (sender, news) = mpsc::channel();
    let (wake, woken) = UnixStream::pair()?;
    wake.set_nonblocking(true)?;
    woken.set_nonblocking(true)?;
    let (given, answers) = unbounded_channel();
    let desk = QuestionDesk {
        news: sender,
        wake,
        answers,
    };
    let questions = Questions {
        news,
        woken,
        answers: given,
    };
    Ok((desk, questions))
}

impl QuestionDesk {
    /// Tells the relay. A relay that has ended needs no news.
    pub(crate) fn tell(&self, news: News) {
        if self.news.send(news).is_ok() {
            // A full queue wakes it too.
            let _ = (&self.wake).write(&[1]);
        }
    }

    /// The next answer. It never resolves after the end of the relay.
    pub(crate) async fn answer(&mut self) -> GivenAnswer {
        match self.answers.recv().await {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}

impl Questions {
    /// The next change, if there is one by now.
    pub(super) fn next(&self) -> Option<News> {
        let mut bytes = [0; 64];
        while let Ok(1..) = (&self.woken).read(&mut bytes) {}
        self.news.try_recv().ok()
    }

    pub(super) fn give(&self, answer: GivenAnswer) {
        // Without its reader, the session has ended.
        let _ = self.answers.send(answer);
    }
}

impl AsFd for Questions {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.woken.as_fd()
    }
}
