//! Fields of messages in the encoding of Protocol Buffers, one after the other.

use bytes::BufMut as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// Writes a field that is text.
pub(super) fn text(number: u32, value: &str, to: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, to);
    encode_varint(value.len() as u64, to);
    to.put_slice(value.as_bytes());
}

/// Writes a field that is a number of variable length.
pub(super) fn varint(number: u32, value: u64, to: &mut Vec<u8>) {
    encode_key(number, WireType::Varint, to);
    encode_varint(value, to);
}

/// Writes a field that is a number of eight bytes.
pub(super) fn fixed64(number: u32, value: u64, to: &mut Vec<u8>) {
    encode_key(number, WireType::SixtyFourBit, to);
    to.put_u64_le(value);
}

/// Writes a field that is a message or formatted text. Its content is what `write` appends.
pub(super) fn content(number: u32, to: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(number, WireType::LengthDelimited, to);
    // The length stands before the content. Mostly it is one byte.
    let length_at = to.len();
    to.push(0);
    write(to);
    let begin = length_at + 1;
    let length = to.len() - begin;
    let more = encoded_len_varint(length as u64) - 1;
    if more > 0 {
        to.resize(to.len() + more, 0);
        to.copy_within(begin..begin + length, begin + more);
    }
    encode_varint(length as u64, &mut &mut to[length_at..begin + more]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o2_the_length_of_content_stands_before_it() {
        for length in [0, 1, 127, 128, 16_383, 16_384, 3_000_000] {
            let mut written = b"before".to_vec();
            content(5, &mut written, |to| to.resize(to.len() + length, b'x'));
            let mut wanted = b"before".to_vec();
            prost::encoding::bytes::encode(5, &vec![b'x'; length], &mut wanted);
            assert!(written == wanted, "{length}");
        }
    }
}
