//! Just enough gRPC over hyper to serve BuildKit: messages with their five-byte prefix, streams,
//! and the status that ends them in trailers.
//!
//! Knows the wire (grpc `doc/PROTOCOL-HTTP2.md`); must not know what is served.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use prost::Message;
use tokio::sync::mpsc;

/// The longest message that we take: fsutil and BuildKit send nothing near it.
const LONGEST_MESSAGE: usize = 16 << 20;
/// A flag and a length come before every message.
const PREFIX: usize = 5;

/// How a call ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) code: Code,
    pub(super) message: String,
}

/// Codes of gRPC (grpc `doc/statuscodes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
    Unavailable = 14,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    fn ok() -> Self {
        Self::new(Code::Ok, "")
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code as u16));
        if !self.message.is_empty()
            && let Ok(message) = HeaderValue::from_str(&percent_encoded(&self.message))
        {
            trailers.insert("grpc-message", message);
        }
        trailers
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.message, self.code)
    }
}

/// Percent-encoding of what is not printable ASCII, as `grpc-message` wants it.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// Appends a message with its prefix.
pub(super) fn encode(message: &impl Message, buffer: &mut BytesMut) {
    let length = message.encoded_len();
    buffer.reserve(PREFIX + length);
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // There is room: it was reserved.
    message.encode(buffer).unwrap_or_default();
}

/// The messages of a caller.
pub(super) struct Messages<B> {
    body: B,
    buffer: BytesMut,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B>
where
    B::Error: fmt::Display,
{
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new() }
    }

    /// The next one; `None` when the caller has no more to say.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        loop {
            if let Some(message) = self.decode()? {
                return M::decode(message)
                    .map(Some)
                    .map_err(|error| Status::new(Code::InvalidArgument, error.to_string()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Some(Err(error)) => return Err(Status::new(Code::Unknown, error.to_string())),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(Status::new(Code::InvalidArgument, "a message was cut off")),
            }
        }
    }

    /// Takes a whole message out of the buffer.
    fn decode(&mut self) -> Result<Option<Bytes>, Status> {
        let Some((&flag, rest)) = self.buffer.split_first() else { return Ok(None) };
        let Some(length) = rest.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if flag != 0 {
            return Err(Status::new(Code::Unimplemented, "compressed messages are not understood"));
        }
        if length > LONGEST_MESSAGE {
            return Err(Status::new(Code::InvalidArgument, "a message is too long"));
        }
        if self.buffer.len() < PREFIX + length {
            self.buffer.reserve(PREFIX + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(PREFIX);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }
}

/// Serves a call of one question and one answer.
pub(super) async fn unary<Q, A, F>(
    request: Request<Incoming>,
    answer: impl FnOnce(Q) -> F,
) -> Response<Answer>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let answered = async {
        let question = Messages::new(request.into_body()).next::<Q>().await?.unwrap_or_default();
        answer(question).await
    };
    let item = answered.await.map(|message| {
        let mut buffer = BytesMut::new();
        encode(&message, &mut buffer);
        buffer.freeze()
    });
    only(item)
}

/// Refuses a call.
pub(super) fn refuse(status: Status) -> Response<Answer> {
    only(Err(status))
}

/// An answer of one message, or of none.
fn only(item: Result<Bytes, Status>) -> Response<Answer> {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one, and the receiver is right here.
    sender.try_send(item).unwrap_or_default();
    response(receiver)
}

/// An answer whose messages come out of a channel: encoded ones, until an error or the end.
pub(super) fn response(messages: mpsc::Receiver<Result<Bytes, Status>>) -> Response<Answer> {
    let mut response = Response::new(Answer { messages, ended: false });
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// The body of an answer.
pub(super) struct Answer {
    messages: mpsc::Receiver<Result<Bytes, Status>>,
    ended: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = match ready!(self.messages.poll_recv(cx)) {
            Some(Ok(messages)) => Frame::data(messages),
            end => {
                self.ended = true;
                let status = end.and_then(Result::err).unwrap_or_else(Status::ok);
                Frame::trailers(status.trailers())
            }
        };
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::filesync::packet::BytesMessage;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn message(data: &[u8]) -> BytesMessage {
        BytesMessage { data: data.to_vec() }
    }

    #[tokio::test]
    async fn messages_come_out_however_the_bytes_are_cut() {
        let mut buffer = BytesMut::new();
        let sent = [message(b"one"), message(b""), message(&[7; 70_000])];
        for message in &sent {
            encode(message, &mut buffer);
        }
        for size in [1, 2, 5, 6, 1000, buffer.len()] {
            let frames: Vec<_> = buffer
                .chunks(size)
                .map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(chunk))))
                .collect();
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let mut messages = Messages::new(body);
            for expected in &sent {
                assert_eq!(messages.next().await, Ok(Some(expected.clone())), "cut at {size}");
            }
            assert_eq!(messages.next::<BytesMessage>().await, Ok(None));
        }
    }

    #[tokio::test]
    async fn what_is_cut_off_compressed_or_too_long_is_an_error() {
        for bytes in [&[0, 0, 0, 0, 9, 1][..], &[1, 0, 0, 0, 0], &[0, 255, 255, 255, 255]] {
            let mut messages = Messages::new(Full::new(Bytes::copy_from_slice(bytes)));
            assert!(messages.next::<BytesMessage>().await.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_status_of_any_characters_fits_into_a_header() {
        let status = Status::new(Code::NotFound, "50 % of \u{fc}\n");
        assert_eq!(status.trailers()["grpc-message"], "50 %25 of %C3%BC%0A");
        assert_eq!(status.trailers()["grpc-status"], "5");
    }
}
