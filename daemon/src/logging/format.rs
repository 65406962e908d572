//! An audit event as a line of text or JSON: the same bytes that `tracing-subscriber` would write for
//! its `tracing` event, without its dynamic dispatch. A test compares both.

use std::fmt;
use std::io::Write as _;

use codex_network_engine::{AuditEvent, FieldValue, Rfc3339};

/// The format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineFormat {
    /// `TIME LEVEL message name=value …`
    Text,
    /// The same with the colours of a terminal.
    Coloured,
    /// One JSON object.
    Json,
}

/// Text between the parts of a line.
struct Style {
    time: [&'static str; 2],
    level: &'static str,
    name: &'static str,
    equals: &'static str,
}

const PLAIN: Style = Style {
    time: ["", " "],
    level: " INFO",
    name: "",
    equals: "=",
};
/// Escape sequences: dim, green, italic.
const COLOURED: Style = Style {
    time: ["\x1b[2m", "\x1b[0m "],
    level: "\x1b[32m INFO\x1b[0m",
    name: "\x1b[3m",
    equals: "\x1b[0m\x1b[2m=\x1b[0m",
};

/// The index of the message among the fields.
const MESSAGE: usize = 0;

impl LineFormat {
    /// Appends the line of an event.
    pub(super) fn append(self, event: &AuditEvent, line: &mut Vec<u8>) {
        match self {
            Self::Text => text(event, &PLAIN, line),
            Self::Coloured => text(event, &COLOURED, line),
            Self::Json => json(event, line),
        }
    }
}

fn json(event: &AuditEvent, line: &mut Vec<u8>) {
    line.extend_from_slice(b"{\"timestamp\":\"");
    show(&Rfc3339::microseconds(event.timestamp), line);
    line.extend_from_slice(b"\",\"level\":\"INFO\",\"fields\":{");
    event.each_field(|index, value| {
        if index > 0 {
            line.push(b',');
        }
        // The names hold no character that JSON escapes.
        line.push(b'"');
        line.extend_from_slice(AuditEvent::FIELDS[index].as_bytes());
        line.extend_from_slice(b"\":");
        match value {
            FieldValue::Text(text) => json_string(text, line),
            FieldValue::Shown(text) => {
                line.push(b'"');
                let start = line.len();
                show(text, line);
                if is_plain(&line[start..]) {
                    line.push(b'"');
                } else {
                    let text = String::from_utf8_lossy(&line[start..]).into_owned();
                    line.truncate(start - 1);
                    json_string(&text, line);
                }
            }
            FieldValue::Number(number) => show(&number, line),
            FieldValue::Flag(flag) => show(&flag, line),
        }
    });
    line.extend_from_slice(b"},\"target\":\"");
    line.extend_from_slice(AuditEvent::TARGET.as_bytes());
    line.extend_from_slice(b"\"}\n");
}

fn text(event: &AuditEvent, style: &Style, line: &mut Vec<u8>) {
    line.extend_from_slice(style.time[0].as_bytes());
    show(&Rfc3339::microseconds(event.timestamp), line);
    line.extend_from_slice(style.time[1].as_bytes());
    line.extend_from_slice(style.level.as_bytes());
    event.each_field(|index, value| {
        line.push(b' ');
        if index != MESSAGE {
            line.extend_from_slice(style.name.as_bytes());
            line.extend_from_slice(AuditEvent::FIELDS[index].as_bytes());
            line.extend_from_slice(style.equals.as_bytes());
        }
        match value {
            FieldValue::Text(text) => quoted(text, line),
            FieldValue::Shown(text) if index == MESSAGE => message(text, line),
            FieldValue::Shown(text) => quoted(&text.to_string(), line),
            FieldValue::Number(number) => show(&number, line),
            FieldValue::Flag(flag) => show(&flag, line),
        }
    });
    line.push(b'\n');
}

fn show(value: &dyn fmt::Display, line: &mut Vec<u8>) {
    // A write to memory does not fail. A value that fails is left out.
    let _ = write!(line, "{value}");
}

/// Appends text as a JSON string.
fn json_string(text: &str, line: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        // A string always has a JSON form.
        let _ = serde_json::to_writer(line, text);
    }
}

