//! The source's part of a hand-over: asks whether the VE fits, sends its files while it runs, has it stand still, sends the
//! rest, cedes it, and does as the target then says.
//!
//! Until it is ceded whatever fails leaves the VE here, where it goes on. After that only the target's word counts, and
//! it is asked again when it was not heard.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vzd_state::handover::{Here, Stage, Told};
use vzd_state::ledger::Entry;
use vzd_state::placement::HostName;

use crate::control::{Control, ControlError, ControlResult};
use crate::drivers::disk::stream::{self, Sender, Sink};
use crate::drivers::{Ve, checkpoint, disk, lifecycle};
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::handover::course::Course;
use crate::handover::fit::Offer;
use crate::handover::link::{Link, Message, PROTOCOL};
use crate::handover::problem::{Kind, Problem, line};
use crate::handover::session::Session;
use crate::handover::{Answer, Request};
use crate::host::Host;
use crate::runtime::checkpoint::dump::{LITTLE, MOST_ROUNDS};
use crate::runtime::checkpoint::image::Image;
use crate::runtime::checkpoint::packed;

/// A hand-over, as seen from the source.
pub struct Source<'a, R: Read, W: Write> {
    control: &'a dyn Control,
    host: &'a Host,
    link: Link<BufReader<R>, BufWriter<W>>,
    peer: &'a str,
    course: Arc<Course>,
    /// How much memory its processes have, in bytes, or had written to when that was last told.
    memory: u64,
    /// Memory is sent in one pass, while it stands still.
    one_pass: bool,
    /// What is sent of it goes compressed.
    compress: bool,
    /// The files of its checkpoint that were sent.
    sent: BTreeSet<String>,
    /// What it is if it fails now.
    at: Kind,
}

/// What a hand-over came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// How much was sent, in bytes.
    pub bytes: u64,
    /// How much of that went over the link, in bytes.
    pub wire: u64,
    /// How often its files were told; none of one that was only asked for again.
    pub rounds: u32,
    /// How much of that, and how long, it stood still for; none of one that did not run, or that was only asked for again.
    pub still: Option<(u64, Duration)>,
    /// What the target had to tell.
    pub notes: Vec<String>,
}

pub(crate) fn refused(error: impl std::fmt::Display) -> ControlError {
    ControlError {
        code: vzd_schema::Code::HandoverRefused.to_string(),
        message: error.to_string(),
        help: None,
    }
}

fn told(message: impl Into<String>, help: &str) -> ControlError {
    ControlError { help: Some(help.to_owned()), ..refused(message.into()) }
}

impl<'a, R: Read, W: Write> Source<'a, R, W> {
    /// Speaks to a target that is called `peer`.
    pub fn new(
        control: &'a dyn Control,
        host: &'a Host,
        (from, to): (R, W),
        peer: &'a str,
        course: Arc<Course>,
    ) -> Self {
        let link = Link::new(BufReader::new(from), BufWriter::new(to), peer).on(course.clone());
        let (memory, at) = (0, Kind::Unreached);
        let (one_pass, compress, sent) = (false, false, BTreeSet::new());
        Self { control, host, link, peer, course, memory, one_pass, compress, sent, at }
    }

    /// Has memory sent in one pass, while the VE stands still.
    pub fn in_one_pass(self, one_pass: bool) -> Self {
        Self { one_pass, ..self }
    }

    /// Has what is sent of it go compressed.
    pub fn compressed(self, compress: bool) -> Self {
        Self { compress, ..self }
    }

    /// Of what kind it is that it has failed, if it has.
    pub fn failed_as(&self) -> Kind {
        self.at
    }

    /// What stands in the way on the other side.
    pub fn ask(&mut self, offer: Offer, to: Option<HostName>) -> ControlResult<Vec<Problem>> {
        self.memory = offer.memory_bytes;
        let hello = Message::Hello { protocol: PROTOCOL, to, offer: Box::new(offer) };
        self.link.say(&hello).map_err(refused)?;
        match self.link.hear().map_err(refused)? {
            Message::Fits { problems } => {
                self.at = Kind::Other;
                Ok(problems)
            }
            Message::Declined { why } => Err(refused(why)),
            other => Err(refused(self.link.unexpected(other))),
        }
    }

