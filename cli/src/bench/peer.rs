//! What the peers share: a process on loopback that ends when the bench does.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};

/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(20);
/// How long it is asked again after.
const AGAIN: Duration = Duration::from_millis(50);

/// A started server; killed by its process id when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts `command`; what it says goes to a file in `dir`.
    pub(crate) fn start(mut command: Command, dir: &Path) -> Result<Self> {
        let log = dir.join("output");
        let out = std::fs::File::create(&log)?;
        let program = command.get_program().to_owned();
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { child, log })
    }

    /// Waits until `ready` succeeds.
    pub(crate) fn wait_for<T>(&mut self, mut ready: impl FnMut() -> Result<T>) -> Result<T> {
        let began = Instant::now();
        loop {
            let error = match ready() {
                Ok(ready) => return Ok(ready),
                Err(error) => error,
            };
            let ended: Option<ExitStatus> = self.child.try_wait()?;
            if ended.is_some() || began.elapsed() > START {
                let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                bail!("it did not start ({ended:?}): {error:#}; it said: {said}");
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program in `PATH`, or one of the further places.
pub(crate) fn program(name: &str, further: &[PathBuf], install: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    in_path
        .chain(further.iter().cloned())
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("{name} is not installed; {install}"))
}

/// A port nobody listens on just now.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
