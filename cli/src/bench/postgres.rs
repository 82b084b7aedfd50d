//! PostgreSQL, driven by its own `pgbench` over a socket in its folder.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::peer::{self, Server};
use super::work::{Measured, STREAMS, Source, Store, Work};

const INSTALL: &str = "apt-get install postgresql";
/// The account that runs it when we are root, which it refuses.
const ACCOUNT: &str = "postgres";
/// What the events go into: as the log, it finds an event by position, by id and by stream.
const TABLE: &str = "create table event (position bigserial primary key, id uuid not null unique, stream text not null, \
                     kind text not null, data bytea not null); create index on event (stream)";

/// A running server.
pub(crate) struct Postgres {
    dir: PathBuf,
    bin: PathBuf,
    account: Option<(u32, u32)>,
    _server: Server,
}

impl Postgres {
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        // Debian keeps the programs beside their version; the newest is the last by name.
        let mut found: Vec<PathBuf> = match fs::read_dir("/usr/lib/postgresql") {
            Ok(items) => items.filter_map(|item| Some(item.ok()?.path().join("bin/initdb"))).collect(),
            Err(_) => vec![],
        };
        found.sort();
        found.reverse();
        let initdb = peer::program("initdb", &found, INSTALL)?;
        // What stands in PATH may be a link to where all of it is.
        let bin = initdb.canonicalize()?.parent().context("initdb has no folder")?.to_owned();
        let account = if fs::metadata("/proc/self")?.uid() == 0 { Some(account()?) } else { None };
        let base = dir;
        let dir = dir.join("postgres");
        fs::create_dir_all(&dir)?;
        if let Some((user, group)) = account {
            // It must be able to reach its folder.
            fs::set_permissions(base, Permissions::from_mode(0o711))?;
            chown(&dir, Some(user), Some(group))?;
        }
        let command = |program: &str| {
            let mut command = Command::new(bin.join(program));
            command.current_dir(&dir);
            if let Some((user, group)) = account {
                command.uid(user).gid(group);
            }
            command
        };
        let data = dir.join("data");
        checked(command("initdb").args(["--auth=trust", "--username=bench", "--pgdata"]).arg(&data))?;
        let mut run = command("postgres");
        run.arg("-D").arg(&data).arg("-k").arg(&dir);
        for setting in ["listen_addresses=", "synchronous_commit=on", "fsync=on", "wal_sync_method=fdatasync"] {
            run.args(["-c", setting]);
        }
        let mut server = Server::start(run, &dir).context("postgres")?;
        let psql = |sql: &str| {
            let mut psql = command("psql");
            psql.arg("-h").arg(&dir).args(["-U", "bench", "-d", "postgres", "-q", "-c", sql]);
            psql
        };
        server.wait_for(|| checked(&mut psql("select 1"))).context("postgres")?;
        checked(&mut psql(TABLE))?;
        Ok(Self { dir, bin, account, _server: server })
    }
}

/// User and group of the account that runs it.
fn account() -> Result<(u32, u32)> {
    let accounts = fs::read_to_string("/etc/passwd")?;
    let fields = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let found = fields.into_iter().find(|fields| fields.first() == Some(&ACCOUNT));
    match found.as_deref() {
        Some([_, _, user, group, ..]) => Ok((user.parse()?, group.parse()?)),
        _ => bail!("there is no account {ACCOUNT}; {INSTALL}"),
    }
}

/// Runs to the end; gives standard output.
fn checked(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_owned();
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", program.display(), error.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Store for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn note(&self) -> &'static str {
        "pgbench over a socket, prepared inserts, synchronous_commit=on; the server makes the ids of a batch itself"
    }

    fn durable(&self) -> bool {
        true
    }

    fn run(&mut self, source: &mut Source, work: Work) -> Result<Measured> {
        let payload = hex::encode(source.record(work.payload).data);
        // The server makes a batch's rows out of one payload, which saves it from parsing them: in its favour.
        let insert = format!(
            "insert into event (id, stream, kind, data) select gen_random_uuid(), \
             'status/' || floor(random() * {STREAMS})::int, '{}', '\\x{payload}' from generate_series(1, {});\n",
            super::work::KIND,
            work.shape.events
        );
        let script = self.dir.join("insert.sql");
        fs::write(&script, insert)?;
        let mut pgbench = Command::new(self.bin.join("pgbench"));
        if let Some((user, group)) = self.account {
            pgbench.uid(user).gid(group);
        }
        let tasks = work.shape.tasks().to_string();
        pgbench.current_dir(&self.dir).arg("-h").arg(&self.dir).args(["-U", "bench", "-n", "-M", "prepared", "-f"]);
        pgbench.arg(&script).args(["-c", &tasks, "-j", if work.shape.tasks() == 1 { "1" } else { "2" }]);
        let said = checked(pgbench.args(["-t", &work.commits.to_string(), "postgres"]))?;
        // "tps = 1234.5 (without initial connection time)"
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse::<f64>().ok());
        let rate = rate.with_context(|| format!("pgbench said no rate: {said}"))?;
        let commits = (work.commits * work.shape.tasks()) as f64;
        let elapsed = Duration::try_from_secs_f64(commits / rate).context("pgbench said no usable rate")?;
        Ok(Measured { events: work.events(), elapsed, groups: None })
    }
}
