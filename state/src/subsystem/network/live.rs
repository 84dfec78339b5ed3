//! Steps that change the network of a VE that runs. What they lead to is the driver's, what the ledger keeps of them its own.

use serde::{Deserialize, Serialize};
use vzd_schema::v1::Cidr;

use super::{Direction, File, Interface, Route, Rule, Translations, Trial};

/// Steps for a running VE.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Live {
    /// Take an address away.
    RemoveAddress {
        /// The address.
        address: Cidr,
    },
    /// Take an interface away.
    RemoveInterface {
        /// Its name in the VE.
        name: String,
        /// As it was.
        had: Interface,
    },
    /// Take `venet0` away, which has no addresses any more.
    Detach,
    /// Make `venet0`, or mend it.
    Attach {
        /// It is there, but not whole.
        mend: bool,
    },
    /// Give an address, or what of it is missing.
    AddAddress {
        /// The address.
        address: Cidr,
        /// Some of it was there.
        mend: bool,
    },
    /// Make an interface, or change what of it is not as wanted.
    SetInterface {
        /// Its name in the VE.
        name: String,
        /// What was last set of the one that is there, if one is.
        from: Option<Interface>,
        /// As it is to be.
        to: Interface,
    },
    /// Give an interface back to the host.
    GiveBack {
        /// Its name on the host.
        device: String,
        /// Its name in the VE.
        name: String,
    },
    /// Take an interface of the host into the VE, or give it the right name there.
    HandOver {
        /// Its name on the host.
        device: String,
        /// Its name in the VE, if it is there.
        from: Option<String>,
        /// The name that it is to have.
        to: String,
    },
    /// Set a setting back to what a new namespace has.
    ResetSysctl {
        /// Its name.
        name: String,
        /// The value that is there.
        from: String,
    },
    /// Set a setting.
    SetSysctl {
        /// Its name.
        name: String,
        /// The value that is there, if any is.
        from: Option<String>,
        /// The value to set.
        to: String,
    },
    /// Set a limit of bandwidth, or take it away.
    SetRate {
        /// Which way.
        direction: Direction,
        /// Bits a second that it is.
        from: Option<u64>,
        /// Bits a second that it is to be.
        to: Option<u64>,
    },
    /// Load the packet filter, in the place of the one that is there, or take it away.
    SetFirewall {
        /// The text that was loaded before.
        from: Option<String>,
        /// The text to load.
        to: Option<String>,
        /// The trial that it is on, or that has put it in the place of a text that failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        trial: Option<Box<Trial>>,
    },
    /// Put the packet filter of before back, whose successor has failed its trial.
    RollBackFirewall {
        /// The text of before; none if there was no filter.
        to: Option<String>,
        /// Why it has failed.
        why: String,
    },
    /// Note that the packet filter's trial is over.
    EndTrial {
        /// It has passed; else what has failed is no longer wanted.
        passed: bool,
    },
    /// Take a route away.
    RemoveRoute {
        /// The route.
        route: Route,
    },
    /// Add a route, or put it in the place of vzd's own.
    SetRoute {
        /// The one that is in its place.
        from: Option<Route>,
        /// The route.
        to: Route,
    },
    /// Add a rule.
    AddRule {
        /// The rule.
        rule: Rule,
    },
    /// Take a rule away.
    RemoveRule {
        /// The rule.
        rule: Rule,
    },
    /// Put addresses and ports in the place of others, all at once.
    SetTranslations {
        /// Those that are there.
        from: Translations,
        /// Those that are to be.
        to: Translations,
    },
    /// Put lines into a file of the VE's, in the place of those of before.
    SetFile {
        /// The file.
        file: File,
        /// The lines that are there.
        from: Vec<String>,
        /// What was wished for before.
        had: Vec<String>,
        /// The lines to put there; none to have vzd's part gone.
        to: Vec<String>,
        /// What is wished for.
        wish: Vec<String>,
    },
}
