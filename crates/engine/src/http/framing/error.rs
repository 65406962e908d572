//! Why the framing of a request is invalid: the text for the client, and the status code.

/// Why a byte of a request is invalid. The text is for the client.
#[derive(thiserror::Error, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FramingError {
    /// RFC 9112 section 2.2 lets a recipient accept a bare LF. If recipients differ in this, they
    /// disagree about where lines end.
    #[error("a line ends in a bare LF")]
    BareLf,
    /// RFC 9112 section 2.2: a bare CR is invalid.
    #[error("a CR is not followed by LF")]
    BareCr,
    /// A TLS handshake, usually of a client whose proxy setting begins with `https://`.
    #[error(
        "the client speaks TLS, and this port speaks plain HTTP; the URL of the proxy begins with http://, for https \
         destinations too"
    )]
    Tls,
    /// A SOCKS5 greeting.
    #[error(
        "the client speaks SOCKS5, and this port speaks HTTP; the SOCKS5 proxy has a port of its own"
    )]
    Socks5,
    /// A SOCKS4 request.
    #[error(
        "the client speaks SOCKS4, and this port speaks HTTP; the SOCKS proxy has a port of its own and speaks SOCKS5"
    )]
    Socks4,
    /// More than `MAX_EMPTY_LINES`.
    #[error("there are too many empty lines before the request line")]
    EmptyLines,
    /// Not `method SP request-target SP HTTP-version` (RFC 9112 section 3).
    #[error("the request line is malformed")]
    RequestLine,
    /// Not a URI reference that hyper can read (RFC 3986).
    #[error("the request-target is not a valid URL, path or authority")]
    Target,
    /// RFC 3986 section 3.2.2.
    #[error("an IPv6 address in the request-target needs square brackets, as in [2001:db8::1]:443")]
    BareIpv6,
    /// Well formed, but neither HTTP/1.0 nor HTTP/1.1. The preface of HTTP/2 ends here too.
    #[error("the HTTP version is not supported; this port speaks HTTP/1.1 and HTTP/1.0")]
    Version,
    /// The limit was reached within the request-target.
    #[error("the request-target is longer than the limit")]
    TargetTooLong,
    /// The limit was reached elsewhere in a request line, header section or trailer section.
    #[error("the header section is larger than the limit")]
    SectionTooLong,
    /// More than `MAX_FIELDS`.
    #[error("there are too many header fields")]
    TooManyFields,
    /// A header line begins with white space (obs-fold, RFC 9112 section 5.2).
    #[error("a header line is folded")]
    Folded,
    /// RFC 9112 section 5.1.
    #[error("white space before the colon of a header field")]
    SpaceBeforeColon,
    /// Not a token followed by a colon.
    #[error("the name of a header field is malformed")]
    FieldName,
    /// A byte that RFC 9110 section 5.5 forbids in field values: a control character.
    #[error("the value of a header field has a forbidden byte")]
    FieldValue,
    /// Not one decimal number of at most 64 bits.
    #[error("Content-Length is malformed")]
    Length,
    /// A second Content-Length field, even with the same value.
    #[error("Content-Length is given more than once")]
    RepeatedLength,
    /// RFC 9112 section 6.1, in either order.
    #[error("Content-Length and Transfer-Encoding are both given")]
    LengthAndCoding,
    /// Another coding, a list, a parameter, or a second Transfer-Encoding field.
    #[error("the transfer coding is not a single \"chunked\"")]
    Coding,
    /// RFC 9112 section 6.1: HTTP/1.0 has no transfer codings.
    #[error("Transfer-Encoding is given in an HTTP/1.0 request")]
    CodingInHttp10,
    /// RFC 9110 section 9.3.6: a CONNECT request has no content.
    #[error("a CONNECT request has Content-Length or Transfer-Encoding")]
    ConnectContent,
    /// Not 1 to `MAX_CHUNK_DIGITS` hexadecimal digits directly followed by `;` or CR LF.
    #[error("a chunk size is malformed")]
    ChunkSize,
    /// A control or a byte outside ASCII.
    #[error("a chunk extension has a forbidden byte")]
    ChunkExtension,
    /// Longer than `MAX_CHUNK_LINE`.
    #[error("a chunk-size line is longer than the limit")]
    ChunkLineTooLong,
    /// The data is longer or shorter than its chunk size.
    #[error("the data of a chunk is not followed by CR LF")]
    ChunkEnd,
    /// RFC 9110 section 6.5.1: a trailer field must not frame or route the message.
    #[error("Content-Length, Transfer-Encoding or Host is in the trailer section")]
    Trailer,
}

impl FramingError {
    /// The status code of the answer.
    pub(crate) fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::SectionTooLong | Self::TooManyFields => 431,
            Self::Version => 505,
            _ => 400,
        }
    }
}
