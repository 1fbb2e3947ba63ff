//! Checks `ACS3-HMAC-SHA256` as the service does, from the bytes on the wire.
//!
//! It shares no code with the signer: another SHA-256, an HMAC written out, another canonical form.
//! It is stricter than the service where that costs nothing: every header that can be signed must be.

use std::collections::{BTreeMap, HashMap, HashSet};

use docker_credential_aliyun::Secret;
use docker_credential_aliyun::openapi::acs3;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::http::{Request, decode};

/// A key that the service knows, and the security token that must come with it.
#[derive(Debug, Clone)]
pub(crate) struct KnownKey {
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

/// What the service remembers of a caller.
#[derive(Debug, Default)]
pub(crate) struct Verifier {
    pub(crate) keys: HashMap<String, KnownKey>,
    nonces: HashSet<String>,
}

const REQUIRED: [&str; 6] = [
    "host",
    "x-acs-action",
    "x-acs-content-sha256",
    "x-acs-date",
    "x-acs-signature-nonce",
    "x-acs-version",
];

impl Verifier {
    /// The id of the key that signed a request, or the code of the refusal.
    pub(crate) fn check(&mut self, request: &Request, now: Timestamp) -> Result<String, String> {
        let header = |name: &str| request.header(name).ok_or(format!("Missing.{name}"));
        let authorization = header("authorization")?;
        let rest = authorization.strip_prefix("ACS3-HMAC-SHA256 ").ok_or("IncompleteSignature")?;
        let parts: HashMap<&str, &str> =
            rest.split(',').filter_map(|part| part.split_once('=')).collect();
        let part = |name: &str| parts.get(name).copied().ok_or("IncompleteSignature");
        let (id, signed, signature) =
            (part("Credential")?, part("SignedHeaders")?, part("Signature")?);

        let names: Vec<&str> = signed.split(';').collect();
        if !names.is_sorted() || REQUIRED.iter().any(|name| !names.contains(name)) {
            return Err("IncompleteSignature.Headers".to_owned());
        }
        for (name, _) in &request.headers {
            let must = name.starts_with("x-acs-") || name == "host" || name == "content-type";
            if must && !names.contains(&name.as_str()) {
                return Err(format!("IncompleteSignature.{name}"));
            }
        }
        let date: Timestamp =
            header("x-acs-date")?.parse().map_err(|_| "InvalidTimeStamp.Format")?;
        if (now.as_second() - date.as_second()).abs() > 15 * 60 {
            return Err("InvalidTimeStamp.Expired".to_owned());
        }
        let key = self.keys.get(id).ok_or("InvalidAccessKeyId.NotFound")?;
        match (&key.token, request.header("x-acs-security-token")) {
            (Some(_), None) => return Err("MissingSecurityToken".to_owned()),
            (Some(expected), Some(token)) if expected != token => {
                return Err("InvalidSecurityToken.MismatchWithAccessKey".to_owned());
            }
            (None, Some(_)) => return Err("InvalidSecurityToken.Malformed".to_owned()),
            _ => {}
        }
        if header("x-acs-content-sha256")? != sha256(&request.body) {
            return Err("InvalidContentHash".to_owned());
        }
        if signature != sign(&key.secret, &canonical(request, &names)) {
            return Err("SignatureDoesNotMatch".to_owned());
        }
        if !self.nonces.insert(header("x-acs-signature-nonce")?.to_owned()) {
            return Err("SignatureNonceUsed".to_owned());
        }
        Ok(id.to_owned())
    }
}

fn canonical(request: &Request, names: &[&str]) -> String {
    // By decoded name, from what was written.
    let query: BTreeMap<String, &str> = request
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| (decode(pair.split_once('=').unwrap().0), pair))
        .collect();
    let query: Vec<&str> = query.into_values().collect();
    let mut lines = vec![request.method.clone(), request.path.clone(), query.join("&")];
    for name in names {
        lines.push(format!("{name}:{}", request.header(name).unwrap_or_default()));
    }
    lines.push(String::new());
    lines.push(names.join(";"));
    lines.push(sha256(&request.body));
    lines.join("\n")
}

