//! Other people's programs that tests judge ours with. What is missing is installed, from Debian and PyPI; where that
//! cannot be done the test fails.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a command; panics with what it said unless it succeeds.
fn must(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
}

fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn install(packages: &[&str]) {
    let apt = |args: &[&str]| {
        let mut command = if works(Command::new("id").arg("-u")) && is_root() {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        // Another test may be installing something.
        command.args(["-o", "DPkg::Lock::Timeout=300", "-q", "-y"]).args(args);
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    must(&mut apt(&["update"]));
    must(apt(&["install", "--no-install-recommends"]).args(packages));
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Folder for what is built once and used by many tests: `target/interop`.
fn cache() -> PathBuf {
    // target/<profile>/deps/<test>
    let test = std::env::current_exe().expect("own path");
    let target = test.ancestors().nth(3).expect("target folder");
    let folder = target.join("interop");
    fs::create_dir_all(&folder).expect("folder");
    folder
}

/// One process at a time, as long as it lives.
fn lock(name: &str) -> File {
    let file = File::create(cache().join(format!("{name}.lock"))).expect("lock file");
    file.lock().expect("lock");
    file
}

/// Builds a Go program out of one file that needs nothing but Debian's `golang-golang-x-mod-dev`; no network.
///
/// # Panics
/// Go cannot be installed, or the program does not compile.
pub fn go_program(source: &Path) -> PathBuf {
    let _one = lock("go");
    let library = Path::new("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog");
    if !library.is_dir() || !works(Command::new("go").arg("version")) {
        install(&["golang-go", "golang-golang-x-mod-dev"]);
    }
    let program = cache().join(source.file_stem().expect("a file"));
    let mut build = Command::new("go");
    build.arg("build").arg("-o").arg(&program).arg(source);
    build.envs([("GO111MODULE", "off"), ("GOFLAGS", ""), ("GOPATH", "/usr/share/gocode"), ("CGO_ENABLED", "0")]);
    must(build.env("GOCACHE", cache().join("go-cache")));
    program
}

/// The `curl` program, installed where missing.
///
/// # Panics
/// It cannot be installed.
pub fn curl() -> Command {
    let _one = lock("curl");
    if !works(Command::new("curl").arg("--version")) {
        install(&["curl"]);
    }
    Command::new("curl")
}

/// The program of a NATS server, Debian's, installed where missing.
///
/// # Panics
/// It cannot be installed.
pub fn nats_server() -> Command {
    let _one = lock("nats-server");
    // Debian puts it where only administrators look.
    let found = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        folders.find_map(|folder| Some(folder.join("nats-server")).filter(|file| file.is_file()))
    };
    if found().is_none() {
        install(&["nats-server"]);
    }
    Command::new(found().expect("apt-get installed nats-server"))
}

/// A Python with `packages` (as `name==version`) from PyPI, in an environment of its own.
///
/// # Panics
/// Python or a package cannot be installed.
pub fn python(packages: &[&str]) -> PathBuf {
    let _one = lock("python");
    let folder = cache().join("python");
    let (python, done) = (folder.join("bin/python3"), folder.join("installed"));
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) && works(Command::new(&python).arg("-V")) {
        return python;
    }
    let make = || {
        let mut make = Command::new("python3");
        make.args(["-m", "venv", "--clear"]).arg(&folder);
        make
    };
    if !works(&mut make()) {
        install(&["python3", "python3-venv"]);
        must(&mut make());
    }
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(packages);
    must(&mut pip);
    fs::write(&done, wanted).expect("write");
    python
}
