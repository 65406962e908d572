//! Audit events as a request of OTLP (`opentelemetry/proto/logs/v1/logs.proto`).
//!
//! The fields are written straight from an event. The messages of `opentelemetry-proto` own each text, and to make
//! them costs many times as much as to write their bytes. The tests decode the request into these messages.

use std::io::Write as _;

use codex_network_engine::{AuditEvent, FieldValue};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::wire;

/// The index of the message among the fields of an event.
const MESSAGE: usize = 0;
/// About the length of a record.
const RECORD_BYTES: usize = 1024;
/// Room for the numbers and lengths of two fields.
const PREFIXES_BYTES: usize = 2 * (1 + 10);

/// The numbers of the fields.
mod number {
    pub(super) const REQUEST_RESOURCE_LOGS: u32 = 1;
    pub(super) const RESOURCE_LOGS_SCOPE_LOGS: u32 = 2;
    pub(super) const SCOPE_LOGS_RECORDS: u32 = 2;
    pub(super) const RECORD_TIME: u32 = 1;
    pub(super) const RECORD_SEVERITY: u32 = 2;
    pub(super) const RECORD_SEVERITY_TEXT: u32 = 3;
    pub(super) const RECORD_BODY: u32 = 5;
    pub(super) const RECORD_ATTRIBUTES: u32 = 6;
    pub(super) const RECORD_OBSERVED_TIME: u32 = 11;
    pub(super) const RECORD_EVENT_NAME: u32 = 12;
    pub(super) const ATTRIBUTE_KEY: u32 = 1;
    pub(super) const ATTRIBUTE_VALUE: u32 = 2;
    pub(super) const VALUE_TEXT: u32 = 1;
    pub(super) const VALUE_FLAG: u32 = 2;
    pub(super) const VALUE_NUMBER: u32 = 3;
}

/// The process that the events are from.
#[derive(Debug)]
pub(super) struct Origin {
    /// A `ResourceLogs` with this process and without records.
    process: Vec<u8>,
    /// A `ScopeLogs` with the target of the events and without records.
    target: Vec<u8>,
}

impl Origin {
    /// This process. The call finds out the name of the machine.
    pub(super) fn of_process() -> Self {
        let mut attributes = vec![
            attribute("service.name", text("codex-network-proxy")),
            attribute("service.version", text(env!("CARGO_PKG_VERSION"))),
            attribute("process.pid", Value::IntValue(std::process::id().into())),
        ];
        let host = nix::unistd::gethostname().ok();
        if let Some(host) = host.and_then(|host| host.into_string().ok()) {
            attributes.push(attribute("host.name", text(&host)));
        }
        let process = ResourceLogs {
            resource: Some(Resource {
                attributes,
                ..Resource::default()
            }),
            ..ResourceLogs::default()
        };
        let target = ScopeLogs {
            scope: Some(InstrumentationScope {
                name: AuditEvent::TARGET.to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            }),
            ..ScopeLogs::default()
        };
        Self {
            process: process.encode_to_vec(),
            target: target.encode_to_vec(),
        }
    }

    /// The bytes of a request with these records.
    pub(super) fn request(&self, records: &[u8]) -> Vec<u8> {
        let head = self.process.len() + self.target.len() + PREFIXES_BYTES;
        let mut request = Vec::with_capacity(head + records.len());
        wire::content(number::REQUEST_RESOURCE_LOGS, &mut request, |to| {
            to.extend_from_slice(&self.process);
            wire::content(number::RESOURCE_LOGS_SCOPE_LOGS, to, |to| {
                to.extend_from_slice(&self.target);
                to.extend_from_slice(records);
            });
        });
        request
    }
}

/// The bytes of a record of an event, as a field of the message that holds the records. Records are appended to
/// each other.
pub(super) fn record(event: &AuditEvent) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_BYTES);
    wire::content(number::SCOPE_LOGS_RECORDS, &mut record, |to| {
        write_record(event, to);
    });
    record
}

