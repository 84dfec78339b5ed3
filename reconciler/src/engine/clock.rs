//! Where time and chance come from: the pure crates get both as arguments.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use vzd_state::backoff::Jitter;
use vzd_state::ids::VeUid;
use vzd_state::units::Timestamp;

/// The time now.
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The moment on the monotonic clock that a time of day will be at, if it comes as expected.
pub fn instant_of(time: Timestamp) -> Instant {
    let left = u64::try_from(time.0 - now().0).unwrap_or(0);
    Instant::now() + Duration::from_millis(left)
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // At start of the kernel this may be short; what is missing stays zero, and uids are checked for use.
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes
}

/// A random fraction for back-off.
pub fn jitter() -> Jitter {
    Jitter::from_bits(u32::from_le_bytes(random()))
}

/// A uid that no VE has had.
pub fn new_uid() -> VeUid {
    VeUid::from_bits(u128::from_le_bytes(random()))
}
