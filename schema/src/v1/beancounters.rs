//! OpenVZ's user beancounters, by their names and in their units.

use super::macros::group;
use super::scalars::{Count, Pages, Pair, Size};

group! {
    /// The twenty counters of `/proc/user_beancounters`, and `swappages`. Each is `barrier:limit`, or one
    /// value for both. A counter that is not written is unlimited, or follows from `memory`.
    pub struct Beancounters {
        /// Kernel memory that cannot be swapped, in bytes.
        live kmemsize: Option<Pair<Size>>,
        /// Memory locked by mlock, in pages.
        live lockedpages: Option<Pair<Pages>>,
        /// Private memory that may come to be needed, in pages.
        live privvmpages: Option<Pair<Pages>>,
        /// Shared memory (System V, tmpfs), in pages.
        live shmpages: Option<Pair<Pages>>,
        /// Processes and threads.
        live numproc: Option<Pair<Count>>,
        /// RAM in use, in pages; the limit is `memory.ram`.
        live physpages: Option<Pair<Pages>>,
        /// Memory whose allocation is guaranteed up to the barrier, in pages.
        live vmguarpages: Option<Pair<Pages>>,
        /// Memory protected from the out-of-memory killer up to the barrier, in pages.
        live oomguarpages: Option<Pair<Pages>>,
        /// TCP sockets.
        live numtcpsock: Option<Pair<Count>>,
        /// File locks.
        live numflock: Option<Pair<Count>>,
        /// Pseudo-terminals.
        live numpty: Option<Pair<Count>>,
        /// Queued signals.
        live numsiginfo: Option<Pair<Count>>,
        /// Buffers of data to send over TCP, in bytes.
        live tcpsndbuf: Option<Pair<Size>>,
        /// Buffers of data received over TCP, in bytes.
        live tcprcvbuf: Option<Pair<Size>>,
        /// Buffers of other sockets, in bytes.
        live othersockbuf: Option<Pair<Size>>,
        /// Buffers of data received by other sockets, in bytes.
        live dgramrcvbuf: Option<Pair<Size>>,
        /// Sockets that are not TCP.
        live numothersock: Option<Pair<Count>>,
        /// Memory of cached directory entries and inodes, in bytes.
        live dcachesize: Option<Pair<Size>>,
        /// Open files.
        live numfile: Option<Pair<Count>>,
        /// Packet filter rules.
        live numiptent: Option<Pair<Count>>,
        /// Swap in use, in pages; the limit is `memory.swap`.
        live swappages: Option<Pair<Pages>>,
    }
}
