//! The sessions that there are, in memory and few.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, HeaderValue, header};

use crate::identity::Caller;
use crate::system::{Moment, Secret, hex, random_bytes};

/// What a browser keeps of a session: 128 random bits.
pub(super) struct SessionId(Secret);

/// All sessions, the oldest first.
#[derive(Default)]
pub(in crate::server::admin) struct Sessions(Mutex<Vec<PageSession>>);

struct PageSession {
    /// The hash of its id: this memory holds no cookie, and the time that a comparison takes tells none.
    id_hash: Box<[u8]>,
    caller: Arc<Caller>,
    token: Secret,
    began: Moment,
}

impl SessionId {
    pub(super) fn new() -> io::Result<Self> {
        let bits: [u8; 16] = random_bytes()?;
        Ok(Self(Secret::new(hex(&bits, bits.len()))))
    }

    /// Those that a request shows. Another one's cookie of the same name may be among them.
    pub(super) fn all_of(headers: &HeaderMap) -> Vec<Self> {
        let values = headers.get_all(header::COOKIE).iter();
        let cookies = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(';'));
        let ids = cookies.filter_map(|cookie| {
            let (name, id) = cookie.trim().split_once('=')?;
            (name == COOKIE).then(|| Self(Secret::new(id.to_owned())))
        });
        ids.take(MOST_SHOWN).collect()
    }

    pub(super) fn cookie(&self, is_over_tls: bool) -> HeaderValue {
        let secure = if is_over_tls { "; Secure" } else { "" };
        let id = self.0.expose();
        let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Strict; Path=/{secure}");
        let mut cookie = HeaderValue::try_from(cookie).expect("hexadecimal digits are visible");
        cookie.set_sensitive(true);
        cookie
    }

    /// Takes the cookie away.
    pub(super) fn no_cookie() -> HeaderValue {
        let cookie = format!("{COOKIE}=; HttpOnly; SameSite=Strict; Path=/; Max-Age=0");
        HeaderValue::try_from(cookie).expect("it is visible ASCII")
    }

    fn hash(&self) -> Box<[u8]> {
        Box::from(digest(&SHA256, self.0.expose().as_bytes()).as_ref())
    }
}

impl Sessions {
    /// Begins one. Of too many of the caller's, or of all, the oldest ends.
    pub(super) fn begin(&self, id: &SessionId, caller: Arc<Caller>, token: Secret, now: Moment) {
        let mut sessions = self.sessions();
        sessions.retain(|session| session.goes_on(now));
        let is_of_caller = |session: &PageSession| {
            session.caller.subject == caller.subject && session.caller.issuer == caller.issuer
        };
        if sessions.iter().filter(|it| is_of_caller(it)).count() >= MOST_OF_A_CALLER
            && let Some(oldest) = sessions.iter().position(is_of_caller)
        {
            sessions.remove(oldest);
        }
        if sessions.len() >= MOST {
            sessions.remove(0);
        }
        sessions.push(PageSession {
            id_hash: id.hash(),
            caller,
            token,
            began: now,
        });
    }

    /// The token of one that goes on.
    pub(super) fn token(&self, id: &SessionId, now: Moment) -> Option<Secret> {
        let id_hash = id.hash();
        let mut sessions = self.sessions();
        sessions.retain(|session| session.goes_on(now));
        let session = sessions.iter().find(|session| session.id_hash == id_hash);
        session.map(|session| session.token.clone())
    }

    /// Ends one; whose it was.
    pub(super) fn end(&self, id: &SessionId) -> Option<Arc<Caller>> {
        let id_hash = id.hash();
        let mut sessions = self.sessions();
        let place = sessions
            .iter()
            .position(|session| session.id_hash == id_hash)?;
        Some(sessions.remove(place).caller)
    }

    fn sessions(&self) -> MutexGuard<'_, Vec<PageSession>> {
        // Nothing that holds it can panic half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PageSession {
    fn goes_on(&self, now: Moment) -> bool {
        now.since(self.began) < LONGEST && now.wall < self.caller.expires_at
    }
}

const COOKIE: &str = "atlas-cert-gateway-session";
const LONGEST: Duration = Duration::from_mins(30);
const MOST: usize = 100;
const MOST_OF_A_CALLER: usize = 5;
/// A browser sends one.
const MOST_SHOWN: usize = 4;
