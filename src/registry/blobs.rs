//! Blobs: read, found, mounted, uploaded, streamed from one registry to another.
//!
//! Knows the distribution specification's "Pushing blobs", with its two answers to a mount (201
//! done, 202 upload it yourself) and its resumable uploads.

use std::io;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_RANGE, CONTENT_TYPE, HeaderMap, RANGE},
};

use super::{
    answer::Answer,
    challenge::Scopes,
    client::{Access, Client},
    digest::Digest,
    error::Error,
    exchange::{Request, value},
    manifest::Descriptor,
    reference::Repository,
    retry::Attempts,
    transport::{Body, ByteStream, Outgoing, Place},
};

/// Content up to this size goes in one request, and from the start again when that fails.
const SMALL: u64 = 1 << 20;
/// Content in memory is sent in pieces of this size, so that its progress can be seen.
const PIECE: usize = 256 << 10;

/// How content came to be in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It was there already.
    Present,
    /// The registry took it from another of its repositories.
    Mounted,
    /// Its bytes were sent.
    Sent,
}

/// Where content to be uploaded is read from, as often as it takes.
enum Content<'a> {
    Bytes(Bytes),
    Blob(&'a Client, &'a Repository),
}

/// What a registry says to the wish to upload.
enum Start {
    Mounted,
    Upload(Url),
}

impl Client {
    /// Reads a blob whole: exactly the bytes that `descriptor` promises, at most `limit` of them.
    ///
    /// # Errors
    /// When it is larger, is not there, or is something else.
    pub async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, Error> {
        let action = reading(repository, &descriptor.digest);
        if descriptor.size > limit {
            let place = Place { action, host: repository.host().to_owned() };
            let size = descriptor.size;
            return Err(place.protocol(format!("says it has {size} bytes, more than {limit}")));
        }
        let path = blob_path(repository, &descriptor.digest);
        let scopes = Access::Pull.scopes(repository);
        let request = Request::new(Method::GET, &path, scopes, action).up_to(descriptor.size);
        let answer = self.host(repository.host()).ask(&self.transport, &request).await?;
        if descriptor.digest.matches(&answer.body) {
            return Ok(answer.body);
        }
        Err(answer.place.protocol(format!("sent other content than {}", descriptor.digest)))
    }

    /// Whether a repository has a blob.
    ///
    /// # Errors
    /// When the registry cannot be asked.
    pub async fn has_blob(&self, repository: &Repository, digest: &Digest) -> Result<bool, Error> {
        let path = blob_path(repository, digest);
        let action = format!("look for {} in {}", digest, repository.familiar());
        let scopes = Access::Pull.scopes(repository);
        let request = Request::new(Method::HEAD, &path, scopes, action).expecting(&[404]);
        let answer = self.host(repository.host()).ask(&self.transport, &request).await?;
        Ok(answer.status.is_success())
    }

    /// Puts `content` into a repository, unless it has it, and describes it as `media_type`.
    ///
    /// # Errors
    /// When the registry cannot be reached or refuses it.
    pub async fn upload_blob(
        &self,
        repository: &Repository,
        media_type: &str,
        content: Bytes,
    ) -> Result<Descriptor, Error> {
        let descriptor = Descriptor::of(media_type, &content);
        if !self.has_blob(repository, &descriptor.digest).await? {
            self.upload(repository, &descriptor, &Content::Bytes(content), None).await?;
        }
        Ok(descriptor)
    }

