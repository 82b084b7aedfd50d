//! `httt member …`: who takes part in the exchange, for the gateway's operator. Each change leaves an event with the
//! operator's account and reason, and asks for a one-time code.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Subcommand};
use httt_ndxp_gateway::{Command, Kind, MemberDetail, Order};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::admit::{self, AdmitArgs};
use crate::api::Refused;
use crate::operator::OperatorArgs;
use crate::pki::KindArg;

/// Largest key or certificate file.
const MAX_FILE_BYTES: u64 = 16 * 1024;

/// `httt member …`
#[derive(Args)]
pub(crate) struct MemberArgs {
    #[command(flatten)]
    operator: OperatorArgs,
    /// Print the answer as JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

#[derive(Args)]
struct Why {
    /// Why: every member can read it.
    #[arg(long)]
    reason: String,
}

#[derive(Args)]
struct Feeds {
    /// Who may read.
    reader: String,
    /// Feeds of this origin; without it, of any.
    #[arg(long, default_value = "")]
    origin: String,
    /// Feeds to this audience; without it, to any.
    #[arg(long, default_value = "")]
    audience: String,
    /// Feeds on this lane: emergency, content, directory, report, status; without it, on any.
    #[arg(long, default_value = "")]
    lane: String,
    #[command(flatten)]
    why: Why,
}

#[derive(Subcommand)]
enum Action {
    /// List the members.
    List,
    /// Show everything of one member: keys, certificates, carriers, rights.
    Show {
        /// Agency code.
        member: String,
    },
    /// Enrol a member, or change the name or area of one.
    Enrol {
        /// Agency code, e.g. H24.
        member: String,
        /// Name for people.
        #[arg(long)]
        name: String,
        /// What it is.
        #[arg(long, value_enum)]
        kind: KindArg,
        /// Code of the area it answers for, e.g. 31; empty for the nation.
        #[arg(long, default_value = "")]
        area: String,
        /// A key: 64 hexadecimal digits (Ed25519), or a PEM file (BEGIN PUBLIC KEY). May be given several times.
        #[arg(long)]
        key: Vec<String>,
        #[command(flatten)]
        why: Why,
    },
    /// Add a key that a member signs with.
    AddKey {
        /// Agency code.
        member: String,
        /// 64 hexadecimal digits (Ed25519), or a PEM file (BEGIN PUBLIC KEY).
        key: String,
        #[command(flatten)]
        why: Why,
    },
    /// Revoke a key: nothing that comes after this moment and is signed by it is taken.
    RevokeKey {
        /// Agency code.
        member: String,
        /// The key's fingerprint, 64 hexadecimal digits.
        fingerprint: String,
        #[command(flatten)]
        why: Why,
    },
    /// Admit what a revoked key signed and its owner had not sent yet, from a file that the owner made.
    Admit(AdmitArgs),
    /// Register a certificate that a member calls with; from the first one on it is known by these alone.
    AddCertificate {
        /// Agency code.
        member: String,
        /// A PEM file, or the SHA-256 of the certificate's DER.
        certificate: String,
        #[command(flatten)]
        why: Why,
    },
    /// Revoke a certificate: calls with it are refused, connections that it opened are closed.
    RevokeCertificate {
        /// Agency code.
        member: String,
        /// A PEM file, or the SHA-256 of the certificate's DER.
        certificate: String,
        #[command(flatten)]
        why: Why,
    },
    /// Suspend a member: it neither pushes nor reads until it is resumed.
    Suspend {
        /// Agency code.
        member: String,
        #[command(flatten)]
        why: Why,
    },
    /// Let a suspended member take part again.
    Resume {
        /// Agency code.
        member: String,
        #[command(flatten)]
        why: Why,
    },
    /// Let a member read feeds that it is no party to.
    GrantRead(Feeds),
    /// Take such a right back; give the same parts as when it was granted.
    WithdrawRead(Feeds),
    /// Let a carrier (LGSP adapter) push and read for a member.
    GrantCarrier {
        /// For whom.
        member: String,
        /// Who carries.
        carrier: String,
        #[command(flatten)]
        why: Why,
    },
    /// Let it do so no more.
    WithdrawCarrier {
        /// For whom.
        member: String,
        /// Who carried.
        carrier: String,
        #[command(flatten)]
        why: Why,
    },
}

/// A key or certificate as it was given: a file's text, or the digits themselves.
fn text_or_file(given: &str) -> Result<String> {
    let digits = given.len() >= 64 && given.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digits {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    let file = File::open(Path::new(given)).with_context(|| format!("cannot read {given}"))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).with_context(|| format!("{given} is no PEM file"))?;
    ensure!(text.len() as u64 <= MAX_FILE_BYTES, "{given} is larger than {MAX_FILE_BYTES} bytes");
    Ok(text)
}

impl Action {
    /// The command and its reason; `None`: it only looks.
    fn command(self) -> Result<Option<(Command, String)>> {
        let (command, why) = match self {
            Self::List | Self::Show { .. } | Self::Admit(_) => return Ok(None),
            Self::Enrol { member, name, kind, area, key, why } => {
                let keys = key.iter().map(|key| text_or_file(key)).collect::<Result<_>>()?;
                (Command::Enrol { member, name, kind: Kind::from(kind), area, keys }, why)
            }
            Self::AddKey { member, key, why } => (Command::AddKey { member, key: text_or_file(&key)? }, why),
            Self::RevokeKey { member, fingerprint, why } => (Command::RevokeKey { member, fingerprint }, why),
            Self::AddCertificate { member, certificate, why } => {
                (Command::AddCertificate { member, certificate: text_or_file(&certificate)? }, why)
            }
            Self::RevokeCertificate { member, certificate, why } => {
                (Command::RevokeCertificate { member, certificate: text_or_file(&certificate)? }, why)
            }
            Self::Suspend { member, why } => (Command::Suspend { member }, why),
            Self::Resume { member, why } => (Command::Resume { member }, why),
            Self::GrantRead(Feeds { reader, origin, audience, lane, why }) => {
                (Command::GrantRead { reader, origin, audience, lane }, why)
            }
            Self::WithdrawRead(Feeds { reader, origin, audience, lane, why }) => {
                (Command::WithdrawRead { reader, origin, audience, lane }, why)
            }
            Self::GrantCarrier { member, carrier, why } => (Command::GrantCarrier { member, carrier }, why),
            Self::WithdrawCarrier { member, carrier, why } => (Command::WithdrawCarrier { member, carrier }, why),
        };
        Ok(Some((command, why.reason)))
    }
}

pub(crate) fn run(args: MemberArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(carry_out(args))
}

async fn carry_out(args: MemberArgs) -> Result<()> {
    let MemberArgs { operator, json, action } = args;
    if let Action::Admit(args) = action {
        return admit::run(&operator, args, json).await;
    }
    let looking = match &action {
        Action::List => Some("/members".to_owned()),
        Action::Show { member } => Some(format!("/members/{member}")),
        _ => None,
    };
    // What is wrong with a file is told before anybody types a password.
    let command = action.command()?;
    let session = operator.log_in().await?;
    let answer = match (looking, command) {
        (Some(path), _) => session.get(&path).await?,
        (None, Some((command, reason))) => {
            let order = Order { command, reason, otp: Some(operator.otp()?) };
            let answer = session.try_post("/members", &serde_json::to_value(order)?).await?;
            answer.map_err(|refused| anyhow::anyhow!(told(&refused)))?
        }
        (None, None) => return Ok(()),
    };
    session.close().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else if let Some(list) = answer.as_array() {
        list.iter().for_each(print_line);
    } else {
        print_detail(&serde_json::from_value(answer)?);
    }
    Ok(())
}

/// A refusal as the node told it, Vietnamese first.
pub(crate) fn told(refused: &Refused) -> String {
    let text = |key: &str| refused.error[key].as_str().unwrap_or_default();
    match (text("message"), text("message_en")) {
        ("", "") => format!("{} {}", refused.status, refused.error),
        (vi, en) => format!("{vi}\n      {en}"),
    }
}

fn print_line(member: &Value) {
    let text = |key: &str| member[key].as_str().unwrap_or_default();
    let suspended = if member["suspended"].is_string() { "  (bị đình chỉ, suspended)" } else { "" };
    println!("{:<14} {:<9} {:<4} {}{suspended}", text("code"), text("kind"), text("area"), text("name"));
}

pub(crate) fn print_detail(member: &MemberDetail) {
    println!("{} {}", member.code, member.name);
    println!("  loại (kind)             {}", member.kind);
    if !member.area.is_empty() {
        println!("  địa bàn (area)          {}", member.area);
    }
    if let Some(reason) = &member.suspended {
        println!("  bị đình chỉ (suspended) {reason}");
    }
    for key in &member.keys {
        let state = if key.revoked { "đã thu hồi (revoked)" } else { "" };
        println!("  khoá (key)              {} {} {state}", key.fingerprint, key.algorithm);
    }
    for one in &member.certificates {
        let end = one.not_after_ms.and_then(|ms| OffsetDateTime::from_unix_timestamp(ms / 1000).ok());
        let end = end.and_then(|end| end.format(&Rfc3339).ok()).unwrap_or_default();
        let state = one.revoked.as_ref().map(|why| format!("đã thu hồi (revoked): {why}")).unwrap_or_default();
        println!("  chứng thư (certificate) {} {end} {state}", one.sha256);
    }
    member.carriers.iter().for_each(|carrier| println!("  chuyển thay (carrier)   {carrier}"));
    member.grants.iter().for_each(|grant| println!("  được đọc (may read)     {grant}"));
    if member.admitted > 0 {
        println!("  lô được chấp nhận       {} (batches admitted though their key was revoked)", member.admitted);
    }
}
