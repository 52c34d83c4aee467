//! Atlas's error document, `ApiError`.

use serde::Serialize;

/// The document that every refusal of this gateway carries, in the form of Atlas's own.
///
/// What Atlas itself answers is passed on as the bytes that arrived; it never becomes an `ApiError`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiError {
    /// One sentence: what was wrong and what to do. Never holds a secret or a token.
    pub detail: String,
    /// The HTTP status.
    pub error: u16,
    /// A code of Atlas's list, or one of ours in the same manner.
    #[serde(rename = "errorCode")]
    pub error_code: &'static str,
    /// What the sentence speaks of, in its order.
    pub parameters: Vec<Parameter>,
    /// The reason phrase of the status.
    pub reason: &'static str,
}

/// One of an error's parameters. Atlas mixes texts and numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Parameter {
    /// A number.
    Number(u64),
    /// A text.
    Text(String),
}

impl ApiError {
    /// The document as JSON.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_members_of_atlas_in_their_order() {
        let error = ApiError {
            detail: "No.".to_owned(),
            error: 404,
            error_code: "GROUP_NOT_FOUND",
            parameters: vec![Parameter::Text("x".to_owned()), Parameter::Number(1)],
            reason: "Not Found",
        };
        assert_eq!(
            String::from_utf8(error.to_json()).unwrap(),
            r#"{"detail":"No.","error":404,"errorCode":"GROUP_NOT_FOUND","parameters":["x",1],"reason":"Not Found"}"#
        );
    }
}
