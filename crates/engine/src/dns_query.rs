//! Reads the DNS messages of a program in a jail (SPEC T1). It decides nothing, and writes no answer.

use codex_network_policy::Host;
use hickory_resolver::proto::op::{
    Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode,
};
use hickory_resolver::proto::rr::{DNSClass, Name, RecordType};

/// Longest message that is read, in bytes. A query has one name and at most a few options.
pub(crate) const MAX_QUERY: usize = 4096;
/// Length of the header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;

/// A query for one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DnsQuery {
    pub(crate) metadata: Metadata,
    /// The question, which the answer repeats byte for byte: some clients check the letters' case.
    pub(crate) question: Query,
    /// The name, always a [`Host::Name`], or the text of one that is not a host name.
    pub(crate) name: Result<Host, Vec<u8>>,
    /// The longest datagram that the client takes, if it knows EDNS (RFC 6891 section 6.2.3).
    pub(crate) edns_payload: Option<u16>,
}

/// Why a message is not a query that policy DNS judges.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum NotAQuery {
    /// Not a query at all. An answer to an answer could go on forever.
    Ignored,
    /// The client gets this code. The question is repeated if it could be read.
    Answered {
        metadata: Metadata,
        question: Option<Query>,
        code: ResponseCode,
        edns: EdnsUse,
    },
}

/// Whether a client knows EDNS, and so gets it in the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EdnsUse {
    Used,
    Unused,
}

impl DnsQuery {
    /// Reads a message.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, NotAQuery> {
        let metadata = metadata(bytes).ok_or(NotAQuery::Ignored)?;
        let answered = |code, question, edns| NotAQuery::Answered {
            metadata,
            question,
            code,
            edns,
        };
        let refuse = |code| Err(answered(code, None, EdnsUse::Unused));
        if metadata.op_code != OpCode::Query {
            return refuse(ResponseCode::NotImp);
        }
        // Checked before anything is read, so that the numbers cause no work.
        if bytes.len() > MAX_QUERY || !has_usual_counts(bytes) {
            return refuse(ResponseCode::FormErr);
        }
        let Ok(mut message) = Message::from_vec(bytes) else {
            return refuse(ResponseCode::FormErr);
        };
        let Some(question) = message.queries.pop() else {
            return refuse(ResponseCode::FormErr);
        };
        let edns = match &message.edns {
            Some(_) => EdnsUse::Used,
            None => EdnsUse::Unused,
        };
        let refuse = |code, question| Err(answered(code, Some(question), edns));
        if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
            return refuse(ResponseCode::BADVERS, question);
        }
        if question.query_class() != DNSClass::IN {
            return refuse(ResponseCode::Refused, question);
        }
        let name = host(question.name());
        Ok(Self {
            metadata,
            name,
            edns_payload: message.edns.as_ref().map(Edns::max_payload),
            question,
        })
    }

    pub(crate) fn record_type(&self) -> RecordType {
        self.question.query_type()
    }

    pub(crate) fn edns(&self) -> EdnsUse {
        match self.edns_payload {
            Some(_) => EdnsUse::Used,
            None => EdnsUse::Unused,
        }
    }
}

/// The part of a query's header that its answer repeats.
fn metadata(bytes: &[u8]) -> Option<Metadata> {
    let &[first, second, flags, ..] = bytes.get(..HEADER)? else {
        return None;
    };
    let is_answer = flags & 0x80 != 0;
    if is_answer {
        return None;
    }
    let id = u16::from_be_bytes([first, second]);
    let op_code = OpCode::from_u8((flags >> 3) & 0x0f);
    let mut metadata = Metadata::new(id, MessageType::Response, op_code);
    metadata.recursion_desired = flags & 1 != 0;
    Some(metadata)
}

/// Whether a message has one question, and nothing else but options and a signature.
fn has_usual_counts(bytes: &[u8]) -> bool {
    const MAX_ADDITIONAL: u16 = 2;
    let count = |at: usize| {
        bytes
            .get(at..at + 2)
            .map(|count| u16::from_be_bytes([count[0], count[1]]))
    };
    (count(4), count(6), count(8)) == (Some(1), Some(0), Some(0))
        && count(10).is_some_and(|additional| additional <= MAX_ADDITIONAL)
}

/// The host that a name means, or the name as text.
fn host(name: &Name) -> Result<Host, Vec<u8>> {
    let mut text = Vec::with_capacity(name.len());
    let mut is_plain = true;
    for label in name {
        if !text.is_empty() {
            text.push(b'.');
        }
        // A dot inside a label does not separate labels, and white space is not part of a name.
        is_plain &= label.iter().all(|byte| !matches!(byte, b'.' | ..=b' '));
        text.extend_from_slice(label);
    }
    match Host::parse_bytes(&text) {
        Ok(host @ Host::Name(_)) if is_plain => Ok(host),
        // An address is not a name.
        _ => Err(text),
    }
}

#[cfg(test)]
mod tests;
