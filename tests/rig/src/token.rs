//! A token service as the distribution specification's "token authentication" describes it:
//! strict about what it is asked, and signing what Debian's `docker-registry` verifies.
//!
//! Sources: distribution/distribution: `docs/content/spec/auth/{token,oauth,jwt}.md`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::{Method, Request, Response, StatusCode};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::credentials::{key_pem, openssl};
use crate::server::{Answer, Boxed, Server, full};

/// The name of the service, as the registry's challenge gives it.
const SERVICE: &str = "rig-registry";
const ISSUER: &str = "rig-issuer";

/// The service that a [`crate::Registry`] with token authentication sends its clients to.
#[derive(Debug)]
pub struct TokenService {
    server: Server,
    shared: Arc<Shared>,
}

struct Shared {
    key: EcdsaKeyPair,
    certificate: String,
    state: Mutex<State>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.state).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    users: HashMap<String, String>,
    refresh_tokens: HashMap<String, String>,
    denied: Vec<(String, String)>,
    anonymous_pull: bool,
    lifetime: i64,
    field: &'static str,
    oauth: bool,
    requests: Vec<TokenRequest>,
}

/// One request for a token, and what it got.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    /// `GET` (the older way) or `POST` (OAuth 2).
    pub method: Method,
    /// `password`, `refresh_token`, or `none` where nobody said who they are.
    pub grant: &'static str,
    /// The user who was recognised.
    pub user: Option<String>,
    /// The scopes asked for, such as `repository:a/b:pull,push`.
    pub scopes: Vec<String>,
    /// The status of the answer.
    pub status: u16,
}

impl TokenService {
    /// Starts one for this user, whose certificate goes into `directory`.
    pub(crate) fn start(user: &str, password: &str, directory: &TempDir) -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let key = directory.path().join("token-key.pem");
        let certificate = directory.path().join("token-certificate.pem");
        std::fs::write(&key, key_pem(pkcs8.as_ref())).unwrap();
        openssl(&[
            &["req", "-x509", "-new", "-days", "2", "-subj", "/CN=rig token signer"],
            &["-key", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()][..],
        ]);
        let pem = std::fs::read_to_string(&certificate).unwrap();
        let shared = Arc::new(Shared {
            key: EcdsaKeyPair::from_pkcs8(
                &ECDSA_P256_SHA256_FIXED_SIGNING,
                pkcs8.as_ref(),
                &SystemRandom::new(),
            )
            .unwrap(),
            certificate: pem.lines().filter(|line| !line.starts_with("-----")).collect(),
            state: Mutex::new(State {
                users: HashMap::from([(user.to_owned(), password.to_owned())]),
                refresh_tokens: HashMap::new(),
                denied: Vec::new(),
                anonymous_pull: false,
                lifetime: 300,
                field: "token",
                oauth: true,
                requests: Vec::new(),
            }),
        });
        let service = Arc::clone(&shared);
        let server = Server::start(move |request| answer(Arc::clone(&service), request));
        Self { server, shared }
    }

    /// The registry's `auth` section.
    pub(crate) fn settings(&self, directory: &TempDir) -> Value {
        json!({ "token": {
            "realm": format!("http://{}/token", self.server.address()),
            "service": SERVICE,
            "issuer": ISSUER,
            "rootcertbundle": directory.path().join("token-certificate.pem"),
        }})
    }

    /// What a registry says to a request whose token is past its time.
    #[must_use]
    pub fn expired(&self) -> String {
        format!(
            "Bearer realm=\"http://{}/token\",service=\"{SERVICE}\",error=\"invalid_token\"",
            self.server.address()
        )
    }

    /// A token for the rig itself.
    pub(crate) fn own_token(&self, repository: &str) -> String {
        let access = json!([{
            "type": "repository",
            "name": repository,
            "actions": ["pull", "push", "delete"],
        }]);
        self.shared.sign("rig", access, 300)
    }

    /// Every request so far.
    #[must_use]
    pub fn requests(&self) -> Vec<TokenRequest> {
        self.lock().requests.clone()
    }

    /// How long new tokens live, in seconds (300 at first). The registry allows 60 seconds more,
    /// so a token of `-120` is refused at once.
    pub fn set_lifetime(&self, seconds: i64) {
        self.lock().lifetime = seconds;
    }

    /// Answers `GET` with the token in this field alone: `token` (at first) or `access_token`.
    pub fn set_field(&self, field: &'static str) {
        self.lock().field = field;
    }

    /// Whether `POST` is understood (it is at first); otherwise it gets 405.
    pub fn set_oauth(&self, understood: bool) {
        self.lock().oauth = understood;
    }

    /// Lets anybody pull without saying who they are.
    pub fn allow_anonymous_pull(&self) {
        self.lock().anonymous_pull = true;
    }

    /// Leaves an action (`pull`, `push`, `delete`) on a repository out of every token.
    pub fn deny(&self, repository: &str, action: &str) {
        self.lock().denied.push((repository.to_owned(), action.to_owned()));
    }

    /// Changes the user's password, as an administrator would; their refresh tokens end.
    pub fn set_password(&self, user: &str, password: &str) {
        let mut state = self.lock();
        state.users.insert(user.to_owned(), password.to_owned());
        state.refresh_tokens.retain(|_, owner| owner != user);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }
}

