//! `httt pki`: a development authority, and for each member its certificate and its signing key.
//!
//! ```text
//! DIR/ca.pem, ca.key                 the authority; its key never leaves this folder
//! DIR/<CODE>/tls.pem, tls.key        certificate (SAN urn:httt:member:CODE) and key for TLS
//! DIR/<CODE>/signing.key             Ed25519, seals the member's batches
//! DIR/members/<CODE>.toml            what the gateway enrols: code, name, kind, area, public key
//! ```
//! Real members bring keys of their own; the gateway's operator then writes the member file by hand.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use httt_feed::{AgencyCode, SigningKey};
use httt_ndxp_gateway::{Kind, MemberFile};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

/// How long development certificates are good.
const DAYS: i64 = 365;

/// `httt pki …`
#[derive(Subcommand)]
pub(crate) enum PkiCommand {
    /// Makes the authority of a development folder.
    Init {
        /// The folder.
        dir: PathBuf,
    },
    /// Makes one member's certificate, keys and member file.
    Member(MemberArgs),
}

/// What kind of member.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KindArg {
    Gateway,
    Central,
    Province,
    Carrier,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Gateway => Self::Gateway,
            KindArg::Central => Self::Central,
            KindArg::Province => Self::Province,
            KindArg::Carrier => Self::Carrier,
        }
    }
}

#[derive(Args)]
pub(crate) struct MemberArgs {
    /// The folder made by `httt pki init`.
    dir: PathBuf,
    /// Agency code, e.g. H24.
    code: AgencyCode,
    /// What it is.
    #[arg(long, value_enum)]
    kind: KindArg,
    /// Name for people.
    #[arg(long, default_value = "")]
    name: String,
    /// Code of the area it answers for, e.g. 31.
    #[arg(long, default_value = "")]
    area: String,
    /// Members that carry for it, e.g. its LGSP adapter.
    #[arg(long)]
    carrier: Vec<AgencyCode>,
    /// Further DNS names or IP addresses its TLS certificate is for, besides localhost and 127.0.0.1.
    #[arg(long)]
    host: Vec<String>,
}

pub(crate) fn run(command: PkiCommand) -> Result<()> {
    match command {
        PkiCommand::Init { dir } => {
            init(&dir)?;
            println!("Đã tạo cơ quan chứng thực thử nghiệm (development authority): {}", dir.join("ca.pem").display());
        }
        PkiCommand::Member(args) => {
            let file = MemberFile {
                code: args.code.to_string(),
                name: args.name,
                kind: args.kind.into(),
                area: args.area,
                public_keys: vec![],
                certificates: vec![],
                carriers: args.carrier.iter().map(ToString::to_string).collect(),
            };
            let fingerprint = member(&args.dir, file, &args.host)?;
            println!("{} {fingerprint}", args.code);
        }
    }
    Ok(())
}

/// Makes the authority. Refuses to replace one: certificates already given would stop working.
pub(crate) fn init(dir: &Path) -> Result<()> {
    if dir.join("ca.key").exists() {
        bail!("{} already holds an authority; choose another folder", dir.display());
    }
    fs::create_dir_all(dir.join("members")).with_context(|| format!("cannot make {}", dir.display()))?;
    let key = KeyPair::generate()?;
    let certificate = authority()?.self_signed(&key)?;
    write_secret(&dir.join("ca.key"), &key.serialize_pem())?;
    fs::write(dir.join("ca.pem"), certificate.pem())?;
    Ok(())
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = name("HTTT development authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_after = OffsetDateTime::now_utc() + Duration::days(DAYS);
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

/// Makes one member's certificate and keys and its member file; returns the fingerprint of its signing key.
pub(crate) fn member(dir: &Path, mut file: MemberFile, hosts: &[String]) -> Result<httt_feed::Fingerprint> {
    let ca_key = fs::read_to_string(dir.join("ca.key"))
        .with_context(|| format!("{} holds no authority; run `httt pki init` first", dir.display()))?;
    let issuer = Issuer::new(authority()?, KeyPair::from_pem(&ca_key)?);
    let own = dir.join(&file.code);
    fs::create_dir_all(&own)?;

    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    names.extend_from_slice(hosts);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = name(&file.code);
    params.subject_alt_names.push(SanType::URI(format!("urn:httt:member:{}", file.code).try_into()?));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.not_after = OffsetDateTime::now_utc() + Duration::days(DAYS);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &issuer)?;
    fs::write(own.join("tls.pem"), certificate.pem())?;
    write_secret(&own.join("tls.key"), &key.serialize_pem())?;

    let (signing, pem) = SigningKey::generate()?;
    write_secret(&own.join("signing.key"), &pem)?;
    file.public_keys = vec![hex::encode(signing.public().value())];
    fs::write(dir.join("members").join(format!("{}.toml", file.code)), toml::to_string(&file)?)?;
    Ok(signing.public().fingerprint())
}

/// Writes a file that only its owner may read, and never over another.
pub(crate) fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
