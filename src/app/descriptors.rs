//! The limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is no connection of a callback: brokers, admin, key files, the spool. They are kept
/// free, since connections would otherwise take the last one, and with it the probes and the way to Kafka.
const OTHERS: u64 = 256;

/// Raises the soft limit to the hard one. Returns how many connections may be open: `connections_max`, or as many as
/// there are descriptors for, which it then says in the log.
pub(super) fn raise_limit(connections_max: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let available = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // No limit at all is none.
    let Some(available) = available else { return connections_max };
    // One connection at least: a bridge that takes none would only look as if it ran.
    let places = usize::try_from(available.saturating_sub(OTHERS).max(1)).unwrap_or(usize::MAX);
    if places < connections_max {
        let needed = connections_max as u64 + OTHERS;
        tracing::warn!(available, needed, places, "too few open files are allowed for http.connections_max: capped");
    }
    places.min(connections_max)
}
