//! `GET /gateway/v1/groups/{groupId}/expirations`: what expires soon of the users that a caller may look up.
//!
//! In a namespace of the gateway's own, because Atlas has no such resource; on the public listener, because that
//! is where the teams are whose certificates they are.

mod calendar;
mod csv;
mod json;

use bytes::Bytes;
use http::header::GetAll;
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, header};

use super::body::payload::ResponseBody;
use super::negotiation::accepted_of;
use super::public_url::PublicUrl;
use super::query::{InvalidQuery, PageQuery, parameters, set, whole};
use super::request::{Addressed, BadRequest, BearerCredentials, Received};
use super::response::{self, RenderedReply};
use super::unsent_budget::UnsentAccount;
use crate::atlas::ProjectId;
use crate::audit::{InventoryQuery, RequestId};
use crate::gateway::{ExpirationsRequest, FoundExpirations, OVERLOAD_PAUSE, Refusal};
use crate::insight::{Which, WithinDays};

/// A well-formed question about what expires, still to be authenticated.
#[derive(Debug)]
pub(super) struct AskedExpirations<'r> {
    project: ProjectId,
    within: WithinDays,
    /// As it stands in the answer: `30d`.
    within_text: String,
    which: Which,
    scope: Scope,
    format: Format,
    page: Option<PageQuery>,
    /// Where its links point, without a query.
    url: String,
    validators: GetAll<'r, HeaderValue>,
    credentials: BearerCredentials<'r>,
    pub(super) host: &'r str,
    pub(super) is_absolute: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Calendar,
    Csv,
    Json,
}

/// Of whom something is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    /// Every user that Atlas has listed.
    All,
    /// Those of whom something is known.
    #[default]
    Known,
}

/// The segment of the project, if a path asks what expires.
pub(super) fn project_segment(path: &str) -> Option<&str> {
    let project = path.strip_prefix(ROOT)?.strip_suffix(RESOURCE)?;
    (!project.is_empty() && !project.contains('/')).then_some(project)
}

impl<'r> AskedExpirations<'r> {
    /// Reads the head of a request for this project.
    pub(super) fn read(
        parts: &'r Parts,
        project: &str,
        received: Received<'r>,
        has_body: bool,
    ) -> Result<Self, BadRequest> {
        let addressed = Addressed::read(parts)?;
        let host = received.host.unwrap_or_else(|| addressed.host());
        if parts.method != Method::GET && parts.method != Method::HEAD {
            return Err(BadRequest::Method);
        }
        if has_body {
            return Err(BadRequest::Body);
        }
        let project = ProjectId::from_path_segment(project)
            .map_err(|_| BadRequest::ProjectId(project.to_owned()))?;
        let query = parts.uri.query().unwrap_or("");
        let asked = Parameters::read(query).map_err(BadRequest::Query)?;
        let accepted = || accepted_of(&parts.headers.get_all(header::ACCEPT), &Format::MEDIA_TYPES);
        let format = match asked.format {
            Some(format) => format,
            None => accepted().ok_or(BadRequest::NotAcceptable)?,
        };
        let path = format!("{ROOT}{}{RESOURCE}", project.as_str());
        let within = asked.within.unwrap_or(WithinDays(USUAL_DAYS));
        Ok(Self {
            project,
            within,
            within_text: format!("{}d", within.0),
            which: asked.which.unwrap_or(Which::Last),
            scope: asked.scope.unwrap_or_default(),
            format,
            page: asked.page,
            url: match received.public_url {
                Some(url) => PublicUrl::of_path(url, &path),
                None => format!("{}://{host}{path}", received.scheme),
            },
            validators: parts.headers.get_all(header::IF_NONE_MATCH),
            credentials: addressed.credentials(&parts.headers, asked.token_in_query)?,
            host,
            is_absolute: addressed.is_absolute() && received.host.is_none(),
        })
    }
}

