//! Key files are read again and again: a rotated key is in use within seconds, without a restart.

use std::sync::Arc;

use crate::callback::{ActiveKeyring, Config, KeyConfig, Reread};
use crate::metrics::Metrics;

/// Whether there are key files at all: the demo has its key from nowhere.
pub(super) fn have_files(config: &Config) -> bool {
    config.keys.iter().any(|key| !key.file.as_os_str().is_empty())
}

/// Reads the key files whenever it is called, and keeps `active` equal to them. A file that cannot be used leaves its
/// own key as it was, and no other.
pub(super) fn look(config: Config, active: Arc<ActiveKeyring>, metrics: Arc<Metrics>) -> impl FnMut() + Send {
    let mut faults = vec![String::new(); config.keys.len()];
    move || {
        let (keyring, found) = active.current().reread(&config);
        // What is said to be in use is in use.
        if found.iter().any(|found| matches!(found, Reread::Changed)) {
            active.replace(keyring);
        }
        for ((key, fault), found) in config.keys.iter().zip(&mut faults).zip(&found) {
            tell(key, fault, found, &metrics);
        }
    }
}

/// Says what became of one key. A fault that lasts is shown as long, and told once; `told` is the one that was told.
fn tell(key: &KeyConfig, told: &mut String, found: &Reread, metrics: &Metrics) {
    let fault = if let Reread::Rejected(error) = found { error.to_string() } else { String::new() };
    let (name, file) = (&key.name, key.file.display());
    metrics.keys.file_rejected(name, !fault.is_empty());
    match found {
        Reread::Changed => {
            metrics.keys.reloaded(true);
            tracing::info!(key = name, %file, "a key file has changed; the new key is in use");
        }
        Reread::Rejected(_) if fault != *told => {
            metrics.keys.reloaded(false);
            tracing::error!(key = name, %file, error = fault, "a key file cannot be used; the key stays as it was");
        }
        Reread::Same if !told.is_empty() => {
            tracing::info!(key = name, %file, "a key file can be used again, and holds the key that is in use");
        }
        Reread::Same | Reread::Rejected(_) => {}
    }
    *told = fault;
}
