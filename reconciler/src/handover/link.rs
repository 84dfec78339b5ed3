//! What two hosts say to each other about a VE, over a pair of byte streams: frames of a kind, a length and a body, which
//! is JSON or a piece of a file; or other frames, compressed ([`batch`](super::batch)). Both ends sum all that passes, so that
//! neither takes the other's VE for whole when it is not.

use std::io::{Cursor, ErrorKind, Read, Write};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use vzd_state::ids::VeUid;
use vzd_state::ledger::Entry;
use vzd_state::placement::{HostName, Query, Word};

use crate::drivers::disk::stream::{Item, Sink};
use crate::error::{SysError, SysResult};
use crate::handover::batch::{self, Batch, PACKED};
use crate::handover::course::Course;
use crate::handover::fit::Offer;
use crate::handover::problem::Problem;
use crate::runtime::quotas::Kept;
use crate::template::index::hex;

/// The protocol that this version speaks.
pub const PROTOCOL: u32 = 7;
/// No frame is larger.
pub(super) const LARGEST: u32 = 4 << 20;
/// A kind and a length.
pub(super) const HEAD: usize = 5;

/// What is said. `S` is the source's, `T` the target's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Message {
    /// S: a VE is to come; would it fit? The first message of a hand-over.
    Hello {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The host that it is to come to, if the source knows what that is called.
        to: Option<HostName>,
        /// The VE.
        offer: Box<Offer>,
    },
    /// T: what stands in the way; nothing if it can come.
    Fits {
        /// Each with its kind.
        problems: Vec<Problem>,
    },
    /// S: pieces follow, and this once more: only to see how fast they come.
    Probe,
    /// T: they have come.
    Probed,
    /// S: it comes.
    Begin {
        /// Which hand-over.
        id: String,
    },
    /// T: there is room for it.
    Begun,
    /// S: a piece of its files.
    Item(Item),
    /// S: a file of its checkpoint, with its mode; its content follows, and `Item::End`. What is named as of a round was
    /// written ahead, and comes between the rounds of its files.
    Image {
        /// Its name.
        name: String,
        /// Its permissions.
        mode: u32,
    },
    /// S: that was all.
    Whole {
        /// What the ledger holds of the VE now that it stands still.
        entry: Box<Entry>,
        /// What its root has set for its users and groups; in its checkpoint, if it has one.
        quotas: Option<Box<Kept>>,
        /// The sum of everything before this.
        sum: String,
    },
    /// T: it is here, whole and on disk.
    Prepared,
    /// S: it is yours. Also the first message, when the answer to an earlier one was not heard.
    Commit {
        /// [`PROTOCOL`].
        protocol: u32,
        /// The VE.
        uid: VeUid,
        /// Which hand-over.
        id: String,
        /// The text of its manifest; empty if that is not the commands' to write.
        manifest: String,
    },
    /// T: it is, for good.
    Arrived {
        /// What else is to be told.
        notes: Vec<String>,
    },
    /// T: it is not, and will not be.
    Declined {
        /// Why.
        why: String,
    },
    /// S: I know that it has arrived.
    Closed,
    /// Either: what do you have of these VEs, and is one to be yours? The first and only message of its conversation.
    Ask {
        /// [`PROTOCOL`].
        protocol: u32,
        /// Who asks.
        from: HostName,
        /// About which.
        queries: Vec<Query>,
    },
    /// Either: the answer.
    Words {
        /// Who answers.
        host: HostName,
        /// Of each VE, in the order of the questions.
        words: Vec<Word>,
    },
}

/// A frame.
#[derive(Debug)]
pub enum Frame {
    /// A message.
    Message(Message),
    /// A piece of a file's content, at its place.
    Data(u64, Vec<u8>),
}

const MESSAGE: u8 = b'm';
const DATA: u8 = b'd';

