//! `vzd migrate`: hands a VE over to another host. `vzd receive` is its other end.

mod ordered;
mod whither;

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use vzd_schema::Code;
use vzd_schema::edit::{Value, to_yaml};
use vzd_schema::v1::{ByteRate, ManifestPolicy};
use vzd_state::handover::{Stage, Told, next};
use vzd_state::ledger::Entry;
use vzd_state::placement::HostName;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{FAILED, Failure, NOT_FOUND, OK, Outcome};
use crate::cli::migrate::ordered::Ordered;
use crate::cli::migrate::whither::whither;
use crate::cli::progress::Progress;
use crate::compat::manifests::Manifests;
use crate::control::{Control, PlanRequest, Selector};
use crate::drivers::Ve;
use crate::engine::{Access, clock};
use crate::handover::course::{Course, amount, seconds};
use crate::handover::fit::Offer;
use crate::handover::patient::Patient;
use crate::handover::problem::{Kind, Problem};
use crate::handover::source::{Moved, Source, ceded};
use crate::handover::target::Target;
use crate::handover::{Answer, Declared, Request, source};
use crate::host::Host;

/// Options of `vzd migrate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE
    #[arg(value_name = "VE")]
    ve: String,
    /// The other host: one of the hosts' `peers`, or one that ssh knows, or `tls://HOST:PORT`. Default: the one that the VE's
    /// manifest names, or that it was given to and has not answered
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// Reach vzd there by this command, instead of `ssh HOST vzd`
    #[arg(long, value_name = "COMMAND", conflicts_with = "host")]
    via: Option<String>,
    /// Send no more than this each second, such as 10M
    #[arg(long, value_name = "BYTES")]
    limit: Option<ByteRate>,
    /// Send memory once, while the VE stands still, and nothing of it ahead
    #[arg(long)]
    one_pass: bool,
    /// Compress what is sent, which is worth its time on a slow link
    #[arg(long)]
    compress: bool,
    /// Only show what would be sent, and what stands in the way
    #[arg(long)]
    dry_run: bool,
    /// Do not compare what processors can do: programs that use what those there cannot do are ended there
    #[arg(long, conflicts_with = "take_back")]
    any_cpu: bool,
    /// Have it be this host's again although the other host was given it, or this host's alone although the one that it came
    /// from does not answer: only if that host is lost for good
    #[arg(long, conflicts_with_all = ["host", "via", "dry_run"])]
    take_back: bool,
}

impl Args {
    /// For OpenVZ's tool: of a VE, to a host or by a command.
    pub(crate) fn of(ve: String, host: Option<String>, via: Option<String>) -> Self {
        Args {
            ve,
            host,
            via,
            limit: None,
            one_pass: false,
            compress: false,
            dry_run: false,
            any_cpu: false,
            take_back: false,
        }
    }

    /// With what is sent compressed.
    pub(crate) fn compressed(self, compress: bool) -> Self {
        Args { compress, ..self }
    }

    /// Only to see what stands in the way.
    pub(crate) fn only_asked(self, dry_run: bool) -> Self {
        Args { dry_run, ..self }
    }

    /// Whatever processors there can do.
    pub(crate) fn on_any_cpu(self, any_cpu: bool) -> Self {
        Args { any_cpu, ..self }
    }
}

/// Why a VE was not handed over, and of what kind that is.
#[derive(Debug)]
pub(crate) struct Unmoved {
    pub kind: Kind,
    pub failure: Failure,
}

impl<E: Into<Failure>> From<E> for Unmoved {
    fn from(failure: E) -> Self {
        Unmoved { kind: Kind::Other, failure: failure.into() }
    }
}

/// Hands it over.
pub fn run(args: &Args, cx: &mut Context) -> Outcome {
    hand_over(args, cx).map_err(|is| is.failure)
}

