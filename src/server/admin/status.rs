//! `GET /`: the status page, for people. HTML without a script, and without a name unless an operator's token is shown.

use std::ops::ControlFlow;
use std::sync::LazyLock;
use std::time::Duration;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde::Deserialize;
use tokio::task::spawn_blocking;

use super::operation::{Done, Operation};
use super::readiness::ReadinessReport;
use super::{Admin, lookups};
use crate::audit::search::{self, Filter, Order, Search};
use crate::gateway::CallCounts;
use crate::insight::EndingCounts;
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::response::AdminRefusal;
use crate::system::in_background;
use crate::upstream::ProjectBudget;

#[derive(Template)]
#[template(path = "page.html")]
struct Page {
    style: &'static str,
    report: ReadinessReport,
    version: &'static str,
    as_of: String,
    would_have_cost: u64,
    made: u64,
    share: u64,
    least: u64,
    most: u64,
    points: String,
    entries: u64,
    kibibytes: u64,
    has_names: bool,
    budgets: Vec<ShownBudget>,
    users: u64,
    ended: u64,
    within_28: u64,
    weeks: Vec<Week>,
    weeks_text: String,
    denials: Vec<Denial>,
}

struct ShownBudget {
    name: String,
    remaining: u64,
    percent: u64,
    width: u64,
    ours: u64,
    others: u64,
    tone: &'static str,
    lasts: String,
}

/// A bar of the picture.
struct Week {
    x: usize,
    y: u64,
    height: u64,
}

/// A lookup that was denied.
#[derive(Deserialize)]
struct Denial {
    time: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    group_id: String,
    #[serde(default)]
    username: String,
}

impl Admin {
    /// The page without a name.
    pub(super) async fn page(&self) -> Response<ResponseBody> {
        html(&self.draw(None, Vec::new()).await)
    }

    /// The page with the names that an operator may know; that it was looked at is on record.
    pub(super) async fn page_with_names(
        &self,
        operation: &Operation<'_>,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let drawn = async {
            let denials = self.last_denials(operation).await?;
            Ok(Done {
                value: self.draw(Some(operation), denials).await,
                entries: None,
            })
        };
        let page = self.record_in_part(operation, drawn).await?;
        Ok(html(&page))
    }

    async fn draw(&self, operator: Option<&Operation<'_>>, denials: Vec<Denial>) -> Page {
        let gateway = &self.gateway;
        let now = gateway.clock.now().wall;
        let minutes = gateway.last_hour.each(gateway.call_counts());
        let sum = |of: fn(&CallCounts) -> u64| minutes.iter().map(of).sum::<u64>();
        let (would_have_cost, made) = (sum(|it| it.would_have_cost), sum(|it| it.made));
        let saved = would_have_cost.saturating_sub(made);
        let most = minutes.iter().map(|it| it.made).max().unwrap_or(0);
        let known = gateway.known_lists.clone();
        let counts = spawn_blocking(move || known.count_ending(now)).await;
        // A panic in it has been logged.
        let counts = counts.ok().and_then(|all| all.into_iter().next());
        let counts = counts.map_or_else(EndingCounts::default, |(_, counts)| counts);
        let budgets = gateway.upstream.budgets().into_iter().enumerate();
        let cache = gateway.cache.clone();
        let size = spawn_blocking(move || cache.size()).await;
        let (entries, bytes) = size.unwrap_or_default();
        Page {
            style: STYLE,
            report: self.readiness.report(),
            version: env!("CARGO_PKG_VERSION"),
            as_of: now.in_seconds(),
            would_have_cost,
            made,
            share: (saved * 100).checked_div(would_have_cost).unwrap_or(0),
            least: minutes.iter().map(|it| it.made).min().unwrap_or(0),
            most,
            points: line(&minutes, most),
            entries,
            kibibytes: bytes / 1_024,
            has_names: operator.is_some(),
            budgets: budgets
                .map(|(number, budget)| {
                    ShownBudget::of(&budget, self.name(operator, number, &budget))
                })
                .collect(),
            users: counts.users,
            ended: counts.ended,
            within_28: counts.within_four_weeks(),
            weeks: bars(&counts.by_week),
            weeks_text: counts.by_week.map(|users| users.to_string()).join(", "),
            denials,
        }
    }

    /// A project's id for those who may know it; a number for others.
    fn name(
        &self,
        operator: Option<&Operation<'_>>,
        number: usize,
        budget: &ProjectBudget,
    ) -> String {
        let policy = self.gateway.policy.load();
        let may_know = operator.is_some_and(|operation| {
            let reach = Reach::Project(&budget.project);
            policy.may_administer(&operation.caller, reach).is_ok()
        });
        if may_know {
            budget.project.as_str().to_owned()
        } else {
            format!("project {}", number + 1)
        }
    }

    async fn last_denials(&self, operation: &Operation<'_>) -> Result<Vec<Denial>, AdminRefusal> {
        let policy = self.gateway.policy.load_full();
        if policy
            .may_administer(&operation.caller, Reach::Everything)
            .is_err()
        {
            return Ok(Vec::new());
        }
        let search = std::sync::Arc::clone(&self.searches).try_acquire_owned();
        let search = search.map_err(|_| AdminRefusal::TooManySearches)?;
        let now = self.gateway.clock.now().wall;
        let filter = Filter {
            outcome: Some("denied".to_owned()),
            kind: Some("lookup".to_owned()),
            since: Some(now.minus(SHOWN_DENIALS)),
            ..Filter::default()
        };
        let directory = self.gateway.audit.directory().to_owned();
        let hidden = policy.hidden(&operation.caller);
        let gone = operation.request.gone.clone();
        let found = in_background(move || {
            let mut denials: Vec<Denial> = Vec::new();
            let newest = Search {
                directories: &[directory],
                filter: &filter,
                order: Order::NewestFirst,
            };
            let is_over = || gone.is_cancelled();
            let searched = search::search_until(&newest, &is_over, |found| {
                if !lookups::is_hidden(found.line, &hidden) {
                    denials.extend(serde_json::from_str(found.line).ok());
                }
                if denials.len() == MOST_DENIALS {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            });
            drop(search);
            searched.map(|_| denials)
        });
        let found = found.await.ok_or(AdminRefusal::Unexpected)?;
        found.map_err(|_| AdminRefusal::Unreadable)
    }
}

