//! Man pages of OpenVZ's tools, made from what the tools themselves say and from the tables that they run on.

use std::path::Path;

use clap_mangen::roff::{Roff, bold, roman};

use super::params::PARAMS;
use super::vzlist::columns;
use super::{TOOLS, Tool, conformance, options};
use crate::cli::failure::Failure;

/// Writes a page `NAME.8` for each tool.
pub fn write(dir: &Path) -> Result<(), Failure> {
    for tool in TOOLS {
        let path = dir.join(format!("{}.8", tool.name));
        std::fs::write(&path, page(tool))
            .map_err(|error| Failure::new(format!("cannot write {}", path.display())).because(error))?;
    }
    Ok(())
}

fn page(tool: &Tool) -> String {
    let mut roff = Roff::new();
    roff.control("TH", [tool.name, "8", "", concat!("vzd ", env!("CARGO_PKG_VERSION"))]);
    roff.control("SH", ["NAME"]).text([roman(format!("{} - {}", tool.name, tool.about))]);
    roff.control("SH", ["SYNOPSIS"]).control("nf", []);
    for line in tool.usage.trim_start_matches("Usage: ").lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    match tool.name {
        "vzctl" => {
            items(&mut roff, "COMMANDS", conformance::commands());
            let options: Vec<_> = PARAMS
                .iter()
                .filter(|param| !param.option.is_empty())
                .map(|param| (format!("--{}", param.option), conformance::verdict(param)))
                .collect();
            items(&mut roff, "PARAMETERS", options.iter().map(|(name, is)| (name.as_str(), is.as_str())));
            items(&mut roff, "EXIT STATUS", conformance::codes());
        }
        name => {
            let told = options::of(name);
            items(&mut roff, "OPTIONS", told.into_iter().flat_map(|told| told.options.iter().copied()));
            if name == "vzlist" {
                let fields =
                    columns::all().iter().map(|column| (column.name.as_str(), column.header.as_str()));
                items(&mut roff, "FIELDS", fields);
            }
            items(&mut roff, "EXIT STATUS", told.into_iter().flat_map(|told| told.codes.iter().copied()));
            items(&mut roff, "COMPARED WITH OPENVZ", conformance::of_tool(name));
        }
    }
    roff.control("SH", ["NOTES"]).text([roman(
        "This is vzd under another name: what it does ends in the manifests of VEs. `same', `better', `differs' and `no' are \
         in comparison with OpenVZ's own tool.",
    )]);
    roff.control("SH", ["SEE ALSO"]);
    let others =
        TOOLS.iter().filter(|other| other.name != tool.name).map(|other| format!("{}(8)", other.name));
    roff.text([roman(std::iter::once("vzd(1)".to_owned()).chain(others).collect::<Vec<_>>().join(", "))]);
    roff.render()
}

fn items<'a>(roff: &mut Roff, title: &str, items: impl Iterator<Item = (&'a str, &'a str)>) {
    roff.control("SH", [title]);
    for (name, is) in items {
        roff.control("TP", []).text([bold(name)]).text([roman(is.replace('`', "'"))]);
    }
}
