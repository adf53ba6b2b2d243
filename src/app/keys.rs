//! Key files are read again and again: a rotated secret is in use within seconds, without a restart.
//!
//! Mounted secrets are replaced by moving a symbolic link, which file watchers see in many different ways; reading a
//! few dozen bytes now and then sees it in one.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::callback::{ActiveKeyring, Config, Keyring};
use crate::metrics::Metrics;

/// How often key files are looked at. The provider takes 5 to 10 minutes to roll out a new key.
const INTERVAL: Duration = Duration::from_secs(5);

/// Keeps `active` equal to the key files. A file that cannot be used leaves every key as it was.
pub(super) async fn reload_for_ever(config: Config, active: Arc<ActiveKeyring>, metrics: Arc<Metrics>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        ticks.tick().await;
        // The demo has its key from nowhere.
        if config.keys.iter().all(|key| key.file.as_os_str().is_empty()) {
            continue;
        }
        match Keyring::read(&config) {
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
}