impl ShownBudget {
    fn of(budget: &ProjectBudget, name: String) -> Self {
        let bucket = &budget.bucket;
        let (percent, width) = (
            part(bucket.remaining, bucket.capacity, 100),
            part(bucket.remaining, bucket.capacity, 120),
        );
        let reserve_in = Duration::try_from_secs_f64(bucket.reserve_in).ok();
        let (tone, lasts) = match reserve_in.map(|time| time.as_secs()) {
            None => ("good", "for good".to_owned()),
            Some(0) => ("bad", "at the reserve".to_owned()),
            Some(seconds) => (
                "warn",
                format!("{} min to the reserve", seconds.div_ceil(60)),
            ),
        };
        Self {
            name,
            remaining: bucket.remaining,
            percent,
            width,
            ours: bucket.ours_per_minute,
            others: bucket.others_per_minute,
            tone,
            lasts,
        }
    }
}

/// `value` of `whole`, as a part of `all`.
fn part(value: u64, whole: u64, all: u64) -> u64 {
    value
        .min(whole)
        .saturating_mul(all)
        .checked_div(whole)
        .unwrap_or(0)
}

/// The calls of each minute, from left to right.
fn line(minutes: &[CallCounts], most: u64) -> String {
    let last = u64::try_from(minutes.len().saturating_sub(1)).unwrap_or(1);
    let points = (0..).zip(minutes).map(|(at, minute)| {
        let (x, y) = (
            part(at, last.max(1), 300),
            58 - part(minute.made, most.max(1), 56),
        );
        format!("{x},{y}")
    });
    points.collect::<Vec<_>>().join(" ")
}

fn bars(weeks: &[u64]) -> Vec<Week> {
    let most = weeks.iter().copied().max().unwrap_or(0).max(1);
    let bars = weeks.iter().enumerate().map(|(week, users)| {
        let height = part(*users, most, 56);
        Week {
            x: week * 23,
            y: 60 - height,
            height,
        }
    });
    bars.collect()
}

fn html(page: &Page) -> Response<ResponseBody> {
    let text = page
        .render()
        .expect("a page of texts and numbers is always written");
    let mut response = Response::new(ResponseBody::from(Bytes::from(text)));
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("text/html; charset=utf-8"));
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
    headers.insert(header::REFERRER_POLICY, fixed("no-referrer"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    response
}

const STYLE: &str = include_str!("status/style.css");

/// Nothing is loaded or run; this style, by its hash, is all there is.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::try_from(policy).expect("it is visible ASCII")
});

const MOST_DENIALS: usize = 10;
const SHOWN_DENIALS: Duration = Duration::from_hours(24);