    /// How fast bytes come there, in bytes a second, after it was asked.
    pub fn probe(&mut self) -> ControlResult<u64> {
        const PIECE: usize = 256 << 10;
        const PIECES: u64 = 16;
        let mut random = vec![0; PIECE];
        let mut probe = |link: &mut Link<_, _>| -> SysResult<Message> {
            // What cannot be made smaller on the way.
            let urandom = "/dev/urandom";
            File::open(urandom).and_then(|mut from| from.read_exact(&mut random)).at("read", urandom)?;
            link.put(&Message::Probe)?;
            (0..PIECES).try_for_each(|piece| link.data(piece, &random))?;
            link.say(&Message::Probe)?;
            link.hear()
        };
        let began = Instant::now();
        match probe(&mut self.link).map_err(refused)? {
            Message::Probed => {
                let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
                Ok((PIECES * PIECE as u64).saturating_mul(1_000_000) / took)
            }
            other => Err(refused(self.link.unexpected(other))),
        }
    }

    /// Hands a VE over for which everything was found to fit.
    pub fn hand_over(&mut self, entry: &Entry, id: &str, manifest: String) -> ControlResult<Moved> {
        let session = Session::try_begin(&self.host.settings, &entry.uid).map_err(refused)?;
        let _session = session.ok_or_else(|| refused("somebody else is handing it over"))?;
        self.link.say(&Message::Begin { id: id.to_owned() }).map_err(refused)?;
        match self.link.hear().map_err(refused)? {
            Message::Begun => {}
            Message::Declined { why } => return Err(refused(why)),
            other => return Err(refused(self.link.unexpected(other))),
        }
        self.at = Kind::Files;
        self.link.compress(self.compress).map_err(refused)?;
        fault::point();
        let ve = Ve { host: self.host, entry, want: None };
        let (ran, mut files) = (lifecycle::running(ve).is_ok(), Sender::new(ve).map_err(refused)?);
        if ran {
            let sent = self.send_ahead(entry, id, &mut files);
            if let Err(why) = self.unless_declined(sent) {
                // If this is not heard, a later pass does it.
                let _ = self.control.handover(&Request::ForgetAhead { uid: entry.uid.clone() });
                return Err(why);
            }
        }
        fault::point();
        let (since, ahead) = (Instant::now(), self.link.bytes());
        let (uid, peer) = (entry.uid.clone(), self.peer.to_owned());
        self.at = Kind::Suspend;
        self.course.round(None);
        let frozen = self.control.handover(&Request::Freeze { uid, id: id.to_owned(), peer })?;
        let Some(frozen) = frozen.entry.filter(|_| frozen.problems.is_empty()) else {
            return Err(refused(line(&frozen.problems)));
        };
        self.at = Kind::Files;
        self.course.stands_still();
        fault::point();
        let sent = self.send(&frozen, &mut files);
        let prepared = self.unless_declined(sent).and_then(|()| match self.link.hear() {
            Ok(Message::Prepared) => Ok(()),
            Ok(Message::Declined { why }) => Err(refused(why)),
            Ok(other) => Err(refused(self.link.unexpected(other))),
            Err(e) => Err(refused(e)),
        });
        if let Err(why) = prepared {
            self.tell(&frozen, id, Told::WasDeclined)?;
            return Err(told(why.message, "it goes on here"));
        }
        fault::point();
        if let Err(why) = self.course.cede() {
            self.tell(&frozen, id, Told::WasDeclined)?;
            return Err(told(why.to_string(), "it goes on here"));
        }
        self.tell(&frozen, id, Told::Cede)?;
        fault::point();
        let moved = self.commit(&frozen, id, manifest)?;
        Ok(Moved { still: ran.then(|| (moved.bytes - ahead, since.elapsed())), ..moved })
    }

    /// What sending has come to. A target ends when it declines: that is worth more than that it has ended.
    fn unless_declined(&mut self, sent: SysResult<()>) -> ControlResult<()> {
        match sent {
            Err(e) if e.errno == libc::EPIPE => match self.link.hear() {
                Ok(Message::Declined { why }) => Err(refused(why)),
                _ => Err(refused(e)),
            },
            other => other.map_err(refused),
        }
    }

    /// Asks what has become of a VE that was ceded.
    pub fn ask_again(&mut self, entry: &Entry, id: &str, manifest: String) -> ControlResult<Moved> {
        let session = Session::try_begin(&self.host.settings, &entry.uid).map_err(refused)?;
        let _session = session.ok_or_else(|| refused("somebody else is handing it over"))?;
        self.commit(entry, id, manifest)
    }

