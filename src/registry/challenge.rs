//! What a registry asks for in `WWW-Authenticate`, and the scopes of tokens.
//!
//! Knows RFC 9110 section 11.6.1 and the token specification of distribution
//! (`docs/spec/auth/token.md`, `scope.md`); pure.

use std::collections::{BTreeMap, BTreeSet};

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a registry wants to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A user name and a password.
    Basic,
    /// A token of the service at `realm`.
    Bearer {
        realm: String,
        service: Option<String>,
        /// What the registry thinks the token has to allow.
        scope: Option<String>,
    },
}

impl Challenge {
    /// The best of the challenges in the headers: a token, else a password.
    pub(super) fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE);
        let all: Vec<_> = values
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(challenges)
            .filter_map(|(scheme, mut parameters)| match scheme.as_str() {
                "basic" => Some(Self::Basic),
                "bearer" => Some(Self::Bearer {
                    realm: parameters.remove("realm")?,
                    service: parameters.remove("service").filter(|service| !service.is_empty()),
                    scope: parameters.remove("scope").filter(|scope| !scope.is_empty()),
                }),
                _ => None,
            })
            .collect();
        let bearer = all.iter().find(|challenge| matches!(challenge, Self::Bearer { .. }));
        bearer.or(all.first()).cloned()
    }
}

/// Splits a header into its challenges: scheme in lower case, parameters by lower-case name.
fn challenges(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut found: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let length = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(length);
        if word.is_empty() {
            return found;
        }
        // A name before `=` is a parameter, a word before anything else is a scheme.
        match after.trim_start().strip_prefix('=') {
            Some(value) => {
                let (value, after) = parameter(value.trim_start());
                if let Some((_, parameters)) = found.last_mut() {
                    parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                rest = after;
            }
            None => {
                found.push((word.to_ascii_lowercase(), BTreeMap::new()));
                rest = after;
            }
        }
    }
}

/// The value of a parameter, quoted or bare, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let length = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, after) = text.split_at(length);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// What a token may have to allow in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Pull, Self::Push, Self::Delete].into_iter().find(|action| action.name() == name)
    }
}

/// What a token allows: actions by repository, and what else a registry wanted to see named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    repositories: BTreeMap<String, BTreeSet<Action>>,
    others: BTreeSet<String>,
}

impl Scopes {
    pub(super) fn of(path: &str, actions: &[Action]) -> Self {
        let mut scopes = Self::default();
        scopes.add(path, actions);
        scopes
    }

    pub(super) fn add(&mut self, path: &str, actions: &[Action]) {
        self.repositories.entry(path.to_owned()).or_default().extend(actions);
    }

    pub(super) fn extend(&mut self, other: &Self) {
        for (path, actions) in &other.repositories {
            self.repositories.entry(path.clone()).or_default().extend(actions);
        }
        self.others.extend(other.others.iter().cloned());
    }

    /// Adds what a challenge's `scope` names, several of them separated by spaces.
    pub(super) fn extend_from_challenge(&mut self, scope: &str) {
        for scope in scope.split_ascii_whitespace() {
            let known = scope.strip_prefix("repository:").and_then(|rest| {
                let (path, actions) = rest.rsplit_once(':')?;
                let actions: Option<Vec<_>> = actions.split(',').map(Action::named).collect();
                Some((path, actions?))
            });
            match known {
                Some((path, actions)) => self.add(path, &actions),
                None => drop(self.others.insert(scope.to_owned())),
            }
        }
    }

    /// Whether a token for these scopes is good for `needed`.
    pub(super) fn cover(&self, needed: &Self) -> bool {
        let repositories = &self.repositories;
        needed.repositories.iter().all(|(path, actions)| {
            repositories.get(path).is_some_and(|allowed| actions.is_subset(allowed))
        }) && needed.others.is_subset(&self.others)
    }

    pub(super) fn len(&self) -> usize {
        self.repositories.len() + self.others.len()
    }

    /// The scopes as a token service reads them.
    pub(super) fn texts(&self) -> impl Iterator<Item = String> {
        let repositories = self.repositories.iter().map(|(path, actions)| {
            let actions: Vec<_> = actions.iter().map(|action| action.name()).collect();
            format!("repository:{path}:{}", actions.join(","))
        });
        repositories.chain(self.others.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reqwest::header::HeaderValue;

    use super::*;

    fn parsed(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        Challenge::from_headers(&headers)
    }

    #[test]
    fn challenges_of_real_registries_are_understood() {
        let acr = r#"Bearer realm="https://dockerauth.cn-hangzhou.aliyuncs.com/auth",service="registry.aliyuncs.com:cn-hangzhou:26842""#;
        assert_eq!(
            parsed(&[acr]),
            Some(Challenge::Bearer {
                realm: "https://dockerauth.cn-hangzhou.aliyuncs.com/auth".into(),
                service: Some("registry.aliyuncs.com:cn-hangzhou:26842".into()),
                scope: None,
            })
        );
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error="insufficient_scope""#;
        let Some(Challenge::Bearer { scope, .. }) = parsed(&[hub]) else { panic!("no bearer") };
        assert_eq!(scope.as_deref(), Some("repository:a/b:pull,push"));
        assert_eq!(parsed(&[r#"Basic realm="Registry Realm""#]), Some(Challenge::Basic));
        assert_eq!(parsed(&["basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn a_token_is_preferred_and_the_strange_is_ignored() {
        let both =
            r#"Negotiate, Basic realm="a \"b\", c", bearer REALM = "https://t/" , service=s"#;
        let Some(Challenge::Bearer { realm, service, .. }) = parsed(&[both]) else {
            panic!("no bearer")
        };
        assert_eq!((realm.as_str(), service.as_deref()), ("https://t/", Some("s")));
        assert!(matches!(
            parsed(&["Basic", r#"Bearer realm="x""#]),
            Some(Challenge::Bearer { .. })
        ));
        for strange in
            ["", ",", "=", "Bearer", "Bearer service=x", "Digest a=b", "\"", "Bearer realm"]
        {
            assert_eq!(parsed(&[strange]), None, "{strange}");
        }
    }

    #[test]
    fn scopes_join_and_cover() {
        let mut scopes = Scopes::of("a", &[Action::Pull, Action::Push]);
        scopes.extend(&Scopes::of("b/c", &[Action::Pull]));
        scopes.extend_from_challenge("repository:b/c:delete registry:catalog:* repository:x:*");
        let texts: Vec<_> = scopes.texts().collect();
        assert_eq!(
            texts,
            [
                "repository:a:pull,push",
                "repository:b/c:pull,delete",
                "registry:catalog:*",
                "repository:x:*"
            ]
        );
        assert!(scopes.cover(&Scopes::of("a", &[Action::Pull])));
        assert!(!scopes.cover(&Scopes::of("a", &[Action::Delete])));
        assert!(!scopes.cover(&Scopes::of("b", &[Action::Pull])));
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[ -~]{0,60}") {
            let _ = parsed(&[&text]);
        }
    }
}
