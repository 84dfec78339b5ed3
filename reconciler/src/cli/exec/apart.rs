//! The output of many VEs, kept apart: each line under its VE's name, or each VE's lines together.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use crate::cli::output::{Out, Paint, harmless};

/// Output of one VE that is kept until it ends, in bytes; what is beyond that is dropped.
const MOST_KEPT: usize = 16 << 20;

/// What came of one VE.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// The VE.
    pub name: String,
    /// The command's status in it.
    pub exit_status: u8,
    /// Its output; empty where that was shown already.
    pub stdout: String,
    /// Its other output.
    pub stderr: String,
}

/// Where all VEs' output goes.
#[derive(Debug)]
pub struct Apart<'a> {
    out: Mutex<&'a mut Out>,
    /// The output of each VE at its end, not line by line.
    group: bool,
    /// As wide as the longest name.
    width: usize,
}

/// What is kept of one VE until it ends.
#[derive(Debug, Default)]
pub struct Kept(Mutex<(usize, Vec<Piece>)>);

/// A line, and whether it went to stderr.
type Piece = (bool, Vec<u8>);

impl<'a> Apart<'a> {
    /// Output of VEs whose longest name has this width.
    pub fn new(out: &'a mut Out, group: bool, width: usize) -> Self {
        Apart { group: group || out.is_data(), out: Mutex::new(out), width }
    }

    fn out(&self) -> MutexGuard<'_, &'a mut Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line of a VE.
    pub fn line(&self, name: &str, line: Vec<u8>, is_error: bool, kept: &Kept) {
        if !self.group {
            return self.show(name, &line, is_error);
        }
        let mut kept = kept.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.0 < MOST_KEPT {
            kept.0 += line.len() + 1;
            kept.1.push((is_error, line));
        }
    }

    /// One line under its VE's name. On a terminal nothing in it can pretend to be another VE's.
    fn show(&self, name: &str, line: &[u8], is_error: bool) {
        let mut out = self.out();
        let terminal =
            if is_error { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let colour = if is_error { out.colour_notes } else { out.colour };
        let prefix = Paint::Faint.text(colour, &format!("{name:<width$} | ", width = self.width));
        let mut bytes = prefix.into_bytes();
        if terminal {
            bytes.extend(harmless(String::from_utf8_lossy(line).trim_end_matches('\r')).into_bytes());
        } else {
            bytes.extend_from_slice(line);
        }
        emit(&mut out, bytes, is_error);
    }

    /// Shows what was kept of a VE, and makes its part of the result.
    pub fn finish(&self, name: String, exit_status: u8, kept: Kept) -> Ended {
        let (_, lines) = kept.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut out = self.out();
        if out.is_data() {
            let text = |wanted: bool| -> String {
                let lines = lines.iter().filter(|(is_error, _)| *is_error == wanted);
                lines.map(|(_, line)| String::from_utf8_lossy(line).into_owned() + "\n").collect()
            };
            return Ended { name, exit_status, stdout: text(false), stderr: text(true) };
        }
        if !lines.is_empty() {
            let title = Paint::Strong.text(out.colour, &format!("==> {name} <=="));
            emit(&mut out, title.into_bytes(), false);
        }
        for (is_error, line) in lines {
            emit(&mut out, line, is_error);
        }
        Ended { name, exit_status, stdout: String::new(), stderr: String::new() }
    }
}

fn emit(out: &mut Out, mut line: Vec<u8>, is_error: bool) {
    line.push(b'\n');
    if is_error {
        // There is no better place to complain.
        let _ = std::io::stderr().lock().write_all(&line);
    } else if let Err(failure) = out.bytes(&line) {
        failure.print(out.colour_notes);
    }
}
