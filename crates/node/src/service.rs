//! `main` without its boilerplate: runtime, telemetry, signals, exit codes.

use std::future::Future;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use crate::accounts::AccountsError;
use crate::config::{ConfigError, TelemetryConfig};
use crate::shutdown::Shutdown;
use crate::telemetry::{self, TelemetryError};
use crate::tls::TlsError;

/// Exit code after a failure while running.
pub const EXIT_FAILED: u8 = 1;
/// Exit code for a configuration that cannot work (`EX_CONFIG` of sysexits.h): starting again will not help, so a
/// systemd unit names it in `RestartPreventExitStatus=`.
pub const EXIT_CONFIG: u8 = 78;
/// How long parts may take to end once told.
pub const STOP_DEADLINE: Duration = Duration::from_secs(30);
/// How long tasks that nobody tracks may take after that.
const RUNTIME_DEADLINE: Duration = Duration::from_secs(2);

/// Runs a service until its `main` returns or a signal stops it, then waits for its parts and says how it ended.
///
/// `main` starts its parts with [`Shutdown::spawn`], calls [`announce_ready`], and awaits [`Shutdown::cancelled`].
/// `worker_threads` defaults to the number of cores.
pub fn run_service<F, Fut>(
    name: &str,
    telemetry: &TelemetryConfig,
    worker_threads: Option<NonZeroUsize>,
    main: F,
) -> ExitCode
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    match try_run(name, telemetry, worker_threads, main) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(name, &error),
    }
}

/// Says on stderr why a service does not run, and gives the exit code for it: [`EXIT_CONFIG`] when the configuration
/// is at fault, otherwise [`EXIT_FAILED`].
pub fn report(name: &str, error: &anyhow::Error) -> ExitCode {
    // Not a log line: the operator who started the service reads this, whatever the log filter says.
    let _ = writeln!(io::stderr(), "{name}: {error:#}");
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let configuration = error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.is::<AccountsError>()
            || cause.is::<TlsError>()
            || matches!(cause.downcast_ref(), Some(TelemetryError::Filter { .. } | TelemetryError::Endpoint(_)))
    });
    if configuration { EXIT_CONFIG } else { EXIT_FAILED }
}

/// Prints the one line that says a service is ready: its name and where it listens.
pub fn announce_ready(name: &str, details: &str) {
    tracing::info!(service = name, details, "ready");
    // A closed stdout is no reason to stop a service.
    let _ = writeln!(io::stdout(), "{name} sẵn sàng (ready): {details}");
}

fn try_run<F, Fut>(
    name: &str,
    telemetry: &TelemetryConfig,
    worker_threads: Option<NonZeroUsize>,
    main: F,
) -> anyhow::Result<()>
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = worker_threads {
        builder.worker_threads(threads.get());
    }
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let inside = runtime.enter();
    let telemetry = telemetry::init(name, telemetry)?;
    let result = runtime.block_on(supervise(main));
    if let Err(error) = &result {
        tracing::error!("{error:#}");
    }
    // The exporter needs the runtime, so the last traces leave before it ends.
    telemetry.shutdown();
    drop(inside);
    runtime.shutdown_timeout(RUNTIME_DEADLINE);
    result
}

async fn supervise<F, Fut>(main: F) -> anyhow::Result<()>
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let result = main(shutdown.clone()).await;
    conclude(&shutdown, result, STOP_DEADLINE).await
}

/// Stops what still runs and tells the first thing that went wrong.
async fn conclude(shutdown: &Shutdown, result: anyhow::Result<()>, deadline: Duration) -> anyhow::Result<()> {
    shutdown.trigger();
    let stopped = shutdown.wait(deadline).await;
    result?;
    if let Some(why) = shutdown.failure() {
        anyhow::bail!(why);
    }
    if let Err(parts) = stopped {
        anyhow::bail!("did not stop in time: {}", parts.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn exit_codes_tell_configuration_from_failure() {
        let missing = crate::config::load::<TelemetryConfig>(Path::new("/nowhere/x.toml")).expect_err("missing");
        assert_eq!(exit_code(&anyhow::Error::new(missing).context("starting")), EXIT_CONFIG);
        assert_eq!(exit_code(&TelemetryError::Endpoint("x".to_owned()).into()), EXIT_CONFIG);
        assert_eq!(exit_code(&anyhow::anyhow!("disk full")), EXIT_FAILED);
    }

    #[tokio::test]
    async fn the_first_thing_that_went_wrong_is_told() {
        let deadline = Duration::ZERO;
        let shutdown = Shutdown::new();
        assert!(conclude(&shutdown, Ok(()), deadline).await.is_ok());
        assert!(shutdown.is_triggered());

        let slow = shutdown.track("exchange");
        let told = conclude(&shutdown, Ok(()), deadline).await.expect_err("late").to_string();
        assert_eq!(told, "did not stop in time: exchange");

        shutdown.fail("log: disk full");
        let told = conclude(&shutdown, Ok(()), deadline).await.expect_err("failed").to_string();
        assert_eq!(told, "log: disk full");
        let told = conclude(&shutdown, Err(anyhow::anyhow!("main")), deadline).await.expect_err("main").to_string();
        assert_eq!(told, "main");
        drop(slow);
    }

    #[test]
    fn a_service_runs_to_its_end() {
        // The only test that installs telemetry for the process; the test runner gives each test its own.
        let code = run_service("test", &TelemetryConfig::default(), NonZeroUsize::new(1), |shutdown| async move {
            let stop = shutdown.cancelled();
            shutdown.spawn("part", async move {
                stop.await;
                Ok::<_, std::convert::Infallible>(())
            });
            announce_ready("test", "nowhere");
            Ok(())
        });
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::SUCCESS));
    }
}
