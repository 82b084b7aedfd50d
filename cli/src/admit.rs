//! `httt member admit`: batches that a stolen and revoked key signed, but that are the owner's and were not sent yet, come
//! back by a file. The gateway says what would be admitted; the operator compares it with what the member reads out from
//! its own node (`httt key sealed`), and only then admits it.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use httt_feed::AgencyCode;
use httt_ndxp_gateway::{AdmissionAnswer, Command, KeptOutAnswer, MAX_ADMISSION_FILE_BYTES, Order};
use httt_node::exchange::carry::{Decoder, Encoder, FormatError, Part};

use crate::keep::time;
use crate::member::{print_detail, told};
use crate::operator::OperatorArgs;

/// Bytes read from a file at a time.
const PIECE_BYTES: usize = 64 << 10;
/// Digits of a digest that people read out: nobody makes another batch with the same ones.
const READ_OUT_DIGITS: usize = 32;

#[derive(Args)]
pub(crate) struct AdmitArgs {
    /// Agency code.
    member: AgencyCode,
    /// A file that the member made with `httt feed export --for` the gateway.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// Why, and who brought it: every member can read it.
    #[arg(long)]
    reason: String,
    /// Admit without asking. Without it the terminal is asked; where there is none, it is only shown what would be
    /// admitted.
    #[arg(long)]
    yes: bool,
}

/// The beginning of a digest as people read it out.
pub(crate) fn read_out(digest: &str) -> String {
    let digits: Vec<char> = digest.chars().take(READ_OUT_DIGITS).collect();
    digits.chunks(4).map(String::from_iter).collect::<Vec<_>>().join(" ")
}

pub(crate) async fn run(operator: &OperatorArgs, args: AdmitArgs, json: bool) -> Result<()> {
    let AdmitArgs { member, from, reason, yes } = args;
    // What is wrong with the file is told before anybody types a password.
    let file = own_part(&from, &member)?;
    let session = operator.log_in().await?;
    let path = format!("/members/{member}/admissions");
    let read = session.try_post_bytes(&path, "application/octet-stream", file).await?;
    let answer = read.map_err(|refused| anyhow!(told(&refused)))?;
    let found: AdmissionAnswer = serde_json::from_value(answer.clone())?;
    if !json {
        print(&found);
    }
    if !yes && !agreed()? {
        if json {
            println!("{}", serde_json::to_string_pretty(&answer)?);
        }
        eprintln!("Chưa chấp nhận gì; chạy lại với --yes khi đã so mã (nothing is admitted; --yes once compared).");
        session.close().await;
        return Ok(());
    }
    let command = Command::Admit { member: member.to_string(), admission: found.admission };
    let order = Order { command, reason, otp: Some(operator.otp()?) };
    let answer = session.try_post("/members", &serde_json::to_value(order)?).await?;
    let answer = answer.map_err(|refused| anyhow!(told(&refused)))?;
    session.close().await;
    if json {
        println!("{}", serde_json::to_string_pretty(&answer)?);
    } else {
        println!("Đã chấp nhận {} lô (batches admitted).", found.batches);
        print_detail(&serde_json::from_value(answer)?);
    }
    Ok(())
}

fn print(found: &AdmissionAnswer) {
    let AdmissionAnswer { member, batches, feeds, .. } = found;
    println!("{member}: {batches} lô chỉ bị từ chối vì khoá đã thu hồi (batches kept out by a revoked key alone)");
    for KeptOutAnswer { feed, first, last, batches, sealed_from_ms, sealed_until_ms, digest, key, unknown_key } in feeds
    {
        println!("  {feed}  {first}–{last}: {batches} lô (batches)");
        println!("    niêm phong (sealed)     {} – {}", time(*sealed_from_ms), time(*sealed_until_ms));
        println!("    khoá (key)              {key}");
        println!("    mã lô cuối (last digest) {}", read_out(digest));
        if *unknown_key > 0 {
            println!(
                "    {unknown_key} lô sau đó dùng khoá chưa ghi danh: hãy thêm khoá mới (follow by a key that is not \
                 added yet: httt member add-key)"
            );
        }
    }
    println!(
        "Gọi điện cho {member}: `httt key sealed` ở nút của họ phải cho đúng số cuối và mã lô cuối của từng luồng.\n\
         (Telephone {member}: `httt key sealed` on its own node must show the same last sequence and digest of each feed.)"
    );
}

/// Whether the person at the terminal says yes; nobody there is a no.
fn agreed() -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("Mã đã khớp, chấp nhận? (they agree, admit?) [có/yes]: ");
    std::io::stderr().flush()?;
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    Ok(matches!(line.trim().to_lowercase().as_str(), "có" | "co" | "yes" | "y"))
}

/// Of a file what `member` itself says, as a file: neither media nor others' feeds are needed.
fn own_part(path: &Path, member: &AgencyCode) -> Result<Vec<u8>> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let broken = |error: FormatError| anyhow!("{}: {} ({error})", path.display(), error.fault.vi());
    let (mut decoder, mut encoder, mut kept) = (Decoder::default(), None, Vec::new());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let count = file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        if count == 0 {
            break;
        }
        decoder.push(&piece[..count]);
        while let Some(part) = decoder.next_part().map_err(broken)? {
            match (part, &mut encoder) {
                (Part::Manifest(mut manifest), _) => {
                    manifest.media.clear();
                    let (begun, bytes) = Encoder::begin(&manifest);
                    encoder = Some(begun);
                    kept.extend_from_slice(&bytes);
                }
                (Part::Entries { feed, entries }, Some(encoder)) if feed.origin == *member => {
                    kept.extend_from_slice(&encoder.entries(&feed, entries)?);
                }
                _ => {}
            }
        }
        if kept.len() as u64 > MAX_ADMISSION_FILE_BYTES {
            bail!(
                "{}: quá lớn; hãy xuất với --since một tệp do sàn làm (more than {MAX_ADMISSION_FILE_BYTES} bytes of \
                 {member}'s own entries: export with --since a file that the exchange made)",
                path.display()
            );
        }
    }
    decoder.finish().map_err(broken)?;
    if let Some(encoder) = encoder {
        kept.extend_from_slice(&encoder.end());
    }
    Ok(kept)
}
