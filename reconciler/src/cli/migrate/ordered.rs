//! Signals that would end this process in the middle of a hand-over give that up instead, as long as it can be.

use std::sync::{Arc, Mutex, Once, PoisonError};

use nix::sys::signal::{SigSet, Signal};

use crate::cli::output::note;
use crate::handover::course::Course;

/// The hand-over that this process works at.
static ORDERED: Mutex<Option<Arc<Course>>> = Mutex::new(None);

/// What is to be given up, while this lasts, when this process is told to end.
pub(super) struct Ordered;

impl Ordered {
    pub(super) fn new(course: Arc<Course>) -> Ordered {
        static WAITING: Once = Once::new();
        *ORDERED.lock().unwrap_or_else(PoisonError::into_inner) = Some(course);
        WAITING.call_once(|| {
            let mut mask = SigSet::empty();
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().for_each(|signal| mask.add(signal));
            // Threads and programs of later on have this mask as well: what reaches the other host was started before.
            if mask.thread_block().is_ok() {
                std::thread::spawn(move || {
                    while let Ok(signal) = mask.wait() {
                        match &*ORDERED.lock().unwrap_or_else(PoisonError::into_inner) {
                            Some(course) if course.give_up() => {}
                            Some(_) => {
                                note("it is the other host's already: what has become of it is told soon")
                            }
                            None => std::process::exit(128 + signal as i32),
                        }
                    }
                });
            }
        });
        Ordered
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        *ORDERED.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
