//! One call of the OpenAPI: building the request, sending it until the deadline, reading the answer.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, DATE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::{AccessKey, CallError, Endpoint, Refusal, acs3};
use crate::transport::{Deadline, Route, Transport, TransportError};

/// The longest that one attempt may take, so that a hanging server leaves time for a second one.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How often a call is tried at most.
const ATTEMPTS: u32 = 3;
const FORM: &str = "application/x-www-form-urlencoded";

/// What to call, with which parameters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    /// The API's name for it.
    pub(super) action: &'static str,
    /// The version of the API, a date.
    pub(super) version: &'static str,
    /// The method.
    pub(super) method: &'static Method,
    /// `/` in RPC style, the resource in ROA style.
    pub(super) path: &'static str,
    /// Parameters of the query.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// Parameters of the body; none means no body.
    pub(super) form: &'a [(&'a str, &'a str)],
}

/// When a request is made, and the number that keeps it from being played back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) date: String,
    pub(super) nonce: String,
}

impl Stamp {
    fn now() -> Self {
        let mut nonce = [0; 16];
        fill_random(&mut nonce);
        Self { date: rfc3339_seconds(Timestamp::now()), nonce: hex::encode(nonce) }
    }
}

/// `YYYY-MM-DDThh:mm:ssZ`, the one form of a time that the API takes.
pub(super) fn rfc3339_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fills with random bytes; should the system have none, time and process number must do, since
/// these numbers must differ but need not be secret.
fn fill_random(bytes: &mut [u8; 16]) {
    if SystemRandom::new().fill(bytes).is_err() {
        let time = Timestamp::now().as_nanosecond() ^ (i128::from(std::process::id()) << 96);
        *bytes = time.to_ne_bytes();
    }
}

impl Call<'_> {
    /// The signed request. Pure: the same stamp gives the same request.
    pub(super) fn signed(
        &self,
        endpoint: &Endpoint,
        key: &AccessKey,
        stamp: &Stamp,
    ) -> Result<Request<Vec<u8>>, http::Error> {
        let body = acs3::encode_pairs(self.form);
        let payload_hash = acs3::hash(body.as_bytes());
        let mut headers = vec![
            ("host", endpoint.authority()),
            ("x-acs-action", self.action),
            ("x-acs-version", self.version),
            ("x-acs-date", &stamp.date),
            ("x-acs-signature-nonce", &stamp.nonce),
            ("x-acs-content-sha256", &payload_hash),
        ];
        if !body.is_empty() {
            headers.push(("content-type", FORM));
        }
        if let Some(token) = &key.security_token {
            headers.push(("x-acs-accesskey-id", &key.id));
            headers.push(("x-acs-security-token", token.expose()));
        }
        let unsigned = acs3::Unsigned {
            method: self.method.as_str(),
            path: self.path,
            query: self.query,
            headers: &headers,
            payload_hash: &payload_hash,
        };
        let authorization = acs3::authorization(&unsigned, &key.id, &key.secret);
        let mut request = Request::builder()
            .method(self.method)
            .uri(uri(endpoint, self.path, self.query))
            .header(ACCEPT, "application/json");
        for (name, value) in headers {
            let mut value = HeaderValue::from_str(value)?;
            value.set_sensitive(name == "x-acs-security-token");
            request = request.header(HeaderName::from_bytes(name.as_bytes())?, value);
        }
        request.header(AUTHORIZATION, authorization).body(body.into_bytes())
    }

    /// The request without a signature, as the calls of STS that prove themselves by a token of
    /// another issuer are made: everything is a parameter.
    pub(super) fn anonymous(
        &self,
        endpoint: &Endpoint,
        stamp: &Stamp,
    ) -> Result<Request<Vec<u8>>, http::Error> {
        let mut query = vec![
            ("Action", self.action),
            ("Version", self.version),
            ("Format", "JSON"),
            ("Timestamp", &stamp.date),
            ("SignatureNonce", &stamp.nonce),
        ];
        query.extend_from_slice(self.query);
        Request::builder()
            .method(self.method)
            .uri(uri(endpoint, self.path, &query))
            .header(HOST, endpoint.authority())
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, FORM)
            .body(acs3::encode_pairs(self.form).into_bytes())
    }
}

fn uri(endpoint: &Endpoint, path: &str, query: &[(&str, &str)]) -> String {
    let separator = if query.is_empty() { "" } else { "?" };
    format!("{endpoint}{path}{separator}{}", acs3::encode_pairs(query))
}

