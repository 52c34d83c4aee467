//! A caller and the rule that let it through go in; their members of a record come out.
//!
//! A caller that asks again is the same value in memory, because its token is remembered: so what is
//! written of it once is kept by each thread and copied into its next records.

use std::cell::RefCell;
use std::sync::Arc;

use crate::identity::Caller;

use super::record::{Body, name, room};

/// Writes the members from `subject` to `rule`.
pub(super) fn write(body: &mut Body<'_>, caller: &Arc<Caller>, rule: Option<&Arc<str>>) {
    KNOWN.with_borrow_mut(|known| {
        if known.is_empty() {
            known.resize_with(SLOTS, || None);
        }
        // Callers lie side by side in memory; the product spreads them.
        let place = Arc::as_ptr(caller).addr().wrapping_mul(SPREAD) >> (usize::BITS - SLOT_BITS);
        let Some(slot) = known.get_mut(place) else {
            return write_anew(body, Some(caller), rule.map(|rule| &**rule));
        };
        if let Some(known) = slot.as_ref().filter(|known| known.is_of(caller, rule)) {
            return body.put(&known.members);
        }
        let members = body.written(|body| write_anew(body, Some(caller), rule.map(|rule| &**rule)));
        *slot = Some(Known {
            caller: Arc::clone(caller),
            rule: rule.cloned(),
            members: members.into(),
        });
    });
}

/// The same for whoever is not likely to come again.
pub(super) fn write_anew(body: &mut Body<'_>, caller: Option<&Caller>, rule: Option<&str>) {
    body.text_or_null(
        name!("subject"),
        caller.map(|it| &*it.subject),
        room::SUBJECT,
    );
    body.text_or_null(name!("issuer"), caller.map(|it| &*it.issuer), room::ISSUER);
    let client_id = caller.and_then(|it| it.client_id.as_deref());
    body.text_or_null(name!("client_id"), client_id, room::NAME);
    let token_id = caller.and_then(|it| it.token_id.as_deref());
    body.text_or_null(name!("token_id"), token_id, room::NAME);
    body.text_or_null(name!("rule"), rule, room::NAME);
}

/// What was written of a caller. As long as it is kept, so is the caller, and no other can have its place
/// in memory.
struct Known {
    caller: Arc<Caller>,
    rule: Option<Arc<str>>,
    members: Box<[u8]>,
}

impl Known {
    fn is_of(&self, caller: &Arc<Caller>, rule: Option<&Arc<str>>) -> bool {
        let same_rule = match (&self.rule, rule) {
            (Some(known), Some(rule)) => Arc::ptr_eq(known, rule),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        same_rule && Arc::ptr_eq(&self.caller, caller)
    }
}

thread_local! {
    static KNOWN: RefCell<Vec<Option<Known>>> = const { RefCell::new(Vec::new()) };
}

const SLOT_BITS: u32 = 10;
const SLOTS: usize = 1 << SLOT_BITS;
/// 2^64 divided by the golden ratio.
const SPREAD: usize = 0x9e37_79b9_7f4a_7c15;