/// One end of a conversation.
#[derive(Debug)]
pub struct Link<R, W> {
    from: R,
    to: W,
    /// Who is at the other end, in errors.
    peer: String,
    received: Sha256,
    sent: Sha256,
    bytes: u64,
    wire: u64,
    course: Option<Arc<Course>>,
    /// What waits to be sent compressed, if it is to be.
    batch: Option<Batch>,
    /// What came compressed, as far as it was not looked at.
    unpacked: Cursor<Vec<u8>>,
}

impl<R: Read, W: Write> Link<R, W> {
    /// A link whose other end is called so.
    pub fn new(from: R, to: W, peer: &str) -> Self {
        let (received, sent) = (Sha256::new(), Sha256::new());
        let (peer, unpacked) = (peer.to_owned(), Cursor::default());
        Self { from, to, peer, received, sent, bytes: 0, wire: 0, course: None, batch: None, unpacked }
    }

    /// What is sent is a part of this, and goes no faster than that may.
    pub fn on(self, course: Arc<Course>) -> Self {
        Self { course: Some(course), ..self }
    }

    /// What is said from now on goes compressed, or as it is.
    pub fn compress(&mut self, compress: bool) -> SysResult<()> {
        if !compress {
            self.send_batch()?;
            self.batch = None;
        } else if self.batch.is_none() {
            self.batch = Some(Batch::new()?);
        }
        Ok(())
    }

    /// How much was said, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How much of that has gone over the link, in bytes: less, where it was compressed.
    pub fn wire(&self) -> u64 {
        self.wire
    }

    /// The sum of all that was sent or received as content of a VE.
    pub fn sum(&self, sent: bool) -> String {
        let digest = if sent { &self.sent } else { &self.received };
        hex(&digest.clone().finalize())
    }

    /// Says something, at once.
    pub fn say(&mut self, message: &Message) -> SysResult<()> {
        self.put(message)?;
        self.flush()
    }

    /// Says something that more follows upon.
    pub fn put(&mut self, message: &Message) -> SysResult<()> {
        let body = serde_json::to_vec(message).map_err(|e| SysError::refused("encode", "message", e))?;
        self.write(MESSAGE, &[&body])
    }

    fn flush(&mut self) -> SysResult<()> {
        self.send_batch()?;
        self.to.flush().map_err(|e| broken(&e, "write to", &self.peer))
    }

    fn write(&mut self, kind: u8, body: &[&[u8]]) -> SysResult<()> {
        let length = body.iter().map(|part| part.len()).sum::<usize>();
        let length = u32::try_from(length).ok().filter(|length| *length <= LARGEST);
        let length = length.ok_or_else(|| SysError::refused("send", "message", "it is too large"))?;
        let (kind, head, bytes) = ([kind], length.to_be_bytes(), u64::from(length));
        let parts = || [&kind[..], &head].into_iter().chain(body.iter().copied());
        parts().for_each(|part| self.sent.update(part));
        self.bytes += bytes;
        if let Some(batch) = &mut self.batch {
            return if batch.add(parts(), bytes) { self.send_batch() } else { Ok(()) };
        }
        let written = parts().try_for_each(|part| self.to.write_all(part));
        written.map_err(|e| broken(&e, "write to", &self.peer))?;
        self.has_gone(bytes, bytes + HEAD as u64)
    }

    fn send_batch(&mut self) -> SysResult<()> {
        let Some(batch) = &mut self.batch else { return Ok(()) };
        let (packed, bytes) = batch.take()?;
        self.to.write_all(&packed).map_err(|e| broken(&e, "write to", &self.peer))?;
        self.has_gone(bytes, packed.len() as u64)
    }

    fn has_gone(&mut self, bytes: u64, wire: u64) -> SysResult<()> {
        self.wire += wire;
        self.course.as_ref().map_or(Ok(()), |course| course.sent(bytes, wire))
    }

