//! The credentials file of the vendor's libraries: `~/.alibabacloud/credentials`.
//!
//! Sections and fields: `aliyun/credentials-go: credentials/providers/profile.go`.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Assume, Identity, Problem, StsPlace};
use crate::openapi::AccessKey;
use crate::openapi::sts::Role;
use crate::secret::Secret;

/// The fields of one section.
pub(super) type Section = BTreeMap<String, Secret>;

/// Reads a section of the file; `None` if there is no file or no such section.
pub(super) fn read(path: &Path, name: &str) -> Result<Option<Section>, Problem> {
    Ok(super::read_if_there(path)?.and_then(|text| section(&text, name)))
}

/// A section of an ini text. A line that is neither a section nor a field is passed over, as the
/// vendor's libraries do.
fn section(text: &str, name: &str) -> Option<Section> {
    let mut found: Option<Section> = None;
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            inside = title.trim() == name;
            if inside {
                found.get_or_insert_default();
            }
        } else if let (true, Some((key, value))) = (inside, line.split_once('=')) {
            let value = value.trim().trim_matches('"').to_owned();
            found.get_or_insert_default().insert(key.trim().to_owned(), Secret::new(value));
        }
    }
    found
}

/// The identity that a section describes.
pub(super) fn identity(section: &Section, sts: &StsPlace) -> Result<Identity, Problem> {
    let optional = |field: &str| {
        section.get(field).map(Secret::expose).filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let required = |field: &'static str| optional(field).ok_or(Problem::Field(field));
    let key = || {
        Ok(Identity::AccessKey(AccessKey {
            id: required("access_key_id")?,
            secret: Secret::new(required("access_key_secret")?),
            security_token: None,
            expires_at: None,
        }))
    };
    match required("type")?.as_str() {
        "access_key" => key(),
        "ecs_ram_role" => Ok(Identity::Instance { role: optional("role_name"), asked: true }),
        "ram_role_arn" => Ok(key()?.taking(Assume {
            role: Role {
                arn: required("role_arn")?,
                session_name: optional("role_session_name")
                    .unwrap_or_else(|| Role::SESSION_NAME.to_owned()),
                duration: Role::DURATION,
                policy: optional("policy"),
                external_id: None,
            },
            sts: sts.clone(),
        })),
        other => Err(Problem::Mode(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
# a comment
[default]
type = access_key
access_key_id = foo
access_key_secret = \"bar=\"

[instance]
type=ecs_ram_role
role_name = r
[role]
type = ram_role_arn
access_key_id = foo
access_key_secret = bar
role_arn = arn
[no type]
access_key_id = foo
[strange]
type = rsa_key_pair
";

    fn of(name: &str) -> Option<Result<Identity, String>> {
        let section = section(FILE, name)?;
        Some(identity(&section, &StsPlace::default()).map_err(|problem| problem.to_string()))
    }

    #[test]
    fn the_three_types_are_read() {
        let Some(Ok(Identity::AccessKey(key))) = of("default") else { panic!("no key") };
        assert_eq!((&*key.id, key.secret.expose()), ("foo", "bar="));
        let role = Some("r".to_owned());
        assert_eq!(of("instance"), Some(Ok(Identity::Instance { role, asked: true })));
        let Some(Ok(Identity::Role { assume, .. })) = of("role") else { panic!("no role") };
        assert_eq!(assume.role.arn, "arn");
        assert_eq!(assume.role.session_name, Role::SESSION_NAME);
    }

    #[test]
    fn a_broken_section_says_what_it_lacks_and_a_missing_one_is_none() {
        assert_eq!(of("gone"), None);
        let error = |name| of(name).and_then(Result::err).unwrap_or_default();
        assert!(error("no type").contains("`type`"), "{}", error("no type"));
        assert!(error("strange").contains("rsa_key_pair"), "{}", error("strange"));
    }
}
