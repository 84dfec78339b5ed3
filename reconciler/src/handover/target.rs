//! The target's part of a hand-over: tells whether a VE fits, receives it, and takes it once the source has ceded it.
//!
//! Until it is accepted whatever fails, the end of the link too, removes what was received. What is accepted goes on
//! here, and is declined only if it cannot and never did.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use vzd_schema::Code;
use vzd_schema::v1::ManifestPolicy;
use vzd_state::handover::Told;
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;
use vzd_state::placement::{HostName, Query};

use crate::compat::manifests::Manifests;
use crate::control::{Control, ControlError, ControlResult, PlanRequest, Selector};
use crate::drivers::disk::stream::{Item, Receiver, Sink};
use crate::drivers::{Ve, checkpoint, disk};
use crate::engine::fault;
use crate::error::{At, SysError, SysResult};
use crate::handover::fit::Offer;
use crate::handover::link::{Frame, Link, Message, PROTOCOL};
use crate::handover::problem::{Kind, line};
use crate::handover::session::Session;
use crate::handover::source::refused;
use crate::handover::{Answer, Request};
use crate::host::Host;
use crate::runtime::checkpoint::image::Image;
use crate::runtime::checkpoint::received;

/// A hand-over, as seen from the target.
pub struct Target<'a, R: Read, W: Write> {
    control: &'a dyn Control,
    host: &'a Host,
    /// The host that is known to be at the other end.
    peer: Option<HostName>,
    link: Link<BufReader<R>, BufWriter<W>>,
}

impl<'a, R: Read, W: Write> Target<'a, R, W> {
    /// Speaks to a source, which is `peer` if that is known.
    pub fn new(control: &'a dyn Control, host: &'a Host, peer: Option<HostName>, (from, to): (R, W)) -> Self {
        let link = Link::new(BufReader::new(from), BufWriter::new(to), "the source");
        Self { control, host, peer, link }
    }

    /// Answers the source until that has no more to say.
    pub fn serve(&mut self) -> ControlResult<()> {
        match self.link.hear().map_err(refused)? {
            Message::Hello { protocol, to, offer } => {
                same(protocol)?;
                match self.is_another(&offer.from) {
                    Some(why) => self.link.say(&Message::Declined { why }).map_err(refused),
                    None => self.offered(&offer, to.as_ref()),
                }
            }
            Message::Ask { protocol, from, queries } => {
                same(protocol)?;
                self.asked(from, queries)
            }
            Message::Commit { protocol, uid, id, manifest } => {
                same(protocol)?;
                // Whoever received it before may still be about to take it.
                let _session = Session::begin(&self.host.settings, &uid).map_err(refused)?;
                self.accept(&uid, &id, None, &manifest)
            }
            other => Err(refused(self.link.unexpected(other))),
        }
    }

    /// Why whoever says that it is `from` is not that host, if it is known to be another.
    fn is_another(&self, from: &str) -> Option<String> {
        let peer = self.peer.as_ref().filter(|peer| peer.as_str() != from)?;
        Some(format!("its certificate is of host {peer}, and it calls itself {from:?}"))
    }

    /// Says what it has of VEs, and is to have.
    fn asked(&mut self, from: HostName, queries: Vec<Query>) -> ControlResult<()> {
        if let Some(why) = self.is_another(from.as_str()) {
            return self.link.say(&Message::Declined { why }).map_err(refused);
        }
        let answer = match self.control.handover(&Request::Ask { from, queries }) {
            Ok(Answer { said: Some((host, words)), .. }) => Message::Words { host, words },
            Ok(_) => Message::Declined { why: "it has nothing to say".to_owned() },
            Err(e) => Message::Declined { why: e.message },
        };
        self.link.say(&answer).map_err(refused)
    }

    fn offered(&mut self, offer: &Offer, to: Option<&HostName>) -> ControlResult<()> {
        let mut problems = offer.problems(self.host).map_err(refused)?;
        let own = self.host.settings.own_name();
        if let Some(to) = to.filter(|to| own.as_ref() != Some(to)) {
            let own = own.map_or_else(|| "nothing".to_owned(), |own| own.to_string());
            problems.push(
                Kind::Other.because(format!("it is to go to {to}, and the host there is called {own}")),
            );
        }
        let entry = offer.entry.clone();
        problems.extend(self.control.handover(&Request::Check { entry })?.problems);
        let manifests = Manifests::read(&self.host.settings);
        if !offer.manifest.is_empty() && !manifests.has(offer.entry.name.as_str()) {
            let unfit = manifests.try_add(offer.entry.name.as_str(), &offer.manifest).err();
            problems.extend(unfit.map(|e| unfit_kind(e.code).because(e.message)));
        }
        let fits = problems.is_empty();
        self.link.say(&Message::Fits { problems }).map_err(refused)?;
        match self.probed().map_err(refused)? {
            None => Ok(()),
            Some(Frame::Message(Message::Begin { id })) if fits => self.begin(offer, &id),
            Some(other) => Err(refused(self.link.unexpected(other))),
        }
    }

