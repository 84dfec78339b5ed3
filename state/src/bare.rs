//! Runs without the VE's own init: for a script that is to run in a VE that is down, with nothing of the VE's started.
//!
//! The ledger notes that a VE is to run so, and laid over what its manifest wants that gives another [`Desired`]: first is a shell
//! of the VE's that starts nothing. It ends by itself once nothing else has run in the VE for a while, so that a VE whose
//! script's caller was killed is down again soon; with the run ends the note, and the VE is wanted as before.

use crate::desired::Desired;
use crate::subsystem::lifecycle;

/// Waits half a minute for somebody to come; once somebody was there, two seconds. Who came and went between two looks is
/// known by the number of the next sleep; what ended is reaped while it sleeps.
const WAIT: &str = r"idle=0 most=30 last=
while [ $idle -lt $most ]; do
  sleep 1 &
  wait $! || exit 1
  [ $! = $((${last:-$(($! - 1))} + 1)) ] || most=2
  last=$!
  set -- /proc/[0-9]*
  if [ $# -gt 1 ]; then idle=0 most=2; else idle=$((idle + 1)); fi
done";

/// What is wanted of a VE while it runs so.
pub fn lay(want: &Desired) -> Desired {
    let lifecycle = &want.lifecycle;
    let init = ["/bin/sh", "-c", WAIT].map(str::to_owned).to_vec();
    let cold = lifecycle::ColdSpec { init, init_given: true, ..lifecycle.cold.clone() };
    // Others are of no use to a script, and a probe asks what is not there.
    let lifecycle = lifecycle::Desired { cold, depends_on: Vec::new(), health: None, ..lifecycle.clone() };
    Desired { lifecycle, ..want.clone() }
}
