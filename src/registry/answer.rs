//! A whole answer, and what it means when it is no success.
//!
//! Knows the error document of the distribution specification ("Error Codes") and turns it into
//! words that are safe to show.

use std::time::Duration;

use bytes::Bytes;
use docker_credential_aliyun::secret::Secret;
use reqwest::{
    StatusCode, Url,
    header::{HeaderMap, HeaderName, RETRY_AFTER},
};
use serde::Deserialize;

use super::{
    error::{Error, Who},
    transport::{Incoming, Place, text},
};

/// How much of an error's document is read.
const LARGEST_ERROR: u64 = 64 << 10;
/// How much of it is repeated.
const LONGEST_MESSAGE: usize = 300;

/// An answer with its body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    pub(super) place: Place,
}

impl Answer {
    /// Reads the body: `limit` bytes of a success, enough of an error to say what it is.
    pub(super) async fn read(incoming: Incoming, limit: u64) -> Result<Self, Error> {
        let (status, headers) = (incoming.status(), incoming.headers().clone());
        let (url, place) = (incoming.url().clone(), incoming.place.clone());
        let body = if status.is_success() {
            incoming.document(limit).await?
        } else {
            // An error stays one, whatever becomes of its explanation.
            incoming.document(LARGEST_ERROR).await.unwrap_or_default()
        };
        Ok(Self { status, headers, body, url, place })
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        text(&self.headers, name)
    }

    /// The error that this answer is where no login is to be had: from a server that is not the
    /// registry.
    pub(super) fn refused(&self) -> Error {
        let Place { action, host } = self.place.clone();
        let message = Said::read(&self.body).message;
        Error::Refused { action, host, status: self.status.as_u16(), message }
    }

    /// The error that this answer is, when it is no success.
    pub(super) fn refusal(&self, who: &Who) -> Error {
        let Place { action, host } = self.place.clone();
        let (who, status) = (Box::new(who.clone()), self.status.as_u16());
        let Said { message, codes } = Said::read(&self.body);
        let retry_after = self.header(RETRY_AFTER).and_then(retry_after);
        match status {
            400 | 404 if codes.iter().any(|code| code == "MANIFEST_BLOB_UNKNOWN") => {
                Error::BlobMissing { action, host, message }
            }
            401 => Error::Unauthorized { action, host, who, message },
            403 => Error::Denied { action, host, who, message },
            404 => Error::NotFound { action, host, message },
            429 => Error::RateLimited { action, host, retry_after },
            408 | 500.. => Error::Server { action, host, status, message, retry_after },
            300..=399 => self.place.protocol(format!("sends us elsewhere with status {status}")),
            _ => Error::Refused { action, host, status, message },
        }
    }
}

/// Seconds, or a date.
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Some(date.duration_since(jiff::Timestamp::now()).try_into().unwrap_or_default())
}

/// What an error's document says.
#[derive(Debug, Default)]
struct Said {
    /// In words: one line, bounded and without control characters.
    message: String,
    /// In the specification's codes.
    codes: Vec<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    errors: Vec<Entry>,
    message: Option<String>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    code: Option<String>,
    message: Option<String>,
}

impl Said {
    fn read(body: &[u8]) -> Self {
        let document = match serde_json::from_slice::<Document>(body) {
            Ok(document) => document,
            // A page for browsers says nothing worth repeating.
            Err(_) if body.trim_ascii_start().starts_with(b"<") => return Self::default(),
            Err(_) => {
                let message = one_line(&String::from_utf8_lossy(body));
                return Self { message, codes: Vec::new() };
            }
        };
        let words = |entry: &Entry| {
            let message = entry.message.clone().filter(|message| !message.is_empty());
            message.or_else(|| entry.code.clone())
        };
        let words: Vec<_> = document.errors.iter().take(3).filter_map(words).collect();
        let message = if words.is_empty() {
            document.message.or(document.details).unwrap_or_default()
        } else {
            words.join("; ")
        };
        let codes = document.errors.into_iter().filter_map(|entry| entry.code).collect();
        Self { message: one_line(&message), codes }
    }
}

fn one_line(text: &str) -> String {
    let words = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = words.take(LONGEST_MESSAGE).collect();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Reads a text straight into custody.
pub(super) fn secret<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Secret>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_registrys_own_words_made_safe() {
        for (body, says) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"requested access denied"}]}"#,
                "requested access denied",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, "DENIED"),
            (r#"{"details":"incorrect username or password"}"#, "incorrect username or password"),
            ("Too many\r\nrequests\u{1b}[31m", "Too many requests [31m"),
            ("<html>", ""),
            ("", ""),
            ("[1]", "[1]"),
        ] {
            assert_eq!(Said::read(body.as_bytes()).message, says, "{body}");
        }
        let long = Said::read("x".repeat(1000).as_bytes());
        assert_eq!(long.message.len(), LONGEST_MESSAGE);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after("12"), Some(Duration::from_secs(12)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert_eq!(retry_after("soon"), None);
        assert!(retry_after("Fri, 01 Jan 2100 00:00:00 GMT").unwrap() > Duration::from_secs(3600));
    }
}
