//! Fault points: places where a test kills the controller, to prove that it goes on from there.
//!
//! Only in builds with debug assertions, and only when `VZD_FAULT_POINT=N` asks for it: the N-th point
//! that is reached ends the process as SIGKILL would.

/// A place between two effects.
#[cfg(debug_assertions)]
pub fn point() {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicUsize, Ordering};
    static REACHED: AtomicUsize = AtomicUsize::new(0);
    static AT: LazyLock<Option<usize>> =
        LazyLock::new(|| std::env::var("VZD_FAULT_POINT").ok().and_then(|at| at.parse().ok()));
    let Some(at) = *AT else { return };
    if REACHED.fetch_add(1, Ordering::SeqCst) + 1 == at {
        crate::kernel::process::exit_now(137);
    }
}

/// A place between two effects; nothing in a release build.
#[cfg(not(debug_assertions))]
pub fn point() {}
