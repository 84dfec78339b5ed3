//! A stream of numbers that is to outlast what is done to a VE.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::{LONG, Must, slow};

/// Sends numbers and reads them back until told to stop; returns how many, and the longest wait for one.
pub fn echo(mut stream: TcpStream, stop: &AtomicBool) -> (u64, Duration) {
    stream.set_read_timeout(Some(slow(LONG))).must("use the stream");
    stream.set_nodelay(true).must("use the stream");
    let (mut count, mut longest) = (0_u64, Duration::ZERO);
    while !stop.load(Ordering::SeqCst) {
        let (start, mut back) = (Instant::now(), [0; 8]);
        stream.write_all(&count.to_be_bytes()).must("use the stream");
        stream.read_exact(&mut back).must("use the stream");
        assert_eq!(u64::from_be_bytes(back), count, "the stream is torn");
        (count, longest) = (count + 1, longest.max(start.elapsed()));
        std::thread::sleep(slow(Duration::from_millis(2)));
    }
    (count, longest)
}