    /// The first frame that is none of a probe.
    fn probed(&mut self) -> SysResult<Option<Frame>> {
        while let Some(frame) = self.link.frame()? {
            if !matches!(frame, Frame::Message(Message::Probe)) {
                return Ok(Some(frame));
            }
            while let Some(Frame::Data(..)) = self.link.frame()? {}
            self.link.say(&Message::Probed)?;
        }
        Ok(None)
    }

    fn begin(&mut self, offer: &Offer, id: &str) -> ControlResult<()> {
        let (uid, entry, peer) = (offer.entry.uid.clone(), offer.entry.clone(), offer.from.clone());
        let _session = Session::begin(&self.host.settings, &uid).map_err(refused)?;
        fault::point();
        let received = self.control.handover(&Request::Receive { entry, id: id.to_owned(), peer });
        let room = match received {
            Ok(answer) => answer.entry,
            Err(error) => return self.link.say(&Message::Declined { why: error.message }).map_err(refused),
        };
        let Some(room) = room else { return Err(refused("there is no record of it")) };
        fault::point();
        let whole = self.receive(&room);
        let whole = match whole {
            Ok(Some(whole)) => whole,
            Ok(None) => return self.decline(&uid, id, None),
            Err(why) => return self.decline(&uid, id, Some(why.to_string())),
        };
        fault::point();
        let commit = self.link.say(&Message::Prepared).and_then(|()| self.link.frame());
        match commit {
            Ok(Some(Frame::Message(Message::Commit { uid: same_uid, id: same_id, manifest, .. })))
                if same_uid == uid && same_id == id =>
            {
                fault::point();
                self.accept(&uid, id, Some(whole), &manifest)
            }
            Ok(None) => self.decline(&uid, id, None),
            Ok(Some(other)) => self.decline(&uid, id, Some(self.link.unexpected(other).to_string())),
            Err(e) => self.decline(&uid, id, Some(e.to_string())),
        }
    }

    /// Removes what was received; `why` is told to a source that is still there.
    fn decline(&mut self, uid: &VeUid, id: &str, why: Option<String>) -> ControlResult<()> {
        self.control.handover(&Request::Tell { uid: uid.clone(), id: id.to_owned(), told: Told::Decline })?;
        match why {
            Some(why) => self.link.say(&Message::Declined { why }).map_err(refused),
            None => Err(refused("the source has ended, or the link is cut: what was received is removed")),
        }
    }

    /// Takes the VE, and has it go on.
    fn accept(
        &mut self,
        uid: &VeUid,
        id: &str,
        entry: Option<Box<Entry>>,
        manifest: &str,
    ) -> ControlResult<()> {
        let request = Request::Accept { uid: uid.clone(), id: id.to_owned(), entry };
        let answer = self.control.handover(&request)?;
        fault::point();
        let Some(entry) = answer.entry else {
            let why = line(&answer.problems);
            return self.link.say(&Message::Declined { why }).map_err(refused);
        };
        let mut notes: Vec<_> = answer.problems.into_iter().map(|is| is.why).collect();
        notes.extend(self.describe(&entry, manifest));
        fault::point();
        self.link.say(&Message::Arrived { notes }).map_err(refused)?;
        match self.link.hear() {
            Ok(Message::Closed) => {
                let told = Told::Acknowledged;
                self.control.handover(&Request::Tell { uid: uid.clone(), id: id.to_owned(), told }).map(drop)
            }
            Ok(other) => Err(refused(self.link.unexpected(other))),
            Err(e) => Err(refused(e)),
        }
    }

    /// Writes its manifest where there is none yet, and has it followed. What stands in the way of that is only told:
    /// the VE is kept as the ledger says until there is one.
    fn describe(&self, entry: &Entry, manifest: &str) -> Option<String> {
        let manifests = Manifests::read(&self.host.settings);
        let name = entry.name.as_str();
        if manifest.is_empty() || manifests.has(name) {
            return None;
        }
        if manifests.policy() != ManifestPolicy::Edit {
            let what = "the host's manifestPolicy there does not let commands write manifests: it is kept as it is \
                        until one names it";
            return Some(what.to_owned());
        }
        if let Err(wrong) = manifests.add(name, manifest) {
            return Some(format!("its manifest could not be written there: {}", wrong.message));
        }
        let only = Selector { names: vec![name.to_owned()], ..Selector::default() };
        let outcome = self.control.apply(&PlanRequest { only, ..PlanRequest::default() });
        let failed =
            |error: ControlError| format!("not all of its manifest is in force there: {}", error.message);
        outcome.map_or_else(|e| Some(failed(e)), |done| done.failed.into_values().next().map(failed))
    }

