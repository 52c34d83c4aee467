//! What a verification of the central trail found.

use std::path::PathBuf;

use uuid::Uuid;

use crate::audit::database::search::ChainStatus;

/// What was found of all chains.
#[derive(Clone, Debug)]
pub(crate) struct CentralVerdict {
    /// Of each.
    pub(crate) chains: Vec<CentralReport>,
    /// How many checkpoints follow one another.
    pub(crate) checkpoints: u64,
    /// When the first was made that does not.
    pub(crate) broken_checkpoint: Option<String>,
}

/// What was found of one chain.
#[derive(Clone, Debug)]
pub(crate) struct CentralReport {
    /// Which chain, and how far it has come.
    pub(crate) chain: ChainStatus,
    /// How many records are good, up to the end or to the fault.
    pub(crate) records: u64,
    /// How many signed heads agree with them.
    pub(crate) heads: u64,
    /// How many were dropped by retention.
    pub(crate) dropped: u64,
    /// The directories that hold the same.
    pub(crate) directories: Vec<PathBuf>,
    /// The first thing that is wrong.
    pub(crate) fault: Option<CentralFault>,
}

impl CentralReport {
    /// Of a chain whose row was removed.
    pub(super) fn without_row(id: i32, first: u64) -> Self {
        let chain = ChainStatus {
            id,
            chain: Uuid::nil(),
            replica: format!("number {id}"),
            seq: 0,
            shipped: String::new(),
        };
        let fault = CentralFault {
            seq: first,
            kind: CentralFaultKind::WithoutChain,
        };
        Self {
            fault: Some(fault),
            ..Self::new(chain)
        }
    }

    pub(super) fn new(chain: ChainStatus) -> Self {
        Self {
            chain,
            records: 0,
            heads: 0,
            dropped: 0,
            directories: Vec::new(),
            fault: None,
        }
    }
}

/// Something that is not as it was shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CentralFault {
    /// The number of the first record that is wrong or missing.
    pub(crate) seq: u64,
    /// What is wrong.
    pub(crate) kind: CentralFaultKind,
}

/// What is wrong with a record of the central trail.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CentralFaultKind {
    /// A checkpoint names another hash.
    #[error("is not the record that a checkpoint names")]
    CheckpointDiffers,
    /// The lines were changed, or are not those of this batch.
    #[error("was changed in the database, in the batch with its line")]
    Changed,
    /// The partition that would have it is not there, whose name this is.
    #[error("is missing, with the table audit.{0}, which was dropped by hand")]
    DayDropped(String),
    /// A directory has another record.
    #[error("is another one in {}: the journal was written anew", .0.display())]
    DirectoryDiffers(PathBuf),
    /// The chain's row knows of more.
    #[error("is missing at the end: the chain's row names a later one")]
    EndMissing,
    /// It says so itself.
    #[error("belongs to another chain")]
    Foreign,
    /// A signed head names another hash.
    #[error("is not the record that a signed head names")]
    Forged,
    /// The chain's row and batches were put back to an earlier end.
    #[error("is missing at the end: a signed head names it, or a later one")]
    HeadBeyond,
    /// A head that no given key has signed.
    #[error("has a head that is not signed with a key that was given")]
    HeadUnsigned,
    /// No batch has it, and no gap says why.
    #[error("is missing: its batch was deleted")]
    Missing,
    /// A batch does not continue the one before it.
    #[error("does not follow the record before it")]
    NotNext,
    /// The journal did not have it.
    #[error("was missing in the journal when it was shipped")]
    NotShipped,
    /// Somebody has added it.
    #[error("has a row in audit.record, and no batch has its line")]
    RowAlone,
    /// The row that is searched.
    #[error("has another row in audit.record than its line says, or none")]
    RowDiffers,
    /// The row of its chain was removed.
    #[error("is in a batch of a chain that has no row in audit.chain")]
    WithoutChain,
}