/// Makes calls, all before one deadline.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// Carries the requests.
    pub transport: &'a Transport,
    /// When the whole work must be done, retries and waits included.
    pub deadline: Deadline,
}

impl Caller<'_> {
    /// A signed call. A new date and nonce for every attempt.
    pub(super) fn signed<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        key: &AccessKey,
    ) -> Result<T, CallError> {
        let mut secrets = vec![key.secret.expose()];
        secrets.extend(key.security_token.as_ref().map(|token| token.expose()));
        self.repeat(endpoint, call.action, &secrets, |stamp| call.signed(endpoint, key, stamp))
    }

    /// A call without a signature; `proof` is the token in it, which no error may repeat.
    pub(super) fn anonymous<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        call: &Call<'_>,
        proof: &str,
    ) -> Result<T, CallError> {
        self.repeat(endpoint, call.action, &[proof], |stamp| call.anonymous(endpoint, stamp))
    }

    /// Tries until there is an answer, a refusal, or no time left; waits in between as long as the
    /// server asked, or a random while that doubles.
    fn repeat<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        action: &'static str,
        secrets: &[&str],
        request: impl Fn(&Stamp) -> Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<T, CallError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let error = match self.once(endpoint, action, secrets, &request) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let wait = match &error {
                CallError::Unavailable { retry_after, .. } => {
                    retry_after.unwrap_or(jitter(attempt))
                }
                CallError::Transport { source, .. } if source.is_transient() => jitter(attempt),
                _ => return Err(error),
            };
            if attempt == ATTEMPTS || wait >= self.deadline.left() {
                return Err(error);
            }
            thread::sleep(wait);
        }
    }

    fn once<T: DeserializeOwned>(
        &self,
        endpoint: &Endpoint,
        action: &'static str,
        secrets: &[&str],
        request: impl Fn(&Stamp) -> Result<Request<Vec<u8>>, http::Error>,
    ) -> Result<T, CallError> {
        let host = endpoint.authority();
        let vpc_only = endpoint.is_vpc_only();
        let explain = |source| CallError::Transport { action, source, vpc_only };
        let request = request(&Stamp::now()).map_err(|error| {
            // A header that HTTP does not allow comes from a key or token with stray characters.
            explain(TransportError::Request { host: host.to_owned(), reason: error.to_string() })
        })?;
        let deadline = self.deadline.within(ATTEMPT);
        let answer = self.transport.send(request, deadline, Route::Proxied).map_err(explain)?;
        read(&answer, action, host, secrets)
    }
}

/// A random while: up to 0.2 s, 0.4 s, 0.8 s ...
fn jitter(attempt: u32) -> Duration {
    let mut bytes = [0; 16];
    fill_random(&mut bytes);
    let most = 200_u64 << attempt.min(5).saturating_sub(1);
    Duration::from_millis(most / 2 + u64::from(bytes[0]) * most / 512)
}

/// The fields that tell of failure, in the spellings of both styles.
#[derive(Debug)]
struct Failure {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
    is_success: Option<bool>,
}

impl Failure {
    /// Reads an answer that is a JSON object. A gateway before the API may give a number for a code,
    /// or the spellings of both styles at once.
    fn read(body: &[u8]) -> Option<Self> {
        let fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body).ok()?;
        let raw = |name: &&str| fields.get(*name).map(|value| value.get());
        let text = |names: &[&str]| {
            names.iter().filter_map(raw).find_map(|value| {
                match serde_json::from_str(value).ok()? {
                    Plain::Text(text) if !text.is_empty() => Some(text),
                    Plain::Number(number) => Some(number.to_string()),
                    Plain::Text(_) | Plain::Other(_) => None,
                }
            })
        };
        Some(Self {
            code: text(&["Code", "code"]),
            message: text(&["Message", "message"]),
            request_id: text(&["RequestId", "requestId", "request_id"]),
            is_success: raw(&"IsSuccess").and_then(|value| serde_json::from_str(value).ok()),
        })
    }
}

/// A value that people can read, or another one.
#[derive(Deserialize)]
#[serde(untagged)]
enum Plain {
    Text(String),
    Number(serde_json::Number),
    Other(IgnoredAny),
}

