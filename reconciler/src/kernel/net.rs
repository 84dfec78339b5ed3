//! Network links through rtnetlink, in the network namespace of the calling thread.
//!
//! A netlink socket stays in the namespace where it was made, so each call opens its own.

use rtnetlink::LinkUnspec;

use crate::error::{SysError, SysResult};

/// The loopback device has this index in every network namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Sets the loopback device of this namespace up.
pub fn loopback_up() -> SysResult<()> {
    let failed = |e: &dyn std::fmt::Display| SysError::refused("set up", "network device lo", e);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(|e| failed(&e))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(|e| failed(&e))?;
        let connection = tokio::spawn(connection);
        let message = LinkUnspec::new_with_index(LOOPBACK_INDEX).up().build();
        let done = handle.link().set(message).execute().await.map_err(|e| failed(&e));
        connection.abort();
        done
    })
}
