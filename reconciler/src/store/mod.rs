//! What must outlive the controller and cannot be asked of the kernel: records, events, and who may
//! change them.
//!
//! Records are written whole, synced and renamed, so that a controller which is killed at any instruction
//! leaves the old one or the new one. Opening anything here changes nothing on disk: a command may look
//! while the controller writes. Only who holds the [`HostLock`] may save, remove or add.
//!
//! | module | what it is for |
//! |---|---|
//! | `atomic` | one file, whole or not at all |
//! | `ledger` | the ledger's entries, one file a VE |
//! | `events` | what happened, in order |
//! | `lock` | one who changes things at a time |
//! | `writes` | how much was written |

pub mod atomic;
mod events;
mod ledger;
mod lock;
mod writes;

pub use events::EventLog;
pub use ledger::{LedgerStore, Unreadable};
pub use lock::{Hold, HostLock, LockError};
pub use writes::Writes;
