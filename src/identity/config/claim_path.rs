//! Where a claim stands in a token, as the configuration writes it: `realm_access.roles`.

use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `identity.issuers[].claims`: where things stand in the issuer's tokens.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimPlaces {
    pub(crate) subject: ClaimPath,
    /// By which client: the first of these that holds a text. A token without any is not refused.
    pub(crate) client_id: Vec<ClaimPath>,
    /// What the token is good for: all of these together, each a text with blanks between the names, or a
    /// list of names.
    pub(crate) scopes: Vec<ClaimPath>,
    /// Whom it is meant for: a text or a list of texts.
    pub(crate) audience: ClaimPath,
}

/// The place of a claim.
///
/// Dots separate the members that lie in one another. A name with dots of its own is written in quotation
/// marks, `"kubernetes.io".namespace`; a name that is a URI needs none, `https://example.com/roles`. With
/// `.*` at its end it stands for the names of an object's members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimPath {
    text: Box<str>,
    steps: Box<[Box<str>]>,
    of_names: bool,
}

/// Not the place of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the place of a claim is written `name` or `outer.inner`, a name with dots of its own in quotation \
     marks: '\"kubernetes.io\".namespace'"
)]
pub struct NoClaimPath;

impl ClaimPath {
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The names of the members, from the outside in; there is at least one.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| &**step)
    }

    pub(crate) fn is_of_names(&self) -> bool {
        self.of_names
    }

    fn plain(name: &str) -> Self {
        Self {
            text: Box::from(name),
            steps: Box::new([Box::from(name)]),
            of_names: false,
        }
    }
}

impl Default for ClaimPlaces {
    fn default() -> Self {
        let all = |names: &[&str]| names.iter().map(|name| ClaimPath::plain(name)).collect();
        Self {
            subject: ClaimPath::plain("sub"),
            // RFC 9068, OpenID Connect, Okta, and the older tokens of Entra.
            client_id: all(&["client_id", "azp", "cid", "appid"]),
            // RFC 8693, Okta and Entra.
            scopes: all(&["scope", "scp", "roles"]),
            audience: ClaimPath::plain("aud"),
        }
    }
}

impl FromStr for ClaimPath {
    type Err = NoClaimPath;

    fn from_str(text: &str) -> Result<Self, NoClaimPath> {
        let (place, of_names) = match text.strip_suffix(".*") {
            Some(place) => (place, true),
            None => (text, false),
        };
        let steps = if place.contains(':') && !place.contains(['"', '\'']) {
            vec![Box::from(place)]
        } else {
            steps(place)?
        };
        let is_name = |step: &str| !step.is_empty() && !step.chars().any(char::is_control);
        if text.len() > LONGEST || !steps.iter().all(|step| is_name(step)) {
            return Err(NoClaimPath);
        }
        Ok(Self {
            text: Box::from(text),
            steps: steps.into_boxed_slice(),
            of_names,
        })
    }
}

fn steps(place: &str) -> Result<Vec<Box<str>>, NoClaimPath> {
    let (mut steps, mut step, mut rest) = (Vec::new(), String::new(), place.chars());
    while let Some(sign) = rest.next() {
        match sign {
            '"' | '\'' => {
                let (inside, behind) = rest.as_str().split_once(sign).ok_or(NoClaimPath)?;
                if !step.is_empty()
                    || inside.is_empty()
                    || !(behind.is_empty() || behind.starts_with('.'))
                {
                    return Err(NoClaimPath);
                }
                step.push_str(inside);
                rest = behind.chars();
            }
            '.' => steps.push(std::mem::take(&mut step).into_boxed_str()),
            sign => step.push(sign),
        }
    }
    steps.push(step.into_boxed_str());
    Ok(steps)
}

impl<'de> Deserialize<'de> for ClaimPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer).map_err(|_| D::Error::custom(NoClaimPath))?;
        text.parse().map_err(D::Error::custom)
    }
}

impl Serialize for ClaimPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

const LONGEST: usize = 120;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_separate_steps_unless_they_are_quoted_or_in_a_uri() {
        for (text, steps, of_names) in [
            ("sub", &["sub"][..], false),
            ("realm_access.roles", &["realm_access", "roles"], false),
            (
                "\"kubernetes.io\".namespace",
                &["kubernetes.io", "namespace"],
                false,
            ),
            ("a.'b.c'", &["a", "b.c"], false),
            (
                "https://example.com/roles",
                &["https://example.com/roles"],
                false,
            ),
            (
                "'https://example.com/a'.b",
                &["https://example.com/a", "b"],
                false,
            ),
            (
                "urn:zitadel:iam:org:project:roles.*",
                &["urn:zitadel:iam:org:project:roles"],
                true,
            ),
            ("'a.*'", &["a.*"], false),
            ("a b", &["a b"], false),
        ] {
            let path: ClaimPath = text.parse().unwrap();
            assert!(path.steps().eq(steps.iter().copied()), "{text}: {path:?}");
            assert_eq!(path.is_of_names(), of_names, "{text}");
            assert_eq!(path.as_str(), text);
        }
        let long = "a".repeat(121);
        for text in [
            "", ".", ".*", "a.", ".a", "a..b", "\"a", "\"a\"b", "a\"b\"", "\"\"", "a\nb", &long,
        ] {
            assert_eq!(text.parse::<ClaimPath>(), Err(NoClaimPath), "{text}");
        }
    }
}
