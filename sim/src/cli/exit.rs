//! Exit codes, and the errors that lead to them.

use crate::campaign::{CapsuleError, StoreError};
use crate::scenario::{LoadError, SeedsError};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that was asked holds.
    Holds,
    /// A verdict of the reports, by its code: 1, 3, 4, 5, 6, 7, 8.
    Verdict(u8),
    /// Wrong usage.
    Usage,
    /// Nothing was selected.
    Nothing,
    /// Bad scenario, history or capsule.
    BadInput,
    /// An input is missing.
    Missing,
    /// A bug of the program.
    Internal,
    /// Input or output failed.
    Io,
    /// The user ended it.
    Interrupted,
}

impl Exit {
    /// The code.
    pub fn code(self) -> u8 {
        match self {
            Exit::Holds => 0,
            Exit::Verdict(code) => code,
            Exit::Usage => 2,
            Exit::Nothing => 9,
            Exit::BadInput => 65,
            Exit::Missing => 66,
            Exit::Internal => 70,
            Exit::Io => 74,
            Exit::Interrupted => 130,
        }
    }
}

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A scenario.
    #[error("{0}")]
    Scenario(#[from] LoadError),
    /// A campaign's folder.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A capsule.
    #[error("{0}")]
    Capsule(#[from] CapsuleError),
    /// Seeds.
    #[error("{0}")]
    Seeds(#[from] SeedsError),
    /// Nothing matches.
    #[error("nothing matches {0}\n  help: `firedrill list` names the scenarios")]
    Nothing(String),
    /// A file that should be there is not.
    #[error("{0}")]
    Missing(String),
    /// Input that cannot be understood.
    #[error("{0}")]
    BadInput(String),
    /// The combination of arguments makes no sense.
    #[error("{0}")]
    Usage(String),
    /// A file that the user named cannot be written.
    #[error("cannot write {}: {source}\n  help: name a file in a folder that exists and has room", path.display())]
    Unwritable {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Output failed.
    #[error("cannot write: {0}")]
    Io(#[from] std::io::Error),
}

impl Failure {
    /// The exit it leads to.
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Scenario(LoadError::Missing { .. }) | Failure::Missing(_) => Exit::Missing,
            Failure::Capsule(CapsuleError::Missing { .. }) => Exit::Missing,
            Failure::Store(StoreError::NoCampaign { .. }) => Exit::Missing,
            Failure::Scenario(LoadError::Bad(_)) | Failure::Capsule(_) | Failure::BadInput(_) => {
                Exit::BadInput
            }
            Failure::Store(StoreError::Io { .. }) | Failure::Io(_) | Failure::Unwritable { .. } => Exit::Io,
            Failure::Store(StoreError::Other { .. }) | Failure::Seeds(_) | Failure::Usage(_) => Exit::Usage,
            Failure::Nothing(_) => Exit::Nothing,
        }
    }
}
