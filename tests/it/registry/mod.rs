//! The registry client against real registries, and against ones that misbehave.

mod faults;
mod hostile;
mod images;
mod logins;
mod proxies;
mod tls;
mod uploads;

use std::{sync::Arc, time::Duration};

use smartbuild::{
    credentials::{self, Anonymous, Login, Logins},
    registry::{Client, Config, Reference, Repository, Retries, Tag, Timeouts},
};

/// One login for every host.
pub(crate) struct Fixed {
    username: String,
    secret: String,
    identity_token: bool,
}

impl Logins for Fixed {
    fn login(&self, _host: &str) -> Result<Option<Login>, credentials::Error> {
        Ok(Some(Login {
            username: self.username.clone(),
            secret: self.secret.clone().into(),
            origin: "the test".to_owned(),
            identity_token: self.identity_token,
        }))
    }
}

/// A client that gives up soon, and asks as nobody.
fn anonymous() -> Client {
    Client::new(hasty(), Arc::new(Anonymous))
}

/// The same with a user name and a password.
fn user(username: &str, secret: &str) -> Client {
    let (username, secret) = (username.to_owned(), secret.to_owned());
    Client::new(hasty(), Arc::new(Fixed { username, secret, identity_token: false }))
}

/// The same with the limits that users have.
fn patient(username: &str, secret: &str) -> Client {
    let (username, secret) = (username.to_owned(), secret.to_owned());
    Client::new(Config::default(), Arc::new(Fixed { username, secret, identity_token: false }))
}

/// A client with an identity token.
fn bearer_of(secret: String) -> Client {
    let fixed = Fixed { username: String::new(), secret, identity_token: true };
    Client::new(hasty(), Arc::new(fixed))
}

/// Short limits, so that what hangs is found out soon; long enough for a busy machine where
/// nothing hangs.
fn hasty() -> Config {
    Config {
        retries: Retries { attempts: 3, pause: Duration::from_millis(1), ..Retries::default() },
        timeouts: Timeouts {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(20),
            idle: Duration::from_secs(10),
            document: Duration::from_secs(20),
        },
        certificates: Vec::new(),
        ..Config::default()
    }
}

fn repository(host: &str, path: &str) -> Repository {
    format!("{host}/{path}").parse().unwrap()
}

fn tagged(host: &str, path: &str, tag: &str) -> Reference {
    repository(host, path).tagged(name(tag))
}

fn name(tag: &str) -> Tag {
    tag.parse().unwrap()
}
