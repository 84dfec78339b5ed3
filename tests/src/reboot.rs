//! Tests that see their host go down and come up again. Only in a guest of the lab: `needs!(Systemd)`.

/// Which run of the test this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boot {
    /// Before the reboot.
    First,
    /// After it.
    Second,
}

/// Tells which one it is.
pub fn boot() -> Boot {
    if std::env::var("VZD_LAB_BOOT").is_ok_and(|boot| boot == "2") { Boot::Second } else { Boot::First }
}

/// Ends this run of the test; the host reboots, and the test runs again as [`Boot::Second`]. What is to be known then has
/// to be in files outside of /run and /tmp. Nothing is dropped.
pub fn reboot_the_host() -> ! {
    #[expect(clippy::exit, reason = "the exit code is what asks the lab for the reboot")]
    std::process::exit(75)
}
