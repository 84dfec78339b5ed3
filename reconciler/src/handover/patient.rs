//! One direction of a link that nobody waits at for ever: a hand-over that is given up ends at once, though the other end says
//! nothing, and an end that neither takes nor says anything for too long counts as lost.
//!
//! Only for ends of pipes, of which nobody else has this one: they do not block any more.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, ChildStdout};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::error::{At, SysResult};
use crate::handover::course::Course;
use crate::handover::there::There;

/// A pipe's end.
#[derive(Debug)]
pub struct Patient<F> {
    end: F,
    course: Arc<Course>,
}

impl Patient<ChildStdout> {
    /// What the other host says, and what is said to it.
    pub fn streams(there: &mut There, course: &Arc<Course>) -> SysResult<(Self, Patient<ChildStdin>)> {
        let (from, to) = there.streams()?;
        Ok((Patient::new(from, course.clone())?, Patient::new(to, course.clone())?))
    }
}

impl<F: AsFd> Patient<F> {
    /// One that is used for this hand-over.
    fn new(end: F, course: Arc<Course>) -> SysResult<Self> {
        let flags = fcntl_getfl(&end).at("look at", "a pipe")?;
        fcntl_setfl(&end, flags | OFlags::NONBLOCK).at("change", "a pipe")?;
        Ok(Self { end, course })
    }

    /// Waits until it is ready for more.
    fn wait(&self, ready: PollFlags) -> io::Result<()> {
        let patience = self.course.patience();
        let limit = patience.map(Timespec::try_from).transpose().map_err(io::Error::other)?;
        let mut ends =
            [PollFd::new(&self.end, ready), PollFd::from_borrowed_fd(self.course.given_up(), PollFlags::IN)];
        match poll(&mut ends, limit.as_ref()) {
            Ok(0) => {
                let seconds = patience.unwrap_or(Duration::ZERO).as_secs();
                // Nor is it waited for in the other direction.
                self.course.give_up();
                let why = format!("it has taken nothing and said nothing for {seconds} s");
                Err(io::Error::new(ErrorKind::TimedOut, why))
            }
            Ok(_) if !ends[1].revents().is_empty() => Err(io::Error::other("it was given up")),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn patiently<T>(
        &mut self,
        ready: PollFlags,
        mut work: impl FnMut(&mut F) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            match work(&mut self.end) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => self.wait(ready)?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }
}

impl<F: AsFd + Read> Read for Patient<F> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.patiently(PollFlags::IN, |end| end.read(bytes))
    }
}

impl<F: AsFd + Write> Write for Patient<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.patiently(PollFlags::OUT, |end| end.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.patiently(PollFlags::OUT, Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patient<F: AsFd>(end: F, course: &Arc<Course>) -> Patient<F> {
        Patient::new(end, course.clone()).unwrap()
    }

    #[test]
    fn all_goes_through() {
        const MUCH: usize = 1 << 20;
        let course = Arc::new(Course::new(None).unwrap());
        let (from, to) = std::io::pipe().unwrap();
        let (mut from, mut to) = (patient(from, &course), patient(to, &course));
        std::thread::scope(|scope| {
            scope.spawn(move || to.write_all(&vec![7; MUCH]).unwrap());
            let mut all = Vec::new();
            from.read_to_end(&mut all).unwrap();
            assert!(all.len() == MUCH && all.iter().all(|byte| *byte == 7));
        });
    }

    #[test]
    fn who_takes_nothing_or_says_nothing_is_not_waited_for() {
        let course = Arc::new(Course::new(None).unwrap().with_patience(Duration::from_millis(20)));
        let (from, to) = std::io::pipe().unwrap();
        let (mut from, mut to) = (patient(from, &course), patient(to, &course));
        let nothing = from.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), ErrorKind::TimedOut);
        assert!(to.write_all(&vec![0; 1 << 20]).unwrap_err().to_string().contains("given up"));
        course.cede().unwrap_err();
    }

    #[test]
    fn it_is_waited_for_once_it_is_the_other_s() {
        let course = Course::new(None).unwrap();
        course.stands_still();
        assert!(course.patience().is_some_and(|patience| patience > Duration::from_secs(60)));
        course.cede().unwrap();
        assert_eq!(course.patience(), None);
    }

    #[test]
    fn what_is_given_up_ends_at_once() {
        let course = Arc::new(Course::new(None).unwrap());
        let (from, _to) = std::io::pipe().unwrap();
        let mut from = patient(from, &course);
        std::thread::scope(|scope| {
            let reading = scope.spawn(move || from.read(&mut [0]));
            assert!(course.give_up());
            assert!(reading.join().unwrap().unwrap_err().to_string().contains("given up"));
        });
    }
}
