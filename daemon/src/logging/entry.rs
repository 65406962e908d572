//! The entries of the log's queue: events of `tracing`, and audit events.
//!
//! An audit event is queued as a typed value, and becomes text on the thread that writes it. It is the
//! entry of every request, so its cost on the request's path counts. It has the metadata of the `tracing`
//! event that it replaces, so that the log's filter applies to it.

use std::borrow::Cow;
use std::mem::size_of;
use std::sync::Arc;

use codex_network_engine::{
    AuditApproval, AuditEvent, AuditSink, FieldValue, ServerAddress, Volume,
};
use codex_network_policy::Host;
use tracing::{Level, Metadata};
use tracing_core::callsite::DefaultCallsite;
use tracing_core::{Kind, dispatcher, metadata};

use super::captured::Captured;
use super::outlet::{Entry, Outlet};

static CALLSITE: DefaultCallsite = DefaultCallsite::new(&AUDIT);
static AUDIT: Metadata<'static> = metadata! {
    name: AuditEvent::NAME,
    target: AuditEvent::TARGET,
    level: Level::INFO,
    fields: AuditEvent::FIELDS,
    callsite: &CALLSITE,
    kind: Kind::EVENT,
};

/// An entry of the queue. `E` is an event of `tracing`: formatted lines, or its fields.
#[expect(
    clippy::large_enum_variant,
    reason = "most entries are audit events, and to box each would cost more than the room"
)]
pub(super) enum Logged<E> {
    Event(E),
    Audit(AuditEvent),
}

/// Puts audit events into the queue.
pub(super) struct QueuedAudit<E: Entry>(pub(super) Arc<Outlet<Logged<E>>>);

impl<E: Entry> Entry for Logged<E> {
    fn size(&self) -> usize {
        let heap = match self {
            Self::Event(event) => event.size(),
            Self::Audit(event) => heap(event),
        };
        size_of::<Self>() + heap
    }
}

impl<E: Entry> AuditSink for QueuedAudit<E> {
    fn record(&self, event: AuditEvent) {
        if self.is_enabled() {
            self.0.push(Logged::Audit(event));
        }
    }

    /// The filter is evaluated once, unless it depends on the circumstances of an event.
    fn is_enabled(&self) -> bool {
        let interest = CALLSITE.interest();
        !interest.is_never()
            && (interest.is_always() || dispatcher::get_default(|current| current.enabled(&AUDIT)))
    }

    fn volume(&self) -> Volume {
        Volume::Bounded
    }
}

/// The texts of an event that it does not share with the policy.
fn heap(event: &AuditEvent) -> usize {
    let owned = |text: &Cow<'static, str>| match text {
        Cow::Borrowed(_) => 0,
        Cow::Owned(text) => text.capacity(),
    };
    let server = match &event.server_address {
        ServerAddress::Host(Host::Name(name)) => name.as_str().len(),
        ServerAddress::Text(text) => text.len(),
        ServerAddress::Host(_) | ServerAddress::UnixSocket => 0,
    };
    let attempt = event.attempt_id.as_ref().map_or(0, |id| id.len());
    let approval = event.approval.as_ref().map_or(0, |approval| {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<AuditApproval>() + text(&approval.rule) + text(&approval.id)
    });
    server + attempt + approval + owned(&event.reason) + event.method.as_ref().map_or(0, owned)
}

impl From<Captured> for Logged<Captured> {
    fn from(event: Captured) -> Self {
        Self::Event(event)
    }
}

impl Logged<Captured> {
    /// Passes the event on with its values as text.
    pub(super) fn with_captured<T>(&self, take: impl FnOnce(&Captured) -> T) -> T {
        match self {
            Self::Event(event) => take(event),
            Self::Audit(event) => take(&captured(event)),
        }
    }
}

fn captured(event: &AuditEvent) -> Captured {
    let mut captured = Captured::new(&AUDIT);
    event.each_field(|index, value| match value {
        FieldValue::Text(text) => captured.put_at(index, format_args!("{text}")),
        FieldValue::Shown(text) => captured.put_at(index, format_args!("{text}")),
        FieldValue::Number(number) => captured.put_at(index, format_args!("{number}")),
        FieldValue::Flag(flag) => captured.put_at(index, format_args!("{flag}")),
    });
    captured
}

#[cfg(test)]
mod tests {
    use codex_network_engine::TracingAudit;
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use tracing::Subscriber;
    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};
    use tracing_subscriber::{EnvFilter, Layer, registry};

    use super::*;
    use crate::logging::sample::{event, events};

    /// Keeps the last event.
    #[derive(Default)]
    struct Last(Mutex<Option<Captured>>);

    impl<S: Subscriber> Layer<S> for &'static Last {
        fn on_event(&self, event: &tracing::Event<'_>, _context: Context<'_, S>) {
            let mut captured = Captured::new(event.metadata());
            event.record(&mut captured);
            *self.0.lock() = Some(captured);
        }
    }

    fn fields(event: &Captured) -> Vec<(&'static str, String)> {
        let fields = event.fields();
        fields.map(|(name, text)| (name, text.to_owned())).collect()
    }

    proptest! {
        #[test]
        fn r4_an_audit_event_has_the_fields_of_its_tracing_event(event in events()) {
            static LAST: Last = Last(Mutex::new(None));
            with_default(registry().with(&LAST), || TracingAudit.record(event.clone()));
            let twin = LAST.0.lock().take().expect("an event");
            let captured = captured(&event);
            prop_assert_eq!(fields(&captured), fields(&twin));
            let metadata = [captured.metadata(), twin.metadata()];
            let [ours, theirs] = metadata.map(|metadata| (metadata.target(), *metadata.level()));
            prop_assert_eq!(ours, theirs);
            prop_assert_eq!(captured.in_words(), twin.in_words());
        }
    }

    #[test]
    fn r3_the_filter_of_the_log_decides_whether_audit_events_are_made() {
        static LAST: Last = Last(Mutex::new(None));
        let sink = QueuedAudit::<Captured>(Outlet::new(|_| unreachable!("nothing is lost")));
        for (filter, is_enabled) in [
            ("info", true),
            ("warn", false),
            ("warn,codex_otel.network_proxy=info", true),
            ("info,codex_otel=off", false),
            ("warn,codex_otel[{server.port}]=info", true),
            ("warn,codex_otel[{other}]=info", false),
            ("warn,[span]=info", false),
        ] {
            let subscriber = registry().with(EnvFilter::new(filter)).with(&LAST);
            with_default(subscriber, || {
                assert_eq!(sink.is_enabled(), is_enabled, "{filter}");
                TracingAudit.record(event(None, "listed.test"));
                assert_eq!(LAST.0.lock().take().is_some(), is_enabled, "{filter}");
            });
        }
    }
}
