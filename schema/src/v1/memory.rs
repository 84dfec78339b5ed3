//! Memory of a VE, as OpenVZ's VSwap has it: RAM, and swap beyond it.

use super::macros::group;
use super::scalars::{Count, Limit, Size};

group! {
    /// Memory of a VE. The page beancounters `physpages` and `swappages` say the same in pages.
    pub struct Memory {
        /// At most this much RAM. Default: no limit.
        live ram: Option<Limit<Size>>,
        /// At most this much swap on top of RAM. Default: no limit.
        live swap: Option<Limit<Size>>,
        /// This much is not taken away when the host is short of memory. Default: nothing.
        live guarantee: Option<Size>,
        /// At most so many control groups that the VE makes inside, at all depths. Default: no limit.
        live subgroups: Option<Limit<Count>>,
    }
}
