//! `GET /`: the status page, for people. HTML without a script, and without a name unless an operator's token is shown.

mod names;
mod pictures;

use std::sync::LazyLock;

use askama::Template;
use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use tokio::task::spawn_blocking;

use super::Admin;
use super::operation::{Done, Operation};
use super::readiness::ReadinessReport;
use crate::gateway::CallCounts;
use crate::insight::EndingCounts;
use crate::policy::Reach;
use crate::server::body::payload::ResponseBody;
use crate::server::response::AdminRefusal;
use crate::upstream::ProjectBudget;

use self::names::OperatorNames;
use self::pictures::{CallsPicture, ShownBudget, Week, bars};

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
    calls: CallsPicture,
    entries: u64,
    kibibytes: u64,
    budgets: Vec<ShownBudget>,
    users: u64,
    ended: u64,
    within_28: u64,
    weeks: Vec<Week>,
    weeks_text: String,
    /// What became of signing in.
    notice: Option<&'static str>,
    names: Option<OperatorNames>,
}

impl Admin {
    /// The page without a name; what became of signing in stands on it.
    pub(super) async fn page(&self, notice: Option<&'static str>) -> Response<ResponseBody> {
        let page = self.draw(None).await;
        html(&Page { notice, ..page })
    }

    /// The page with the names that an operator may know; that it was looked at is on record.
    pub(super) async fn page_with_names(
        &self,
        operation: &Operation<'_>,
        is_of_session: bool,
    ) -> Result<Response<ResponseBody>, AdminRefusal> {
        let drawn = async {
            let names = Box::pin(self.names(operation, is_of_session)).await?;
            Ok(Done {
                value: self.draw(Some((operation, names))).await,
                entries: None,
            })
        };
        let page = self.record_in_part(operation, drawn).await?;
        Ok(html(&page))
    }

    async fn draw(&self, names: Option<(&Operation<'_>, OperatorNames)>) -> Page {
        let (operator, names) = names.unzip();
        let gateway = &self.gateway;
        let now = gateway.clock.now().wall;
        let minutes = gateway.last_hour.each(gateway.call_counts());
        let sum = |of: fn(&CallCounts) -> u64| minutes.iter().map(of).sum::<u64>();
        let (would_have_cost, made) = (sum(|it| it.would_have_cost), sum(|it| it.made));
        let saved = would_have_cost.saturating_sub(made);
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
            calls: CallsPicture::of(&minutes),
            entries,
            kibibytes: bytes / 1_024,
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
            notice: None,
            names,
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
}

/// A form's fields as a query has them: a form writes a space as a plus sign.
pub(super) fn of_form(fields: &str) -> String {
    fields.replace('+', "%20")
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
    // With `no-referrer` a browser would not say of the page's own forms that they are from here.
    headers.insert(header::REFERRER_POLICY, fixed("same-origin"));
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
