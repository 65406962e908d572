//! The meaning of an answer of the collector: the events are exported, lost, or sent again (the specification of OTLP,
//! "Failures" and "OTLP/gRPC Throttling"). No text has bytes that the collector chose.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;

/// The longest wait that a collector may ask for.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(60);

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The collector took the events, except for this many that it rejected.
    Taken { rejected: u64 },
    /// It refuses them for good.
    Refused(String),
    /// It takes them later, after this time if it said so. So does a collector that cannot be reached.
    Later(String, Option<Duration>),
}

impl Outcome {
    /// The meaning of a status of HTTP, with `Retry-After` and the body of the answer.
    pub(super) fn of_http(status: u16, retry_after: Option<&str>, body: &[u8]) -> Self {
        let why = || format!("it answers with the HTTP status {status}");
        match status {
            200..=299 => Self::taken(body),
            429 | 502..=504 => {
                let seconds = retry_after.and_then(|text| text.trim().parse().ok());
                let wait = seconds.map(Duration::from_secs);
                Self::Later(why(), wait.map(|wait| wait.min(MAX_WAIT)))
            }
            _ => Self::Refused(why()),
        }
    }

    /// The meaning of a status of gRPC, with `grpc-status-details-bin` and the message of the answer.
    pub(super) fn of_grpc(status: u32, details: Option<&[u8]>, message: &[u8]) -> Self {
        let why = || format!("it answers with the gRPC status {status}");
        let wait = || details.and_then(retry_delay);
        match status {
            0 => Self::taken(message),
            // CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS
            1 | 4 | 10 | 11 | 14 | 15 => Self::Later(why(), wait()),
            // RESOURCE_EXHAUSTED: only if the collector says when.
            8 => match wait() {
                Some(wait) => Self::Later(why(), Some(wait)),
                None => Self::Refused(why()),
            },
            _ => Self::Refused(why()),
        }
    }

    /// An answer of success. A body that is not understood rejects nothing.
    pub(super) fn taken(body: &[u8]) -> Self {
        let answer = ExportLogsServiceResponse::decode(body).ok();
        let partial = answer.and_then(|answer| answer.partial_success);
        let rejected = partial.map_or(0, |partial| partial.rejected_log_records);
        Self::Taken {
            rejected: u64::try_from(rejected).unwrap_or_default(),
        }
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanoseconds: i32,
}

/// The wait in the details of a status, which are in base64 with or without padding.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let details = details.strip_suffix(b"==").unwrap_or(details);
    let details = details.strip_suffix(b"=").unwrap_or(details);
    let details = BASE64_STANDARD_NO_PAD.decode(details).ok()?;
    let status = RpcStatus::decode(&*details).ok()?;
    let mut details = status.details.iter();
    let info = details.find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    let nanoseconds = Duration::from_nanos(u64::try_from(delay.nanoseconds).ok()?);
    Some((seconds.saturating_add(nanoseconds)).min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    fn partial(rejected: i64) -> Vec<u8> {
        let answer = ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records: rejected,
                error_message: "secret".to_owned(),
            }),
        };
        answer.encode_to_vec()
    }

    fn details(seconds: i64) -> Vec<u8> {
        let info = RetryInfo {
            retry_delay: Some(Delay {
                seconds,
                nanoseconds: 5,
            }),
        };
        let any = Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec(),
        };
        let status = RpcStatus { details: vec![any] };
        let text = BASE64_STANDARD_NO_PAD.encode(status.encode_to_vec());
        text.into_bytes()
    }

    fn kind(outcome: &Outcome) -> (&'static str, Option<u64>) {
        match outcome {
            Outcome::Taken { rejected } => ("taken", Some(*rejected)),
            Outcome::Refused(_) => ("refused", None),
            Outcome::Later(_, wait) => ("later", wait.map(|wait| wait.as_secs())),
        }
    }

    #[test]
    fn o2_statuses_of_http_mean_what_otlp_says() {
        for (status, retry_after, body, wanted) in [
            (200, None, vec![], ("taken", Some(0))),
            (200, None, partial(3), ("taken", Some(3))),
            (200, None, partial(-3), ("taken", Some(0))),
            (200, None, b"\xff\xff garbage".to_vec(), ("taken", Some(0))),
            (202, None, vec![], ("taken", Some(0))),
            (301, None, vec![], ("refused", None)),
            (400, None, vec![], ("refused", None)),
            (401, Some("1"), vec![], ("refused", None)),
            (429, None, vec![], ("later", None)),
            (429, Some("7"), vec![], ("later", Some(7))),
            (429, Some("99999999999"), vec![], ("later", Some(60))),
            (429, Some("-1"), vec![], ("later", None)),
            (429, Some("soon"), vec![], ("later", None)),
            (500, None, vec![], ("refused", None)),
            (502, None, vec![], ("later", None)),
            (503, Some("2"), vec![], ("later", Some(2))),
            (504, None, vec![], ("later", None)),
        ] {
            let outcome = Outcome::of_http(status, retry_after, &body);
            assert_eq!(kind(&outcome), wanted, "{status} {retry_after:?}");
            assert!(!format!("{outcome:?}").contains("secret"));
        }
    }

    #[test]
    fn o2_statuses_of_grpc_mean_what_otlp_says() {
        for (status, details, message, wanted) in [
            (0, None, partial(2), ("taken", Some(2))),
            (3, None, vec![], ("refused", None)),
            (8, None, vec![], ("refused", None)),
            (8, Some(details(4)), vec![], ("later", Some(4))),
            (8, Some(b"%%%".to_vec()), vec![], ("refused", None)),
            (12, Some(details(4)), vec![], ("refused", None)),
            (14, None, vec![], ("later", None)),
            (14, Some(details(9999)), vec![], ("later", Some(60))),
            (14, Some(details(-1)), vec![], ("later", None)),
            (16, None, vec![], ("refused", None)),
        ] {
            let outcome = Outcome::of_grpc(status, details.as_deref(), &message);
            assert_eq!(kind(&outcome), wanted, "{status}");
        }
        let padded = BASE64_STANDARD_NO_PAD.decode(details(4)).expect("base64");
        let padded = base64::prelude::BASE64_STANDARD.encode(padded);
        assert_eq!(
            retry_delay(padded.as_bytes()).map(|wait| wait.as_secs()),
            Some(4)
        );
    }
}
