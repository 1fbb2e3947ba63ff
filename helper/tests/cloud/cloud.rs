//! The part of Alibaba Cloud that a registry login meets, on one loopback port: Container Registry,
//! STS, ECS metadata, CloudSSO, a credentials URI, an OIDC issuer, and a registry's challenge.
//!
//! It has two accounts, `a` and `b`, each with an instance of the enterprise edition (`cri-a`,
//! `cri-b`) and the personal edition. Whatever is asked without proof is refused.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use smartbuild_test_rig::{Program, Registry, Work, sha256, unique};

use crate::http::{Reply, Request, Server};
use crate::verify::{KnownKey, Verifier};

/// The access keys of the two accounts.
pub(crate) const KEY_A: (&str, &str) = ("LTAI-a", "secret-of-a");
pub(crate) const KEY_B: (&str, &str) = ("LTAI-b", "secret-of-b");
/// The token that an OIDC issuer gives.
pub(crate) const OIDC_TOKEN: &str = "oidc.token.of-the-job";
/// The token of a CloudSSO login.
pub(crate) const SSO_TOKEN: &str = "cloud-sso-login";
const GITHUB_TOKEN: &str = "github-request-token";
const METADATA_TOKEN: &str = "metadata-session";

/// A running cloud.
pub(crate) struct Cloud {
    server: Server,
    state: Arc<Mutex<State>>,
}

struct State {
    verifier: Verifier,
    /// Every call: its name, and who made it.
    calls: Vec<String>,
    faults: HashMap<String, Reply>,
    /// How far the service's clock is ahead of ours.
    clock: SignedDuration,
    /// The registries, and the account whose logins each accepts.
    registries: Vec<(Arc<Registry>, &'static str)>,
    issued: usize,
    /// What the registry of this host says of itself.
    service: String,
    /// How many instances account `a` has beside its own.
    crowd: usize,
    instance_role: Option<String>,
    permitted: bool,
}

impl Cloud {
    pub(crate) fn start() -> Self {
        let mut verifier = Verifier::default();
        for (id, secret) in [KEY_A, KEY_B] {
            let key = KnownKey { secret: secret.to_owned(), token: None };
            verifier.keys.insert(id.to_owned(), key);
        }
        let state = Arc::new(Mutex::new(State {
            verifier,
            calls: Vec::new(),
            faults: HashMap::new(),
            clock: SignedDuration::ZERO,
            registries: Vec::new(),
            issued: 0,
            service: "registry.aliyuncs.com:cn-hangzhou:china:cri-a".to_owned(),
            crowd: 0,
            instance_role: Some("instance-role".to_owned()),
            permitted: true,
        }));
        let shared = Arc::clone(&state);
        let server = Server::start(move |request| shared.lock().unwrap().answer(request));
        Self { server, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn url(&self) -> String {
        self.server.url()
    }

    pub(crate) fn host(&self) -> String {
        self.server.host()
    }

    /// The helper's `get` for a host, on a machine whose cloud this is.
    pub(crate) fn get(&self, host: &str) -> Program {
        self.around(Program::helper(["get"]).input(host))
    }

    /// Puts a program on a machine whose cloud this is.
    pub(crate) fn around(&self, program: Program) -> Program {
        program
            .env("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", self.url())
            .env("DOCKER_CREDENTIAL_ALIYUN_METADATA_ENDPOINT", self.url())
            .env("ALIBABA_CLOUD_STS_ENDPOINT", self.url())
    }

    /// Every call so far.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state().calls.clone()
    }

    /// How often this was called.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.state().calls.iter().filter(|call| call.starts_with(name)).count()
    }

    /// From now on a call goes wrong.
    pub(crate) fn fail(&self, name: &str, fault: Reply) {
        self.state().faults.insert(name.to_owned(), fault);
    }

    /// Nothing goes wrong any more.
    pub(crate) fn heal(&self) {
        self.state().faults.clear();
    }

    /// The service's clock is ahead of ours by so much.
    pub(crate) fn set_clock(&self, ahead: SignedDuration) {
        self.state().clock = ahead;
    }

    /// A registry with token authentication where the logins of an account are good.
    pub(crate) fn registry(&self, account: &'static str) -> Arc<Registry> {
        let registry = Arc::new(Registry::token("nobody", "no password"));
        self.state().registries.push((Arc::clone(&registry), account));
        registry
    }

