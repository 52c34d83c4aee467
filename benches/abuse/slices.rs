//! What honest callers notice, slice of time by slice of time.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::Request;
use crate::honest;
use crate::honest::Figures;
use crate::process::Server;

/// What honest callers notice for a while.
pub(crate) struct Slice {
    figures: Figures,
    /// How many hundredths of its processor the gateway takes meanwhile.
    share: f64,
}

/// Asks `server` at a steady pace for so long.
pub(crate) async fn noticed(
    server: &Server,
    streams: &mut Vec<TcpStream>,
    ask: &Request,
    span: Duration,
) -> Slice {
    let (cpu, began) = (server.cpu(), Instant::now());
    let figures = honest::measure(streams, ask, span).await;
    let busy = server.cpu().saturating_sub(cpu).as_secs_f64();
    Slice {
        figures,
        share: 100.0 * busy / began.elapsed().as_secs_f64(),
    }
}

/// Each figure's median by itself.
fn median(slices: &[Slice]) -> Slice {
    let mut shares: Vec<f64> = slices.iter().map(|slice| slice.share).collect();
    shares.sort_unstable_by(f64::total_cmp);
    Slice {
        share: shares[shares.len() / 2],
        figures: Figures::median(slices.iter().map(|slice| slice.figures)),
    }
}

/// What was seen of one attack.
pub(crate) struct Observed {
    pub(crate) none: Vec<Slice>,
    pub(crate) elsewhere: Vec<Slice>,
    pub(crate) here: Vec<Slice>,
    /// Connections that were open in the last slice, and those that the gateway had ended.
    pub(crate) counts: Option<(usize, usize)>,
    /// Memory of the gateway in bytes, before the attack and in its last slice.
    resident_before: u64,
    pub(crate) resident_then: u64,
}

impl Observed {
    pub(crate) fn new(resident_before: u64) -> Self {
        Self {
            none: Vec::new(),
            elsewhere: Vec::new(),
            here: Vec::new(),
            counts: None,
            resident_before,
            resident_then: resident_before,
        }
    }
}

/// A line under [`HEAD`].
impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((open, ended)) = self.counts {
            write!(f, "{open:>6} {ended:>6}")?;
        } else {
            write!(f, "{:>6} {:>6}", "-", "-")?;
        }
        let [none, elsewhere, here] =
            [&self.none, &self.elsewhere, &self.here].map(|slices| median(slices));
        let [before, then] = [self.resident_before, self.resident_then].map(|bytes| bytes >> 20);
        write!(
            f,
            " | {} | {} | {} | {} | {} | {before:>3} {then:>4} | {:>3.0}% {:>3.0}%",
            none.figures,
            elsewhere.figures,
            here.figures,
            here.figures.beside(&none.figures),
            here.figures.beside(&elsewhere.figures),
            none.share,
            here.share,
        )
    }
}

/// Over the lines.
pub(crate) const HEAD: &str = "                                     |  none, µs   | elsewhere   | here        | here ÷ \
                    none | ÷ elsewhere | MiB      | CPU\n\
                    attack         callers   open  ended |  p50    p99 |  p50    p99 |  p50    p99 |   p50   \
                    p99 |   p50   p99 | RSS then | none then";