impl Shared {
    fn sign(&self, subject: &str, access: Value, lifetime: i64) -> String {
        let now = now();
        let header = json!({ "typ": "JWT", "alg": "ES256", "x5c": [self.certificate] });
        let claims = json!({
            "iss": ISSUER,
            "sub": subject,
            "aud": SERVICE,
            "exp": now + lifetime,
            "nbf": now + lifetime.min(0) - 10,
            "iat": now,
            "jti": crate::unique("token"),
            "access": access,
        });
        let encode = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let text = format!("{}.{}", encode(header), encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().try_into().unwrap()
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(refusal(400, "the body broke off")) };
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    let post = head.method == Method::POST;
    let form = parse_form(if post { &body } else { head.uri.query().unwrap_or_default() });
    let basic = head.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let mut state = shared.state.lock().unwrap();
    let mut asked = TokenRequest {
        method: head.method,
        grant: "none",
        user: None,
        scopes: form
            .iter()
            .filter(|(name, _)| name == "scope")
            .flat_map(|(_, value)| value.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect(),
        status: 0,
    };
    let response = respond(&shared, &mut state, &mut asked, &form, basic, head.uri.path());
    asked.status = response.status().as_u16();
    state.requests.push(asked);
    Ok(response)
}

fn respond(
    shared: &Shared,
    state: &mut State,
    asked: &mut TokenRequest,
    form: &[(String, String)],
    basic: Option<&str>,
    path: &str,
) -> Response<Boxed> {
    let field = |name: &str| {
        let found = form.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_default()
    };
    let post = asked.method == Method::POST;
    if path != "/token" {
        return refusal(404, "there is only /token here");
    }
    if !(asked.method == Method::GET || post && state.oauth) {
        return refusal(405, "not understood here");
    }
    if field("service") != SERVICE {
        return refusal(400, "the service is not the one of the challenge");
    }
    if post && field("client_id").is_empty() {
        return refusal(400, "client_id is missing");
    }
    let said = match (post, field("grant_type")) {
        (true, "refresh_token") => {
            asked.grant = "refresh_token";
            let owner = state.refresh_tokens.get(field("refresh_token"));
            owner.cloned().ok_or("unknown refresh token").map(Some)
        }
        (true, "password") => {
            asked.grant = "password";
            state.known(field("username"), field("password")).map(Some)
        }
        (true, _) => return refusal(400, "unsupported grant_type"),
        (false, _) => match basic {
            None => Ok(None),
            Some(header) => {
                asked.grant = "password";
                match parse_basic(header) {
                    Some((user, password)) => state.known(&user, &password).map(Some),
                    None => return refusal(400, "the Authorization header is not Basic"),
                }
            }
        },
    };
    let user = match said {
        Ok(user) => user,
        Err(why) => return refusal(401, why),
    };
    asked.user.clone_from(&user);
    let Some(access) = state.access(user.as_deref(), &asked.scopes) else {
        return refusal(400, "a scope is not type:name:actions");
    };
    let granted: Vec<_> = access.iter().map(|(_, scope)| scope.clone()).collect();
    let entries = access.into_iter().map(|(entry, _)| entry).collect();
    let token = shared.sign(user.as_deref().unwrap_or_default(), entries, state.lifetime);
    let name = if post { "access_token" } else { state.field };
    let mut reply = json!({
        name: token,
        "expires_in": state.lifetime,
        "issued_at": jiff::Timestamp::now().to_string(),
    });
    if post {
        reply["scope"] = json!(granted.join(" "));
    }
    if (field("offline_token") == "true" || field("access_type") == "offline")
        && let Some(user) = user
    {
        let refresh = crate::unique("refresh");
        state.refresh_tokens.insert(refresh.clone(), user);
        reply["refresh_token"] = json!(refresh);
    }
    let mut response = Response::new(full(reply.to_string()));
    response.headers_mut().insert("content-type", "application/json".parse().unwrap());
    response
}

impl State {
    fn known(&self, user: &str, password: &str) -> Result<String, &'static str> {
        match self.users.get(user) {
            Some(right) if right == password => Ok(user.to_owned()),
            _ => Err("incorrect username or password"),
        }
    }

    /// What may be done of what was asked: the token's entries, and the scopes as text.
    fn access(&self, user: Option<&str>, scopes: &[String]) -> Option<Vec<(Value, String)>> {
        let mut access = Vec::new();
        for scope in scopes {
            let (rest, actions) = scope.rsplit_once(':')?;
            let (kind, name) = rest.split_once(':')?;
            let allowed = |action: &&str| {
                let denied = self.denied.iter().any(|(who, what)| who == name && what == action);
                let known = user.is_some() || self.anonymous_pull && *action == "pull";
                known && !denied
            };
            let actions: Vec<_> = actions.split(',').filter(allowed).collect();
            if !actions.is_empty() {
                let text = format!("{kind}:{name}:{}", actions.join(","));
                access.push((json!({ "type": kind, "name": name, "actions": actions }), text));
            }
        }
        Some(access)
    }
}

fn refusal(status: u16, why: &str) -> Response<Boxed> {
    let body = json!({ "errors": [{ "code": "UNAUTHORIZED", "message": why }] });
    let mut response = Response::new(full(body.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

fn parse_basic(header: &str) -> Option<(String, String)> {
    let encoded = header.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// `application/x-www-form-urlencoded`.
fn parse_form(text: &str) -> Vec<(String, String)> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&first, others)) = rest.split_first() {
            rest = others;
            match (first, rest) {
                (b'+', _) => bytes.push(b' '),
                (b'%', [high, low, others @ ..]) => {
                    let digits = [*high, *low];
                    if let Ok(decoded) = hex::decode(digits) {
                        bytes.extend(decoded);
                        rest = others;
                    } else {
                        bytes.push(first);
                    }
                }
                _ => bytes.push(first),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decode(name), decode(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_decoded() {
        let form = parse_form("scope=repository%3Aa%2Fb%3Apull&account=a%40b&password=p+q%25&x");
        let expected =
            [("scope", "repository:a/b:pull"), ("account", "a@b"), ("password", "p q%"), ("x", "")];
        let expected: Vec<_> =
            expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        assert_eq!(form, expected);
    }
}
