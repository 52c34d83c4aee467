//! Which projects, users and certificates exist: stated by the caller, generated from a seed.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::certificate::Certificate;
use crate::numbers::Numbers;

/// Everything that the simulated Atlas knows.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use atlas_simulator::World;
///
/// let mut world = World::new(SystemTime::UNIX_EPOCH + Duration::from_hours(500_000));
/// let mut payments = world.project("32b6e34b3d91647abb20e7b8");
/// payments.user("payments-api").certificates(2);
/// payments.user("payments-batch").certificates(1_203);
/// payments.user("reporting").x509(atlas_simulator::X509Type::None);
/// ```
#[derive(Clone, Debug)]
pub struct World {
    now: SystemTime,
    numbers: Numbers,
    projects: BTreeMap<String, Project>,
}

impl World {
    /// An empty world in which certificates are made relative to `now`.
    pub fn new(now: SystemTime) -> Self {
        Self::seeded(now, 1)
    }

    /// The same, with serial numbers generated from `seed`.
    pub fn seeded(now: SystemTime, seed: u64) -> Self {
        Self {
            now,
            numbers: Numbers::seeded(seed),
            projects: BTreeMap::new(),
        }
    }

    /// The project with this id, created if it is new.
    pub fn project(&mut self, id: &str) -> InProject<'_> {
        let project = self.projects.entry(id.to_owned()).or_default();
        InProject {
            now: self.now,
            numbers: &mut self.numbers,
            project,
        }
    }

    /// Removes a project with all that is in it.
    pub fn remove_project(&mut self, id: &str) {
        self.projects.remove(id);
    }

    /// The unexpired certificates of a user, in the order and with the lag of a list call made now.
    pub fn unexpired(&self, project: &str, username: &str) -> Vec<Certificate> {
        let Some(project) = self.find(project) else {
            return Vec::new();
        };
        project.list(username, self.now).certificates
    }

    pub(crate) fn at(&mut self, now: SystemTime) -> &mut Self {
        self.now = now;
        self
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Project> {
        self.projects.get(id)
    }
}

/// How a user proves who it is with X.509.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum X509Type {
    /// With certificates of the customer's own authority, which Atlas does not know.
    Customer,
    /// With certificates that Atlas issues.
    #[default]
    Managed,
    /// Not with X.509.
    None,
}

impl X509Type {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "CUSTOMER",
            Self::Managed => "MANAGED",
            Self::None => "NONE",
        }
    }
}

/// A project and what belongs to it.
///
/// Certificates are bound to the project and the *name*: they outlive the user, and a later user of
/// the same name shows them again. That was observed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Project {
    users: BTreeMap<String, X509Type>,
    certificates: BTreeMap<String, Vec<Certificate>>,
    listing: BTreeMap<String, Listing>,
}

/// In which order a list is paged. Atlas documents none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListOrder {
    /// By the serial number, which is drawn at random: a new certificate lands anywhere.
    BySerial,
    /// The newest certificate first.
    NewestFirst,
    /// The oldest certificate first, as observed.
    #[default]
    OldestFirst,
}

/// How the list of one user differs from what Atlas holds.
#[derive(Clone, Copy, Debug, Default)]
struct Listing {
    order: ListOrder,
    miscount: i64,
    lag: Duration,
}

/// A list before it is cut into pages.
#[derive(Default)]
pub(crate) struct List {
    pub(crate) certificates: Vec<Certificate>,
    /// Atlas: "The total number is an estimate and may not be exact."
    pub(crate) total: usize,
}

impl Project {
    pub(crate) fn user(&self, name: &str) -> Option<X509Type> {
        self.users.get(name).copied()
    }

    pub(crate) fn users(&self) -> impl ExactSizeIterator<Item = (&str, X509Type)> {
        self.users.iter().map(|(name, kind)| (name.as_str(), *kind))
    }

    /// Atlas: "Returns all unexpired X.509 certificates".
    pub(crate) fn list(&self, username: &str, now: SystemTime) -> List {
        let listing = self.listing.get(username).copied().unwrap_or_default();
        let all = self.certificates.get(username);
        let mut certificates: Vec<Certificate> = all
            .into_iter()
            .flatten()
            .filter(|certificate| certificate.not_after > now)
            .cloned()
            .collect();
        let counted = i64::try_from(certificates.len()).unwrap_or(i64::MAX);
        let total = usize::try_from(counted.saturating_add(listing.miscount)).unwrap_or(0);
        certificates.retain(|certificate| certificate.made_at() + listing.lag <= now);
        match listing.order {
            ListOrder::BySerial => certificates.sort_by_key(|certificate| certificate.serial),
            ListOrder::NewestFirst => certificates.reverse(),
            ListOrder::OldestFirst => {}
        }
        List {
            certificates,
            total,
        }
    }
}

