//! What a claim must be, as `required_claims` writes it: a value, or a list of those that will do.

use serde::{Deserialize, Serialize};

use crate::identity::json::Value;

/// What a claim must be.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "what a claim must be is a text, a whole number, true or false, or a list of such values"
)]
pub enum Demand {
    /// This value.
    One(Scalar),
    /// One of these.
    OneOf(Vec<Scalar>),
}

/// A value without parts. It is compared with its type: `"1"` is not `1`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(
    untagged,
    expecting = "what a claim must be is a text, a whole number, true or false, or a list of such values"
)]
pub enum Scalar {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A text.
    Text(String),
}

impl Demand {
    /// Whether a claim is that; of a list one item is enough.
    pub(in crate::identity) fn is_met_by(&self, value: &Value<'_>) -> bool {
        match value {
            Value::List(items) => items.iter().any(|item| self.names(item)),
            Value::Flag(_)
            | Value::Integer(_)
            | Value::Null
            | Value::Object(_)
            | Value::Real(_)
            | Value::Text(_) => self.names(value),
        }
    }

    /// Whether no claim can be that.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::OneOf(values) if values.is_empty())
    }

    fn names(&self, value: &Value<'_>) -> bool {
        match self {
            Self::One(wanted) => wanted.is(value),
            Self::OneOf(wanted) => wanted.iter().any(|wanted| wanted.is(value)),
        }
    }
}

impl Scalar {
    fn is(&self, value: &Value<'_>) -> bool {
        match (self, value) {
            (Self::Flag(wanted), Value::Flag(flag)) => wanted == flag,
            (Self::Integer(wanted), Value::Integer(number)) => i128::from(*wanted) == *number,
            (Self::Text(wanted), Value::Text(text)) => *wanted == **text,
            (Self::Flag(_) | Self::Integer(_) | Self::Text(_), _) => false,
        }
    }
}