/// What an answer says: the thing asked for, or why not.
fn read<T: DeserializeOwned>(
    answer: &Response<impl AsRef<[u8]>>,
    action: &'static str,
    host: &str,
    secrets: &[&str],
) -> Result<T, CallError> {
    let status = answer.status();
    let body = answer.body().as_ref();
    let host = host.to_owned();
    let failure = Failure::read(body);
    let succeeded = failure.as_ref().is_some_and(|failure| failure.is_success != Some(false));
    if status.is_success() && succeeded {
        return serde_json::from_slice(body).map_err(|error| CallError::NotTheApi {
            action,
            host,
            // serde's words may quote values; its place in the text does not.
            what: format!(
                "JSON of another shape (line {}, column {})",
                error.line(),
                error.column()
            ),
        });
    }
    let code = failure.as_ref().and_then(|failure| failure.code.as_deref());
    if is_unavailable(status, code) {
        let reason = match code {
            Some(code) => format!("HTTP {} {}", status.as_u16(), shorten(code, secrets)),
            None => format!("HTTP {}", status.as_u16()),
        };
        let retry_after = retry_after(answer.headers());
        return Err(CallError::Unavailable { action, host, reason, retry_after });
    }
    match failure {
        Some(Failure { code: Some(code), message, request_id, .. }) => {
            let message = message.unwrap_or_default();
            // This one quotes all that was signed, security token included.
            let quotes =
                code.starts_with("SignatureDoesNotMatch") || code.starts_with("Incomplete");
            let clock_behind = clock_behind(answer.headers());
            Err(CallError::Refused(Box::new(Refusal {
                action,
                host,
                code: shorten(&code, secrets),
                message: if quotes { String::new() } else { shorten(&message, secrets) },
                request_id: shorten(&request_id.unwrap_or_default(), secrets),
                clock_behind,
            })))
        }
        _ => Err(CallError::NotTheApi { action, host, what: describe(status, answer.headers()) }),
    }
}

fn is_unavailable(status: StatusCode, code: Option<&str>) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || status.is_server_error()
        || code.is_some_and(|code| {
            code.starts_with("Throttling")
                || ["ServiceUnavailable", "InternalError", "SystemBusy"].contains(&code)
        })
}

/// The API's words: one line, at most 200 characters, without what we know to be secret.
fn shorten(text: &str, secrets: &[&str]) -> String {
    let hidden = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .fold(text.to_owned(), |text, secret| text.replace(secret, "***"));
    let line = hidden.split(['\n', '\r']).next().unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(200).collect()
}

fn describe(status: StatusCode, headers: &HeaderMap) -> String {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let what = match kind.split(';').next().unwrap_or_default().trim() {
        "text/html" => "a web page",
        "application/json" => "JSON of another shape",
        "" => "something",
        _ => "another kind of document",
    };
    format!("{what} (HTTP {})", status.as_u16())
}

/// `Retry-After`, in seconds or as a date (RFC 9110 section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    text.parse().ok().map(Duration::from_secs).or_else(|| {
        let until = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(until.duration_since(Timestamp::now()).try_into().unwrap_or_default())
    })
}