/// Appends text in quotation marks, with the escapes of Rust.
fn quoted(text: &str, line: &mut Vec<u8>) {
    if is_plain(text.as_bytes()) {
        line.push(b'"');
        line.extend_from_slice(text.as_bytes());
        line.push(b'"');
    } else {
        let _ = write!(line, "{text:?}");
    }
}

/// Appends a message. Control characters for terminals are escaped.
fn message(text: &dyn fmt::Display, line: &mut Vec<u8>) {
    let start = line.len();
    show(text, line);
    if is_plain(&line[start..]) {
        return;
    }
    let text = String::from_utf8_lossy(&line[start..]).into_owned();
    line.truncate(start);
    for character in text.chars() {
        let _ = match character {
            '\x07' | '\x08' | '\x0c' | '\x1b' | '\x7f' => {
                write!(line, "\\x{:02x}", u32::from(character))
            }
            '\u{80}'..='\u{9f}' => write!(line, "\\u{{{:x}}}", u32::from(character)),
            _ => write!(line, "{character}"),
        };
    }
}

/// Whether no format escapes any of these bytes.
fn is_plain(text: &[u8]) -> bool {
    text.iter()
        .all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use codex_network_engine::{AuditSink as _, TracingAudit};
    use parking_lot::Mutex;
    use proptest::prelude::*;
    use time::OffsetDateTime;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::{Layer, registry};

    use super::*;
    use crate::logging::sample::events;

    /// Keeps the line that `tracing-subscriber` writes.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl<'a> MakeWriter<'a> for Written {
        type Writer = &'a Self;

        fn make_writer(&'a self) -> Self::Writer {
            self
        }
    }

    impl std::io::Write for &Written {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The time of an event in place of the current time.
    struct TimeOf(OffsetDateTime);

    impl FormatTime for TimeOf {
        fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
            write!(writer, "{}", Rfc3339::microseconds(self.0))
        }
    }

    /// The line that `tracing-subscriber` writes for the event, as `logging::init` sets it up.
    fn twin(event: &AuditEvent, format: LineFormat) -> String {
        let written = Written::default();
        let lines = tracing_subscriber::fmt::layer()
            .with_timer(TimeOf(event.timestamp))
            .with_writer(written.clone());
        let lines = match format {
            LineFormat::Json => lines.json().boxed(),
            LineFormat::Text | LineFormat::Coloured => lines
                .with_ansi(format == LineFormat::Coloured)
                .with_target(false)
                .boxed(),
        };
        tracing::subscriber::with_default(registry().with(lines), || {
            TracingAudit.record(event.clone());
        });
        let line = std::mem::take(&mut *written.0.lock());
        String::from_utf8(line).expect("text")
    }

    fn line(event: &AuditEvent, format: LineFormat) -> String {
        let mut line = Vec::new();
        format.append(event, &mut line);
        String::from_utf8(line).expect("text")
    }

    proptest! {
        #[test]
        fn r3_a_line_of_an_audit_event_is_the_one_that_tracing_writes(event in events()) {
            for format in [LineFormat::Text, LineFormat::Coloured, LineFormat::Json] {
                prop_assert_eq!(line(&event, format), twin(&event, format));
            }
        }
    }

    #[test]
    fn r3_the_time_of_a_line_has_the_form_of_other_lines() {
        let mut text = String::new();
        let before = OffsetDateTime::now_utc();
        SystemTime
            .format_time(&mut Writer::new(&mut text))
            .expect("a time");
        let after = OffsetDateTime::now_utc();
        let [before, after] = [before, after].map(|time| Rfc3339::microseconds(time).to_string());
        assert_eq!(text.len(), before.len());
        assert!(
            (before.as_str()..=after.as_str()).contains(&text.as_str()),
            "{text}"
        );
    }
}
