//! Where a VE goes that is handed over: as the order says, as its manifest says, or to whom it was given already. Reaches nobody.

use vzd_schema::Code;
use vzd_schema::v1::ScalarError;
use vzd_state::handover::Stage;
use vzd_state::ledger::Entry;
use vzd_state::placement::HostName;

use crate::cli::failure::Failure;
use crate::cli::migrate::Args;
use crate::compat::manifests::Manifests;
use crate::handover::Declared;
use crate::handover::source::ceded;
use crate::handover::there::Way;
use crate::settings::Settings;

/// How the other host is reached, and what it is called: by whoever gives the order, and by itself.
pub(super) type Whither = (Way, String, Option<HostName>);

/// Where it goes, if it may: what was given away is asked for again wherever it was given to.
pub(super) fn whither(
    args: &Args,
    settings: &Settings,
    entry: &Entry,
    declared: Option<&Declared>,
) -> Result<Whither, Failure> {
    let name = &entry.name;
    let ordered = ordered(args, settings)?.or_else(|| given_to(entry, settings));
    let refused = |message: String, help: String| Failure {
        help: vec![help],
        ..Failure::new(message).coded(Code::HandoverRefused)
    };
    match (ordered, declared) {
        (Some(ordered), declared) if declared.is_none() || ceded(entry).is_some() => Ok(ordered),
        (Some(_), Some(Declared { source: Some(line), .. })) => Err(refused(
            format!("{name}: its manifest says which host it is to be on ({line})"),
            "change `spec.host` there: then it is handed over by itself".to_owned(),
        )),
        (_, Some(declared)) => match (&declared.way, &declared.to) {
            (Some(way), Some(to)) => Ok((way.clone(), to.to_string(), Some(to.clone()))),
            _ => Err(refused(
                format!("{name}: {}", declared.told),
                "change `spec.host` in its manifest: then it is handed over by itself".to_owned(),
            )),
        },
        (_, None) => Err(refused(
            format!("{name}: it is not said to which host"),
            format!("`vzd migrate {name} HOST`, or `spec.host` in its manifest"),
        )),
    }
}

/// Where the order says that it goes.
fn ordered(args: &Args, settings: &Settings) -> Result<Option<Whither>, Failure> {
    let Some(host) = args.via.as_ref().or(args.host.as_ref()) else { return Ok(None) };
    let way = match host.strip_prefix("tls://") {
        _ if args.via.is_some() => Way::Via(host.clone()),
        Some(address) => {
            let address = address.parse().map_err(|e: ScalarError| Failure::usage(e.to_string()))?;
            Way::Tls { address, name: None }
        }
        None => match Manifests::read(settings).peer(host) {
            Some(peer) => return Ok(Some((Way::to(&peer), host.clone(), Some(peer.name)))),
            None => Way::Ssh(host.clone()),
        },
    };
    Ok(Some((way, host.clone(), None)))
}

/// The host that it was given to and that has not said yet what became of it, if that is one of the peers.
fn given_to(entry: &Entry, settings: &Settings) -> Option<Whither> {
    let given = entry.handover.as_ref().filter(|handover| handover.stage == Stage::Ceded)?;
    let peer = Manifests::read(settings).peer(&given.peer)?;
    Some((Way::to(&peer), given.peer.clone(), Some(peer.name)))
}