    /// Brings a blob from one repository to another: by mounting on the same registry, else by
    /// streaming, without holding it.
    ///
    /// # Errors
    /// When either registry cannot be reached or refuses.
    pub async fn copy_blob(
        &self,
        from: &Repository,
        to: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Arrival, Error> {
        if from == to {
            return Ok(Arrival::Present);
        }
        let mut start = None;
        if from.host() == to.host() {
            match self.start(to, &descriptor.digest, Some(from)).await? {
                Start::Mounted => return Ok(Arrival::Mounted),
                Start::Upload(url) => start = Some(url),
            }
        } else if self.has_blob(to, &descriptor.digest).await? {
            return Ok(Arrival::Present);
        }
        self.upload(to, descriptor, &Content::Blob(self, from), start).await?;
        Ok(Arrival::Sent)
    }

    /// Starts an upload, or has the blob mounted from another repository of the registry.
    async fn start(
        &self,
        to: &Repository,
        digest: &Digest,
        from: Option<&Repository>,
    ) -> Result<Start, Error> {
        let mut path = format!("/v2/{}/blobs/uploads/", to.path());
        let mut scopes = Access::Push.scopes(to);
        if let Some(from) = from {
            // Neither a digest nor a path holds anything that a query would need escaped.
            path = format!("{path}?mount={digest}&from={}", from.path());
            scopes.extend(&Access::Pull.scopes(from));
        }
        let action = writing(to, digest);
        let request = Request::new(Method::POST, &path, scopes, action);
        let host = self.host(to.host());
        let answer = host.ask(&self.transport, &request).await?;
        if answer.status == StatusCode::CREATED {
            return Ok(Start::Mounted);
        }
        let base = host.base(&self.transport, &request.action).await?;
        host.answered_location(&base, &answer).map(Start::Upload)
    }

    /// Uploads content, going on where the registry has got to when the connection breaks.
    async fn upload(
        &self,
        to: &Repository,
        descriptor: &Descriptor,
        content: &Content<'_>,
        start: Option<Url>,
    ) -> Result<(), Error> {
        let scopes = Access::Push.scopes(to);
        let action = writing(to, &descriptor.digest);
        let mut session = start.map(|url| Session { url, offset: 0, doubtful: false });
        let mut attempts = Attempts::new(&self.transport.config.retries, &self.transport.counters);
        loop {
            let error = match self.go_on(to, descriptor, content, session, &scopes, &action).await {
                Ok(()) => return Ok(()),
                Err((error, left)) => {
                    session = left;
                    error
                }
            };
            match error {
                // The session is gone, or was finished by a request whose answer was lost.
                Error::NotFound { action, host, message } => {
                    if self.has_blob(to, &descriptor.digest).await? {
                        return Ok(());
                    }
                    session = None;
                    let reason = format!("it forgot the upload; {message}");
                    attempts.after(Error::Broken { action, host, reason }).await?;
                }
                error => attempts.after(error).await?,
            }
        }
    }

    /// One attempt at an upload. When it fails, the session that may be gone on with comes back.
    async fn go_on(
        &self,
        to: &Repository,
        descriptor: &Descriptor,
        content: &Content<'_>,
        session: Option<Session>,
        scopes: &Scopes,
        action: &str,
    ) -> Result<(), (Error, Option<Session>)> {
        let lost = |error| (error, None);
        let known = match session {
            Some(session) if session.doubtful => {
                self.look_up(to, session, scopes, action).await.map_err(lost)?
            }
            other => other,
        };
        let session = match known {
            Some(session) => session,
            None => match self.start(to, &descriptor.digest, None).await.map_err(lost)? {
                Start::Mounted => return Ok(()),
                Start::Upload(url) => Session { url, offset: 0, doubtful: false },
            },
        };
        let doubtful = Session { url: session.url.clone(), offset: 0, doubtful: true };
        let sent = self.send(to, descriptor, content, session, scopes, action).await;
        sent.map_err(|error| (error, Some(doubtful)))
    }

    /// Sends what is missing and finishes the upload.
    async fn send(
        &self,
        to: &Repository,
        descriptor: &Descriptor,
        content: &Content<'_>,
        session: Session,
        scopes: &Scopes,
        action: &str,
    ) -> Result<(), Error> {
        let host = self.host(to.host());
        let base = host.base(&self.transport, action).await?;
        let Session { mut url, offset, .. } = session;
        let rest = descriptor.size.saturating_sub(offset);
        let whole = offset == 0 && descriptor.size <= SMALL;
        let octets = || HeaderMap::from_iter([(CONTENT_TYPE, value("application/octet-stream"))]);
        if rest > 0 && !whole {
            let mut headers = octets();
            if offset > 0 {
                let range = format!("{offset}-{}", descriptor.size - 1);
                headers.insert(CONTENT_RANGE, value(&range));
            }
            let body = Body::Stream(content.open(descriptor, offset).await?, rest);
            let method = Method::PATCH;
            let outgoing = Outgoing { method, url: url.clone(), headers, body, action };
            let answer = host.send_stream(&self.transport, outgoing, scopes).await?;
            url = host.answered_location(&base, &answer)?;
        }
        url.query_pairs_mut().append_pair("digest", &descriptor.digest.to_string());
        let body = if whole && rest > 0 {
            Body::Stream(content.open(descriptor, 0).await?, rest)
        } else {
            Body::Empty
        };
        let outgoing = Outgoing { method: Method::PUT, url, headers: octets(), body, action };
        host.send_stream(&self.transport, outgoing, scopes).await.map(drop)
    }

    /// Asks how far an upload got; `None` to start again.
    async fn look_up(
        &self,
        to: &Repository,
        session: Session,
        scopes: &Scopes,
        action: &str,
    ) -> Result<Option<Session>, Error> {
        let host = self.host(to.host());
        let request = Request::new(Method::GET, "", scopes.clone(), action.to_owned())
            .at(&session.url)
            .expecting(&[400, 404, 405, 416]);
        let answer = host.ask(&self.transport, &request).await?;
        let Some(offset) = received(&answer).filter(|_| answer.status.is_success()) else {
            return Ok(None);
        };
        let base = host.base(&self.transport, action).await?;
        let url = host.answered_location(&base, &answer).unwrap_or(session.url);
        Ok(Some(Session { url, offset, doubtful: false }))
    }
}

/// An upload under way.
struct Session {
    url: Url,
    /// How many bytes the registry has.
    offset: u64,
    /// Whether the registry has to be asked first.
    doubtful: bool,
}

/// How many bytes a registry has of an upload, from `Range: 0-N`. `0-0` means none to some
/// registries and one byte to others, so it says nothing.
fn received(answer: &Answer) -> Option<u64> {
    let range = answer.header(RANGE)?;
    let (_, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    last.trim().parse::<u64>().ok().filter(|last| *last > 0)?.checked_add(1)
}

impl Content<'_> {
    /// The content from `offset` to its end, no more and no less.
    async fn open(&self, descriptor: &Descriptor, offset: u64) -> Result<ByteStream, Error> {
        match self {
            Self::Bytes(bytes) => {
                let mut rest =
                    bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..);
                let pieces = std::iter::from_fn(move || {
                    let piece = rest.split_to(rest.len().min(PIECE));
                    (!piece.is_empty()).then_some(Ok(piece))
                });
                Ok(Box::pin(stream::iter(pieces)))
            }
            Self::Blob(client, repository) => {
                client.open_blob(repository, descriptor, offset).await
            }
        }
    }
}

