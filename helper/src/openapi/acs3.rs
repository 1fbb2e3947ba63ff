//! `ACS3-HMAC-SHA256`, the signature of Alibaba Cloud's OpenAPI, as a pure function.
//!
//! Source: "V3 request structure and signature" (help.aliyun.com), checked against
//! `aliyun/darabonba-openapi: utils/client.go`. The key is used raw: there are no derived keys and
//! there is no `&` suffix as in the older signatures.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use ring::{digest, hmac};

use crate::secret::Secret;

/// The algorithm's name, as it stands in the `Authorization` header.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// The parts of a request that the signature covers.
#[derive(Debug, Clone, Copy)]
pub struct Unsigned<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// The path, already encoded; an empty one counts as `/`.
    pub path: &'a str,
    /// The query's parameters, not encoded, in any order.
    pub query: &'a [(&'a str, &'a str)],
    /// The headers. Those that are not covered (`accept`, `user-agent`) are left out here too.
    pub headers: &'a [(&'a str, &'a str)],
    /// The hash of the body as [`hash`] gives it; also the value of `x-acs-content-sha256`.
    pub payload_hash: &'a str,
}

/// The value of the `Authorization` header for a request.
#[must_use]
pub fn authorization(request: &Unsigned<'_>, key_id: &str, secret: &Secret) -> String {
    let (canonical, signed_headers) = canonical_request(request);
    let to_sign = format!("{ALGORITHM}\n{}", hash(canonical.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    let signature = hex::encode(hmac::sign(&key, to_sign.as_bytes()));
    format!("{ALGORITHM} Credential={key_id},SignedHeaders={signed_headers},Signature={signature}")
}

/// SHA-256 in lower-case hex, as the signature and `x-acs-content-sha256` have it.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// Percent-encodes all but RFC 3986's unreserved characters: no `+` for a blank, and `~` stays.
#[must_use]
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

/// Parameters as `name=value&...`, encoded, in the order given: the form that queries and form
/// bodies have. An empty value keeps its `=`.
#[must_use]
pub fn encode_pairs<'a>(pairs: impl IntoIterator<Item = &'a (&'a str, &'a str)>) -> String {
    let encoded: Vec<_> = pairs
        .into_iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    encoded.join("&")
}

/// The canonical request, and the list of headers it covers.
fn canonical_request(request: &Unsigned<'_>) -> (String, String) {
    let mut query = request.query.to_vec();
    query.sort_unstable();
    let headers = covered_headers(request.headers);
    let signed = headers.keys().map(String::as_str).collect::<Vec<_>>().join(";");
    // Each line of headers ends in a line feed, so that a blank line follows them.
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!(
        "{}\n{}\n{}\n{lines}\n{signed}\n{}",
        request.method,
        canonical_path(request.path),
        encode_pairs(&query),
        request.payload_hash,
    );
    (canonical, signed)
}

/// `x-acs-*`, `host` and `content-type`: names in lower case and sorted, values trimmed; those of
/// one name are sorted and joined by commas.
fn covered_headers(headers: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        if name.starts_with("x-acs-") || name == "host" || name == "content-type" {
            values.entry(name).or_default().push(value.trim());
        }
    }
    let join = |mut values: Vec<&str>| {
        values.sort_unstable();
        values.join(",")
    };
    values.into_iter().map(|(name, values)| (name, join(values))).collect()
}

/// The path with the characters that encoders disagree on brought to one form.
fn canonical_path(path: &str) -> Cow<'_, str> {
    match path {
        "" => "/".into(),
        _ if path.contains(['+', '*']) || path.contains("%7E") => {
            path.replace('+', "%20").replace('*', "%2A").replace("%7E", "~").into()
        }
        _ => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn sign(request: &Unsigned<'_>, id: &str, secret: &str) -> String {
        authorization(request, id, &Secret::new(secret.to_owned()))
    }

    /// The example of the vendor's documentation.
    #[test]
    fn the_documented_example() {
        let request = Unsigned {
            method: "POST",
            path: "/",
            query: &[
                ("RegionId", "cn-shanghai"),
                ("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"),
            ],
            headers: &[
                ("Host", "ecs.cn-shanghai.aliyuncs.com"),
                ("x-acs-action", "RunInstances"),
                ("x-acs-version", "2014-05-26"),
                ("x-acs-date", "2023-10-26T10:22:32Z"),
                ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
                ("x-acs-content-sha256", EMPTY),
                ("accept", "application/json"),
                ("user-agent", "not covered"),
            ],
            payload_hash: &hash(b""),
        };
        let (canonical, _) = canonical_request(&request);
        assert_eq!(
            hash(canonical.as_bytes()),
            "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        assert_eq!(
            sign(&request, "YourAccessKeyId", "YourAccessKeySecret"),
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
             x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,\
             Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
        );
    }

    /// The tests of the vendor's libraries: Go without a method, Python with one, Java with one
    /// header value.
    #[test]
    fn the_vendors_own_tests() {
        let both: &[(&str, &str)] = &[("x-acs-test", "http"), ("x-acs-TEST", "https")];
        let cases = [
            ("", both, "4ab59fffe3c5738ff8a2729f90cc04fe18b02a4b15b2102cbaf92f9ff3df2ea3"),
            ("GET", both, "d16b30a7699ae9e43875b13195b2f81bcc3ed10c14a9b5eb780e51619aa50be1"),
            ("GET", &both[..1], "02e81f9f3cc8839151b0c7278024cbc4bfc9fa786085a0b8305f825f17b5dae7"),
        ];
        for (method, headers, signature) in cases {
            let request = Unsigned {
                method,
                path: "",
                query: &[("test", "ok"), ("empty", "")],
                headers,
                payload_hash: "55e12e91650d2fec56ec74e1d3e4ddbfce2ef3a65890c2a19ecf88a307e76a23",
            };
            let expected = format!(
                "ACS3-HMAC-SHA256 Credential=acesskey,SignedHeaders=x-acs-test,Signature={signature}"
            );
            assert_eq!(sign(&request, "acesskey", "secret"), expected);
        }
    }

    #[test]
    fn a_hash_is_lower_case_hex() {
        assert_eq!(
            hash(b"test"),
            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
        );
        assert_eq!(hash(b""), EMPTY);
    }

    #[test]
    fn encoding_keeps_the_unreserved_characters_only() {
        assert_eq!(encode("a/b/c/ test"), "a%2Fb%2Fc%2F%20test");
        assert_eq!(encode(" a!*'()~"), "%20a%21%2A%27%28%29~");
        assert_eq!(encode("中"), "%E4%B8%AD");
        assert_eq!(encode_pairs(&[("a b", "="), ("empty", "")]), "a%20b=%3D&empty=");
    }

    #[test]
    fn a_path_has_one_form() {
        assert_eq!(canonical_path(""), "/");
        assert_eq!(canonical_path("/tokens"), "/tokens");
        assert_eq!(canonical_path("/a+b*c%7Ed"), "/a%20b%2Ac~d");
    }
}
