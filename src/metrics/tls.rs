//! The certificate of the callback listener in numbers.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::Declare;

/// Metrics of the certificate. Its gauges are absent where the listener speaks plain HTTP: no alert may stand on a
/// certificate that is not there.
pub struct TlsMetrics {
    not_after: IntGaugeVec,
    files_usable: IntGaugeVec,
    reloads: IntCounterVec,
}

impl TlsMetrics {
    pub(super) fn new(declare: &mut Declare) -> Self {
        let metrics = Self {
            not_after: declare.gauges(
                "tls_certificate_not_after_timestamp_seconds",
                "End of the validity of the certificate in use, in seconds since 1970.",
                &[],
            ),
            files_usable: declare.gauges(
                "tls_certificate_files_usable",
                "Whether the files of certificate and key can be used: 1, or 0 while an older pair stays in use.",
                &[],
            ),
            reloads: declare.counters(
                "tls_certificate_reloads_total",
                "Changes of the files of certificate and key, by result.",
                &["result"],
            ),
        };
        for taken in [true, false] {
            metrics.reloads.with_label_values(&[result(taken)]);
        }
        metrics
    }

    /// A certificate that is valid until then, in seconds since 1970, is in use.
    pub fn in_use(&self, not_after_seconds: i64) {
        self.not_after.with_label_values::<&str>(&[]).set(not_after_seconds);
    }

    /// Whether a pair could be read when the files were looked at last.
    pub fn files_usable(&self, usable: bool) {
        self.files_usable.with_label_values::<&str>(&[]).set(i64::from(usable));
    }

    /// Counts a change of the files that was taken over, or could not be.
    pub fn reloaded(&self, taken: bool) {
        self.reloads.with_label_values(&[result(taken)]).inc();
    }
}

fn result(taken: bool) -> &'static str {
    if taken { "taken" } else { "rejected" }
}