/// How far our clock is behind the server's, in seconds, by its `Date` header.
fn clock_behind(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let theirs = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    Some(theirs.as_second() - Timestamp::now().as_second())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::secret::Secret;

    fn key(token: Option<&str>) -> AccessKey {
        AccessKey {
            id: "key-id".to_owned(),
            secret: Secret::new("key-secret".to_owned()),
            security_token: token.map(|token| Secret::new(token.to_owned())),
            expires_at: None,
        }
    }

    fn stamp() -> Stamp {
        Stamp { date: "2026-01-02T03:04:05Z".to_owned(), nonce: "0".repeat(32) }
    }

    const LIST: Call<'_> = Call {
        action: "ListInstance",
        version: "2018-12-01",
        method: &Method::POST,
        path: "/",
        query: &[("PageNo", "1")],
        form: &[],
    };

    fn endpoint() -> Endpoint {
        Endpoint::parse("cr.cn-hangzhou.aliyuncs.com").expect("an endpoint")
    }

    #[test]
    fn a_request_carries_what_was_signed() {
        let request = LIST.signed(&endpoint(), &key(None), &stamp()).expect("a request");
        assert_eq!(request.uri(), "https://cr.cn-hangzhou.aliyuncs.com/?PageNo=1");
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-acs-action"), Some("ListInstance"));
        assert_eq!(header("x-acs-date"), Some("2026-01-02T03:04:05Z"));
        assert_eq!(header("host"), Some("cr.cn-hangzhou.aliyuncs.com"));
        assert_eq!(header("content-type"), None);
        assert!(header("authorization").is_some_and(|value| {
            value.starts_with("ACS3-HMAC-SHA256 Credential=key-id,SignedHeaders=host;x-acs-action;")
        }));
    }

    #[test]
    fn temporary_keys_send_their_token_and_sign_it() {
        let request = LIST.signed(&endpoint(), &key(Some("sts")), &stamp()).expect("a request");
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(header("x-acs-security-token"), Some("sts"));
        assert_eq!(header("x-acs-accesskey-id"), Some("key-id"));
        assert!(
            header("authorization").is_some_and(|value| value.contains("x-acs-security-token"))
        );
        assert!(!format!("{request:?}").contains("\"sts\""));
    }

    #[test]
    fn a_key_with_a_line_feed_is_an_error_not_a_second_header() {
        assert!(LIST.signed(&endpoint(), &key(Some("a\nb")), &stamp()).is_err());
    }

    fn answer(status: u16, headers: &[(&str, &str)], body: &str) -> Result<Value, CallError> {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let response = response.body(body.as_bytes().to_vec()).expect("a response");
        read(&response, "GetAuthorizationToken", "cr", &["key-secret"])
    }

    #[test]
    fn a_good_answer_is_read() {
        assert!(answer(200, &[], r#"{"Code":"success","IsSuccess":true}"#).is_ok());
    }

    #[test]
    fn success_is_what_the_body_says() {
        let refused = answer(200, &[], r#"{"IsSuccess":false,"Code":"INSTANCE_NOT_EXIST"}"#);
        assert!(
            matches!(refused, Err(CallError::Refused(refusal)) if refusal.code == "INSTANCE_NOT_EXIST")
        );
    }

    #[test]
    fn both_styles_of_refusal_are_read() {
        for body in [
            r#"{"code":"USER_NOT_EXIST","message":"m","requestId":"r"}"#,
            r#"{"Code":"USER_NOT_EXIST","Message":"m","RequestId":"r"}"#,
            r#"{"Code":"USER_NOT_EXIST","code":"404","message":"m","RequestId":"r"}"#,
            r#"{"code":"USER_NOT_EXIST","Code":null,"Message":"m","requestId":"r","RequestId":""}"#,
        ] {
            let Err(CallError::Refused(refusal)) = answer(404, &[], body) else {
                panic!("{body} is not read as a refusal");
            };
            assert_eq!(
                (&*refusal.code, &*refusal.message, &*refusal.request_id),
                ("USER_NOT_EXIST", "m", "r")
            );
        }
    }

    #[test]
    fn a_code_may_be_a_number() {
        let error = answer(400, &[], r#"{"Code":40012,"Message":["m"],"Success":false}"#);
        assert!(
            matches!(error, Err(CallError::Refused(refusal)) if refusal.code == "40012"),
            "a refusal"
        );
    }

    #[test]
    fn throttling_and_server_errors_are_for_later() {
        for (status, body) in [
            (429, ""),
            (500, "<html>"),
            (503, r#"{"Code":"ServiceUnavailable"}"#),
            (400, r#"{"Code":"Throttling.User"}"#),
        ] {
            let error = answer(status, &[("retry-after", "7")], body);
            let seven = Some(Duration::from_secs(7));
            assert!(
                matches!(error, Err(CallError::Unavailable { retry_after, .. }) if retry_after == seven),
                "{status} {body}"
            );
        }
    }

    #[test]
    fn a_server_may_say_until_when_to_wait() {
        let wait = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().expect("a header"));
            retry_after(&headers)
        };
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Wed, 21 Oct 2015 07:28:00 GMT"), Some(Duration::ZERO));
        assert!(wait("Tue, 31 Dec 2199 23:59:59 GMT") > Some(Duration::from_hours(24)));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_login_page_is_not_the_api() {
        let error =
            answer(200, &[("content-type", "text/html; charset=utf-8")], "<html>").unwrap_err();
        assert!(error.to_string().contains("a web page (HTTP 200)"), "{error}");
    }

    #[test]
    fn no_error_repeats_a_secret() {
        let body = r#"{"Code":"X","Message":"you sent key-secret\nand more"}"#;
        let error = answer(400, &[], body).unwrap_err().to_string();
        assert!(error.contains("you sent ***") && !error.contains("and more"), "{error}");
        let body = r#"{"Code":"SignatureDoesNotMatch","Message":"server string: x-acs-security-token:other"}"#;
        let error = answer(400, &[], body).unwrap_err().to_string();
        assert!(!error.contains("other"), "{error}");
    }
}
