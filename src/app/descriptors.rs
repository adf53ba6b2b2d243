//! The limit of open files: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for everything that is no connection of a callback: brokers, admin, files.
const OTHERS: u64 = 256;

/// Raises the soft limit to the hard one, and says so if even that is less than the connections need.
pub(super) fn raise_limit(connections_max: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let available = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    let needed = connections_max as u64 + OTHERS;
    if let Some(available) = available.filter(|available| *available < needed) {
        tracing::warn!(available, needed, "fewer open files are allowed than http.connections_max asks for");
    }
}
