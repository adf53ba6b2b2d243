//! Where a listener counts its connections. Those of operators are no load and have no gauge; that they were refused
//! or closed is counted under a reason of its own.

use std::sync::Arc;

use crate::metrics::{ConnectionFault, ConnectionRefusal, Metrics};

/// The counters of one listener.
#[derive(Clone)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    of_operators: bool,
}

impl Tally {
    pub(super) fn of_callbacks(metrics: Arc<Metrics>) -> Self {
        Self { metrics, of_operators: false }
    }

    pub(super) fn of_operators(metrics: Arc<Metrics>) -> Self {
        Self { metrics, of_operators: true }
    }

    pub(super) fn opened(&self) {
        if !self.of_operators {
            self.metrics.connections.inc();
        }
    }

    pub(super) fn closed(&self) {
        if !self.of_operators {
            self.metrics.connections.dec();
        }
    }

    pub(super) fn refused(&self, reason: ConnectionRefusal) {
        self.metrics.connection_refused(self.own(reason));
    }

    pub(super) fn evicted(&self, reason: ConnectionRefusal) {
        self.metrics.connection_evicted(self.own(reason));
    }

    pub(super) fn fault(&self, fault: ConnectionFault) {
        if !self.of_operators {
            self.metrics.connection_fault(fault);
        }
    }

    fn own(&self, reason: ConnectionRefusal) -> ConnectionRefusal {
        match reason {
            ConnectionRefusal::Limit if self.of_operators => ConnectionRefusal::AdminLimit,
            other => other,
        }
    }
}
