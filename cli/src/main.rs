//! `httt`: the command-line tool of the grassroots-information source system.

mod admit;
mod api;
mod audit;
mod bench;
mod demo;
mod feed;
mod keep;
mod key;
mod load;
mod log;
mod member;
mod models;
mod operator;
mod pki;
mod proof;
mod sim;
mod thin;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Công cụ dòng lệnh của hệ thống thông tin nguồn.
///
/// The command-line tool of the grassroots-information source system.
#[derive(Parser)]
#[command(name = "httt", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole system on this machine: gateway, ministry, provinces, loudspeaker clusters.
    Demo(demo::DemoArgs),
    /// Make a development authority, and members' certificates and keys.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Look into a log's folder, back it up, restore, archive, repair.
    #[command(subcommand)]
    Log(log::LogCommand),
    /// Carry feeds by hand, in files.
    #[command(subcommand)]
    Feed(feed::FeedCommand),
    /// Prove a log.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Enrol members of the exchange, suspend them, change their keys and rights.
    Member(member::MemberArgs),
    /// Change the key that a node seals with.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Measure on this machine.
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// What a load comes to, in virtual time.
    #[command(subcommand)]
    Load(load::LoadCommand),
    /// Run the exchange's protocol under a seeded simulator: virtual time, and everything that goes wrong.
    Sim(sim::SimArgs),
    /// Compare and rebuild a node's read models.
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Make a password hash for an accounts file; the password is read from standard input.
    HashPassword,
    /// Run one service in this process; the same as the program of that name.
    #[command(subcommand)]
    Run(Service),
}

#[derive(Subcommand)]
enum Service {
    /// The national exchange.
    NdxpGateway(httt_ndxp_gateway::Args),
    /// The way through a province's own platform.
    LgspAdapter(httt_lgsp_adapter::Args),
    /// The ministry's node.
    CentralSource(httt_central_source::Args),
    /// A provincial department's node.
    ProvincialSource(httt_provincial_source::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(args) => demo::run(args),
        Command::Pki(command) => pki::run(command).map(|()| ExitCode::SUCCESS),
        Command::Log(command) => log::run(command),
        Command::Feed(command) => feed::run(command),
        Command::Audit(command) => audit::run(command),
        Command::Member(args) => member::run(args).map(|()| ExitCode::SUCCESS),
        Command::Key(command) => key::run(command).map(|()| ExitCode::SUCCESS),
        Command::Bench(command) => bench::run(command),
        Command::Load(command) => load::run(command),
        Command::Sim(args) => sim::run(args),
        Command::Models(command) => models::run(command),
        Command::HashPassword => hash_password().map(|()| ExitCode::SUCCESS),
        Command::Run(service) => {
            return match service {
                Service::NdxpGateway(args) => httt_ndxp_gateway::main(args),
                Service::LgspAdapter(args) => httt_lgsp_adapter::main(args),
                Service::CentralSource(args) => httt_central_source::main(args),
                Service::ProvincialSource(args) => httt_provincial_source::main(args),
            };
        }
    };
    result.unwrap_or_else(|error| {
        eprintln!("httt: {error:#}");
        ExitCode::FAILURE
    })
}

fn hash_password() -> anyhow::Result<()> {
    let mut password = String::new();
    std::io::stdin().read_line(&mut password)?;
    println!("{}", httt_node::accounts::hash_password(password.trim_end_matches(['\r', '\n']))?);
    Ok(())
}
