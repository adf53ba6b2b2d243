//! `serve`: run the bridge until SIGTERM or SIGINT.

use std::path::{Path, PathBuf};

use super::{CommandError, logging};
use crate::app::{App, AppError};
use crate::callback::Keyring;
use crate::config::Config;
use crate::shutdown::Shutdown;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Configuration file (config.yaml in the project's folder explains every key).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), CommandError> {
    let config = read_config(&arguments.config)?;
    let _logs = logging::start(config.log);
    for warning in config.warnings() {
        tracing::warn!(warning, "configuration");
    }
    let keyring = read_keys(&config)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        topic = config.kafka.topic,
        brokers = config.kafka.brokers.join(","),
        keys = keyring.keys().len(),
        "starting"
    );
    let app = App::build(config, keyring).map_err(|error| match error {
        AppError::Producer(_) | AppError::Tls(_) => CommandError::Usage(error.to_string()),
        AppError::Listen(..) | AppError::Spool(_) | AppError::System(..) => CommandError::Failed(error.to_string()),
    })?;
    app.run(&Shutdown::new()).map_err(|error| CommandError::Failed(error.to_string()))
}

/// The configuration, or every fault of it.
pub(super) fn read_config(path: &Path) -> Result<Config, CommandError> {
    Config::read(path).map_err(|faults| CommandError::Usage(format!("the configuration is faulty:\n{faults}")))
}

/// The keys, or every key file that gives none.
pub(super) fn read_keys(config: &Config) -> Result<Keyring, CommandError> {
    Keyring::read(&config.callback).map_err(|faults| {
        let lines: Vec<String> = faults
            .iter()
            .map(|(name, error)| {
                let file = config.callback.keys.iter().find(|key| &key.name == name).map(|key| key.file.display());
                let file = file.map(|file| format!(" ({file})")).unwrap_or_default();
                format!("key {name}{file}: {error}")
            })
            .collect();
        CommandError::Usage(lines.join("\n"))
    })
}