    /// The next frame; none when the other end has gone.
    pub fn frame(&mut self) -> SysResult<Option<Frame>> {
        let Some((head, body)) = self.next()? else { return Ok(None) };
        let nonsense = |why: &str| SysError::refused("understand", &self.peer, why);
        let [kind, ..] = head;
        if kind == DATA {
            let (at, bytes) = body.split_first_chunk().ok_or_else(|| nonsense("a piece without a place"))?;
            self.summed(&head, &body);
            return Ok(Some(Frame::Data(u64::from_be_bytes(*at), bytes.to_vec())));
        }
        let message: Message = serde_json::from_slice(&body)
            .map_err(|e| nonsense(&format!("it says what this vzd does not know: {e}")))?;
        // The sum that it tells is of what was before.
        if !matches!(message, Message::Whole { .. }) {
            self.summed(&head, &body);
        }
        Ok(Some(Frame::Message(message)))
    }

    /// The next frame, out of a batch if one came; none when the other end has gone.
    fn next(&mut self) -> SysResult<Option<([u8; HEAD], Vec<u8>)>> {
        let nonsense = |why: &str| SysError::refused("understand", &self.peer, why);
        if self.unpacked.position() == self.unpacked.get_ref().len() as u64 {
            match read_frame(&mut self.from, &self.peer)? {
                Some((head, body)) if head[0] == PACKED => {
                    let frames = batch::unpack(&body).ok_or_else(|| nonsense("a batch that is none"))?;
                    self.unpacked = Cursor::new(frames);
                }
                other => return Ok(other),
            }
        }
        match read_frame(&mut self.unpacked, &self.peer)? {
            Some((head, body)) if head[0] != PACKED => Ok(Some((head, body))),
            _ => Err(nonsense("a batch that is not whole")),
        }
    }

    fn summed(&mut self, head: &[u8], body: &[u8]) {
        self.received.update(head);
        self.received.update(body);
    }

    /// The next message, which must be one.
    pub fn hear(&mut self) -> SysResult<Message> {
        match self.frame()? {
            Some(Frame::Message(message)) => Ok(message),
            Some(Frame::Data(..)) => Err(self.unexpected("a piece of a file")),
            None => Err(SysError::refused("hear", &self.peer, "it has ended, or the link is cut")),
        }
    }

    /// An error about something that makes no sense now.
    pub fn unexpected(&self, what: impl std::fmt::Debug) -> SysError {
        let what = format!("{what:?}").chars().take(100).collect::<String>();
        SysError::refused("understand", &self.peer, format_args!("{what} makes no sense now"))
    }
}

/// A frame as it comes; none when no whole one does.
fn read_frame(from: &mut impl Read, peer: &str) -> SysResult<Option<([u8; HEAD], Vec<u8>)>> {
    let mut head = [0; HEAD];
    match from.read_exact(&mut head) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map_err(|e| broken(&e, "read from", peer))?,
    }
    let [kind, length @ ..] = head;
    let length = u32::from_be_bytes(length);
    if length > LARGEST || ![MESSAGE, DATA, PACKED].contains(&kind) {
        return Err(SysError::refused("understand", peer, "it does not speak vzd's protocol"));
    }
    let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
    match from.read_exact(&mut body) {
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => Ok(None),
        other => other.map_err(|e| broken(&e, "read from", peer)).map(|()| Some((head, body))),
    }
}

/// A stream's error, which may be one in words.
fn broken(error: &std::io::Error, op: &str, peer: &str) -> SysError {
    match error.raw_os_error() {
        Some(errno) => SysError::new(op, peer, errno),
        None => SysError::refused(op, peer, error),
    }
}

/// Sends files.
impl<R: Read, W: Write> Sink for Link<R, W> {
    fn item(&mut self, item: &Item) -> SysResult<()> {
        self.put(&Message::Item(item.clone()))
    }

    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()> {
        self.write(DATA, &[&at.to_be_bytes(), bytes])
    }
}

#[cfg(test)]
mod tests;