    /// What the registry at this cloud's own host says in its challenge.
    pub(crate) fn set_service(&self, service: &str) {
        service.clone_into(&mut self.state().service);
    }

    /// Gives account `a` so many instances before its own.
    pub(crate) fn set_crowd(&self, crowd: usize) {
        self.state().crowd = crowd;
    }

    /// The role of the ECS instance, if it has one.
    pub(crate) fn set_instance_role(&self, role: Option<&str>) {
        self.state().instance_role = role.map(str::to_owned);
    }

    /// Takes the permission to get logins away.
    pub(crate) fn forbid(&self) {
        self.state().permitted = false;
    }
}

impl State {
    fn answer(&mut self, request: &Request) -> Reply {
        let name = name_of(request);
        let reply = match self.faults.get(name.as_str()).cloned() {
            Some(fault) => {
                self.calls.push(name);
                fault
            }
            None => match self.serve(&name, request) {
                Ok(reply) => reply,
                Err(refusal) => {
                    self.calls.push(format!("{name} refused"));
                    refusal
                }
            },
        };
        let date = (Timestamp::now() + self.clock).strftime("%a, %d %b %Y %H:%M:%S GMT");
        reply.with("date", &date.to_string())
    }

    fn serve(&mut self, name: &str, request: &Request) -> Result<Reply, Reply> {
        let caller = match name {
            "AssumeRoleWithOIDC" | "metadata token" | "metadata" | "credentials URI"
            | "CloudSSO" | "GitHub" | "challenge" => String::new(),
            _ => self.signed(request)?,
        };
        self.calls.push(if caller.is_empty() {
            name.to_owned()
        } else {
            format!("{name} by {caller}")
        });
        match name {
            "GetAuthorizationToken" => self.token(request, &caller),
            "ListInstance" => self.instances(request, &caller),
            "ListInstanceEndpoint" => Ok(Self::endpoints(request)),
            "AssumeRole" => self.assume(request, &caller),
            "AssumeRoleWithOIDC" => self.assume_with_oidc(request),
            "metadata token" | "metadata" => self.metadata(name, request),
            "credentials URI" => Ok(Reply::json(200, &self.keys("uri", "Success"))),
            "CloudSSO" => self.cloud_sso(request),
            "GitHub" => Self::github(request),
            "challenge" => Ok(Reply::text(401, "application/json", "{}").with(
                "www-authenticate",
                &format!(
                    r#"Bearer realm="https://dockerauth.cn-hangzhou.aliyuncs.com/auth",service="{}""#,
                    self.service
                ),
            )),
            _ => Err(refusal(404, "InvalidAction.NotFound", name)),
        }
    }

    /// The id of the key that signed the request.
    fn signed(&mut self, request: &Request) -> Result<String, Reply> {
        let now = Timestamp::now() + self.clock;
        self.verifier.check(request, now).map_err(|code| {
            // The service repeats what was signed, secrets included.
            let token = request.header("x-acs-security-token").unwrap_or_default();
            refusal(400, &code, &format!("server string to sign is: x-acs-security-token:{token}"))
        })
    }

