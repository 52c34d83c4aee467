//! What is known of certificates.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;

use crate::atlas::{CertificateList, Timestamp};

/// A certificate, as far as it is compared and told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownCertificate {
    /// Atlas's have 63 bits.
    pub(super) id: i64,
    pub(super) not_after: Timestamp,
}

/// Those of a list.
pub(super) struct CertificatesRead {
    /// By serial number, ascending.
    pub(super) certificates: Arc<[KnownCertificate]>,
    pub(super) subjects: Arc<Subjects>,
}

/// The subjects of a list's certificates: nearly always it is the user's in all of them.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    usual: Option<Arc<str>>,
    /// Of those, by serial number, that have another one.
    others: Box<[OtherSubject]>,
}

/// A serial number, and the subject of its certificate, if it has one.
type OtherSubject = (i64, Option<Arc<str>>);

impl Subjects {
    /// That of one of the certificates.
    pub(super) fn of(&self, id: i64) -> Option<&Arc<str>> {
        let other = self.others.iter().find(|(other, _)| *other == id);
        other.map_or(&self.usual, |(_, subject)| subject).as_ref()
    }

    /// About how many bytes they take.
    pub(super) fn weight(&self) -> usize {
        let others = self.others.iter().map(|(_, subject)| subject);
        let all = others.chain([&self.usual]).flatten();
        all.map(|subject| subject.len() + size_of::<OtherSubject>())
            .sum()
    }
}

/// What has not expired at `now`, by serial number.
pub(super) fn read(list: &CertificateList, now: Timestamp) -> CertificatesRead {
    #[derive(Deserialize)]
    struct Told<'j> {
        #[serde(rename = "_id")]
        id: i64,
        #[serde(borrow, default)]
        subject: Option<Cow<'j, str>>,
    }
    let (mut certificates, mut usual, mut others) = (Vec::new(), None, Vec::new());
    for certificate in list.unexpired(now) {
        // One with another number is in the list, and not among these.
        let Ok(told) = serde_json::from_str::<Told<'_>>(certificate.json) else {
            continue;
        };
        let usual: &Option<Arc<str>> =
            usual.get_or_insert_with(|| told.subject.as_deref().map(Arc::from));
        if usual.as_deref() != told.subject.as_deref() {
            others.push((told.id, told.subject.as_deref().map(Arc::from)));
        }
        certificates.push(KnownCertificate {
            id: told.id,
            not_after: certificate.not_after,
        });
    }
    certificates.sort_unstable_by_key(|it| (it.id, it.not_after));
    let subjects = Subjects {
        usual: usual.flatten(),
        others: others.into(),
    };
    CertificatesRead {
        certificates: certificates.into(),
        subjects: Arc::new(subjects),
    }
}
