//! Key files are read again and again: a rotated key is in use within seconds, without a restart.

use std::sync::Arc;

use crate::callback::{ActiveKeyring, Config, Keyring};
use crate::metrics::Metrics;

/// Whether there are key files at all: the demo has its key from nowhere.
pub(super) fn have_files(config: &Config) -> bool {
    config.keys.iter().any(|key| !key.file.as_os_str().is_empty())
}

/// Reads the key files whenever it is called, and keeps `active` equal to them. A file that cannot be used leaves every
/// key as it was.
pub(super) fn look(config: Config, active: Arc<ActiveKeyring>, metrics: Arc<Metrics>) -> impl FnMut() + Send {
    let mut failed = false;
    move || match Keyring::read(&config) {
        Ok(keyring) => {
            failed = false;
            if !keyring.is_same_as(&active.current()) {
                active.replace(keyring);
                metrics.keys_reloaded(true);
                tracing::info!("key files have changed; the new keys are in use");
            }
        }
        Err(faults) if !failed => {
            failed = true;
            metrics.keys_reloaded(false);
            for (key, error) in faults {
                tracing::error!(key, %error, "a key file cannot be used; the keys stay as they were");
            }
        }
        Err(_) => {}
    }
}
