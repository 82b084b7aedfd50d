//! The command line that every service has.

use std::future::Future;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::config::{TelemetryConfig, load};
use crate::service::{report, run_service};
use crate::shutdown::Shutdown;

/// Arguments of a service.
#[derive(Debug, Clone, clap::Args)]
pub struct ServiceArgs {
    /// The configuration, a TOML file; deploy/ has a commented sample.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Read the configuration, say whether it is good, and exit.
    #[arg(long)]
    pub check: bool,
}

/// What of a configuration is needed before the runtime stands.
pub type Basics<'a> = (&'a TelemetryConfig, Option<NonZeroUsize>);

impl ServiceArgs {
    /// Loads the configuration and runs the service until a signal stops it or it fails.
    pub fn main<C, F, Fut>(self, name: &'static str, basics: fn(&C) -> Basics<'_>, run: F) -> ExitCode
    where
        C: DeserializeOwned,
        F: FnOnce(C, Shutdown) -> Fut,
        Fut: Future<Output = anyhow::Result<()>>,
    {
        let config: C = match load(&self.config) {
            Ok(config) => config,
            Err(error) => return report(name, &error.into()),
        };
        if self.check {
            println!("{}: cấu hình hợp lệ (configuration is good)", self.config.display());
            return ExitCode::SUCCESS;
        }
        let (telemetry, threads) = basics(&config);
        let telemetry = telemetry.clone();
        run_service(name, &telemetry, threads, |shutdown| run(config, shutdown))
    }
}
