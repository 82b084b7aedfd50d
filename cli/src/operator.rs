//! An operator at a node's API: where it is, who logs in, and how secrets come in without standing on a command line.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use httt_node::client::HttpClient;
use httt_node::tls::anonymous_client_config;

use crate::api::Session;

/// Largest secret: a password or a one-time code in a file.
const MAX_SECRET_BYTES: u64 = 4 * 1024;
/// Environment variable for the password.
const PASSWORD_VARIABLE: &str = "HTTT_PASSWORD";
/// Environment variable for the one-time code.
const OTP_VARIABLE: &str = "HTTT_OTP";

/// Which node, and who asks.
#[derive(Args)]
pub(crate) struct OperatorArgs {
    /// The node's HTTP address, `https://host:port`.
    #[arg(long, value_name = "URL")]
    server: String,
    /// The authority of the node's certificate, PEM.
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// The account to log in with.
    #[arg(long, value_name = "NAME")]
    account: String,
    /// Read the password from this file; otherwise from HTTT_PASSWORD, otherwise it is asked for.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the one-time code from this file; otherwise from HTTT_OTP, otherwise it is asked for.
    #[arg(long, value_name = "FILE")]
    otp_file: Option<PathBuf>,
}

impl OperatorArgs {
    /// Logs in.
    pub(crate) async fn log_in(&self) -> Result<Session> {
        ensure!(
            self.server.starts_with("https://"),
            "--server {}: an address begins with https://; a password does not travel in clear",
            self.server
        );
        let tls = anonymous_client_config(&self.ca)?;
        let password = secret(self.password_file.as_deref(), PASSWORD_VARIABLE, "Mật khẩu (password)", true)?;
        Session::open(&HttpClient::new(tls), self.server.trim_end_matches('/'), &self.account, &password).await
    }

    /// A fresh one-time code.
    pub(crate) fn otp(&self) -> Result<String> {
        secret(self.otp_file.as_deref(), OTP_VARIABLE, "Mã OTP (one-time code)", false)
    }
}

fn secret(file: Option<&Path>, variable: &str, prompt: &str, hidden: bool) -> Result<String> {
    if let Some(path) = file {
        let mut text = String::new();
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        file.take(MAX_SECRET_BYTES).read_to_string(&mut text).with_context(|| format!("{}", path.display()))?;
        return Ok(text.trim_end_matches(['\r', '\n']).to_owned());
    }
    if let Ok(text) = std::env::var(variable) {
        return Ok(text);
    }
    if !std::io::stdin().is_terminal() {
        bail!("{prompt}: nobody can be asked here; set {variable} or name a file");
    }
    ask(prompt, hidden)
}

/// Asks at the terminal, which does not show what is typed if it is hidden.
fn ask(prompt: &str, hidden: bool) -> Result<String> {
    eprint!("{prompt}: ");
    std::io::stderr().flush()?;
    let echo = |setting: &str| Command::new("stty").arg(setting).stdin(Stdio::inherit()).status();
    if hidden {
        echo("-echo").context("the terminal's echo cannot be turned off; use a file or the environment")?;
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    if hidden {
        echo("echo")?;
        eprintln!();
    }
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