impl Client {
    /// The bytes of a blob from `offset` on, as they come.
    async fn open_blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        offset: u64,
    ) -> Result<ByteStream, Error> {
        let path = blob_path(repository, &descriptor.digest);
        let scopes = Access::Pull.scopes(repository);
        let action = reading(repository, &descriptor.digest);
        let mut request = Request::new(Method::GET, &path, scopes, action);
        if offset > 0 {
            request.headers.insert(RANGE, value(&format!("bytes={offset}-")));
        }
        let incoming = self.host(repository.host()).open(&self.transport, &request).await?;
        // A server may ignore the range and send everything.
        let partial = incoming.status() == StatusCode::PARTIAL_CONTENT;
        let skip = if partial { 0 } else { offset };
        Ok(exactly(incoming.stream(), skip, descriptor.size.saturating_sub(offset)))
    }
}

/// `length` bytes of a stream after the first `skip`; more or fewer are an error.
fn exactly(stream: ByteStream, skip: u64, length: u64) -> ByteStream {
    let state = (stream, skip, length);
    Box::pin(stream::try_unfold(state, |(mut stream, mut skip, mut left)| async move {
        loop {
            let Some(piece) = stream.next().await else {
                let whole = left == 0;
                let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "it ended too early");
                return if whole { Ok(None) } else { Err(short()) };
            };
            let mut piece = piece?;
            let skipped = (piece.len() as u64).min(skip);
            skip -= skipped;
            let _ = piece.split_to(usize::try_from(skipped).unwrap_or(piece.len()));
            if piece.len() as u64 > left {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "it is longer than it said",
                ));
            }
            left -= piece.len() as u64;
            if !piece.is_empty() {
                return Ok(Some((piece, (stream, skip, left))));
            }
        }
    }))
}

fn blob_path(repository: &Repository, digest: &Digest) -> String {
    format!("/v2/{}/blobs/{digest}", repository.path())
}

fn reading(repository: &Repository, digest: &Digest) -> String {
    format!("read the blob {digest} of {}", repository.familiar())
}

fn writing(repository: &Repository, digest: &Digest) -> String {
    format!("push the blob {digest} to {}", repository.familiar())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    async fn cut(pieces: &[&'static [u8]], skip: u64, length: u64) -> io::Result<Vec<u8>> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece))).collect();
        let stream = exactly(Box::pin(stream::iter(pieces)), skip, length);
        Ok(stream.try_collect::<Vec<Bytes>>().await?.concat())
    }

    #[tokio::test]
    async fn a_stream_gives_exactly_what_was_promised() {
        assert_eq!(cut(&[b"abc", b"def"], 0, 6).await.unwrap(), b"abcdef");
        assert_eq!(cut(&[b"abc", b"def"], 4, 2).await.unwrap(), b"ef");
        assert_eq!(cut(&[], 0, 0).await.unwrap(), b"");
        assert!(cut(&[b"abc"], 0, 4).await.is_err());
        assert!(cut(&[b"abc"], 0, 2).await.is_err());
    }
}
