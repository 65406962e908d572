//! Events that outlive the call that logged them: copied on the thread that logs, written on
//! another.
//!
//! Values are kept as text, as the journal stores them, and are cut. Spans are not kept.

use std::fmt::{self, Write as _};
use std::mem::size_of;
use std::sync::Arc;

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_core::field::Value;
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::outlet::{Entry, Outlet};

/// Longest value, in bytes.
const MAX_VALUE: usize = 32 * 1024;
/// Longest value that is put into a message.
const MAX_WORD: usize = 256;
/// Most bytes of all values of an event. With the names of its fields they fit into one datagram
/// (the kernel lets a socket send 208 KiB, `net.core.wmem_default`).
const MAX_TEXT: usize = 96 * 1024;

/// Copies events into the queue.
pub(super) struct Capture<E>(pub(super) Arc<Outlet<E>>);

/// An event with its values.
#[derive(Debug)]
pub(super) struct Captured {
    metadata: &'static Metadata<'static>,
    /// The values, one after the other.
    text: String,
    /// The index of a value's field, and the end of the value in the text.
    values: Vec<(usize, usize)>,
}

impl<S: Subscriber, E: Entry + From<Captured>> Layer<S> for Capture<E> {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut captured = Captured::new(event.metadata());
        event.record(&mut captured);
        self.0.push(captured.into());
    }
}

impl Captured {
    /// An event without values.
    pub(super) fn new(metadata: &'static Metadata<'static>) -> Self {
        Self {
            metadata,
            text: String::new(),
            values: Vec::with_capacity(metadata.fields().len()),
        }
    }

    /// Adds a value, up to the remaining room.
    pub(super) fn put(&mut self, field: &Field, value: fmt::Arguments<'_>) {
        self.put_at(field.index(), value);
    }

    /// Adds the value of the field with this index, up to the remaining room.
    pub(super) fn put_at(&mut self, index: usize, value: fmt::Arguments<'_>) {
        let end = (self.text.len() + MAX_VALUE).min(MAX_TEXT);
        let text = &mut self.text;
        // Fails when there is no more room or the value itself fails. The part that was written is
        // kept.
        let _ = BoundedText { text, end }.write_fmt(value);
        self.values.push((index, self.text.len()));
    }

    /// Logs the event to this subscriber only, regardless of its filter. `message` replaces the
    /// event's own message.
    pub(super) fn replay(&self, subscriber: &impl Subscriber, message: Option<&str>) {
        let fields = self.metadata.fields();
        let mut texts = self.texts();
        if let (Some(message), Some(field)) = (message, fields.field("message")) {
            texts[field.index()] = Some(message);
        }
        let values: Vec<Option<&dyn Value>> = texts
            .iter()
            .map(|text| text.as_ref().map(|text| text as &dyn Value))
            .collect();
        let values = fields.value_set_all(&values);
        subscriber.event(&Event::new(self.metadata, &values));
    }

    /// The metadata of the callsite.
    pub(super) fn metadata(&self) -> &'static Metadata<'static> {
        self.metadata
    }

    /// The fields that have a value, with their names.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let names = self.metadata.fields().iter().map(|field| field.name());
        let fields = names.zip(self.texts());
        fields.filter_map(|(name, text)| Some((name, text?)))
    }

    /// The message followed by the fields, for readers of only the messages. `None` for an event that
    /// is meant for programs, whose target is not one of our modules.
    pub(super) fn in_words(&self) -> Option<String> {
        let message = self.metadata.fields().field("message")?;
        // A module's path has no dot.
        let target = self.metadata.target();
        if !target.starts_with("codex_network") || target.contains('.') {
            return None;
        }
        let texts = self.texts();
        let said = texts[message.index()].unwrap_or_default();
        let mut words = said.to_owned();
        for (field, text) in self.metadata.fields().iter().zip(&texts) {
            let Some(text) = text.filter(|text| text.len() <= MAX_WORD) else {
                continue;
            };
            if field == message || said.contains(text) {
                continue;
            }
            let _ = if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                write!(words, " {field}={text:?}")
            } else {
                write!(words, " {field}={text}")
            };
        }
        Some(words)
    }

    /// The values, in the order of the fields.
    fn texts(&self) -> Vec<Option<&str>> {
        let mut texts = vec![None; self.metadata.fields().len()];
        let mut start = 0;
        for (field, end) in &self.values {
            if let Some(text) = texts.get_mut(*field) {
                *text = Some(&self.text[start..*end]);
            }
            start = *end;
        }
        texts
    }
}

