//! The controller's log on stderr: coloured on a terminal, bare under systemd, JSON when asked for.
//!
//! Levels come from `VZD_LOG` (such as `info,vzd::engine=debug`) or from `-v`. Logs are for operators of
//! vzd; what happened to a VE is told by events.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{Format, FormatEvent, FormatFields, Full, Writer};
use tracing_subscriber::registry::LookupSpan;

use crate::error::{SysError, SysResult};

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// As fits where it goes: a terminal, the journal, or a file.
    Auto,
    /// One JSON object a line.
    Json,
}

/// Starts the log of this process.
pub fn init(verbose: u8, format: LogFormat, colour: bool) -> SysResult<()> {
    let filter = match std::env::var("VZD_LOG") {
        Ok(directives) if !directives.is_empty() => EnvFilter::try_new(&directives)
            .map_err(|why| SysError::refused("read", "VZD_LOG", why).value(directives))?,
        _ => EnvFilter::new(match verbose {
            0 => "info",
            1 => "debug",
            _ => "trace",
        }),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Auto if goes_to_journal() => {
            log.with_ansi(false).event_format(ForJournal::new()).try_init()
        }
        LogFormat::Auto => log.with_ansi(colour).with_target(false).try_init(),
    };
    started.map_err(|why| SysError::refused("start", "log", why))
}

/// Whether stderr is a stream of the journal, which knows the time and the service by itself.
fn goes_to_journal() -> bool {
    let Ok(said) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    said == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Lines for the journal: no time, and the level as the prefix that it reads (`sd-daemon(3)`).
struct ForJournal(Format<Full, ()>);

impl ForJournal {
    fn new() -> Self {
        ForJournal(Format::default().without_time().with_level(false).with_target(false).with_ansi(false))
    }
}

impl<S, N> FormatEvent<S, N> for ForJournal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        cx: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str(prefix(*event.metadata().level()))?;
        self.0.format_event(cx, writer, event)
    }
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        Level::DEBUG | Level::TRACE => "<7>",
    }
}