    /// Receives everything; none if the source has gone.
    fn receive(&mut self, room: &Entry) -> SysResult<Option<Box<Entry>>> {
        let ve = Ve { host: self.host, entry: room, want: None };
        let mut tree = Receiver::new(ve)?;
        let image = Image::lock(&checkpoint::dir(ve))?;
        let mut part: Option<Part> = None;
        self.link.say(&Message::Begun)?;
        // None of it has come; what was written ahead has; the rest of it is coming.
        let (mut has_ahead, mut has_image) = (false, false);
        loop {
            let Some(frame) = self.link.frame()? else { return Ok(None) };
            match (frame, &mut part) {
                (Frame::Data(at, bytes), Some(part)) => part.data(at, &bytes)?,
                (Frame::Data(at, bytes), None) => tree.data(at, &bytes)?,
                (Frame::Message(Message::Item(Item::End(size))), Some(open)) => {
                    open.end(size)?;
                    part = None;
                }
                (Frame::Message(Message::Item(item)), None) if !has_image => tree.item(&item)?,
                (Frame::Message(Message::Image { name, mode }), None)
                    if tree.is_done() || !has_image && name.contains('/') =>
                {
                    if !has_ahead && !has_image {
                        image.make(None)?;
                    }
                    *(if name.contains('/') { &mut has_ahead } else { &mut has_image }) = true;
                    let (file, path) = image.make_part(&name, mode)?;
                    part = Some(Part { file, path, unwritten: 0 });
                }
                (Frame::Message(Message::Whole { entry, quotas, sum }), None) if tree.is_done() => {
                    if self.link.sum(false) != sum {
                        return Err(SysError::refused("receive", "VE", "what came is not what was sent"));
                    }
                    if has_image != entry.suspension.is_some() {
                        return Err(SysError::refused(
                            "receive",
                            "VE",
                            "its checkpoint is missing, or one too many",
                        ));
                    }
                    if has_ahead && !has_image {
                        // It has ended by itself meanwhile.
                        image.remove()?;
                    }
                    if has_image {
                        image.tie()?;
                        // Memory is as it was sent, by the sum. It is looked at again only if it is not used soon.
                        image.check_all_but_pages(room.uid.as_str(), (room.ids.start, room.ids.count))?;
                        received::note(&image)?;
                    }
                    if let (Some(quotas), Some(accepted)) = (quotas, &entry.applied.lifecycle) {
                        disk::put_users_back(ve, &accepted.cold, *quotas)?;
                    }
                    tree.sync()?;
                    crate::store::atomic::sync(&self.host.ve_dir(&room.uid))?;
                    return Ok(Some(entry));
                }
                (other, _) => return Err(self.link.unexpected(other)),
            }
        }
    }
}

/// What it is that keeps a manifest from being in force here.
fn unfit_kind(code: Option<Code>) -> Kind {
    match code {
        Some(Code::DuplicateAddress) => Kind::Address,
        Some(Code::DuplicateName | Code::DuplicateCtid) => Kind::Exists,
        _ => Kind::Manifest,
    }
}

fn same(protocol: u32) -> ControlResult<()> {
    if protocol == PROTOCOL {
        return Ok(());
    }
    Err(refused(format!(
        "the source speaks protocol {protocol}, and this vzd {PROTOCOL}: use the same version"
    )))
}

/// A file of a checkpoint that is being received.
struct Part {
    file: File,
    path: PathBuf,
    /// Bytes that may not be on disk yet.
    unwritten: usize,
}

/// At most so much is left to be written out when all has come: the source waits for that, and not for ever.
const UNWRITTEN: usize = 256 << 20;

impl Part {
    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()> {
        self.file.write_all_at(bytes, at).at("write", self.path.display())?;
        self.unwritten += bytes.len();
        if self.unwritten >= UNWRITTEN {
            self.unwritten = 0;
            self.file.sync_data().at("write", self.path.display())?;
        }
        Ok(())
    }

    fn end(&self, size: u64) -> SysResult<()> {
        self.file.set_len(size).and_then(|()| self.file.sync_data()).at("write", self.path.display())
    }
}