impl Visit for Captured {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format_args!("{value:?}"));
    }
}

impl Entry for Captured {
    fn size(&self) -> usize {
        size_of::<Self>()
            + self.text.capacity()
            + self.values.capacity() * size_of::<(usize, usize)>()
    }
}

/// Text that may grow to this length, so that an overlong value is never written completely.
struct BoundedText<'a> {
    text: &'a mut String,
    end: usize,
}

impl fmt::Write for BoundedText<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = self.end.saturating_sub(self.text.len());
        if more.len() <= room {
            self.text.push_str(more);
            return Ok(());
        }
        let cut = (0..=room).rev().find(|end| more.is_char_boundary(*end));
        self.text.push_str(&more[..cut.unwrap_or(0)]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use tracing::subscriber::with_default;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::registry;

    use super::*;
    use crate::logging::outlet::OneByOne;

    /// Keeps the fields of events: names and texts.
    #[derive(Clone, Default)]
    struct Recorded(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Recorded {
        fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
            struct Texts<'a>(&'a mut Vec<(String, String)>);
            impl Visit for Texts<'_> {
                fn record_str(&mut self, field: &Field, value: &str) {
                    self.0.push((field.name().to_owned(), value.to_owned()));
                }
                fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
                    self.0.push((field.name().to_owned(), format!("{value:?}")));
                }
            }
            event.record(&mut Texts(&mut self.0.lock().expect("no panic")));
        }
    }

    /// The fields of an event, logged directly and through the queue, and the messages as text.
    fn directly_and_captured(log: impl FnOnce()) -> ([Vec<(String, String)>; 2], Vec<String>) {
        let (direct, captured) = (Recorded::default(), Recorded::default());
        let words: Arc<Mutex<Vec<String>>> = Arc::default();
        let outlet = Outlet::<Captured>::new(|_| unreachable!("nothing is lost"));
        let capture = Capture(Arc::clone(&outlet));
        with_default(registry().with(direct.clone()).with(capture), log);
        let (to, said) = (captured.clone(), Arc::clone(&words));
        let write = move |event: &Captured| {
            let fields = event.fields();
            let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
            to.0.lock().expect("no panic").extend(fields);
            said.lock().expect("no panic").extend(event.in_words());
            Ok(())
        };
        outlet.start(OneByOne(write)).expect("a thread");
        outlet.flush(Duration::from_secs(10));
        let recorded = [direct, captured].map(|recorded| {
            let mut recorded = std::mem::take(&mut *recorded.0.lock().expect("no panic"));
            // A visitor may see the fields in any order.
            recorded.sort_unstable();
            recorded
        });
        let words = std::mem::take(&mut *words.lock().expect("no panic"));
        (recorded, words)
    }

    #[test]
    fn r4_a_captured_event_has_the_values_of_the_one_that_was_logged() {
        let ([direct, captured], _) = directly_and_captured(|| {
            let (absent, host) = (None::<&str>, "\u{fc}.test");
            tracing::event!(
                target: "codex_otel.network_proxy",
                tracing::Level::WARN,
                event.name = "a\nb",
                server.port = 443,
                share = 1.5,
                network.policy.override = true,
                absent,
                shown = %host,
                debugged = ?host,
                huge = u128::MAX,
                empty = "",
                "deny {host}",
            );
        });
        assert_eq!(direct.len(), 9, "{direct:?}");
        assert_eq!(direct, captured);
    }

    #[test]
    fn r4_a_replayed_event_has_the_message_that_is_given_and_the_fields_of_its_own() {
        let received = Recorded::default();
        let outlet = Outlet::<Captured>::new(|_| unreachable!("nothing is lost"));
        let capture = Capture(Arc::clone(&outlet));
        with_default(registry().with(capture), || {
            tracing::info!(host = "a.test", absent = None::<&str>, "denied");
        });
        let to = registry().with(received.clone());
        let write = move |event: &Captured| {
            event.replay(&to, event.in_words().as_deref());
            Ok(())
        };
        outlet.start(OneByOne(write)).expect("a thread");
        outlet.flush(Duration::from_secs(10));
        let mut received = std::mem::take(&mut *received.0.lock().expect("no panic"));
        received.sort_unstable();
        let expected = [("host", "a.test"), ("message", "denied host=a.test")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(received, expected);
    }

    #[test]
    fn r4_an_event_of_any_number_of_fields_is_captured() {
        let ([direct, captured], _) = directly_and_captured(|| {
            tracing::info!(
                a = 0,
                b = 1,
                c = 2,
                d = 3,
                e = 4,
                f = 5,
                g = 6,
                h = 7,
                i = 8,
                j = 9,
                k = 10,
                l = 11,
                m = 12,
                n = 13,
                o = 14,
                p = 15,
                q = 16,
                r = 17,
                s = 18,
                t = 19,
                u = 20,
                v = 21,
                w = 22,
                x = 23,
                y = 24,
                z = 25,
                aa = 26,
                ab = 27,
                ac = 28,
                ad = 29,
                ae = 30,
                af = 31,
                ag = 32,
                ah = 33,
                "many"
            );
            tracing::info!("none");
        });
        assert_eq!(direct.len(), 35 + 1, "{direct:?}");
        assert_eq!(direct, captured);
    }

    #[test]
    fn r4_values_that_are_too_long_are_cut_between_characters() {
        let long = "\u{20ac}".repeat(MAX_VALUE);
        let ([direct, captured], _) = directly_and_captured(|| {
            tracing::info!(a = "x", b = long, c = %long, d = ?long, e = ?long, f = "y");
        });
        assert_eq!(direct.len(), captured.len());
        let lengths: Vec<usize> = captured.iter().map(|(_, text)| text.len()).collect();
        assert!(lengths.iter().sum::<usize>() <= MAX_TEXT, "{lengths:?}");
        assert!(lengths.iter().all(|length| *length <= MAX_VALUE));
        assert!(lengths[1] > MAX_VALUE - 3, "{lengths:?}");
        assert!(direct[1].1.starts_with(&captured[1].1));
    }

    #[test]
    fn r4_a_message_as_text_has_all_its_fields_once() {
        let long = "x".repeat(MAX_WORD + 1);
        let (_, words) = directly_and_captured(|| {
            tracing::info!(listener = "http", address = "127.0.0.1:1", "listening");
            tracing::info!(lost = 3, long, "3 lines");
            tracing::info!(why = "a\nb c", absent = None::<&str>, "ended");
            tracing::event!(target: "codex_otel.network_proxy", tracing::Level::INFO, server.port = 443, "deny");
            tracing::event!(target: "codex_network_proxy.flow", tracing::Level::INFO, server.port = 443, "completed");
        });
        // The last two are meant for programs.
        assert_eq!(
            words,
            [
                "listening listener=http address=127.0.0.1:1",
                "3 lines",
                r#"ended why="a\nb c""#,
            ]
        );
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn r4_a_datagram_takes_the_longest_event() {
        let (one, _other) = std::os::unix::net::UnixDatagram::pair().expect("sockets");
        let names = 16 * 1024;
        one.send(&vec![b'x'; MAX_TEXT + names])
            .expect("the kernel takes it");
    }
}