    fn commit(&mut self, entry: &Entry, id: &str, manifest: String) -> ControlResult<Moved> {
        self.at = Kind::Resume;
        let (uid, id_told) = (entry.uid.clone(), id.to_owned());
        let commit = Message::Commit { protocol: PROTOCOL, uid, id: id_told, manifest };
        let answer = self.link.say(&commit).and_then(|()| {
            fault::point();
            self.link.hear()
        });
        match answer {
            Ok(Message::Arrived { notes }) => {
                fault::point();
                self.tell(entry, id, Told::HasArrived)?;
                fault::point();
                // If this is lost, the target only waits to be told by the next who asks.
                let _ = self.link.say(&Message::Closed);
                Ok(Moved {
                    bytes: self.link.bytes(),
                    wire: self.link.wire(),
                    rounds: self.course.rounds(),
                    still: None,
                    notes,
                })
            }
            Ok(Message::Declined { why }) => {
                self.tell(entry, id, Told::WasDeclined)?;
                Err(told(why, "it goes on here"))
            }
            Ok(other) => Err(unheard(self.link.unexpected(other))),
            Err(e) => Err(unheard(e)),
        }
    }

    fn tell(&self, entry: &Entry, id: &str, told: Told) -> ControlResult<Answer> {
        let (uid, id) = (entry.uid.clone(), id.to_owned());
        self.control.handover(&Request::Tell { uid, id, told })
    }

    /// Sends the files of a VE while it runs, until little of them changes meanwhile.
    fn send_ahead(&mut self, entry: &Entry, id: &str, files: &mut Sender) -> SysResult<()> {
        let mut last = u64::MAX;
        let mut has_ahead = !self.one_pass;
        for round in 1..=MOST_ROUNDS {
            // What of its memory is left, as far as one can tell, is as much as was sent of it last.
            self.course.round((round > 1).then(|| self.memory.saturating_add(last)));
            let before = self.link.bytes();
            files.ahead(&mut self.link)?;
            has_ahead = has_ahead && self.send_memory(entry, id, round)?;
            let sent = self.link.bytes() - before;
            if sent < LITTLE || sent > last / 2 {
                break;
            }
            last = sent;
        }
        Ok(())
    }

    /// Sends what of its memory has changed, if the kernel tells.
    fn send_memory(&mut self, entry: &Entry, id: &str, round: u32) -> SysResult<bool> {
        let (uid, hand_over) = (entry.uid.clone(), id.to_owned());
        let asked = self.control.handover(&Request::WriteAhead { uid, id: hand_over, round });
        let written = asked.map_err(|e| SysError::refused("write ahead", "VE", e.message))?.ahead;
        if !written {
            return Ok(false);
        }
        fault::point();
        let image = Image::lock(&checkpoint::dir(Ve { host: self.host, entry, want: None }))?;
        let before = self.link.bytes();
        for part in image.parts_ahead(round)? {
            self.send_part(part)?;
        }
        self.memory = self.link.bytes() - before;
        fault::point();
        Ok(true)
    }

    fn send_part(&mut self, (name, path, mode): (String, PathBuf, u32)) -> SysResult<()> {
        self.link.put(&Message::Image { name: name.clone(), mode })?;
        // What is compressed already would be no smaller.
        self.link.compress(self.compress && !packed::is_packed(&name))?;
        stream::content(&path, &mut self.link)?;
        self.link.compress(self.compress)?;
        self.sent.insert(name);
        Ok(())
    }

    /// Sends the rest of a VE that stands still.
    fn send(&mut self, entry: &Entry, files: &mut Sender) -> SysResult<()> {
        let ve = Ve { host: self.host, entry, want: None };
        files.rest(ve, &mut self.link)?;
        if entry.suspension.is_some() {
            let image = Image::lock(&checkpoint::dir(ve))?;
            for part in image.parts()? {
                if !self.sent.contains(&part.0) {
                    self.send_part(part)?;
                }
            }
        }
        let stopped = entry.suspension.is_none().then_some(entry.applied.lifecycle.as_ref()).flatten();
        let quotas = stopped.map_or(Ok(None), |is| disk::kept_users(ve, &is.cold))?.map(Box::new);
        fault::point();
        let sum = self.link.sum(true);
        self.link.say(&Message::Whole { entry: Box::new(entry.clone()), quotas, sum })
    }
}

/// The one state in which a host cannot know by itself.
fn unheard(why: SysError) -> ControlError {
    told(
        format!("it was given to the other host, whose answer was not heard: {why}"),
        "repeat the command: it asks again",
    )
}

/// The hand-over that a VE has gone by: of which the target may not have said, or not have heard, everything.
pub fn ceded(entry: &Entry) -> Option<&str> {
    let is_ceded = matches!(entry.here(), Here::At(Stage::Ceded | Stage::Moved));
    entry.handover.as_ref().filter(|_| is_ceded).map(|handover| handover.id.as_str())
}