/// The same, for those who go by the kind of what stands in the way.
pub(crate) fn hand_over(args: &Args, cx: &mut Context) -> Result<u8, Unmoved> {
    let access = if args.dry_run { Access::Read } else { Access::Write };
    let control = connect(&cx.settings, access)?;
    let (entry, declared) = entry(&*control, &args.ve)?;
    let id = entry.handover.as_ref().map(|handover| handover.id.clone());
    if args.take_back {
        let request = Request::Tell { uid: entry.uid, id: id.unwrap_or_default(), told: Told::TakeBack };
        let answer = control.handover(&request)?;
        let words = match entry.handover.as_ref().map(|handover| handover.stage) {
            Some(Stage::Arrived) => "is this host's alone now",
            _ => "taken back",
        };
        return match answer.problems.first() {
            Some(problem) => Err(Failure::new(&*problem.why).coded(Code::HandoverRefused).into()),
            None => Ok(said(cx, entry.name.as_str(), "takenBack", words)?),
        };
    }
    let host = Host::find(&cx.settings).map_err(source::refused)?;
    if ceded(&entry).is_none() {
        next(entry.here(), Told::Freeze).map_err(source::refused)?;
    }
    let (way, peer, to) = whither(args, &cx.settings, &entry, declared.as_ref())?;
    // Both hosts read it in one repository: it is not the commands' to write.
    let manifest = if declared.is_some() { String::new() } else { manifest(cx, &entry)? };
    let unreached = |e| Unmoved { kind: Kind::Unreached, failure: source::refused(e).into() };
    let mut there = way.reach(&cx.settings).map_err(unreached)?;
    // What is only asked goes as fast as it can.
    let limit = args.limit.filter(|_| !args.dry_run).map(ByteRate::bytes);
    let course = Arc::new(Course::new(limit).map_err(source::refused)?);
    let streams = Patient::streams(&mut there, &course).map_err(source::refused)?;
    let mut source = Source::new(&*control, &host, streams, &peer, course.clone())
        .in_one_pass(args.one_pass)
        .compressed(args.compress);
    let moved = match ceded(&entry) {
        Some(id) => source.ask_again(&entry, id, manifest).map_err(Failure::from),
        None => {
            let (mut offer, mut problems) =
                Offer::of(Ve { host: &host, entry: &entry, want: None }, manifest.clone())
                    .map_err(source::refused)?;
            if let Some(live) = offer.live.as_mut().filter(|_| args.any_cpu) {
                live.cpu.clear();
            }
            if args.dry_run && !cx.out.is_data() {
                plan(cx, &offer, &peer)?;
            }
            match source.ask(offer.clone(), to) {
                Ok(theirs) => problems.extend(theirs),
                Err(e) => {
                    let kind = source.failed_as();
                    drop(source);
                    let kind = if there.ended() == Some(NOT_FOUND) { Kind::NoVzd } else { kind };
                    return Err(Unmoved { kind, failure: e.into() });
                }
            }
            let rate = if args.dry_run { Some(rate(&mut source, args)?) } else { None };
            if let Some(rate) = rate.filter(|_| cx.out.is_data()) {
                cx.out.data(&json!({
                    "ve": entry.name, "to": peer, "live": offer.live.is_some(),
                    "diskBytes": offer.disk_bytes, "memoryBytes": offer.memory_bytes,
                    "bytesPerSecond": rate, "diskMs": takes(offer.disk_bytes, rate).as_millis(),
                    "stillMs": offer.live.as_ref().map(|_| takes(offer.memory_bytes, rate).as_millis()),
                    "problems": problems.iter().map(|is| &is.why).collect::<Vec<_>>(),
                }))?;
            }
            if !problems.is_empty() {
                return misfit(&entry, &peer, problems, args.dry_run && cx.out.is_data());
            }
            if let Some(rate) = rate {
                if !cx.out.is_data() {
                    estimate(cx, &offer, rate)?;
                }
                return Ok(OK);
            }
            // Before there are other threads: one that had not this one's mask would be ended by the signal, and all with it.
            let _ordered = Ordered::new(course.clone());
            let _progress = Progress::showing(move || course.words());
            source.hand_over(&entry, &clock::new_uid().to_string(), manifest).map_err(Failure::from)
        }
    };
    let moved = moved.map_err(|failure| Unmoved { kind: source.failed_as(), failure })?;
    drop(source);
    drop(there);
    match declared {
        Some(_) => moved.notes.iter().for_each(|note| cx.out.note(&format!("{}: {note}", entry.name))),
        None => settle(&*control, &entry, &moved, cx)?,
    }
    if cx.out.is_data() {
        cx.out.data(&json!({
            "ve": entry.name, "to": peer, "migrated": true, "bytes": moved.bytes, "linkBytes": moved.wire,
            "rounds": moved.rounds, "stillBytes": moved.still.map(|(bytes, _)| bytes),
            "stillMs": moved.still.map(|(_, time)| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
        }))?;
    } else {
        let still = moved.still.map(|(bytes, time)| {
            format!(", {bytes} of them in the {:.1} s in which it stood still", time.as_secs_f64())
        });
        let (name, bytes) = (&entry.name, moved.bytes);
        let packed = if args.compress { format!(" as {} over the link", moved.wire) } else { String::new() };
        let rounds = if moved.rounds > 1 { format!(" in {} rounds", moved.rounds) } else { String::new() };
        cx.out.line(&format!(
            "{name}: runs at {peer} now; {bytes} bytes were sent{packed}{rounds}{}",
            still.unwrap_or_default()
        ))?;
    }
    Ok(OK)
}

/// Options of `vzd receive`.
#[derive(Debug, clap::Args)]
pub struct ReceiveArgs {
    /// The host that is known to be at the other end: whoever says that it is another is declined
    #[arg(long, value_name = "NAME")]
    peer: Option<HostName>,
}

/// The other end of `vzd migrate`: speaks with it over standard input and output.
pub fn receive(args: ReceiveArgs, cx: &Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    let host = Host::find(&cx.settings).map_err(source::refused)?;
    host.make_dirs().map_err(source::refused)?;
    let streams = (std::io::stdin(), std::io::stdout());
    Target::new(&*control, &host, args.peer, streams).serve()?;
    Ok(OK)
}

fn entry(control: &dyn Control, ve: &str) -> Result<(Entry, Option<Declared>), Failure> {
    let Answer { entry, declared, .. } = control.handover(&Request::Look { ve: ve.to_owned() })?;
    let entry = entry.ok_or_else(|| Failure::new(format!("there is no VE {ve:?}")))?;
    Ok((*entry, declared))
}

/// The text of its manifest; of one that has none, made of what the ledger holds.
fn manifest(cx: &Context, entry: &Entry) -> Result<String, Failure> {
    let written = Manifests::read(&cx.settings).text(entry.name.as_str()).map_err(source::refused)?;
    if let Some(text) = written {
        return Ok(text);
    }
    let metadata = json!({
        "name": entry.name, "labels": entry.labels, "annotations": entry.annotations,
    });
    let whole = json!({ "apiVersion": "vzd/v1", "kind": "VE", "metadata": metadata, "spec": *entry.spec });
    Ok(to_yaml(&value(&whole)))
}

fn value(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(is) => Value::word(is),
        serde_json::Value::Number(number) => Value::word(number),
        serde_json::Value::String(text) => Value::Text(text.clone()),
        serde_json::Value::Array(items) => Value::Seq(items.iter().map(value).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.iter().map(|(key, item)| (key.clone(), value(item))).collect())
        }
    }
}

