//! Tests that only a guest of the lab can run: two hosts, and a host that is rebooted. What runs on any machine belongs
//! to `host`, whose tests the lab runs too.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do: at the place, at once")]

mod moved;
mod systemd;
mod two_hosts;
