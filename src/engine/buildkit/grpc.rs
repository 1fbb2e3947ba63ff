//! Just enough gRPC over hyper to serve BuildKit and to call it: messages with their five-byte prefix, streams,
//! and the status that ends them in trailers.
//!
//! Knows the wire (grpc `doc/PROTOCOL-HTTP2.md`); must not know what is said.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bollard_buildkit_proto::moby::buildkit::v1::BytesMessage;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Frame, Incoming},
    client::conn::http2,
};
use hyper_util::rt::TokioExecutor;
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    sync::mpsc,
};

use crate::engine::error::innermost;

/// Room for what the other side sends. BuildKit's requests for files are frames of a few bytes, and
/// many; h2 takes many small frames for an attack, in proportion to the room that it was given
/// (hyperium/h2#935).
pub(super) const CONNECTION_WINDOW: u32 = 1 << 30;

/// The longest message that we take: fsutil and BuildKit send nothing near it.
const LONGEST_MESSAGE: usize = 16 << 20;
/// So many bytes of a tunnel go into a message.
const CHUNK: usize = 32 << 10;
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
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    AlreadyExists = 6,
    FailedPrecondition = 9,
    OutOfRange = 11,
    Unimplemented = 12,
    Unavailable = 14,
}

impl Code {
    /// The code that a number stands for; those that nobody here looks at are unknown.
    fn of(number: &str) -> Self {
        let known = [
            Self::Cancelled,
            Self::InvalidArgument,
            Self::NotFound,
            Self::Unimplemented,
            Self::Unavailable,
        ];
        let number = number.parse();
        known.into_iter().find(|code| number == Ok(*code as u16)).unwrap_or(Self::Unknown)
    }
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The connection broke.
    fn broken(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::new(Code::Unavailable, innermost(error))
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

/// A message with its prefix.
pub(super) fn encoded(message: &impl Message) -> Bytes {
    let mut buffer = BytesMut::new();
    encode(message, &mut buffer);
    buffer.freeze()
}

/// The messages that come from the other side.
pub(super) struct Messages<B> {
    body: B,
    buffer: BytesMut,
    /// What came after the last one.
    trailers: HeaderMap,
}

impl<B: Body<Data = Bytes> + Unpin> Messages<B>
where
    B::Error: std::error::Error + 'static,
{
    pub(super) fn new(body: B) -> Self {
        Self { body, buffer: BytesMut::new(), trailers: HeaderMap::new() }
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
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => self.trailers = frame.into_trailers().unwrap_or_default(),
                },
                Some(Err(error)) => return Err(Status::broken(&error)),
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

/// The client's side of a connection.
#[derive(Clone)]
pub(super) struct Client {
    sender: http2::SendRequest<Outgoing>,
    /// The name of the other side, which servers want to hear.
    authority: String,
}

impl Client {
    /// Begins HTTP/2 on a connection. It ends when the client and its calls are dropped.
    pub(super) async fn new<C>(connection: C, authority: &str) -> Result<Self, hyper::Error>
    where
        C: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(connection)
            .await?;
        tokio::spawn(driver);
        Ok(Self { sender, authority: authority.to_owned() })
    }

    /// Calls a method that answers once.
    pub(super) async fn unary<Q, A>(&self, method: &str, question: &Q) -> Result<A, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let mut answers = self.stream(method, question).await?;
        let answer = answers.next().await?;
        // The status comes after the answer.
        while answers.next::<A>().await?.is_some() {}
        answer.ok_or_else(|| Status::new(Code::Unknown, "there was no answer"))
    }

    /// Calls a method that answers with a stream.
    pub(super) async fn stream<Q: Message>(
        &self,
        method: &str,
        question: &Q,
    ) -> Result<Answers, Status> {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(encoded(question))).unwrap_or_default();
        drop(sender);
        self.call(method, &HeaderMap::new(), receiver).await
    }

