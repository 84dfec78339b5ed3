//! `vzd pki`: certificates by which hosts know each other.

use std::path::PathBuf;

use serde_json::json;
use vzd_schema::v1::{Duration, Endpoint};
use vzd_state::placement::HostName;

use crate::cli::Context;
use crate::cli::failure::{FAILED, Failure, OK, Outcome};
use crate::cli::table::Table;
use crate::engine::clock;
use crate::handover::dial;
use crate::pki::certificate::{Facts, facts};
use crate::pki::{Pki, Trouble, make};

/// Options of `vzd pki`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a CA, on the one host that issues the others' certificates
    Init {
        /// How long it serves
        #[arg(long, default_value = "3650d", value_name = "DURATION")]
        valid: Duration,
        /// Make another one although there is one, whose certificates nobody believes then any more
        #[arg(long)]
        force: bool,
    },
    /// Make a host's certificate, or renew it; run where the CA's key is
    Issue {
        /// The host, by the name that `spec.host` of VEs has for it
        #[arg(value_name = "HOST")]
        host: HostName,
        /// Another name or an address that it is good for; needed by `vzd migrate VE tls://NAME:PORT` only
        #[arg(long, value_name = "NAME")]
        address: Vec<String>,
        /// How long it serves
        #[arg(long, default_value = "365d", value_name = "DURATION")]
        valid: Duration,
        /// Where to, with the CA's certificate: what that host is to have as its own directory of certificates. Default: this
        /// host's directory for this host, and `issued/HOST` there for another
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// Make another key although there is one, which is written over
        #[arg(long)]
        force: bool,
    },
    /// Show whose this host's certificate is, until when, and of which CA
    Show,
    /// Join standard input and output to vzd on another host, as hand-overs by TLS do
    Connect {
        /// Where vzd there listens
        #[arg(value_name = "HOST:PORT")]
        address: Endpoint,
        /// What that host is called. Default: what it is reached by
        #[arg(long, value_name = "NAME")]
        name: Option<HostName>,
    },
}

impl From<Trouble> for Failure {
    fn from(Trouble { code, what, cure }: Trouble) -> Self {
        let help = if cure.is_empty() { Vec::new() } else { vec![cure] };
        Failure { help, ..Failure::new(what).coded(code) }
    }
}

/// Carries it out.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    let pki = Pki::at(&cx.settings.pki);
    match &args.command {
        Command::Init { valid, force } => {
            let made = make::init(&pki, (*valid).into(), *force)?;
            told(cx, &pki, &made, &format!("{}: serves until {}", made.name, made.until))?;
            cx.out.note(&format!("whoever has {} can make itself any host", pki.ca_key().display()));
            Ok(OK)
        }
        Command::Issue { host, address, valid, out, force } => {
            let is_own = cx.settings.own_name().as_ref() == Some(host);
            let out = match out {
                Some(out) => Pki::at(out),
                None if is_own => pki.clone(),
                None => Pki::at(&pki.dir().join("issued").join(host.as_str())),
            };
            let made = make::issue(&pki, host, address, (*valid).into(), &out, *force)?;
            told(
                cx,
                &out,
                &made,
                &format!("{host}: serves until {}, in {}", made.until, out.dir().display()),
            )?;
            if out != pki {
                cx.out.note(&format!(
                    "copy ca.crt, host.crt and host.key of {} to the host's own {}",
                    out.dir().display(),
                    pki.dir().display()
                ));
            }
            Ok(OK)
        }
        Command::Show => show(&pki, cx),
        Command::Connect { address, name } => {
            dial::speak(&pki, address, name.as_ref())?;
            Ok(OK)
        }
    }
}

fn told(cx: &mut Context, pki: &Pki, made: &Facts, line: &str) -> Result<(), Failure> {
    if cx.out.is_data() {
        return cx.out.data(&json!({ "dir": pki.dir(), "certificate": made }));
    }
    cx.out.line(line)
}

fn show(pki: &Pki, cx: &mut Context) -> Outcome {
    let cas: Vec<Facts> = pki.cas()?.iter().filter_map(|ca| facts(ca).ok()).collect();
    let own = pki.own(clock::now());
    let trouble = pki.trouble(clock::now());
    if cx.out.is_data() {
        cx.out.data(&json!({
            "dir": pki.dir(), "cas": cas, "issues": pki.ca_key().exists(),
            "host": own.as_ref().ok().map(|own| &own.facts),
            "trouble": trouble.as_ref().map(|is| json!({ "what": is.what, "cure": is.cure })),
        }))?;
    } else {
        let mut table = Table::new(&["", "NAME", "GOOD FOR", "UNTIL", "CA", "SHA256"]);
        let rows = cas.iter().map(|ca| ("ca", ca)).chain(own.as_ref().ok().map(|own| ("host", &own.facts)));
        for (kind, is) in rows {
            let short = is.sha256.get(..16).unwrap_or_default();
            let (names, until) = (is.names.join(","), is.until.to_string());
            table.row([kind, &is.name, &names, &until, &is.issuer, short].map(Into::into));
        }
        cx.out.text(&table.render("", cx.out.colour))?;
    }
    match trouble {
        Some(trouble) if own.is_ok() => {
            cx.out.note(&format!("warning[{}]: {}\n  help: {}", trouble.code, trouble.what, trouble.cure));
            Ok(OK)
        }
        Some(trouble) if !cx.out.is_data() => Err(trouble.into()),
        Some(_) => Ok(FAILED),
        None => Ok(OK),
    }
}
