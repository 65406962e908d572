//! UDP associations (RFC 1928 sections 6 and 7, SPEC S3): datagrams of a client, each judged by
//! itself, and the answers to them.
//!
//! An association runs in the task of its control connection, and ends with that connection. It also
//! ends when it is idle for `idle_timeout`, when a change of the policy refuses every datagram (SPEC
//! P11), and with the drain, as tunnels do.
//!
//! Every datagram is judged by the settings in force when it arrives. The same destination under the
//! same settings has the same decision, so the enforcement point decides once for each destination and
//! generation of the settings, and `destinations` remembers the decision. It is recorded once, allowed
//! or refused, and later datagrams follow it. Datagrams that a refusal drops are counted; the count is
//! logged when the refusal is forgotten. A name is looked up once. When the settings change, its vetted
//! addresses are judged again without another lookup.
//!
//! Some datagrams are not requests: malformed ones, those from other senders than the client, and those
//! from addresses that this association never sent to. They are dropped, and each kind is logged once in
//! an association.
//!
//! With `enable_socks5_udp = false` the command is not supported (0x07). Where the policy refuses
//! all datagrams, in limited mode or when the proxy is disabled, the association is refused (0x02)
//! and recorded. So the client does not send datagrams that would all be dropped.

mod association;
mod destinations;
mod header;
mod relay;

use std::sync::Arc;

use codex_network_config::duration_text;
use codex_network_policy::RequestKind;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use self::association::{Association, AssociationEnd};
use self::relay::Relay;
use super::handshake::SocksRequest;
use super::{DOOR, answer, handshake};
use crate::activity::Activity;
use crate::attempt::Attempt;
use crate::client::Client;
use crate::http::Shared;
use crate::linger::linger;
use crate::respond::Reply;

/// Serves a request for an association to its end.
pub(super) async fn associate(
    shared: &Arc<Shared>,
    mut control: TcpStream,
    client: Client,
    request: SocksRequest,
) {
    let connection = client.connection.clone();
    let activity = connection.activity();
    activity.note();
    let mut association = match open(shared, &control, client, request, activity).await {
        Ok(association) => association,
        Err(reply) => {
            let _ = answer(&mut control, reply).await;
            return linger(control).await;
        }
    };
    let _counted = shared.associations.enter();
    let bound = handshake::reply(Reply::Succeeded, association.address());
    if control.write_all(&bound).await.is_err() {
        return;
    }
    let end = association.run(&mut control).await;
    let client = association.client();
    connection.end(end.ending());
    match end {
        AssociationEnd::Control => {}
        AssociationEnd::Idle(limit) => {
            tracing::debug!(%client, limit = duration_text(limit), "ended an idle UDP association");
        }
        AssociationEnd::Forbidden(reason) => {
            tracing::info!(%client, %reason, "ended a UDP association that the policy no longer permits");
        }
        AssociationEnd::SwitchedOff => {
            tracing::info!(%client, reason = "enable_socks5_udp is off", "ended a UDP association that the policy no longer permits");
        }
        AssociationEnd::Broken(error) => {
            tracing::debug!(%client, %error, "a UDP association broke");
        }
    }
}

/// Judges the request for an association and binds its socket.
async fn open<'a>(
    shared: &'a Arc<Shared>,
    control: &TcpStream,
    client: Client,
    request: SocksRequest,
    activity: &'a Activity,
) -> Result<Association<'a>, Reply> {
    let generation = shared.live().current();
    let attempt = Attempt {
        client,
        kind: RequestKind::Socks5Udp,
    };
    let peer = attempt.client.address;
    let switched_off = !generation.settings().socks5_udp;
    if switched_off && generation.policy().is_enabled() {
        let connection = &attempt.client.connection;
        if shared.recorder().may_log(connection, "refused commands") {
            tracing::info!(client = %peer, door = DOOR, command = ?request.command, "refused a command");
        }
        return Err(Reply::CommandNotSupported);
    }
    let named = match &request.host {
        Ok(host) => host.to_string().into_bytes(),
        Err(invalid) => invalid.text.clone(),
    };
    let (enforcer, port) = (&shared.enforcer, request.port);
    let refusal = enforcer.refuse_association(&generation, &attempt, &named, port);
    if refusal.is_some() {
        return Err(Reply::NotAllowed);
    }
    let bound = match control.local_addr() {
        Ok(local) => Relay::bind(local, peer, request.port, &enforcer.own().datagrams).await,
        Err(error) => Err(error),
    };
    let relay = bound.map_err(|error| {
        tracing::warn!(client = %peer, %error, "cannot open a socket for a UDP association; is max_connections too high for the limit of open files?");
        Reply::GeneralFailure
    })?;
    Ok(Association::new(shared, attempt, relay, activity))
}