    /// Calls a method that is a stream both ways.
    pub(super) async fn call(
        &self,
        method: &str,
        metadata: &HeaderMap,
        questions: mpsc::Receiver<Result<Bytes, Status>>,
    ) -> Result<Answers, Status> {
        let mut request = Request::post(format!("http://{}{method}", self.authority))
            .header(header::CONTENT_TYPE, "application/grpc")
            .header(header::TE, "trailers")
            .body(Outgoing { messages: questions, trailers: false, ended: false })
            .map_err(|error| Status::broken(&error))?;
        request.headers_mut().extend(metadata.clone());
        let mut sender = self.sender.clone();
        let response = sender.send_request(request).await.map_err(|e| Status::broken(&e))?;
        // A call that is refused at once has its status in the head.
        ended(response.headers())?;
        if !response.status().is_success() {
            let message = format!("it answers with HTTP status {}", response.status());
            return Err(Status::new(Code::Unknown, message));
        }
        Ok(Answers(Messages::new(response.into_body())))
    }
}

/// The answers of a call.
pub(super) struct Answers(Messages<Incoming>);

impl Answers {
    /// The next one; `None` when the call ended well.
    pub(super) async fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match self.0.next().await? {
            Some(message) => Ok(Some(message)),
            None => ended(&self.0.trailers).map(|()| None),
        }
    }
}

/// Carries bytes over a call that is a stream both ways, until either side ends it.
pub(super) async fn tunnel(
    bytes: DuplexStream,
    sender: mpsc::Sender<Result<Bytes, Status>>,
    mut answers: Answers,
) {
    let (mut from, mut to) = tokio::io::split(bytes);
    let out = async {
        let mut chunk = vec![0; CHUNK];
        while let Ok(length @ 1..) = from.read(&mut chunk).await {
            let data = chunk.get(..length).unwrap_or_default().to_vec();
            if sender.send(Ok(encoded(&BytesMessage { data }))).await.is_err() {
                break;
            }
        }
    };
    let back = async {
        while let Ok(Some(BytesMessage { data })) = answers.next().await {
            if to.write_all(&data).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = out => {}
        () = back => {}
    }
}

/// How a call ended, by its trailers.
fn ended(trailers: &HeaderMap) -> Result<(), Status> {
    let text = |name| trailers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        None | Some("0") => Ok(()),
        Some(code) => {
            let message = text("grpc-message").unwrap_or_default();
            // Percent-encoding alone: a plus is a plus.
            let message = message.replace('+', "%2B").replace('&', "%26").replace('=', "%3D");
            let message =
                form_urlencoded::parse(message.as_bytes()).map(|(name, _)| name.into_owned());
            Err(Status::new(Code::of(code), message.collect::<String>()))
        }
    }
}

/// Serves a call of one question and one answer.
pub(super) async fn unary<Q, A, F>(
    request: Request<Incoming>,
    answer: impl FnOnce(Q) -> F,
) -> Response<Outgoing>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let answered = async {
        let question = Messages::new(request.into_body()).next::<Q>().await?.unwrap_or_default();
        answer(question).await
    };
    only(answered.await.map(|message| encoded(&message)))
}

/// Refuses a call.
pub(super) fn refuse(status: Status) -> Response<Outgoing> {
    only(Err(status))
}

/// An answer of one message, or of none.
fn only(item: Result<Bytes, Status>) -> Response<Outgoing> {
    let (sender, receiver) = mpsc::channel(1);
    // There is room for one, and the receiver is right here.
    sender.try_send(item).unwrap_or_default();
    response(receiver)
}

/// An answer whose messages come out of a channel: encoded ones, until an error or the end.
pub(super) fn response(messages: mpsc::Receiver<Result<Bytes, Status>>) -> Response<Outgoing> {
    let mut response = Response::new(Outgoing { messages, trailers: true, ended: false });
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, grpc);
    response
}

/// What is sent: messages out of a channel and, in an answer, the status at their end.
pub(super) struct Outgoing {
    messages: mpsc::Receiver<Result<Bytes, Status>>,
    trailers: bool,
    ended: bool,
}

impl Body for Outgoing {
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
                if !self.trailers {
                    return Poll::Ready(None);
                }
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
