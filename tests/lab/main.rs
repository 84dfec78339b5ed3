//! Tests that only a guest of the lab can run: two hosts, and a host that is rebooted. What runs on any machine belongs
//! to `host`, whose tests the lab runs too.

mod two_hosts;
