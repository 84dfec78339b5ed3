//! `vzd net`: the network of running VEs: links, addresses, routes, limits, and what went over them.

use vzd_schema::v1::BitRate;

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{OK, Outcome};
use crate::cli::output::Paint;
use crate::cli::select::Chosen;
use crate::cli::table::{Cell, Table};
use crate::cli::ubc::size;
use crate::control::VeNetwork;
use crate::engine::Access;

/// Options of `vzd net`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    ves: Chosen,
}

/// Shows networks.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let ves = connect(&cx.settings, Access::Read)?.networks(&args.ves.or_all())?;
    if cx.out.is_data() {
        cx.out.data(&ves)?;
        return Ok(OK);
    }
    let colour = cx.out.colour;
    let shown = |ve: &VeNetwork| {
        format!("{} ({})\n{}", Paint::Strong.text(colour, &ve.name), ve.ctid, network(ve, colour))
    };
    let all: Vec<String> = ves.iter().map(shown).collect();
    cx.out.text(&all.join("\n"))?;
    Ok(OK)
}

/// The network of one VE, for people.
pub fn network(ve: &VeNetwork, colour: bool) -> String {
    let mut links =
        Table::new(&["LINK", "HOST", "ON", "STATE", "MTU", "MAC", "RECEIVED", "SENT", "ADDRESSES"]);
    for link in &ve.network.links {
        let (state, paint) = if link.up { ("up", Paint::Good) } else { ("down", Paint::Bad) };
        let addresses: Vec<String> = link.addresses.iter().map(ToString::to_string).collect();
        links.row([
            Cell::from(link.name.as_deref().unwrap_or_default()),
            Cell::from(link.host_name.as_deref().unwrap_or_default()),
            Cell::from(
                [&link.bridge, &link.parent, &link.device]
                    .into_iter()
                    .flatten()
                    .cloned()
                    .chain(link.vlan.map(|vlan| format!(" VLAN {vlan}")))
                    .collect::<String>(),
            ),
            Cell::painted(state, Some(paint)),
            Cell::from(link.mtu.to_string()),
            Cell::from(link.mac.map(|mac| mac.to_string()).unwrap_or_default()),
            Cell::from(size(link.received.bytes)),
            Cell::from(size(link.sent.bytes)),
            Cell::from(addresses.join(" ")),
        ]);
    }
    let mut text = links.render("  ", colour);
    for route in &ve.network.routes {
        text += &format!("  route {route}\n");
    }
    for rule in &ve.network.rules {
        text += &format!("  rule {rule}\n");
    }
    for limit in &ve.network.rates {
        let counts = &limit.counts;
        text += &format!(
            "  {}{} at most {}bit/s: {} went through, {} packets were dropped\n",
            limit.link.as_ref().map(|link| format!("{link} ")).unwrap_or_default(),
            limit.direction.name(),
            BitRate::from_bits(limit.rate),
            size(counts.bytes),
            counts.dropped
        );
    }
    text
}
