//! What to do about the failure of a credential, as a sentence for the operator.

use std::time::Duration;

use http::StatusCode;

use crate::upstream::{
    AtlasAnswer, Config, CredentialFailure, FetchErrorKind, HttpErrorKind, NoToken,
};

/// What an operator can do about a failure. Holds no secret.
pub(super) fn on(failure: &FetchErrorKind, atlas: &Config) -> String {
    match failure {
        FetchErrorKind::Atlas(answer) => on_answer(answer, atlas),
        FetchErrorKind::BreakerOpen { retry_after }
        | FetchErrorKind::HeldBack { retry_after, .. } => again(Some(*retry_after)),
        FetchErrorKind::Credential(why) => on_credential(*why, atlas),
        FetchErrorKind::Inconsistent => again(None),
        FetchErrorKind::InvalidResponse(_) => on_foreign_answer(atlas),
        FetchErrorKind::NoCredential => "Name the project in atlas.credentials.".to_owned(),
        FetchErrorKind::NoDocument { status, .. } => on_status(*status, atlas),
        FetchErrorKind::Timeout => on_lost(HttpErrorKind::Timeout, atlas),
        FetchErrorKind::Tls => on_lost(HttpErrorKind::Tls, atlas),
        FetchErrorKind::Unreachable => on_lost(HttpErrorKind::NoConnection, atlas),
    }
}

fn on_answer(answer: &AtlasAnswer, atlas: &Config) -> String {
    let code = answer.error_code.as_deref().unwrap_or("nothing more");
    let next = match answer.status {
        StatusCode::UNAUTHORIZED => "Check the credential's key, public and private.".to_owned(),
        StatusCode::FORBIDDEN => {
            "Give the credential the role Project Read Only in the project, and \
                                  put this host's address on its access list."
                .to_owned()
        }
        StatusCode::TOO_MANY_REQUESTS => again(answer.retry_after),
        status => on_status(status, atlas),
    };
    format!("It says {code}. {next}")
}

fn on_credential(why: CredentialFailure, atlas: &Config) -> String {
    match why {
        CredentialFailure::MintLimit => {
            "This was tried five times in the last minute, and Atlas takes ten: wait for a minute."
                .to_owned()
        }
        CredentialFailure::MintLimited(_) => "Atlas takes ten mints a minute and lets a hundred tokens \
                                              live: wait, and look for who else mints with this account."
            .to_owned(),
        CredentialFailure::Refused(StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED) => {
            "Check service_account.client_id and the secret: they are not of one account, or the \
             secret has expired or was deleted in Atlas."
                .to_owned()
        }
        CredentialFailure::Refused(status)
        | CredentialFailure::Unavailable(NoToken::Answered(status)) => on_status(status, atlas),
        CredentialFailure::Unavailable(NoToken::Unanswered(lost)) => on_lost(lost, atlas),
        CredentialFailure::Unavailable(NoToken::Unusable) => on_foreign_answer(atlas),
    }
}

fn on_status(status: StatusCode, atlas: &Config) -> String {
    if status.is_server_error() {
        format!(
            "{} has trouble: try again later, and look at Atlas's status page.",
            way(atlas)
        )
    } else {
        on_foreign_answer(atlas)
    }
}

fn on_lost(lost: HttpErrorKind, atlas: &Config) -> String {
    let way = way(atlas);
    match lost {
        HttpErrorKind::Encoded | HttpErrorKind::Malformed | HttpErrorKind::TooLarge => {
            on_foreign_answer(atlas)
        }
        HttpErrorKind::NoConnection | HttpErrorKind::Reset | HttpErrorKind::Torn => {
            format!("Check that this host can connect to {way}: its name, the route, the firewall.")
        }
        HttpErrorKind::Timeout => format!(
            "{way} was silent: check the route and the firewall, or raise atlas.limits.connect \
             and first_byte."
        ),
        HttpErrorKind::Tls => format!(
            "The certificate of {way} must be for that name and of a root in {}. If something on \
             the way intercepts TLS, put its root into atlas.ca_certificate.",
            atlas.trust().places()
        ),
    }
}

fn on_foreign_answer(atlas: &Config) -> String {
    format!(
        "That is no answer of Atlas's: check that {} is Atlas, and that nothing on the way answers in \
         its place.",
        way(atlas)
    )
}

fn again(after: Option<Duration>) -> String {
    match after {
        Some(after) => format!("Try again in {} s.", after.as_secs().max(1)),
        None => "Try again.".to_owned(),
    }
}

fn way(atlas: &Config) -> String {
    let through = if atlas.proxy.is_some() {
        " through atlas.proxy"
    } else {
        ""
    };
    format!("{}{through}", atlas.base_url)
}
