//! The calls to the proxy: news become updates, and requests of the user become calls.
//!
//! All calls share one connection. When it ends, the feed says so and connects again, to the same socket under the
//! same trust. It ends when the screen does.

use std::time::Duration;

use codex_network_control::client::CallError;
use codex_network_control::message::{ApprovalsQuery, DecisionsQuery, MAX_WAIT};
use codex_network_control::{Access, Client};
use time::OffsetDateTime;
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::time::MissedTickBehavior;

use super::model::{Request, Update};
use crate::find;

/// Interval of looks at the sessions and the state of the proxy.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The time between two attempts to connect.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

const STOPPING: &str = "it is stopping";

/// Why the calls ended.
enum End {
    /// The connection is of no more use, for this reason.
    Lost(String),
    /// The screen is gone.
    ScreenClosed,
}

impl From<CallError> for End {
    fn from(error: CallError) -> Self {
        Self::Lost(error.to_string())
    }
}

/// Follows the proxy until the screen is gone.
pub(super) async fn run(
    mut client: Client,
    updates: Sender<Update>,
    mut requests: Receiver<Request>,
) {
    loop {
        let End::Lost(why) = Box::pin(followed(&client, &updates, &mut requests)).await else {
            return;
        };
        let since = OffsetDateTime::now_utc().unix_timestamp();
        if updates.send(Update::Lost(since, why)).await.is_err() {
            return;
        }
        client = loop {
            tokio::select! {
                () = updates.closed() => return,
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
            }
            match find::reconnect(&client).await {
                Ok(client) => break client,
                Err(error) => {
                    let lost = Update::Lost(since, find::described(&error));
                    if updates.send(lost).await.is_err() {
                        return;
                    }
                }
            }
        };
        // A request from before would answer a question that the user no longer sees.
        while requests.try_recv().is_ok() {}
    }
}

/// Makes all calls over one connection until it ends.
async fn followed(
    client: &Client,
    updates: &Sender<Update>,
    requests: &mut Receiver<Request>,
) -> End {
    let welcome = client.welcome();
    let connected = Update::Connected(welcome.access, welcome.version.clone());
    if let Err(end) = send(updates, connected).await {
        return end;
    }
    let ended = tokio::select! {
        ended = decisions(client, updates) => ended,
        ended = questions(client, updates) => ended,
        ended = looks(client, updates) => ended,
        ended = calls(client, updates, requests) => ended,
        () = updates.closed() => Err(End::ScreenClosed),
    };
    let Err(end) = ended;
    end
}

async fn send(updates: &Sender<Update>, update: Update) -> Result<(), End> {
    updates.send(update).await.map_err(|_| End::ScreenClosed)
}

async fn decisions(client: &Client, updates: &Sender<Update>) -> Result<Never, End> {
    loop {
        let query = DecisionsQuery {
            wait: MAX_WAIT.as_secs(),
        };
        let found = client.decisions(query).await?;
        let ending = found.ending;
        send(updates, Update::Decisions(found)).await?;
        if ending {
            return Err(End::Lost(STOPPING.to_owned()));
        }
    }
}

async fn questions(client: &Client, updates: &Sender<Update>) -> Result<Never, End> {
    // Without a wait, to learn at once whether this user may answer.
    let mut query = ApprovalsQuery::default();
    loop {
        let found = client.approvals(query).await?;
        query = ApprovalsQuery {
            since: found.next,
            wait: MAX_WAIT.as_secs(),
            session: None,
            awaited: false,
        };
        let ending = found.ending;
        send(updates, Update::Questions(found)).await?;
        if ending {
            return Err(End::Lost(STOPPING.to_owned()));
        }
    }
}

async fn looks(client: &Client, updates: &Sender<Update>) -> Result<Never, End> {
    let observes = client.welcome().access.covers(Access::Observe);
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let sessions = client.sessions().await?.sessions;
        let status = if observes {
            Some(Box::new(client.status().await?))
        } else {
            None
        };
        send(updates, Update::Look(sessions, status)).await?;
    }
}

async fn calls(
    client: &Client,
    updates: &Sender<Update>,
    requests: &mut Receiver<Request>,
) -> Result<Never, End> {
    while let Some(request) = requests.recv().await {
        let update = match request {
            Request::Explain(call, query) => {
                let explained = client.explain(query).await;
                let explained = explained.map(Box::new).map_err(|error| error.to_string());
                Update::Explained(call, explained)
            }
            Request::Approve(approval) => {
                let granted = client.approve(approval).await;
                Update::Answered(match granted {
                    Ok(granted) => {
                        let (host, scope) = (granted.grant.host, granted.grant.scope);
                        format!("approved {host} ({scope})")
                    }
                    Err(error) => format!("not approved: {error}"),
                })
            }
            Request::Deny(question) => Update::Answered(match client.deny(question).await {
                Ok(denied) => format!("rejected {}", denied.question.host),
                Err(error) => format!("not rejected: {error}"),
            }),
        };
        send(updates, update).await?;
    }
    Err(End::ScreenClosed)
}

/// A call that goes on until it fails.
enum Never {}
