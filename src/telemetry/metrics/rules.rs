//! What lookups came to by the rule that granted them. Rules' names are configuration, so that their number is
//! bounded; of a file with very many of them the first have series of their own.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Register;
use super::lookups::{CacheUse, of};

/// Handles to the counters of rules. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct RuleMetrics {
    lookups: Family<RuleLookupLabels, Counter>,
    calls: Family<RuleLabels, Counter>,
    saved: Family<RuleLabels, Counter>,
    /// Replaced when a rule is added; lookups only read it.
    known: Arc<ArcSwap<KnownRules>>,
}

/// Looked into by each hit, so the hash is a fast one.
type KnownRules = HashMap<Arc<str>, RuleCounters, ahash::RandomState>;

#[derive(Clone, Debug)]
struct RuleCounters {
    lookups: [Counter; CacheUse::ALL.len()],
    calls: Counter,
    saved: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLabels {
    rule: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RuleLookupLabels {
    rule: Arc<str>,
    cache: CacheUse,
}

impl RuleMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            lookups: registry.add(
                "rule_lookups",
                "Lookups that a rule granted, by what the cache had",
                Family::default(),
            ),
            calls: registry.add(
                "rule_upstream_calls",
                "Calls to Atlas that were made for lookups that a rule granted",
                Family::default(),
            ),
            saved: registry.add(
                "rule_upstream_calls_saved",
                "Calls to Atlas that lookups which a rule granted would have cost their callers, less what they did cost",
                Family::default(),
            ),
            known: Arc::default(),
        };
        // Lookups by rules beyond the bound are counted here.
        metrics.know([&Arc::from(OTHERS)]);
        metrics
    }

    /// Has these rules counted from zero, up to the bound.
    pub(super) fn know<'r>(&self, rules: impl IntoIterator<Item = &'r Arc<str>>) {
        let known = self.known.load();
        let mut new = rules.into_iter().filter(|rule| !known.contains_key(*rule));
        let Some(first) = new.next() else { return };
        let mut all = HashMap::clone(&known);
        for rule in std::iter::once(first).chain(new) {
            if all.len() > MOST_RULES {
                break;
            }
            all.insert(Arc::clone(rule), self.counters(rule));
        }
        self.known.store(Arc::new(all));
    }

    /// Counts a lookup that a rule granted.
    pub(crate) fn lookup(&self, rule: &Arc<str>, cache: CacheUse, (calls, saved): (u32, u32)) {
        let known = self.known.load();
        let Some(counters) = known.get(rule).or_else(|| known.get(OTHERS)) else {
            return;
        };
        of(&CacheUse::ALL, &counters.lookups, &cache).inc();
        counters.saved.inc_by(saved.into());
        if calls > 0 {
            counters.calls.inc_by(calls.into());
        }
    }

    fn counters(&self, rule: &Arc<str>) -> RuleCounters {
        let labels = RuleLabels {
            rule: Arc::clone(rule),
        };
        RuleCounters {
            lookups: CacheUse::ALL.map(|cache| {
                let rule = Arc::clone(rule);
                self.lookups
                    .get_or_create_owned(&RuleLookupLabels { rule, cache })
            }),
            calls: self.calls.get_or_create_owned(&labels),
            saved: self.saved.get_or_create_owned(&labels),
        }
    }
}

const MOST_RULES: usize = 100;
const OTHERS: &str = "(others)";
