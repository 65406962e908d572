//! Single frames of bodies that pass through: their length, their trailer fields, and their
//! inspection.

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::Frame;

use super::inspect::Inspection;
use crate::incoming::BodyError;

/// The frame; if it holds trailer fields, these are changed.
pub(super) fn with_trailers(
    frame: Frame<Bytes>,
    change: impl FnOnce(&mut HeaderMap),
) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            change(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// The bytes of content in a frame.
pub(super) fn length(frame: Option<&Result<Frame<Bytes>, BodyError>>) -> usize {
    let data = |frame: &Frame<Bytes>| frame.data_ref().map_or(0, Bytes::len);
    frame.and_then(|frame| frame.as_ref().ok()).map_or(0, data)
}

pub(super) fn inspect(
    inspection: &mut Option<Box<Inspection>>,
    frame: Option<&Result<Frame<Bytes>, BodyError>>,
) {
    if let Some(inspection) = inspection
        && let Some(Ok(frame)) = frame
        && let Some(data) = frame.data_ref()
    {
        inspection.note(data);
    }
}
