//! The one way to stdout, and the notes on stderr.
//!
//! Data goes to stdout, everything else to stderr. A reader that went away (`vzd get | head -1`) is no
//! error: what is left is dropped. What users or VEs wrote is passed through [`harmless`] before it
//! gets here, unless it is data in JSON or YAML.

use std::io::{self, ErrorKind, IsTerminal, Write};

use serde::Serialize;

use crate::cli::failure::Failure;

pub use vzd_schema::render::harmless;

/// How results are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For people with wide terminals.
    Wide,
    /// For programs.
    Json,
    /// For both.
    Yaml,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    fn on(self, terminal: bool) -> bool {
        match self {
            When::Always => true,
            When::Never => false,
            When::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                terminal && !set("NO_COLOR") && !dumb
            }
        }
    }
}

/// A few colours with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// As it should be, or something new.
    Good,
    /// Look at it.
    Warn,
    /// Wrong, or something that goes.
    Bad,
    /// Headings.
    Strong,
    /// Asides.
    Faint,
}

impl Paint {
    /// The text in this colour, if colours are on.
    pub fn text(self, on: bool, text: &str) -> String {
        let code = match self {
            _ if !on || text.is_empty() => return text.to_owned(),
            Paint::Good => "32",
            Paint::Warn => "33",
            Paint::Bad => "31",
            Paint::Strong => "1",
            Paint::Faint => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Where results and notes go.
#[derive(Debug)]
pub struct Out {
    /// How results are shown.
    pub format: Format,
    /// Colours on stdout.
    pub colour: bool,
    /// Colours on stderr.
    pub colour_notes: bool,
    closed: bool,
}

impl Out {
    /// The output of this process.
    pub fn new(format: Format, colour: When) -> Self {
        let (stdout, stderr) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Out { format, colour: colour.on(stdout), colour_notes: colour.on(stderr), closed: false }
    }

    /// Whether results are for a program.
    pub fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Whether the reader of stdout went away.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes text as it is.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())
    }

    /// Writes a line.
    pub fn line(&mut self, line: &str) -> Result<(), Failure> {
        self.bytes(format!("{line}\n").as_bytes())
    }

    /// Writes bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.closed {
            return Ok(());
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(Failure::new("cannot write to standard output").because(error)),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a value as YAML when that was asked for, and as JSON otherwise.
    pub fn data(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = if self.format == Format::Yaml {
            serde_saphyr::to_string(value)
                .map_err(|error| Failure::new("cannot write YAML").because(error))?
        } else {
            let json = serde_json::to_string_pretty(value);
            json.map_err(|error| Failure::new("cannot write JSON").because(error))? + "\n"
        };
        self.text(&text)
    }

    /// Writes one value of a stream: a line of JSON, or a document of YAML.
    pub fn item(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        if self.format == Format::Yaml {
            self.text("---\n")?;
            return self.data(value);
        }
        let json = serde_json::to_string(value);
        self.line(&json.map_err(|error| Failure::new("cannot write JSON").because(error))?)
    }

    /// Says something on stderr.
    pub fn note(&self, line: &str) {
        note(line);
    }
}

/// Says something on stderr, whatever comes of it: there is no better place to complain.
pub fn note(line: &str) {
    let _ = io::stderr().lock().write_all(format!("{line}\n").as_bytes());
}