/// A project of a [`World`], to be filled.
#[derive(Debug)]
pub struct InProject<'w> {
    now: SystemTime,
    numbers: &'w mut Numbers,
    project: &'w mut Project,
}

impl InProject<'_> {
    /// The user of this name; a new one has managed certificates, none yet.
    pub fn user(&mut self, name: &str) -> InUser<'_> {
        self.project.users.entry(name.to_owned()).or_default();
        self.name(name)
    }

    /// Deletes the user. Its certificates stay, as Atlas keeps them.
    pub fn remove_user(&mut self, name: &str) {
        self.project.users.remove(name);
    }

    fn name(&mut self, name: &str) -> InUser<'_> {
        let certificates = self
            .project
            .certificates
            .entry(name.to_owned())
            .or_default();
        let kind = self.project.users.entry(name.to_owned()).or_default();
        let listing = self.project.listing.entry(name.to_owned()).or_default();
        InUser {
            now: self.now,
            numbers: self.numbers,
            kind,
            listing,
            certificates,
            name: name.to_owned(),
        }
    }
}

/// A user of a [`World`], to be given certificates.
#[derive(Debug)]
pub struct InUser<'w> {
    now: SystemTime,
    numbers: &'w mut Numbers,
    kind: &'w mut X509Type,
    listing: &'w mut Listing,
    certificates: &'w mut Vec<Certificate>,
    name: String,
}

impl InUser<'_> {
    /// Adds `count` unexpired certificates, made over the last eighty days and valid for ninety.
    pub fn certificates(&mut self, count: u32) -> &mut Self {
        for index in 0..count {
            let age = HISTORY.mul_f64(1.0 - f64::from(index) / f64::from(count));
            let made = self.now - age;
            self.issue(made, made + VALID_FOR);
        }
        self
    }

    /// Adds `count` certificates that have expired.
    pub fn expired_certificates(&mut self, count: u32) -> &mut Self {
        for index in 0..count {
            let not_after = self.now - DAY * (1 + index % 30);
            self.issue(not_after - VALID_FOR, not_after);
        }
        self
    }

    /// Adds one made now, valid until `not_after`, and returns its serial number.
    pub fn certificate_until(&mut self, not_after: SystemTime) -> i64 {
        self.issue(self.now, not_after)
    }

    /// Adds exactly this certificate.
    pub fn certificate(&mut self, certificate: Certificate) -> &mut Self {
        let place = self
            .certificates
            .partition_point(|other| other.created_at <= certificate.created_at);
        self.certificates.insert(place, certificate);
        self
    }

    /// Removes the certificate with this serial number, if it is there.
    pub fn remove_certificate(&mut self, serial: i64) -> &mut Self {
        self.certificates
            .retain(|certificate| certificate.serial != serial);
        self
    }

    /// Removes every certificate.
    pub fn remove_all_certificates(&mut self) -> &mut Self {
        self.certificates.clear();
        self
    }

    /// Says how the user proves itself. Only a managed one has a certificate list.
    pub fn x509(&mut self, kind: X509Type) -> &mut Self {
        *self.kind = kind;
        self
    }

    /// Says in which order the list is paged.
    pub fn order(&mut self, order: ListOrder) -> &mut Self {
        self.listing.order = order;
        self
    }

    /// Makes `totalCount` say so many more (or fewer) than there are.
    pub fn miscount(&mut self, by: i64) -> &mut Self {
        self.listing.miscount = by;
        self
    }

    /// Leaves certificates out of the list until so long after they were made; `totalCount` has them
    /// at once.
    pub fn lag(&mut self, by: Duration) -> &mut Self {
        self.listing.lag = by;
        self
    }

    /// The serial numbers of all certificates, expired ones too, oldest first.
    pub fn serials(&self) -> Vec<i64> {
        self.certificates
            .iter()
            .map(|certificate| certificate.serial)
            .collect()
    }

    fn issue(&mut self, made: SystemTime, not_after: SystemTime) -> i64 {
        let serial = self.numbers.serial();
        self.certificate(Certificate::issued(
            serial,
            &self.name.clone(),
            made,
            not_after,
        ));
        serial
    }
}

const DAY: Duration = Duration::from_hours(24);
const HISTORY: Duration = Duration::from_hours(24 * 80);
const VALID_FOR: Duration = Duration::from_hours(24 * 90);
