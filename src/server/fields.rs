//! The fields of a request's head go in; those that mean something here come out.
//!
//! They are found in one pass. To look each of them up costs a hash and a search, and most of them are
//! not there.

use std::iter;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, header};

use super::response::REQUEST_ID;

/// The fields that a lookup goes by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'r> {
    /// `Accept`
    pub accept: Values<'r>,
    /// `Accept-Encoding`
    pub accept_encoding: Values<'r>,
    /// `Authorization`
    pub authorization: Values<'r>,
    /// `Cache-Control`
    pub cache_control: Values<'r>,
    /// `Host`
    pub host: Values<'r>,
    /// `If-None-Match`
    pub if_none_match: Values<'r>,
    /// `X-Request-Id`
    pub request_id: Values<'r>,
    /// `traceparent` (W3C Trace Context)
    pub traceparent: Values<'r>,
}

/// The values of one field, in their order.
#[derive(Clone, Copy, Debug, Default)]
pub struct Values<'r> {
    first: Option<&'r HeaderValue>,
    /// Where the others are, if there are any.
    others: Option<(&'r HeaderMap, &'r HeaderName)>,
}

impl<'r> Fields<'r> {
    /// Finds them.
    pub fn read(headers: &'r HeaderMap) -> Self {
        let mut fields = Self::default();
        for (name, value) in headers {
            if let Some(values) = fields.called(name) {
                match values.first {
                    None => values.first = Some(value),
                    Some(_) => values.others = Some((headers, name)),
                }
            }
        }
        fields
    }

    fn called(&mut self, name: &HeaderName) -> Option<&mut Values<'r>> {
        if *name == header::HOST {
            Some(&mut self.host)
        } else if *name == header::AUTHORIZATION {
            Some(&mut self.authorization)
        } else if *name == header::ACCEPT {
            Some(&mut self.accept)
        } else if *name == header::ACCEPT_ENCODING {
            Some(&mut self.accept_encoding)
        } else if *name == header::IF_NONE_MATCH {
            Some(&mut self.if_none_match)
        } else if *name == header::CACHE_CONTROL {
            Some(&mut self.cache_control)
        } else if *name == REQUEST_ID {
            Some(&mut self.request_id)
        } else if *name == TRACEPARENT {
            Some(&mut self.traceparent)
        } else {
            None
        }
    }
}

impl<'r> Values<'r> {
    /// The first of them.
    pub fn first(self) -> Option<&'r HeaderValue> {
        self.first
    }

    /// Whether there is more than one.
    pub fn is_repeated(self) -> bool {
        self.others.is_some()
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = &'r HeaderValue> {
        let others = self.others.into_iter();
        let others = others.flat_map(|(headers, name)| headers.get_all(name).iter().skip(1));
        iter::chain(self.first, others)
    }
}

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

#[cfg(test)]
mod tests {
    use super::*;

    fn all(values: Values<'_>) -> Vec<&str> {
        values.iter().map(|it| it.to_str().unwrap()).collect()
    }

    #[test]
    fn every_value_of_a_field_is_found_in_its_order_whatever_stands_between() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("accept", "one"),
            ("traceparent", "trace"),
            ("x-other", "other"),
            ("accept", "two"),
            ("x-request-id", "id"),
            ("accept", "three"),
            ("cache-control", "no-cache"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let fields = Fields::read(&headers);
        assert_eq!(all(fields.accept), ["one", "two", "three"]);
        assert_eq!(fields.accept.first().unwrap(), "one");
        assert!(fields.accept.is_repeated());
        for (values, value) in [
            (fields.traceparent, "trace"),
            (fields.request_id, "id"),
            (fields.cache_control, "no-cache"),
        ] {
            assert_eq!(all(values), [value]);
            assert!(!values.is_repeated());
        }
        for values in [fields.host, fields.authorization, fields.if_none_match] {
            assert!(all(values).is_empty());
        }
    }
}