/// Writes the fields of a `LogRecord`.
fn write_record(event: &AuditEvent, to: &mut Vec<u8>) {
    let nanoseconds = event.timestamp.unix_timestamp_nanos();
    let time = u64::try_from(nanoseconds).unwrap_or_default();
    wire::fixed64(number::RECORD_TIME, time, to);
    let severity = SeverityNumber::Info as u64;
    wire::varint(number::RECORD_SEVERITY, severity, to);
    wire::text(number::RECORD_SEVERITY_TEXT, "INFO", to);
    event.each_field(|index, value| {
        if index == MESSAGE {
            wire::content(number::RECORD_BODY, to, |to| write_value(value, to));
        } else if let Some(name) = AuditEvent::FIELDS.get(index) {
            wire::content(number::RECORD_ATTRIBUTES, to, |to| {
                wire::text(number::ATTRIBUTE_KEY, name, to);
                wire::content(number::ATTRIBUTE_VALUE, to, |to| write_value(value, to));
            });
        }
    });
    wire::fixed64(number::RECORD_OBSERVED_TIME, time, to);
    wire::text(number::RECORD_EVENT_NAME, AuditEvent::NAME, to);
}

/// Writes the field of an `AnyValue`.
fn write_value(value: FieldValue<'_>, to: &mut Vec<u8>) {
    match value {
        FieldValue::Text(text) => wire::text(number::VALUE_TEXT, text, to),
        FieldValue::Shown(shown) => wire::content(number::VALUE_TEXT, to, |to| {
            // A vector takes all bytes.
            let _ = write!(to, "{shown}");
        }),
        FieldValue::Number(number) => {
            let number = number.min(i64::MAX.unsigned_abs());
            wire::varint(number::VALUE_NUMBER, number, to);
        }
        FieldValue::Flag(flag) => wire::varint(number::VALUE_FLAG, flag.into(), to),
    }
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests {
    use codex_network_engine::AuditSession;
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::logs::v1::LogRecord;

    use super::*;
    use crate::logging::sample_event;

    /// The record by the official messages.
    fn record(event: &AuditEvent) -> LogRecord {
        let mut body = None;
        let mut attributes = Vec::new();
        event.each_field(|index, field| {
            let value = match field {
                FieldValue::Text(value) => text(value),
                FieldValue::Shown(value) => text(&value.to_string()),
                FieldValue::Number(number) => {
                    Value::IntValue(number.try_into().unwrap_or(i64::MAX))
                }
                FieldValue::Flag(flag) => Value::BoolValue(flag),
            };
            match index {
                MESSAGE => body = Some(AnyValue { value: Some(value) }),
                _ => attributes.push(attribute(AuditEvent::FIELDS[index], value)),
            }
        });
        let time = event.timestamp.unix_timestamp_nanos();
        let time = u64::try_from(time).expect("after 1970");
        LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: time,
            severity_number: SeverityNumber::Info.into(),
            severity_text: "INFO".to_owned(),
            event_name: AuditEvent::NAME.to_owned(),
            body,
            attributes,
            ..LogRecord::default()
        }
    }

    #[test]
    fn o2_a_log_record_has_the_fields_of_the_audit_event() {
        let mut first = sample_event();
        first.timestamp += time::Duration::nanoseconds(1_700_000_000_123_456_789);
        let mut large = first.clone();
        large.method = Some("M".repeat(20_000).into());
        large.count = u64::MAX;
        large.session = Some(
            AuditSession {
                id: "s-1".into(),
                user: "".into(),
                command: "é".repeat(100).into(),
            }
            .into(),
        );
        let events = [first, large];
        let bytes = Origin::of_process().request(&events.each_ref().map(super::record).concat());
        let request = ExportLogsServiceRequest::decode(&*bytes).expect("a request");
        assert_eq!(
            request.encode_to_vec(),
            bytes,
            "the encoding is the official one"
        );
        let [resource_logs] = &*request.resource_logs else {
            panic!("one resource: {request:?}");
        };
        let [scope_logs] = &*resource_logs.scope_logs else {
            panic!("one scope: {request:?}");
        };
        assert_eq!(scope_logs.log_records, events.each_ref().map(record));
        let names: Vec<&str> = resource_logs
            .resource
            .iter()
            .flat_map(|it| &it.attributes)
            .map(|one| one.key.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "service.name",
                "service.version",
                "process.pid",
                "host.name"
            ]
        );
    }
}
