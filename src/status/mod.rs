//! Status: what an operator is shown of the bridge. The last callbacks, the last hour, and what to change.
//!
//! [`Journal`] remembers; [`Present`] words what is known of this moment; `document` makes JSON of both, [`page`] a page.
//! To remember a callback costs one short lock and no memory; whoever shows something copies it out first, so that the
//! path of callbacks never waits for a page. Nothing here is a proof of anything: metrics count, the journal shows.
//!
//! It keeps names of authentic callbacks alone, and the source of those that were refused. It never sees keys,
//! signatures, addresses of files or bodies.

mod document;
mod hour;
pub mod page;
mod present;
mod row;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use hour::Hour;
pub use present::{KafkaPresent, Present};
pub use row::{Place, Row, Signed};

use crate::event::Timestamp;
use crate::metrics::Outcome;

/// Callbacks that are remembered of those whose sender holds a key, and as many of those that anybody can send. A flood
/// of the second kind pushes out nothing of the first.
pub const ROWS_MAX: usize = 200;

/// The last callbacks and the last hour.
#[derive(Debug)]
pub struct Journal {
    key_names: Vec<String>,
    begun: Timestamp,
    kept: Mutex<Kept>,
}

#[derive(Debug)]
struct Kept {
    newest: u64,
    authentic: VecDeque<Row>,
    others: VecDeque<Row>,
    verified_at: Vec<Option<Timestamp>>,
    hour: Hour,
}

/// How a callback ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// When it ended.
    pub at: Timestamp,
    /// What became of it.
    pub outcome: Outcome,
    /// Where its event is.
    pub place: Option<Place>,
    /// Microseconds from its head to its answer.
    pub microseconds: u64,
    /// Where it came from.
    pub source: IpAddr,
    /// Who has signed it, if one of our keys has.
    pub signed: Option<&'a Signed>,
    /// Its stream, if it is authentic.
    pub stream: &'a [u8],
    /// The member that makes it unusable.
    pub member: &'static str,
}

/// A copy of what is remembered.
#[derive(Debug)]
pub struct Extract {
    /// The number of the newest row.
    pub newest: u64,
    /// Rows, the newest first.
    pub rows: Vec<Row>,
}

impl Journal {
    /// An empty journal of a bridge with keys of these names, in the order of the keyring, which began at `begun`.
    #[must_use]
    pub fn new(key_names: Vec<String>, begun: Timestamp) -> Self {
        let kept = Kept {
            newest: 0,
            authentic: VecDeque::with_capacity(ROWS_MAX),
            others: VecDeque::with_capacity(ROWS_MAX),
            verified_at: vec![None; key_names.len()],
            hour: Hour::default(),
        };
        Self { key_names, begun, kept: Mutex::new(kept) }
    }

    /// When it began: numbers of rows mean something within one journal only.
    #[must_use]
    pub fn begun(&self) -> Timestamp {
        self.begun
    }

    /// Remembers a callback.
    pub fn record(&self, ending: &Ending<'_>) {
        let mut row = Row::of(ending);
        let authentic = ending.signed.filter(|signed| signed.is_timely);
        let mut guard = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = &mut *guard;
        kept.newest += 1;
        row.number = kept.newest;
        kept.hour.add(ending.at, ending.outcome, ending.microseconds);
        let ring = if let Some(signed) = authentic {
            if let Some(verified_at) = kept.verified_at.get_mut(signed.key_index) {
                *verified_at = Some(ending.at);
            }
            &mut kept.authentic
        } else {
            &mut kept.others
        };
        if ring.len() == ROWS_MAX {
            ring.pop_front();
        }
        ring.push_back(row);
    }

    /// What is remembered of the callbacks after this number.
    #[must_use]
    pub fn since(&self, number: u64) -> Extract {
        let mut rows = Vec::new();
        // Memory is had before callbacks have to wait for it.
        if self.kept.lock().unwrap_or_else(PoisonError::into_inner).newest > number {
            rows.reserve(2 * ROWS_MAX);
        }
        let newest = {
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.newest > number {
                for ring in [&kept.authentic, &kept.others] {
                    rows.extend(ring.iter().rev().take_while(|row| row.number > number).copied());
                }
            }
            kept.newest
        };
        rows.sort_unstable_by_key(|row| std::cmp::Reverse(row.number));
        Extract { newest, rows }
    }

    /// The name of a key, by its place in the keyring.
    fn key_name(&self, index: usize) -> &str {
        self.key_names.get(index).map_or("", String::as_str)
    }

    /// Every key by its name, and when it last verified a callback.
    fn keys(&self) -> Vec<(&str, Option<Timestamp>)> {
        let verified_at = self.kept.lock().unwrap_or_else(PoisonError::into_inner).verified_at.clone();
        self.key_names.iter().map(String::as_str).zip(verified_at).collect()
    }

    fn hour(&self) -> Hour {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).hour.clone()
    }
}
