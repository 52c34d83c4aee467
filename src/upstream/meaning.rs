//! Whom an error of Atlas speaks of: a status and an error code go in, a [`Meaning`] comes out. Pure, and
//! the one place where that is decided.
//!
//! Codes are known by what they name, not one by one: Atlas has more of them than its documents list, and
//! new ones come. Where nothing in an answer says that the user or the project is meant, the trouble is
//! ours or Atlas's, and an old list is better than none.

use http::StatusCode;

/// Whom an error of Atlas speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Of this user or project, which our account may not see, or which can have no such list.
    Closed,
    /// Of this user or project, which does not exist.
    Gone,
    /// Of Atlas, or of something before it.
    Ill,
    /// Of the rate limit.
    Limited,
    /// Of our credential, address, bill, request or version.
    Ours,
}

/// What `status` with the code of Atlas's error document means. Not for a 401 whose token may be at
/// fault; see [`names_access`].
pub(crate) fn of(status: StatusCode, code: &str) -> Meaning {
    if status == StatusCode::TOO_MANY_REQUESTS || code.starts_with("RATE_LIMITED") {
        return Meaning::Limited;
    }
    if status.is_server_error() || matches!(status.as_u16(), 408 | 425) {
        return Meaning::Ill;
    }
    match status.as_u16() {
        // `RESOURCE_NOT_FOUND` speaks of our path, not of what was asked.
        404 if code == "RESOURCE_NOT_FOUND" => Meaning::Ours,
        404 => Meaning::Gone,
        400 | 401 | 403 | 409 | 422 if names_what_was_asked(code) => Meaning::Closed,
        _ => Meaning::Ours,
    }
}

/// Whether a code names the user or the project that was asked about, or our rights there.
fn names_what_was_asked(code: &str) -> bool {
    let names = |words: &[&str]| code.split('_').any(|word| words.contains(&word));
    // `NO_CURRENT_USER` is our own account's.
    names(&["GROUP", "PROJECT", "USER", "USERNAME", "X509"])
        && !names_address(code)
        && code != "NO_CURRENT_USER"
}

/// Whether a 401 with this code says that our account lacks a right. Atlas says so of some dead tokens too.
pub(crate) fn names_access(code: &str) -> bool {
    names_what_was_asked(code)
}

/// Whether a code says that our credential may not be used from our address.
pub(crate) fn names_address(code: &str) -> bool {
    let is_of_a_list = code.contains("ACCESS_LIST") || code.contains("WHITELIST");
    is_of_a_list || code.split('_').any(|word| ["IP", "SUBNET"].contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_table() {
        for (status, code, expected) in [
            // What Atlas documents, or was seen to answer.
            (400, "ATLAS_MANAGED_X509_NAME_INVALID", Meaning::Closed),
            (400, "INVALID_PATH_PARAMETER", Meaning::Ours),
            (400, "INVALID_QUERY_PARAMETER", Meaning::Ours),
            (400, "RATE_LIMITED_IP", Meaning::Limited),
            (400, "USER_NOT_MANAGED_X509", Meaning::Closed),
            (400, "VALIDATION_ERROR", Meaning::Ours),
            (401, "", Meaning::Ours),
            (401, "NOT_IN_GROUP", Meaning::Closed),
            (401, "NO_CURRENT_USER", Meaning::Ours),
            (401, "UNAUTHORIZED", Meaning::Ours),
            (401, "UNEXPECTED_ERROR", Meaning::Ours),
            (401, "USER_CANNOT_ACCESS_GROUP", Meaning::Closed),
            (401, "USER_CANNOT_ACCESS_ORG", Meaning::Closed),
            (401, "USER_UNAUTHORIZED", Meaning::Closed),
            (402, "ACCOUNT_SUSPENDED", Meaning::Ours),
            (402, "NO_PAYMENT_INFORMATION_FOUND", Meaning::Ours),
            (403, "ACCESS_FORBIDDEN", Meaning::Ours),
            (403, "GLOBAL_USER_OUTSIDE_SUBNET", Meaning::Ours),
            (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST", Meaning::Ours),
            (403, "ORG_REQUIRES_ACCESS_LIST", Meaning::Ours),
            (403, "RESOURCE_REQUIRES_ACCESS_LIST", Meaning::Ours),
            (403, "USER_CANNOT_ACCESS_GROUP", Meaning::Closed),
            (404, "CERTIFICATE_DOES_NOT_EXIST", Meaning::Gone),
            (404, "GROUP_NOT_FOUND", Meaning::Gone),
            (404, "INVALID_GROUP_ID", Meaning::Gone),
            (404, "NOT_ATLAS_GROUP", Meaning::Gone),
            (404, "RESOURCE_NOT_FOUND", Meaning::Ours),
            (404, "USERNAME_NOT_FOUND", Meaning::Gone),
            (404, "USER_NOT_FOUND", Meaning::Gone),
            (406, "INVALID_VERSION_DATE", Meaning::Ours),
            (408, "", Meaning::Ill),
            (410, "VERSION_GONE", Meaning::Ours),
            (425, "", Meaning::Ill),
            (429, "RATE_LIMITED", Meaning::Limited),
            (429, "RATE_LIMITED_TOKEN_BUCKET", Meaning::Limited),
            (500, "TIMEOUT_WHILE_PAGING", Meaning::Ill),
            (500, "UNEXPECTED_ERROR", Meaning::Ill),
            (503, "SERVICE_UNAVAILABLE", Meaning::Ill),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(of(status, code), expected, "{status} {code}");
        }
    }

    #[test]
    fn a_code_that_nobody_has_seen_is_judged_by_its_status() {
        for status in 400..=599 {
            let expected = match status {
                404 => Meaning::Gone,
                408 | 425 | 500..=599 => Meaning::Ill,
                429 => Meaning::Limited,
                _ => Meaning::Ours,
            };
            let status = StatusCode::from_u16(status).unwrap();
            for code in ["NEVER_SEEN", ""] {
                assert_eq!(of(status, code), expected, "{status} {code}");
            }
        }
    }
}
