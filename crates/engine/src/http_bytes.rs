//! The classes of bytes in the syntax of HTTP/1.

/// tchar of RFC 9110 section 5.6.2.
pub(crate) fn is_token(byte: u8) -> bool {
    matches!(byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

/// VCHAR (RFC 5234 appendix B.1): the bytes that the proxy accepts in a request-target.
pub(crate) fn is_visible(byte: u8) -> bool {
    byte.is_ascii_graphic()
}

/// The bytes of a field value (RFC 9110 section 5.5): HTAB, SP, VCHAR, obs-text.
pub(crate) fn is_field_text(byte: u8) -> bool {
    is_ascii_text(byte) || !byte.is_ascii()
}

/// The bytes of a field value that are ASCII: HTAB, SP, VCHAR.
pub(crate) fn is_ascii_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}