    /// New keys of STS, known from now on.
    fn keys(&mut self, whose: &str, code: &str) -> Value {
        let id = format!("STS.{whose}");
        let secret = unique("sts-secret");
        let token = unique("sts-token");
        let known = KnownKey { secret: secret.clone(), token: Some(token.clone()) };
        self.verifier.keys.insert(id.clone(), known);
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        json!({
            "Code": code,
            "AccessKeyId": id,
            "AccessKeySecret": secret,
            "SecurityToken": token,
            "Expiration": end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }

    fn token(&mut self, request: &Request, caller: &str) -> Result<Reply, Reply> {
        if !self.permitted {
            let message = "The user is not authorized to operate on the specified resource.";
            return Err(refusal(403, "Forbidden.RAM", message));
        }
        let personal = request.header("x-acs-version") == Some("2016-06-07");
        let instance = request.query("InstanceId");
        let shaped = if personal {
            request.method == "GET" && request.path == "/tokens" && request.query.is_empty()
        } else {
            request.method == "POST" && request.path == "/" && request.body.is_empty()
        };
        if !shaped {
            return Err(refusal(404, "InvalidAction.NotFound", "wrong style"));
        }
        let account = account_of(caller);
        if let Some(instance) = &instance
            && *instance != format!("cri-{account}")
        {
            return Ok(Reply::json(
                200,
                &json!({"Code": "INSTANCE_NOT_EXIST", "IsSuccess": false, "RequestId": "R-1"}),
            ));
        }
        self.issued += 1;
        let body = json!({
            "instanceId": instance,
            "time": Timestamp::now().as_millisecond().to_string(),
            "type": "user",
            "userId": account,
            "number": self.issued,
        });
        let body = BASE64_STANDARD.encode(body.to_string());
        let token = format!("{body}:{}", &sha256(body.as_bytes())[7..47]);
        // The editions name the user differently, so that nobody can guess.
        let user = if personal { "cr_temp_user" } else { "temp_user_cr" };
        let end = (Timestamp::now() + SignedDuration::from_hours(1)).as_millisecond();
        for (registry, _) in self.registries.iter().filter(|(_, owner)| *owner == account) {
            registry.tokens().set_password(user, &token);
        }
        Ok(Reply::json(
            200,
            &if personal {
                json!({
                    "data": {"authorizationToken": token, "tempUserName": user, "expireDate": end},
                    "requestId": "R-1",
                })
            } else {
                json!({
                    "RequestId": "R-1", "Code": "success", "IsSuccess": true,
                    "TempUsername": user, "AuthorizationToken": token, "ExpireTime": end,
                })
            },
        ))
    }

    /// Pages of at most 30, whatever was asked for.
    fn instances(&self, request: &Request, caller: &str) -> Result<Reply, Reply> {
        let account = account_of(caller);
        let others = if account == "a" { self.crowd } else { 0 };
        let mut all: Vec<Value> = (0..others)
            .map(|n| json!({"InstanceId": format!("cri-x{n}"), "InstanceName": format!("other-{n}")}))
            .collect();
        all.push(json!({"InstanceId": format!("cri-{account}"), "InstanceName": format!("team-{account}")}));
        let page: usize = request.query("PageNo").unwrap().parse().unwrap();
        let shown: Vec<_> = all.iter().skip((page - 1) * 30).take(30).collect();
        Ok(Reply::json(
            200,
            &json!({
                "RequestId": "R-1", "Code": "success", "IsSuccess": true,
                "Instances": shown, "TotalCount": all.len(), "PageNo": page, "PageSize": 30,
            }),
        ))
    }

    fn endpoints(request: &Request) -> Reply {
        let id = request.query("InstanceId").unwrap();
        let domains = json!([
            {"Domain": format!("{id}.example.com"), "Type": "USER"},
            {"Domain": format!("{id}-registry.cn-hangzhou.cr.aliyuncs.com"), "Type": "SYSTEM"},
        ]);
        Reply::json(
            200,
            &json!({
                "RequestId": "R-1", "Code": "success", "IsSuccess": true,
                "Endpoints": [{"EndpointType": "internet", "Enable": true, "Domains": domains}],
            }),
        )
    }

    /// Roles are called after who may take them: `role/<anything>-for-<part of the caller's id>`.
    fn assume(&mut self, request: &Request, caller: &str) -> Result<Reply, Reply> {
        let arn = request.form("RoleArn").unwrap();
        let (_, name) = arn.split_once(":role/").unwrap();
        let (_, whose) = name.split_once("-for-").unwrap();
        if !caller.contains(whose) {
            return Err(refusal(403, "NoPermission", "You are not authorized to do this action."));
        }
        if name.starts_with("guarded") && request.form("ExternalId").as_deref() != Some("agreed") {
            return Err(refusal(403, "NoPermission", "external id"));
        }
        let keys = self.keys(&format!("{name}-of-{}", account_of(caller)), "Success");
        Ok(Reply::json(200, &json!({"RequestId": "R-1", "Credentials": keys})))
    }

    fn assume_with_oidc(&mut self, request: &Request) -> Result<Reply, Reply> {
        let complete = request.header("authorization").is_none()
            && request.query("Version").as_deref() == Some("2015-04-01")
            && request.query("Timestamp").is_some()
            && request.form("OIDCProviderArn").as_deref() == Some("acs:ram::1:oidc-provider/ci")
            && request.form("RoleSessionName").is_some();
        if !complete {
            return Err(refusal(400, "MissingParameter", ""));
        }
        if request.form("OIDCToken").as_deref() != Some(OIDC_TOKEN) {
            let message = format!("token {} is bad", request.form("OIDCToken").unwrap());
            return Err(refusal(400, "AuthenticationFail.OIDCToken.Invalid", &message));
        }
        let keys = self.keys("oidc", "Success");
        Ok(Reply::json(200, &json!({"RequestId": "R-1", "Credentials": keys})))
    }

    fn metadata(&mut self, name: &str, request: &Request) -> Result<Reply, Reply> {
        let not_found = || Reply::text(404, "text/html", "<html>not found");
        if name == "metadata token" {
            let asked = request.header("x-aliyun-ecs-metadata-token-ttl-seconds").is_some();
            let answer = Reply::text(200, "text/plain", METADATA_TOKEN);
            return if asked && request.method == "PUT" { Ok(answer) } else { Err(not_found()) };
        }
        if request.header("x-aliyun-ecs-metadata-token") != Some(METADATA_TOKEN) {
            return Err(Reply::text(403, "text/html", "<html>no token"));
        }
        let role = self.instance_role.clone().ok_or_else(not_found)?;
        match request.path.strip_prefix("/latest/meta-data/ram/security-credentials/") {
            Some("") => Ok(Reply::text(200, "text/plain", &role)),
            Some(asked) if asked == role => Ok(Reply::json(200, &self.keys("instance", "Success"))),
            _ => Err(not_found()),
        }
    }

    fn cloud_sso(&mut self, request: &Request) -> Result<Reply, Reply> {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let known = request.header("authorization") == Some(&format!("Bearer {SSO_TOKEN}"))
            && body == json!({"AccountId": "1", "AccessConfigurationId": "ac-1"});
        if !known {
            return Err(Reply::json(401, &json!({"ErrorCode": "InvalidToken"})));
        }
        Ok(Reply::json(200, &json!({"CloudCredential": self.keys("sso", "Success")})))
    }

    fn github(request: &Request) -> Result<Reply, Reply> {
        let known = request.header("authorization") == Some(&format!("Bearer {GITHUB_TOKEN}"))
            && request.query("audience").as_deref() == Some("sts.aliyuncs.com")
            && request.query("job").as_deref() == Some("1");
        if !known {
            return Err(Reply::json(401, &json!({})));
        }
        Ok(Reply::json(200, &json!({"count": 1, "value": OIDC_TOKEN})))
    }
}

fn name_of(request: &Request) -> String {
    let name = match (request.method.as_str(), request.path.as_str()) {
        ("CONNECT", target) => return format!("CONNECT {target}"),
        (_, "/latest/api/token") => "metadata token",
        (_, path) if path.starts_with("/latest/") => "metadata",
        ("GET", "/keys") => "credentials URI",
        ("POST", "/cloud-credentials") => "CloudSSO",
        ("GET", "/github") => "GitHub",
        ("GET", "/v2/") => "challenge",
        _ => match request.header("x-acs-action") {
            Some(action) => action,
            None => return request.query("Action").unwrap_or_else(|| "unknown".to_owned()),
        },
    };
    name.to_owned()
}

/// The account that a key belongs to.
fn account_of(key: &str) -> &'static str {
    if key == KEY_B.0 || key.ends_with("-of-b") { "b" } else { "a" }
}

pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({"Code": code, "Message": message, "RequestId": "R-1"}))
}

