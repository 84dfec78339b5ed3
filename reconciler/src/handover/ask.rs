//! Asking another host about VEs: one question for all of them, and an answer, or why there was none. Whoever does not
//! answer in time is not waited for.

use std::io::{BufReader, BufWriter};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::channel;
use std::time::Duration;

use vzd_state::placement::{HostName, Query, Word};

use crate::error::SysResult;
use crate::handover::link::{Link, Message, PROTOCOL};
use crate::handover::there::Way;
use crate::settings::Settings;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `peer` says of these VEs, in the order of the questions; or why it is not heard.
pub fn ask(
    settings: &Settings,
    own: &HostName,
    (peer, way): (&HostName, &Way),
    queries: &[Query],
) -> Result<Vec<Word>, String> {
    let mut there = way.reach_alone(settings).map_err(|e| e.to_string())?;
    let streams = there.streams().map_err(|e| e.to_string())?;
    let question = Message::Ask { protocol: PROTOCOL, from: own.clone(), queries: queries.to_vec() };
    let (answered, answer) = channel();
    let called = peer.to_string();
    let asking = std::thread::Builder::new().name("asks".into()).spawn(move || {
        let _ = answered.send(converse(streams, &called, &question));
    });
    if let Err(e) = asking {
        there.kill();
        return Err(format!("a thread cannot be started: {e}"));
    }
    let Ok(heard) = answer.recv_timeout(PATIENCE) else {
        there.kill();
        return Err(format!("it has not answered within {} s", PATIENCE.as_secs()));
    };
    match heard {
        Ok(Message::Words { host, words }) if host == *peer && words.len() == queries.len() => Ok(words),
        Ok(Message::Words { host, .. }) if host != *peer => Err(format!("it calls itself {host}")),
        Ok(Message::Declined { why }) => Err(why),
        Ok(_) => Err("it answers something else".to_owned()),
        // What the command has to say about it is worth more.
        Err(e) => {
            there.kill();
            Err(there.last_words().unwrap_or_else(|| e.to_string()))
        }
    }
}

fn converse((from, to): (ChildStdout, ChildStdin), peer: &str, question: &Message) -> SysResult<Message> {
    let mut link = Link::new(BufReader::new(from), BufWriter::new(to), peer);
    link.say(question)?;
    link.hear()
}