impl AskedExpirations<'_> {
    pub(super) fn request(&self) -> ExpirationsRequest<'_> {
        let (number, size) = self.page();
        let before = usize::try_from(number - 1).unwrap_or(usize::MAX);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        ExpirationsRequest {
            token: match self.credentials {
                BearerCredentials::Bearer(token) => Some(token),
                BearerCredentials::None => None,
            },
            query: InventoryQuery {
                project: self.project,
                within: &self.within_text,
                which: which_word(self.which),
                scope: self.scope.word(),
            },
            within: self.within,
            which: self.which,
            is_of_all: self.scope == Scope::All,
            shown: (before.saturating_mul(size), size),
        }
    }

    /// Its number and how many it shows. Programs page; people's calendars and sheets do not.
    fn page(&self) -> (u32, u32) {
        match (self.page, self.format) {
            (Some(page), _) => (page.number(), page.size.unwrap_or(JSON_PAGE)),
            (None, Format::Json) => (1, JSON_PAGE),
            (None, Format::Calendar | Format::Csv) => (1, WHOLE_PAGE),
        }
    }

    /// Writes an answer; 503 where the budget of unsent bytes is spent, and 304 where the caller has it already.
    pub(super) fn render(
        &self,
        outcome: &Result<FoundExpirations, Refusal>,
        request_id: RequestId,
        unsent: &UnsentAccount,
    ) -> RenderedReply {
        let found = match outcome {
            Ok(found) => found,
            Err(refusal) => return response::refused(refusal, request_id, false),
        };
        let body = match self.format {
            Format::Calendar => calendar::write(found, self.project),
            Format::Csv => csv::write(found, self.project),
            Format::Json => json::write(found, self),
        };
        let Some(reserved) = unsent.reserve(body.len()) else {
            let retry_after = OVERLOAD_PAUSE;
            let shed = response::refused(&Refusal::Overloaded { retry_after }, request_id, false);
            return RenderedReply {
                is_shed: true,
                ..shed
            };
        };
        let etag = json::etag(found, self.format.word());
        let is_known = response::is_known(&self.validators, &etag);
        let mut response = if is_known {
            Response::default()
        } else {
            Response::new(ResponseBody::made(body, reserved))
        };
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        response::describe(&mut response, request_id, &weak(&etag));
        if !is_known {
            let media_type = HeaderValue::from_static(self.format.content_type());
            let headers = response.headers_mut();
            headers.insert(header::CONTENT_TYPE, media_type);
        }
        RenderedReply {
            status: response.status().as_u16(),
            reply: response,
            error_code: None,
            certificates: u64::try_from(found.expirations.endings.len()).ok(),
            is_shed: false,
        }
    }
}

/// What the query says.
#[derive(Debug, Default)]
struct Parameters {
    within: Option<WithinDays>,
    which: Option<Which>,
    scope: Option<Scope>,
    format: Option<Format>,
    page: Option<PageQuery>,
    token_in_query: bool,
}

impl Parameters {
    fn read(query: &str) -> Result<Self, InvalidQuery> {
        let mut read = Self::default();
        let (mut number, mut size) = (None, None);
        for parameter in parameters(query) {
            let (name, value) = parameter?;
            match &*name {
                "within" => {
                    let problem = "must be a number of days from 0d to 800d";
                    set("within", &mut read.within, within(&value), problem)?;
                }
                "which" => {
                    let problem = "must be `last` or `every`";
                    set("which", &mut read.which, which(&value), problem)?;
                }
                "scope" => {
                    let problem = "must be `known` or `all`";
                    set("scope", &mut read.scope, Scope::of(&value), problem)?;
                }
                "format" => {
                    let problem = "must be `json`, `csv` or `ics`";
                    set("format", &mut read.format, Format::of(&value), problem)?;
                }
                "pageNum" => {
                    let problem = "must be a whole number from 1 to 2147483647";
                    let value = whole(&value, i32::MAX.unsigned_abs());
                    set("pageNum", &mut number, value, problem)?;
                }
                "itemsPerPage" => {
                    let problem = "must be a whole number from 1 to 500";
                    set("itemsPerPage", &mut size, whole(&value, JSON_PAGE), problem)?;
                }
                "access_token" => read.token_in_query = true,
                _ => {}
            }
        }
        if number.is_some() || size.is_some() {
            read.page = Some(PageQuery { number, size });
        }
        Ok(read)
    }
}

impl Scope {
    fn of(word: &str) -> Option<Self> {
        let all = [Self::All, Self::Known];
        all.into_iter().find(|scope| scope.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Known => "known",
        }
    }
}

impl Format {
    /// What a caller may accept, and what it gets.
    const MEDIA_TYPES: [(&'static str, Self); 3] = [
        ("application/json", Self::Json),
        ("text/csv", Self::Csv),
        ("text/calendar", Self::Calendar),
    ];

    fn of(word: &str) -> Option<Self> {
        let all = [Self::Calendar, Self::Csv, Self::Json];
        all.into_iter().find(|format| format.word() == word)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Calendar => "ics",
            Self::Csv => "csv",
            Self::Json => "json",
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Calendar => "text/calendar; charset=utf-8",
            Self::Csv => "text/csv; charset=utf-8; header=present",
            Self::Json => "application/json",
        }
    }
}

fn within(text: &str) -> Option<WithinDays> {
    let digits = text.strip_suffix('d')?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let days = is_number.then(|| digits.parse().ok()).flatten()?;
    (days <= WithinDays::LONGEST).then_some(WithinDays(days))
}

fn which(text: &str) -> Option<Which> {
    let all = [Which::Every, Which::Last];
    all.into_iter().find(|it| which_word(*it) == text)
}

fn which_word(which: Which) -> &'static str {
    match which {
        Which::Every => "every",
        Which::Last => "last",
    }
}

/// How old an answer is, and what is left, changes each second: no two are the same to the byte.
fn weak(etag: &HeaderValue) -> HeaderValue {
    let weak = [b"W/", etag.as_bytes()].concat();
    HeaderValue::from_maybe_shared(Bytes::from(weak)).expect("a tag is visible ASCII")
}

const ROOT: &str = "/gateway/v1/groups/";
const RESOURCE: &str = "/expirations";
const USUAL_DAYS: u32 = 30;
const JSON_PAGE: u32 = 500;
const WHOLE_PAGE: u32 = 10_000;