/// An identity of a machine: how it is set up, and who the cloud then sees.
pub(crate) struct Machine {
    pub(crate) name: &'static str,
    /// Writes files into the home.
    pub(crate) files: fn(&Work, &Cloud),
    /// Sets variables.
    pub(crate) variables: fn(Program, &Cloud) -> Program,
    /// The key that asks for the login.
    pub(crate) caller: &'static str,
}

fn key_of(program: Program, (id, secret): (&str, &str)) -> Program {
    program.env("ALIBABA_CLOUD_ACCESS_KEY_ID", id).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret)
}

/// Writes `~/.aliyun/config.json` with these profiles; the first one counts.
pub(crate) fn profiles(work: &Work, profiles: &Value) {
    let config = json!({"current": profiles[0]["name"], "profiles": profiles});
    work.write("../home/.aliyun/config.json", config.to_string());
}

/// Every identity there is, in the order in which they are looked for.
pub(crate) fn machines() -> Vec<Machine> {
    fn none(_: &Work, _: &Cloud) {}
    fn unset(program: Program, _: &Cloud) -> Program {
        program
    }
    fn key_a() -> Value {
        json!({"name": "key", "mode": "AK", "access_key_id": KEY_A.0, "access_key_secret": KEY_A.1})
    }
    vec![
        Machine {
            name: "access key",
            files: none,
            variables: |program, _| key_of(program, KEY_A),
            caller: KEY_A.0,
        },
        Machine {
            name: "STS token",
            files: none,
            variables: |program, cloud| {
                let keys = cloud.state().keys("handed-out", "Success");
                let text = |name: &str| keys[name].as_str().unwrap().to_owned();
                key_of(program, (&text("AccessKeyId"), &text("AccessKeySecret")))
                    .env("ALIBABA_CLOUD_SECURITY_TOKEN", text("SecurityToken"))
            },
            caller: "STS.handed-out",
        },
        Machine {
            name: "role",
            files: none,
            variables: |program, _| {
                key_of(program, KEY_A)
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/guarded-for-LTAI-a")
                    .env("ALIBABA_CLOUD_EXTERNAL_ID", "agreed")
            },
            caller: "STS.guarded-for-LTAI-a-of-a",
        },
        Machine {
            name: "OIDC from a file",
            files: |work, _| {
                work.write("../home/token", format!("{OIDC_TOKEN}\n"));
            },
            variables: |program, _| {
                program
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/ci")
                    .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ci")
                    .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", "../home/token")
            },
            caller: "STS.oidc",
        },
        Machine {
            name: "OIDC from a variable",
            files: none,
            variables: |program, _| {
                program
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/ci")
                    .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ci")
                    .env("ALIBABA_CLOUD_OIDC_TOKEN", OIDC_TOKEN)
            },
            caller: "STS.oidc",
        },
        Machine {
            name: "OIDC from GitHub",
            files: none,
            variables: |program, cloud| {
                program
                    .env("ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1:role/ci")
                    .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1:oidc-provider/ci")
                    .env("ACTIONS_ID_TOKEN_REQUEST_URL", cloud.url() + "/github?job=1")
                    .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", GITHUB_TOKEN)
            },
            caller: "STS.oidc",
        },
        Machine {
            name: "profile AK",
            files: |work, _| profiles(work, &json!([key_a()])),
            variables: unset,
            caller: KEY_A.0,
        },
        Machine {
            name: "profile StsToken",
            files: |work, cloud| {
                let keys = cloud.state().keys("profile", "Success");
                profiles(
                    work,
                    &json!([{
                        "name": "sts", "mode": "StsToken", "access_key_id": keys["AccessKeyId"],
                        "access_key_secret": keys["AccessKeySecret"],
                        "sts_token": keys["SecurityToken"],
                    }]),
                );
            },
            variables: unset,
            caller: "STS.profile",
        },
        Machine {
            name: "profile RamRoleArn",
            files: |work, cloud| {
                profiles(
                    work,
                    &json!([{
                        "name": "role", "mode": "RamRoleArn", "access_key_id": KEY_A.0,
                        "access_key_secret": KEY_A.1, "ram_role_arn": "acs:ram::1:role/r-for-LTAI-a",
                        "ram_session_name": "s", "expired_seconds": 900, "sts_endpoint": cloud.url(),
                    }]),
                );
            },
            variables: unset,
            caller: "STS.r-for-LTAI-a-of-a",
        },
        Machine {
            name: "profile ChainableRamRoleArn",
            files: |work, _| {
                profiles(
                    work,
                    &json!([
                        {"name": "top", "mode": "ChainableRamRoleArn", "source_profile": "middle",
                         "ram_role_arn": "acs:ram::1:role/top-for-middle"},
                        {"name": "middle", "mode": "ChainableRamRoleArn", "source_profile": "key",
                         "ram_role_arn": "acs:ram::1:role/middle-for-LTAI-a"},
                        key_a(),
                    ]),
                );
            },
            variables: unset,
            caller: "STS.top-for-middle-of-a",
        },
        Machine {
            name: "profile OIDC",
            files: |work, _| {
                work.write("../home/token", OIDC_TOKEN);
                profiles(
                    work,
                    &json!([{
                        "name": "oidc", "mode": "OIDC", "ram_role_arn": "acs:ram::1:role/ci",
                        "oidc_provider_arn": "acs:ram::1:oidc-provider/ci",
                        "oidc_token_file": work.home().join("token"), "ram_session_name": "s",
                    }]),
                );
            },
            variables: unset,
            caller: "STS.oidc",
        },
        Machine {
            name: "profile External",
            files: |work, _| {
                let printed = json!({
                    "mode": "AK", "access_key_id": KEY_A.0, "access_key_secret": KEY_A.1,
                });
                work.write("../home/keys of mine.json", printed.to_string());
                let command = format!("cat '{}'", work.home().join("keys of mine.json").display());
                profiles(
                    work,
                    &json!([{"name": "x", "mode": "External", "process_command": command}]),
                );
            },
            variables: unset,
            caller: KEY_A.0,
        },
        Machine {
            name: "profile CredentialsURI",
            files: |work, cloud| {
                let uri = cloud.url() + "/keys";
                profiles(
                    work,
                    &json!([{"name": "u", "mode": "CredentialsURI", "credentials_uri": uri}]),
                );
            },
            variables: unset,
            caller: "STS.uri",
        },
        Machine {
            name: "profile EcsRamRole",
            files: |work, _| profiles(work, &json!([{"name": "ecs", "mode": "EcsRamRole"}])),
            variables: unset,
            caller: "STS.instance",
        },
        Machine {
            name: "profile RamRoleArnWithRoleName",
            files: |work, _| {
                profiles(
                    work,
                    &json!([{
                        "name": "ecs", "mode": "RamRoleArnWithRoleName",
                        "ram_role_name": "instance-role",
                        "ram_role_arn": "acs:ram::1:role/r-for-instance",
                    }]),
                );
            },
            variables: unset,
            caller: "STS.r-for-instance-of-a",
        },
        Machine {
            name: "profile CloudSSO with its login",
            files: |work, cloud| profiles(work, &json!([sso(cloud, &json!({}))])),
            variables: unset,
            caller: "STS.sso",
        },
        Machine {
            name: "profile CloudSSO with cached keys",
            files: |work, cloud| {
                let keys = cloud.state().keys("sso-cached", "Success");
                let cached = json!({
                    "access_key_id": keys["AccessKeyId"], "access_key_secret": keys["AccessKeySecret"],
                    "sts_token": keys["SecurityToken"], "sts_expiration": in_an_hour(),
                });
                profiles(work, &json!([sso(cloud, &cached)]));
            },
            variables: unset,
            caller: "STS.sso-cached",
        },
        Machine {
            name: "credentials file",
            files: |work, _| {
                let (id, secret) = KEY_A;
                let text = format!(
                    "[default]\ntype = ram_role_arn\naccess_key_id = {id}\naccess_key_secret = {secret}\n\
                     role_arn = acs:ram::1:role/ini-for-LTAI-a\n"
                );
                work.write("../home/.alibabacloud/credentials", text);
            },
            variables: unset,
            caller: "STS.ini-for-LTAI-a-of-a",
        },
        Machine {
            name: "ECS metadata",
            files: none,
            variables: |program, _| program.env("ALIBABA_CLOUD_ECS_METADATA", "instance-role"),
            caller: "STS.instance",
        },
        Machine {
            name: "credentials URI",
            files: none,
            variables: |program, cloud| {
                program.env("ALIBABA_CLOUD_CREDENTIALS_URI", cloud.url() + "/keys")
            },
            caller: "STS.uri",
        },
    ]
}

fn in_an_hour() -> i64 {
    Timestamp::now().as_second() + 3600
}

fn sso(cloud: &Cloud, more: &Value) -> Value {
    let mut profile = json!({
        "name": "sso", "mode": "CloudSSO", "cloud_sso_sign_in_url": cloud.url() + "/start/login",
        "cloud_sso_account_id": "1", "cloud_sso_access_config": "ac-1", "access_token": SSO_TOKEN,
        "cloud_sso_access_token_expire": in_an_hour(),
    });
    for (name, value) in more.as_object().unwrap() {
        profile[name] = value.clone();
    }
    profile
}
