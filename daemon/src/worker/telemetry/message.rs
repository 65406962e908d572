//! Audit events as a request of OTLP. The messages and their encoding are those of `opentelemetry-proto`.

use codex_network_engine::{AuditEvent, FieldValue};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

/// The index of the message among the fields of an event.
const MESSAGE: usize = 0;

/// The process that the events are from.
#[derive(Debug)]
pub(super) struct Origin(Resource);

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
        Self(Resource {
            attributes,
            ..Resource::default()
        })
    }
}

/// The bytes of a request with these events.
pub(super) fn encoded(events: &[AuditEvent], origin: &Origin) -> Vec<u8> {
    let request = ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs {
            resource: Some(origin.0.clone()),
            scope_logs: vec![ScopeLogs {
                scope: Some(InstrumentationScope {
                    name: AuditEvent::TARGET.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                log_records: events.iter().map(log_record).collect(),
                ..ScopeLogs::default()
            }],
            ..ResourceLogs::default()
        }],
    };
    request.encode_to_vec()
}

fn log_record(event: &AuditEvent) -> LogRecord {
    let mut body = None;
    let mut attributes = Vec::with_capacity(AuditEvent::FIELDS.len());
    event.each_field(|index, field| {
        let value = value(field);
        match AuditEvent::FIELDS.get(index) {
            _ if index == MESSAGE => body = Some(AnyValue { value: Some(value) }),
            Some(name) => attributes.push(attribute(name, value)),
            None => {}
        }
    });
    let nanoseconds = event.timestamp.unix_timestamp_nanos();
    let time = u64::try_from(nanoseconds).unwrap_or_default();
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

fn value(field: FieldValue<'_>) -> Value {
    match field {
        FieldValue::Text(value) => text(value),
        FieldValue::Shown(value) => Value::StringValue(value.to_string()),
        FieldValue::Number(number) => Value::IntValue(i64::try_from(number).unwrap_or(i64::MAX)),
        FieldValue::Flag(flag) => Value::BoolValue(flag),
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
    use super::*;
    use crate::logging::sample_event;

    #[test]
    fn o2_a_log_record_has_the_fields_of_the_audit_event() {
        let mut event = sample_event();
        event.timestamp += time::Duration::nanoseconds(1_700_000_000_123_456_789);
        let bytes = encoded(std::slice::from_ref(&event), &Origin::of_process());
        let request = ExportLogsServiceRequest::decode(&*bytes).expect("a request");
        let scope = &request.resource_logs[0].scope_logs[0];
        let record = &scope.log_records[0];
        let mut wanted = Vec::new();
        event.each_field(|index, field| {
            wanted.push((AuditEvent::FIELDS[index].to_owned(), value(field)));
        });
        let message = wanted.remove(0).1;
        assert_eq!(
            record.body,
            Some(AnyValue {
                value: Some(message)
            })
        );
        let found = record.attributes.iter().map(|one| {
            let value = one.value.as_ref().and_then(|value| value.value.clone());
            (one.key.clone(), value.expect("a value"))
        });
        assert_eq!(found.collect::<Vec<_>>(), wanted);
        assert_eq!(record.event_name, AuditEvent::NAME);
        let time = event.timestamp.unix_timestamp_nanos();
        assert_eq!(i128::from(record.time_unix_nano), time);
        assert_eq!(i128::from(record.observed_time_unix_nano), time);
        let resource = request.resource_logs[0].resource.as_ref();
        let names = resource.expect("a resource").attributes.iter();
        let names: Vec<&str> = names.map(|one| one.key.as_str()).collect();
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
