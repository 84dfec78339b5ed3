//! Which VEs a command is about: names or ctids, labels, or all of them.

use std::collections::BTreeMap;

use crate::cli::failure::Failure;
use crate::control::Selector;

/// A selection of VEs by name and label.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Chosen {
    /// VEs, by name or ctid
    #[arg(value_name = "VE")]
    pub names: Vec<String>,
    /// VEs with this label; given several times, with all of them
    #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub labels: Vec<(String, String)>,
}

/// A selection that may also be everything.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ChosenOrAll {
    /// Names and labels
    #[command(flatten)]
    pub chosen: Chosen,
    /// Every VE
    #[arg(long, conflicts_with_all = ["names", "labels"])]
    pub all: bool,
}

impl Chosen {
    /// The selection; nothing chosen is an empty one.
    pub fn selector(self) -> Selector {
        Selector {
            names: self.names,
            labels: self.labels.into_iter().collect::<BTreeMap<_, _>>(),
            all: false,
        }
    }

    /// The selection; nothing chosen means everything.
    pub fn or_all(self) -> Selector {
        let all = self.names.is_empty() && self.labels.is_empty();
        Selector { all, ..self.selector() }
    }
}

impl ChosenOrAll {
    /// The selection; nothing chosen is wrong usage.
    pub fn required(self) -> Result<Selector, Failure> {
        let selector = Selector { all: self.all, ..self.chosen.selector() };
        if selector.all || !selector.names.is_empty() || !selector.labels.is_empty() {
            return Ok(selector);
        }
        Err(Failure::usage("no VE is named").help("name one, or choose with `-l KEY=VALUE` or `--all`"))
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".to_owned()),
    }
}
