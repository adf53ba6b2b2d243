//! Key files are read again and again: a rotated secret is in use within seconds, without a restart.
//!
//! Mounted secrets are replaced by moving a symbolic link, which file watchers see in many different ways; reading a
//! few dozen bytes now and then sees it in one. It happens on a thread that nobody waits for, since a mounted volume
//! may hang.

use std::io;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use crate::callback::{ActiveKeyring, Config, Keyring};
use crate::metrics::Metrics;

/// How often key files are looked at. The provider takes 5 to 10 minutes to roll out a new key.
const INTERVAL: Duration = Duration::from_secs(5);

/// Keeps `active` equal to the key files for as long as somebody holds it. A file that cannot be used leaves every key
/// as it was.
pub(super) fn keep_fresh(config: Config, active: &Arc<ActiveKeyring>, metrics: Arc<Metrics>) -> io::Result<()> {
    // The demo has its key from nowhere.
    if config.keys.iter().all(|key| key.file.as_os_str().is_empty()) {
        return Ok(());
    }
    let active = Arc::downgrade(active);
    let work = move || {
        let mut failed = false;
        while reload(&config, &active, &metrics, &mut failed) {
            thread::sleep(INTERVAL);
        }
    };
    thread::Builder::new().name("key-files".to_owned()).spawn(work).map(drop)
}

/// Reads the key files once; `false` when nobody holds the keyring any more.
fn reload(config: &Config, active: &Weak<ActiveKeyring>, metrics: &Metrics, failed: &mut bool) -> bool {
    let result = Keyring::read(config);
    let Some(active) = active.upgrade() else { return false };
    match result {
        Ok(keyring) => {
            *failed = false;
            if !keyring.is_same_as(&active.current()) {
                active.replace(keyring);
                metrics.keys_reloaded(true);
                tracing::info!("key files have changed; the new keys are in use");
            }
        }
        Err(faults) if !*failed => {
            *failed = true;
            metrics.keys_reloaded(false);
            for (key, error) in faults {
                tracing::error!(key, %error, "a key file cannot be used; the keys stay as they were");
            }
        }
        Err(_) => {}
    }
    true
}
