//! Takes resources inside a VE with `guest drive`, and lets go of them.

use serde_json::Value;

use crate::{Sandbox, within};

/// What a `guest drive` in a VE has got, and holds.
#[derive(Debug)]
pub struct Driven {
    /// How many it got.
    pub made: u64,
    /// With which errno one more was refused.
    pub errno: Option<String>,
}

impl Sandbox {
    /// Takes `count` of a kind in a VE, in a process that holds them until [`Sandbox::let_go`].
    #[track_caller]
    pub fn drive(&self, ve: &str, kind: &str, count: u64) -> Driven {
        let told = format!("/tmp/driven-{kind}");
        let run = format!("setsid /bin/guest drive {kind} {count} >{told} 2>&1 </dev/null &");
        self.sh(ve, &format!("rm -f {told}; {run}"));
        // Read from outside: a VE that has no process left lets nobody in.
        let file = format!("/proc/{}/root{told}", self.init_pid(ve));
        within(crate::LONG, format!("guest drive {kind} tells what it got"), || {
            let told = std::fs::read_to_string(&file).ok()?;
            let told: Value = serde_json::from_str(told.trim()).ok()?;
            Some(Driven { made: told["made"].as_u64()?, errno: told["errno"].as_str().map(str::to_owned) })
        })
    }

    /// Ends all that holds something in a VE.
    #[track_caller]
    pub fn let_go(&self, ve: &str) {
        // The VE's init may be the guest program as well.
        let others = "$(pidof guest | tr ' ' '\n' | grep -vx 1)";
        self.sh(
            ve,
            &format!("while [ -n \"{others}\" ]; do kill -9 {others}; usleep 10000; done 2>/dev/null; true"),
        );
    }
}
