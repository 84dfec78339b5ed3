//! `vzd clone`: a VE that has what another one has, with a manifest of its own.

use crate::cli::Context;
use crate::cli::connect::connect;
use crate::cli::failure::{Failure, OK, Outcome};
use crate::cli::progress::Progress;
use crate::control::{CloneRequest, CloneState};
use crate::engine::Access;

/// Options of `vzd clone`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The VE that is copied
    #[arg(value_name = "VE")]
    ve: String,
    /// What the clone is called
    #[arg(value_name = "NEW")]
    name: String,
    /// The number by which OpenVZ's tools know the clone. Default: assigned
    #[arg(long, value_name = "NUMBER")]
    ctid: Option<u32>,
    /// With what runs in the VE: that goes on in both, the clone without the addresses and connections
    #[arg(long, conflicts_with = "state")]
    running: bool,
    /// What its manifest says that it is to be. Default: stopped
    #[arg(long, value_enum, value_name = "STATE")]
    state: Option<State>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum State {
    Stopped,
    Running,
}

/// Makes it.
pub fn run(args: Args, cx: &mut Context) -> Outcome {
    let control = connect(&cx.settings, Access::Write)?;
    let Args { ve, name, ctid, running, state } = args;
    let state = state.map(|state| match state {
        State::Stopped => CloneState::Stopped,
        State::Running => CloneState::Running,
    });
    let request = CloneRequest { ve, name, ctid, state, running };
    let cloned = {
        let _progress = Progress::start("copying");
        control.clone_ve(&request)?
    };
    if cx.out.is_data() {
        cx.out.data(&cloned)?;
    } else {
        cx.out.line(&format!("{}: made as a clone of {}", cloned.name, request.ve))?;
        cx.out.line(&cloned.manifest.display().to_string())?;
        if !cloned.left_out.is_empty() {
            cx.out.line(&format!("left out, as only one VE can have it: {}", cloned.left_out.join(", ")))?;
        }
    }
    match cloned.failed {
        Some(error) => Err(Failure::from(error)),
        None => Ok(OK),
    }
}