fn sign(secret: &str, canonical: &str) -> String {
    let text = format!("ACS3-HMAC-SHA256\n{}", sha256(canonical.as_bytes()));
    hex::encode(hmac(secret.as_bytes(), text.as_bytes()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// RFC 2104 with SHA-256.
fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0; 64];
    if key.len() > block.len() {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(text).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

/// The example of the vendor's documentation, as it would come over the wire.
fn documented() -> (Verifier, Request, Timestamp) {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let signature = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";
    let names = REQUIRED.join(";");
    let request = Request {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai"
            .to_owned(),
        headers: vec![
            header("host", "ecs.cn-shanghai.aliyuncs.com"),
            header("x-acs-action", "RunInstances"),
            header("x-acs-version", "2014-05-26"),
            header("x-acs-date", "2023-10-26T10:22:32Z"),
            header("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            header("x-acs-content-sha256", &sha256(b"")),
            header(
                "authorization",
                &format!(
                    "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders={names},\
                     Signature={signature}"
                ),
            ),
        ],
        body: Vec::new(),
    };
    let mut verifier = Verifier::default();
    let key = KnownKey { secret: "YourAccessKeySecret".to_owned(), token: None };
    verifier.keys.insert("YourAccessKeyId".to_owned(), key);
    (verifier, request, "2023-10-26T10:30:00Z".parse().unwrap())
}

#[test]
fn the_documented_example_is_accepted_once() {
    let (mut verifier, request, now) = documented();
    assert_eq!(verifier.check(&request, now).as_deref(), Ok("YourAccessKeyId"));
    assert_eq!(verifier.check(&request, now), Err("SignatureNonceUsed".to_owned()));
}

#[test]
fn whatever_is_changed_is_refused() {
    type Change = fn(&mut Verifier, &mut Request, &mut Timestamp);
    let changes: [(&str, Change); 9] = [
        ("InvalidTimeStamp.Expired", |_, _, now| *now += jiff::SignedDuration::from_mins(16)),
        ("SignatureDoesNotMatch", |_, request, _| request.method = "GET".to_owned()),
        ("SignatureDoesNotMatch", |_, request, _| request.path = "/tokens".to_owned()),
        ("SignatureDoesNotMatch", |_, request, _| request.query.push('x')),
        ("SignatureDoesNotMatch", |_, request, _| request.headers[1].1.push('x')),
        ("InvalidContentHash", |_, request, _| request.body.push(0)),
        ("InvalidAccessKeyId.NotFound", |verifier, _, _| verifier.keys.clear()),
        ("MissingSecurityToken", |verifier, _, _| {
            verifier.keys.get_mut("YourAccessKeyId").unwrap().token = Some("sts".to_owned());
        }),
        ("IncompleteSignature.x-acs-extra", |_, request, _| {
            request.headers.push(("x-acs-extra".to_owned(), "unsigned".to_owned()));
        }),
    ];
    for (code, change) in changes {
        let (mut verifier, mut request, mut now) = documented();
        change(&mut verifier, &mut request, &mut now);
        assert_eq!(verifier.check(&request, now), Err(code.to_owned()));
    }
}

proptest::proptest! {
    /// Whatever is signed is accepted: the signer's canonical form is the service's.
    #[test]
    fn whatever_is_signed_is_accepted(
        query in proptest::collection::btree_map("[A-Za-z]{1,8}", ".{0,12}", 0..4),
        form in proptest::collection::vec(("[A-Za-z]{1,8}", ".{0,12}"), 0..4),
        token in proptest::option::of("[!-~]{1,40}"),
        (id, secret) in ("[A-Za-z0-9]{8,24}", "[!-~]{1,100}"),
    ) {
        let query: Vec<_> = query.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let form: Vec<_> = form.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let body = acs3::encode_pairs(&form);
        let payload_hash = acs3::hash(body.as_bytes());
        let mut headers = vec![
            ("host", "127.0.0.1:1"),
            ("x-acs-action", "A"),
            ("x-acs-version", "2018-12-01"),
            ("x-acs-date", "2026-01-02T03:04:05Z"),
            ("x-acs-signature-nonce", "n"),
            ("x-acs-content-sha256", &payload_hash),
        ];
        headers.extend(token.as_deref().map(|token| ("x-acs-security-token", token)));
        let unsigned = acs3::Unsigned {
            method: "POST", path: "/", query: &query, headers: &headers, payload_hash: &payload_hash,
        };
        let authorization = acs3::authorization(&unsigned, &id, &Secret::new(secret.clone()));
        headers.push(("authorization", &authorization));
        let mut reversed = query.clone();
        reversed.reverse();
        let request = Request {
            method: "POST".to_owned(),
            path: "/".to_owned(),
            query: acs3::encode_pairs(&reversed),
            headers: headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            body: body.into_bytes(),
        };
        let mut verifier = Verifier::default();
        verifier.keys.insert(id.clone(), KnownKey { secret, token });
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        proptest::prop_assert_eq!(verifier.check(&request, now), Ok(id));
    }
}
