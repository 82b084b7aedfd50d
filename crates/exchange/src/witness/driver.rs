//! Witnessing over a peer: the peer cosigns this log, this node cosigns the peer's.

use std::sync::Arc;
use std::time::Duration;

use httt_wire::exchange::{self as wire, witness_request::Ask};
use tokio::sync::watch;

use super::{AddCheckpoint, WitnessRefusal, Witnessing};
use crate::{Peer, PeerError};

/// Pause before the next try while the peer cannot be reached or does not know this node yet, at most.
const RETRY: Duration = Duration::from_secs(2);

/// Why a round did not end well.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    /// Try again soon.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// This node's side.
    #[error(transparent)]
    Own(#[from] WitnessRefusal),
    /// The peer said no, for now.
    #[error("the peer answered {status}: {body}")]
    Refused {
        /// HTTP status.
        status: u32,
        /// What it said.
        body: String,
    },
    /// People must look at it.
    #[error("{0}")]
    Alarm(String),
}

/// Has `peer` cosign this node's checkpoints and cosigns the peer's, until `stop` turns true.
pub async fn run_witness<P: Peer>(witness: Arc<Witnessing>, peer: Arc<P>, mut stop: watch::Receiver<bool>) {
    let session = Session { witness: &witness, peer: peer.as_ref(), cosigned: 0, watched: 0 };
    tokio::select! {
        () = session.run() => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

struct Session<'a, P> {
    witness: &'a Witnessing,
    peer: &'a P,
    /// Size of this log that the peer cosigned last.
    cosigned: u64,
    /// Size of the peer's log that this node cosigned last.
    watched: u64,
}

impl<P: Peer> Session<'_, P> {
    async fn run(mut self) {
        loop {
            let up = self.submit().await;
            let down = self.watch().await;
            let alarm = |result: &Result<(), RoundError>| match result {
                Err(RoundError::Alarm(text)) => Some(text.clone()),
                _ => None,
            };
            for error in [&up, &down].into_iter().filter_map(|result| result.as_ref().err()) {
                tracing::debug!(peer = self.peer.name(), %error, "witnessing");
            }
            // What was wrong stays wrong until a round shows otherwise.
            match (alarm(&up).or_else(|| alarm(&down)), up.is_ok() && down.is_ok()) {
                (Some(text), _) => self.witness.alarm(Some(text)),
                (None, true) => self.witness.alarm(None),
                (None, false) => {}
            }
            let soon = up.is_err() || down.is_err();
            tokio::time::sleep(if soon { self.witness.every.min(RETRY) } else { self.witness.every }).await;
        }
    }

    async fn ask(&self, ask: Ask) -> Result<(u32, String), RoundError> {
        let answer = self.peer.witness(wire::WitnessRequest { ask: Some(ask) }).await?;
        Ok((answer.status, answer.body))
    }

    /// This log to the peer.
    async fn submit(&mut self) -> Result<(), RoundError> {
        // Once more when the peer says from which size on. If it says that size again, it holds another root for it.
        for _ in 0..2 {
            let own = match self.witness.own_checkpoint(self.cosigned).await {
                Err(WitnessRefusal::Stale { size }) => return Err(self.longer(self.cosigned, size)),
                own => own?,
            };
            let size = own.checkpoint.size();
            match self.ask(Ask::AddCheckpoint(own.to_string())).await? {
                (200, lines) => {
                    self.cosigned = size;
                    // At first start the directory, which says who the members are, may still be on its way.
                    let by_member = self.witness.gather(&lines)?;
                    let body = "a cosignature by nobody that is known here (yet)".to_owned();
                    return if by_member { Ok(()) } else { Err(RoundError::Refused { status: 200, body }) };
                }
                (409, held) => match held.trim_end().parse::<u64>() {
                    Ok(held) if held == self.cosigned => {
                        return Err(self.other_history(held));
                    }
                    // Its record may be ahead of what is shown: another round will show more.
                    Ok(held) if held > self.witness.log.len() => return Err(self.longer(held, self.witness.log.len())),
                    Ok(held) => self.cosigned = held,
                    Err(_) => return Err(RoundError::Refused { status: 409, body: held }),
                },
                (422, _) => return Err(self.other_history(self.cosigned)),
                (status, body) => return Err(RoundError::Refused { status, body }),
            }
        }
        Err(RoundError::Refused { status: 409, body: "it names one size after the other".to_owned() })
    }

    /// The peer's log to this node.
    async fn watch(&mut self) -> Result<(), RoundError> {
        for _ in 0..2 {
            let body = match self.ask(Ask::ReadCheckpoint(self.watched)).await? {
                (200, body) => body,
                (409, size) => {
                    let (peer, seen, size) = (self.peer.name(), self.watched, size.trim_end().to_owned());
                    return Err(RoundError::Alarm(format!(
                        "{peer} shows a log of {size} entries, and showed one of {seen} before: it was restored from an \
                         older copy, or shows two histories"
                    )));
                }
                (status, body) => return Err(RoundError::Refused { status, body }),
            };
            let size = AddCheckpoint::parse(&body)?.checkpoint.size();
            match self.witness.add(&body).await {
                Ok(lines) => {
                    self.watched = size;
                    return match self.ask(Ask::AddCosignatures(lines)).await? {
                        (200, _) => Ok(()),
                        (status, body) => Err(RoundError::Refused { status, body }),
                    };
                }
                // After a restart: what was cosigned is in the log, and now known here.
                Err(WitnessRefusal::Stale { size }) => self.watched = size,
                Err(refusal) if refusal.is_evidence() => {
                    return Err(RoundError::Alarm(format!("{}: {refusal}", self.peer.name())));
                }
                Err(refusal) => return Err(refusal.into()),
            }
        }
        Err(RoundError::Refused { status: 409, body: "its log is witnessed elsewhere at the same time".to_owned() })
    }

    fn longer(&self, held: u64, own: u64) -> RoundError {
        RoundError::Alarm(format!(
            "{} cosigned {held} entries of this log, which has {own}: it was restored from an older copy; when that is \
             so, the operator there lets it begin anew",
            self.peer.name()
        ))
    }

    fn other_history(&self, held: u64) -> RoundError {
        RoundError::Alarm(format!(
            "{} cosigned another history of this log ({held} entries): it was restored from an older copy, or another \
             node uses its key; when it was restored, the operator there lets it begin anew",
            self.peer.name()
        ))
    }
}
