//! Health: what a VE is asked now and then, and what its answers come to.
//!
//! The bookkeeping is pure; [`Engine::probe`] asks outside of any pass, so that a probe that hangs holds
//! nothing up. Commands are run through the keeper.

use std::net::SocketAddr;
use std::time::Duration;

use vzd_schema::Code;
use vzd_state::observed::Observed;
use vzd_state::status::Health;
use vzd_state::subsystem::lifecycle::{Ask, Probe, Run};
use vzd_state::subsystem::network;
use vzd_state::units::{Millis, Timestamp};

use crate::drivers::{self, Ve, lifecycle};
use crate::engine::view::Leave;
use crate::engine::{Engine, Subject, clock};
use crate::kernel::process::WaitStatus;
use crate::runtime::ask;
use crate::runtime::enter::{Command, default_env};

/// What a VE's probe has said so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Probes {
    probe: Option<Probe>,
    /// The run that was probed: answers of an earlier one mean nothing.
    started_at: Option<Timestamp>,
    next: Option<Timestamp>,
    in_a_row: u32,
    last: Option<Result<(), String>>,
    answered: Option<Timestamp>,
    verdict: Option<Result<(), String>>,
}

impl Probes {
    /// Takes the present probe and run.
    pub fn follow(&mut self, probe: Option<&Probe>, observed: &Observed, now: Timestamp) {
        let started_at = match observed.running() {
            Some(Run::Running { started_at, .. }) => Some(*started_at),
            _ => None,
        };
        if self.probe.as_ref() != probe || self.started_at != started_at {
            let next = probe.zip(started_at).map(|(probe, at)| (at + probe.initial_delay).max(now));
            *self = Probes { probe: probe.cloned(), started_at, next, ..Probes::default() };
        }
    }

    /// When the next probe is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.next
    }

    /// What the answers come to.
    pub fn health(&self) -> Health {
        match (&self.probe, self.started_at, &self.verdict) {
            (None, ..) => Health::NoProbe,
            (Some(_), None, _) | (Some(_), Some(_), None) => Health::Unknown,
            (Some(_), Some(_), Some(Ok(()))) => Health::Healthy,
            (Some(_), Some(_), Some(Err(why))) => Health::Unhealthy(format!("{why} [{}]", Code::ProbeFailed)),
        }
    }

    /// What the answers since then come to: unknown while the last one and the verdict are not of one mind.
    pub fn since(&self, since: Timestamp) -> Health {
        let heard = self.answered.is_some_and(|at| at > since);
        let agree = self.last.as_ref().map(Result::is_ok) == self.verdict.as_ref().map(Result::is_ok);
        if self.probe.is_some() && !(heard && agree) { Health::Unknown } else { self.health() }
    }

    /// Has the probe run at once if it has not since then.
    pub fn ask_since(&mut self, since: Timestamp, now: Timestamp) {
        if self.answered.is_none_or(|at| at <= since) {
            self.next = self.next.map(|next| next.min(now));
        }
    }

    /// Counts an answer; the verdict changes when enough in a row agree.
    pub fn answer(&mut self, answer: Result<(), String>, now: Timestamp) {
        let Some(probe) = &self.probe else { return };
        self.next = Some(now + probe.interval);
        let agrees = self.last.as_ref().is_some_and(|last| last.is_ok() == answer.is_ok());
        self.in_a_row = if agrees { self.in_a_row + 1 } else { 1 };
        let enough = if answer.is_ok() { probe.success_threshold } else { probe.failure_threshold };
        if self.in_a_row >= enough {
            self.verdict = Some(answer.clone());
        }
        (self.last, self.answered) = (Some(answer), Some(now));
    }
}

impl Engine {
    /// Runs the probe of a VE if it is due.
    pub(super) fn probe(&self, subject: &Subject) {
        let now = clock::now();
        let due = self
            .shared()
            .published
            .get(subject)
            .and_then(|is| is.probes.next.filter(|at| *at <= now).and(is.probes.probe.clone()));
        let Some(probe) = due else { return };
        let Some(view) = self.view(subject, Leave::default()) else { return };
        let Some(entry) = &view.entry else { return };
        // A probe may take its time, and one that is probed runs.
        self.starts.step_out(&view.name);
        let ve = Ve { host: &self.host, entry, want: view.want() };
        let answer = answer(ve, &probe);
        if let Some(published) = self.shared().published.get_mut(subject) {
            published.probes.answer(answer, clock::now());
        }
    }
}

fn answer(ve: Ve<'_>, probe: &Probe) -> Result<(), String> {
    match &probe.ask {
        Ask::Exec(command) => run(ve, command, probe.timeout),
        Ask::Tcp { port } => call(ve, probe.timeout, *port, None),
        Ask::Http { port, path } => call(ve, probe.timeout, *port, Some(path)),
    }
}

fn run(ve: Ve<'_>, command: &[String], timeout: Millis) -> Result<(), String> {
    let command = Command { argv: command.to_vec(), env: default_env("dumb"), cwd: "/".into() };
    let ran = lifecycle::door(ve).and_then(|door| ve.host.keeper.run(door, command, timeout.0));
    match ran {
        Ok(Some(WaitStatus::Exited(0))) => Ok(()),
        Ok(Some(WaitStatus::Exited(code))) => Err(format!("the probe exited with {code}")),
        Ok(Some(WaitStatus::Signaled(signal))) => Err(format!("the probe was killed by signal {signal}")),
        Ok(Some(WaitStatus::Unknown)) => Err("the probe ended, nobody knows how".to_owned()),
        Ok(None) => Err(format!("the probe did not end within {timeout}")),
        Err(e) => Err(e.to_string()),
    }
}

fn call(ve: Ve<'_>, timeout: Millis, port: u16, path: Option<&str>) -> Result<(), String> {
    let network = ve.want.map(|want| &want.network);
    let own = network.into_iter().flat_map(network::Desired::own_addresses);
    let at: Vec<_> =
        ask::LOCAL.into_iter().chain(own).map(|address| SocketAddr::new(address, port)).collect();
    let running = lifecycle::running(ve).map_err(|e| e.to_string())?;
    let socket = |family| drivers::network::socket(&running, family);
    match ask::connect(&at, Duration::from_millis(timeout.0), socket).and_then(|call| match path {
        Some(path) => call.get(path),
        None => Ok(()),
    }) {
        Ok(()) => Ok(()),
        Err(e) if e.errno == libc::ETIMEDOUT => Err(format!("the probe did not end within {timeout}")),
        Err(e) => Err(e.to_string()),
    }
}
