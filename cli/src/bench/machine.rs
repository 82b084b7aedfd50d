//! What the figures were measured on.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// The machine, and the disk under the folder.
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    file_system: String,
    fdatasync_p50_us: f64,
    fdatasync_p99_us: f64,
    /// Mean number of processes that wanted to run in the last minute, before the bench began.
    load: f64,
}

/// A load for each core beyond which others compete for processors and disk. Ratios between single syncing clients
/// were seen ten times off then.
const BUSY: f64 = 0.5;

impl Machine {
    /// Looks, and measures `syncs` syncs of a growing file in `dir`.
    ///
    /// # Errors
    /// The folder is in memory: nothing measured there says anything of a disk.
    pub(crate) fn look(dir: &Path, syncs: usize) -> Result<Self> {
        let file_system = file_system(dir)?;
        ensure!(
            !matches!(file_system.as_str(), "tmpfs" | "ramfs"),
            "{} is on {file_system}, which syncs nothing; name a folder on a disk with --dir",
            dir.display()
        );
        let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        let memory = field("/proc/meminfo", "MemTotal").unwrap_or_default();
        let kib: u64 = memory.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default();
        let (fdatasync_p50_us, fdatasync_p99_us) = fdatasync(dir, syncs)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self { cpu, cores, memory_mib: kib / 1024, kernel, file_system, fdatasync_p50_us, fdatasync_p99_us, load })
    }

    /// Whether others were at work when the bench began.
    fn busy(&self) -> bool {
        self.load > BUSY * self.cores as f64
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_mib": self.memory_mib,
            "kernel": self.kernel,
            "file_system": self.file_system,
            "load": self.load,
            "busy": self.busy(),
            "fdatasync_us": { "p50": self.fdatasync_p50_us, "p99": self.fdatasync_p99_us },
        })
    }

    pub(crate) fn to_text(&self) -> String {
        format!(
            "{}, {} cores, {} MiB, Linux {}, {}; fdatasync p50 {:.0} µs, p99 {:.0} µs; load {:.2}\n{}",
            self.cpu,
            self.cores,
            self.memory_mib,
            self.kernel,
            self.file_system,
            self.fdatasync_p50_us,
            self.fdatasync_p99_us,
            self.load,
            if self.busy() { "NOT ALONE ON THIS MACHINE: these figures and ratios say little\n" } else { "" },
        )
    }
}

/// What stands after `name` and a colon in a file of such lines.
pub(crate) fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

/// Type of the file system that holds `dir`.
fn file_system(dir: &Path) -> Result<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("cannot tell the file system")?;
    // Fields: … mount point (5th) … "-" type …; of several mounts at one place the last is on top.
    let mounts = mounts.lines().filter_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let point = Path::new(left.split(' ').nth(4)?);
        dir.starts_with(point).then_some((point.as_os_str().len(), right.split(' ').next()?))
    });
    let (_, kind) = mounts.max_by_key(|(length, _)| *length).context("cannot tell the file system")?;
    Ok(kind.to_owned())
}

/// p50 and p99 of writing 512 bytes at the end of a file and syncing them, in microseconds.
fn fdatasync(dir: &Path, syncs: usize) -> Result<(f64, f64)> {
    let path = dir.join("syncs");
    let file = File::create(&path)?;
    let bytes = [0xA5; 512];
    let mut took = Vec::with_capacity(syncs);
    for n in 0..syncs as u64 {
        let began = Instant::now();
        file.write_all_at(&bytes, n * bytes.len() as u64)?;
        file.sync_data()?;
        took.push(began.elapsed().as_secs_f64() * 1e6);
    }
    fs::remove_file(&path)?;
    took.sort_by(f64::total_cmp);
    let at = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    Ok((at(0.5), at(0.99)))
}