fn plan(cx: &mut Context, offer: &Offer, peer: &str) -> Result<(), Failure> {
    let (name, Offer { disk_bytes, memory_bytes, .. }) = (&offer.entry.name, offer);
    cx.out.line(&format!("> {name} to {peer}"))?;
    match offer.live {
        Some(_) => cx.out.line(&format!(
            "    its disk ({disk_bytes} bytes) is sent while it runs; then it is suspended, what has changed and its memory \
             ({memory_bytes} bytes) are sent, and it is resumed there"
        ))?,
        None => cx.out.line(&format!("    it does not run: its disk ({disk_bytes} bytes) is sent"))?,
    }
    cx.out.line("    what is left of it here is kept in quarantine; its snapshots stay")?;
    Ok(())
}

/// How fast it would be sent, in bytes a second.
fn rate(source: &mut Source<'_, impl Read, impl Write>, args: &Args) -> Result<u64, Failure> {
    let measured = source.probe()?.max(1);
    let limit = args.limit.map(ByteRate::bytes).filter(|limit| *limit > 0);
    Ok(limit.map_or(measured, |limit| limit.min(measured)))
}

fn takes(bytes: u64, rate: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / rate)
}

fn estimate(cx: &mut Context, offer: &Offer, rate: u64) -> Result<(), Failure> {
    let (disk, memory) = (seconds(takes(offer.disk_bytes, rate)), seconds(takes(offer.memory_bytes, rate)));
    let rate = amount(rate);
    let still = match offer.live {
        Some(_) => format!("; it stands still for {memory} s and as long as writing and resuming it takes"),
        None => String::new(),
    };
    cx.out.line(&format!("    at {rate} a second, as just measured, its disk takes {disk} s{still}"))
}

fn misfit(entry: &Entry, peer: &str, problems: Vec<Problem>, is_told: bool) -> Result<u8, Unmoved> {
    if is_told {
        return Ok(FAILED);
    }
    let message = format!("{} cannot be handed over to {peer}", entry.name);
    let kind = problems.iter().map(|is| is.kind).min().unwrap_or(Kind::Other);
    let causes = problems.into_iter().map(|is| is.why).collect();
    Err(Unmoved { kind, failure: Failure { causes, ..Failure::new(message).coded(Code::HandoverRefused) } })
}

/// Has the manifest here say nothing of it any more, as far as commands may do that.
fn settle(control: &dyn Control, entry: &Entry, moved: &Moved, cx: &Context) -> Result<(), Failure> {
    for note in &moved.notes {
        cx.out.note(&format!("{}: {note}", entry.name));
    }
    let manifests = Manifests::read(&cx.settings);
    let name = entry.name.as_str();
    if !manifests.has(name) {
        return Ok(());
    }
    let may = manifests.policy() == ManifestPolicy::Edit;
    if !may || !manifests.retire(name, ".moved").map_err(source::refused)? {
        cx.out.note(&format!(
            "{name}: a manifest here still names it, which starts nothing: take it out by hand, or leave it if it is \
             to come back"
        ));
        return Ok(());
    }
    let only = Selector { names: vec![name.to_owned()], ..Selector::default() };
    match control.apply(&PlanRequest { only, ..PlanRequest::default() }) {
        // A controller may have seen it before.
        Err(error) if error.code != Code::NoSuchVe.as_str() => Err(error.into()),
        _ => Ok(()),
    }
}

fn said(cx: &mut Context, name: &str, key: &str, words: &str) -> Outcome {
    if cx.out.is_data() {
        cx.out.data(&json!({ "ve": name, key: true }))?;
    } else {
        cx.out.line(&format!("{name}: {words}"))?;
    }
    Ok(OK)
}
