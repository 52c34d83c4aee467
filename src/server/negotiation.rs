//! Content negotiation (RFC 9110, section 12.5): the media type and the compression of an answer.

use http::HeaderValue;
use http::header::GetAll;

use super::api_version::ApiVersion;
use crate::cache::Encoding;

/// The media type of a successful answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// `application/json`
    Json,
    /// `application/vnd.atlas.2023-01-01+json`, the one version that this resource has.
    Versioned,
}

/// The compressions that a caller takes, with its preference from 0 (refused) to 1,000.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Encodings {
    /// `br`
    pub(crate) brotli: u16,
    /// `gzip`
    pub(crate) gzip: u16,
    /// `zstd`
    pub(crate) zstd: u16,
}

/// The media type to answer with; `None` if the caller takes none that this resource has.
pub(crate) fn accepted_media_type(
    accept: &GetAll<'_, HeaderValue>,
    version: ApiVersion,
) -> Option<MediaType> {
    let mut accepted = None;
    let mut items = accept
        .iter()
        .flat_map(|value| value.to_str().unwrap_or(UNREADABLE).split(','))
        .filter(|item| !item.trim().is_empty())
        .peekable();
    // A caller that names nothing takes everything.
    if items.peek().is_none() {
        return Some(MediaType::Json);
    }
    for item in items {
        let (range, quality) = item_and_quality(item);
        // Java up to 18 writes `*; q=.2`: a `q` that is none says nothing of its range, and so no refusal.
        if quality == Some(0) {
            continue;
        }
        if is_versioned(range) {
            return Some(match version {
                ApiVersion::V1 => MediaType::Json,
                ApiVersion::V2 => MediaType::Versioned,
            });
        }
        if ["application/json", "application/*", "*/*", "*"]
            .iter()
            .any(|known| range.eq_ignore_ascii_case(known))
        {
            accepted = Some(MediaType::Json);
        }
    }
    accepted
}

/// The first of `known` that the caller prefers to none of the others; the first of all where it takes
/// everything. `None` if it takes none of them.
pub(super) fn accepted_of<T: Copy>(
    accept: &GetAll<'_, HeaderValue>,
    known: &[(&str, T)],
) -> Option<T> {
    let items = accept
        .iter()
        .flat_map(|value| value.to_str().unwrap_or(UNREADABLE).split(','))
        .filter(|item| !item.trim().is_empty());
    let items: Vec<(&str, u16)> = items
        .map(item_and_quality)
        .map(|(range, quality)| (range, quality.unwrap_or(1_000)))
        .collect();
    let quality = |media_type: &str| {
        let (main, _) = media_type.split_once('/')?;
        // The most specific range counts (RFC 9110, section 12.5.1).
        let of = |wanted: &str| {
            let found = items
                .iter()
                .find(|(range, _)| range.eq_ignore_ascii_case(wanted));
            found.map(|(_, quality)| *quality)
        };
        let own = of(media_type).or_else(|| of(&format!("{main}/*")));
        own.or_else(|| of("*/*")).or_else(|| of("*"))
    };
    if items.is_empty() {
        return known.first().map(|(_, value)| *value);
    }
    let wanted = known
        .iter()
        .filter_map(|(name, value)| Some((quality(name)?, *value)))
        .filter(|(quality, _)| *quality > 0);
    let best = wanted.clone().map(|(quality, _)| quality).max()?;
    wanted
        .clone()
        .find(|(quality, _)| *quality == best)
        .map(|(_, value)| value)
}

impl MediaType {
    /// As it stands in `Content-Type`.
    pub(crate) fn header_value(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/json",
            Self::Versioned => "application/vnd.atlas.2023-01-01+json;charset=utf-8",
        })
    }
}

impl Encodings {
    /// Reads `Accept-Encoding`. A malformed header asks for nothing.
    pub fn read(accept_encoding: GetAll<'_, HeaderValue>) -> Self {
        let mut encodings = Self::default();
        let (mut gzip, mut any_other) = (None, None);
        for value in accept_encoding {
            let Ok(text) = value.to_str() else {
                return Self::default();
            };
            for item in text.split(',').filter(|item| !item.trim().is_empty()) {
                let (coding, Some(quality)) = item_and_quality(item) else {
                    return Self::default();
                };
                if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                    gzip = Some(quality);
                } else if coding.eq_ignore_ascii_case("br") {
                    encodings.brotli = quality;
                } else if coding.eq_ignore_ascii_case("zstd") {
                    encodings.zstd = quality;
                } else if coding == "*" {
                    any_other = Some(quality);
                }
            }
        }
        // A bare `*` says that the caller does not care; it does not say that it can decode all.
        encodings.gzip = gzip.or(any_other).unwrap_or(0);
        encodings
    }

    /// The one that is preferred; of those that are equally welcome, the cheapest to make and to undo.
    pub(crate) fn preferred(self) -> Option<Encoding> {
        if self == Self::default() {
            // Most callers take none.
            return None;
        }
        let wanted = [
            (self.brotli, Encoding::Brotli),
            (self.gzip, Encoding::Gzip),
            (self.zstd, Encoding::Zstd),
        ];
        let wanted = wanted.into_iter().filter(|(quality, _)| *quality > 0);
        // The last of those that are equal.
        let (_, preferred) = wanted.max_by_key(|(quality, _)| *quality)?;
        Some(preferred)
    }
}

