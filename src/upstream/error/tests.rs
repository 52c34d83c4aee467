//! What failures mean for what is cached, by Atlas's codes.

use super::*;

fn of(status: StatusCode, code: &str) -> Verdict {
    let answer = AtlasAnswer {
        status,
        body: Bytes::new(),
        error_code: (!code.is_empty()).then(|| Arc::from(code)),
        retry_after: None,
    };
    answer.verdict()
}

#[test]
fn the_whole_table() {
    for (status, code, expected) in [
        // What Atlas documents, or was seen to answer.
        (400, "ATLAS_MANAGED_X509_NAME_INVALID", Verdict::Denial),
        (400, "INVALID_PATH_PARAMETER", Verdict::Outage),
        (400, "INVALID_QUERY_PARAMETER", Verdict::Outage),
        (400, "RATE_LIMITED_IP", Verdict::Outage),
        (400, "USER_NOT_MANAGED_X509", Verdict::Denial),
        (400, "VALIDATION_ERROR", Verdict::Outage),
        (401, "", Verdict::Outage),
        (401, "NOT_IN_GROUP", Verdict::Denial),
        (401, "NO_CURRENT_USER", Verdict::Outage),
        (401, "UNAUTHORIZED", Verdict::Outage),
        (401, "UNEXPECTED_ERROR", Verdict::Outage),
        (401, "USER_CANNOT_ACCESS_GROUP", Verdict::Denial),
        (401, "USER_CANNOT_ACCESS_ORG", Verdict::Denial),
        (401, "USER_UNAUTHORIZED", Verdict::Denial),
        (402, "ACCOUNT_SUSPENDED", Verdict::Outage),
        (402, "NO_PAYMENT_INFORMATION_FOUND", Verdict::Outage),
        (403, "ACCESS_FORBIDDEN", Verdict::Outage),
        (403, "GLOBAL_USER_OUTSIDE_SUBNET", Verdict::Outage),
        (403, "IP_ADDRESS_NOT_ON_ACCESS_LIST", Verdict::Outage),
        (403, "ORG_REQUIRES_ACCESS_LIST", Verdict::Outage),
        (403, "RESOURCE_REQUIRES_ACCESS_LIST", Verdict::Outage),
        (403, "USER_CANNOT_ACCESS_GROUP", Verdict::Denial),
        (404, "CERTIFICATE_DOES_NOT_EXIST", Verdict::Missing),
        (404, "GROUP_NOT_FOUND", Verdict::Missing),
        (404, "INVALID_GROUP_ID", Verdict::Missing),
        (404, "NOT_ATLAS_GROUP", Verdict::Missing),
        (404, "RESOURCE_NOT_FOUND", Verdict::Outage),
        (404, "USERNAME_NOT_FOUND", Verdict::Missing),
        (404, "USER_NOT_FOUND", Verdict::Missing),
        (406, "INVALID_VERSION_DATE", Verdict::Outage),
        (408, "", Verdict::Outage),
        (410, "VERSION_GONE", Verdict::Outage),
        (425, "", Verdict::Outage),
        (429, "RATE_LIMITED", Verdict::Outage),
        (429, "RATE_LIMITED_TOKEN_BUCKET", Verdict::Outage),
        (500, "TIMEOUT_WHILE_PAGING", Verdict::Outage),
        (500, "UNEXPECTED_ERROR", Verdict::Outage),
        (503, "SERVICE_UNAVAILABLE", Verdict::Outage),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(of(status, code), expected, "{status} {code}");
    }
}

#[test]
fn an_unknown_code_is_judged_by_its_status() {
    for status in 400..=599 {
        let expected = match status {
            404 => Verdict::Missing,
            _ => Verdict::Outage,
        };
        let status = StatusCode::from_u16(status).unwrap();
        for code in ["NEVER_SEEN", ""] {
            assert_eq!(of(status, code), expected, "{status} {code}");
        }
    }
}