fn is_versioned(range: &str) -> bool {
    let range = range.to_ascii_lowercase();
    let date = range.strip_prefix("application/vnd.atlas.");
    let Some(date) = date.and_then(|rest| rest.strip_suffix("+json")) else {
        return false;
    };
    let is_in_place = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    date.len() == "2023-01-01".len() && date.bytes().enumerate().all(is_in_place)
}

/// The item without its parameters, and its `q` in thousandths; `None` for a `q` that is none.
fn item_and_quality(item: &str) -> (&str, Option<u16>) {
    let mut parts = item.split(';').map(str::trim);
    let range = parts.next().expect("a split has a first part");
    let quality = parts
        .find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim()
                .eq_ignore_ascii_case("q")
                .then(|| thousandths(value.trim()))
        })
        .unwrap_or(Some(1_000));
    (range, quality)
}

/// RFC 9110, section 12.4.2: at most three decimals, between 0 and 1.
fn thousandths(quality: &str) -> Option<u16> {
    let (whole, decimals) = quality.split_once('.').unwrap_or((quality, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    match whole {
        "0" => Some(decimals),
        "1" if decimals == 0 => Some(1_000),
        _ => None,
    }
}

/// No media range.
const UNREADABLE: &str = "?";

#[cfg(test)]
mod tests {
    use http::{HeaderMap, header};

    use super::*;

    fn headers(name: &header::HeaderName, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.clone(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn every_accept_of_the_worlds_clients_is_answered_and_foreign_types_are_not() {
        use ApiVersion::{V1, V2};
        use MediaType::{Json, Versioned};
        for (accept, version, expected) in [
            (&[][..], V2, Some(Json)),
            (&["*/*"], V2, Some(Json)),
            (&["application/json"], V2, Some(Json)),
            (
                &["application/vnd.atlas.2023-01-01+json"],
                V2,
                Some(Versioned),
            ),
            (
                &["application/vnd.atlas.2099-01-01+json"],
                V2,
                Some(Versioned),
            ),
            (
                &["text/html, application/vnd.atlas.2023-01-01+json;q=0.1"],
                V2,
                Some(Versioned),
            ),
            (&["text/html", "application/*"], V2, Some(Json)),
            (&["application/vnd.atlas.2023-01-01+json"], V1, Some(Json)),
            (&["text/html"], V2, None),
            (&["application/vnd.atlas.preview+json"], V2, None),
            (&["application/json;q=0"], V2, None),
            (&[""], V2, Some(Json)),
            (&["*"], V2, Some(Json)),
            (
                &["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"],
                V2,
                Some(Json),
            ),
            (&["application/json;q=high"], V2, Some(Json)),
            (&["application/json; q=1,0"], V2, Some(Json)),
            (&["application/json;q=0.000"], V2, None),
            (&["text/html;q=.2"], V2, None),
        ] {
            let headers = headers(&header::ACCEPT, accept);
            assert_eq!(
                accepted_media_type(&headers.get_all(header::ACCEPT), version),
                expected,
                "{accept:?}"
            );
        }
    }

    #[test]
    fn compressions_are_taken_as_the_caller_prefers_and_a_malformed_header_asks_for_none() {
        for (accept, brotli, gzip, zstd) in [
            (&["gzip, br, zstd"][..], 1_000, 1_000, 1_000),
            (&["gzip;q=0.5", "zstd;q=0.25"], 0, 500, 250),
            (&["*"], 0, 1_000, 0),
            (&["gzip;q=0"], 0, 0, 0),
            (&["gzip;q=0, *"], 0, 0, 0),
            (&["*;q=0"], 0, 0, 0),
            (&["deflate, gzip;q=1.0, *;q=0.5"], 0, 1_000, 0),
            (&["gzip;q=.5"], 0, 0, 0),
            (&[""], 0, 0, 0),
            (&["identity"], 0, 0, 0),
            (&["gzip, br;q=bad"], 0, 0, 0),
            (&["gzip;q=1.5"], 0, 0, 0),
            (&[], 0, 0, 0),
        ] {
            let headers = headers(&header::ACCEPT_ENCODING, accept);
            assert_eq!(
                Encodings::read(headers.get_all(header::ACCEPT_ENCODING)),
                Encodings { brotli, gzip, zstd },
                "{accept:?}"
            );
        }
    }
}
