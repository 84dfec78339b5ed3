//! A thousand random edits of limits on twenty running VEs: in the end the kernel has what the manifests say, no VE was
//! restarted, and nothing is left once they are gone.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use vzd_tests::{Sandbox, eventually, fds_of, holds_for, needs};

use super::limits::{MEMORY, QUOTA, TASKS, WEIGHT};

const EDITS: u32 = 1000;
const VES: u64 = 20;

/// A small generator that gives the same edits for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// What a manifest says at the moment; none is not written.
#[derive(Debug, Clone, Copy, Default)]
struct Limits {
    units: Option<u64>,
    percent: Option<u64>,
    megabytes: Option<u64>,
    tasks: Option<u64>,
    terminals: Option<u64>,
    sockets: Option<u64>,
    files: Option<u64>,
}

impl Limits {
    fn edit(&mut self, dice: &mut Dice) {
        let some = |dice: &mut Dice, value: u64| (dice.roll(5) > 0).then_some(value);
        let value = dice.roll(1000);
        match dice.roll(7) {
            0 => self.units = some(dice, 10 * (value + 1)),
            1 => self.percent = some(dice, value + 10),
            2 => self.megabytes = some(dice, value + 64),
            3 => self.tasks = some(dice, value + 50),
            4 => self.terminals = some(dice, value % 16 + 1),
            5 => self.sockets = some(dice, value),
            _ => self.files = some(dice, value + 1000),
        }
    }

    fn spec(&self) -> Value {
        let Self { units, percent, megabytes, tasks, terminals, sockets, files } = self;
        json!({
            "cpu": { "cpuunits": units, "cpulimit": percent },
            "memory": { "ram": megabytes.map(|megabytes| format!("{megabytes}M")) },
            "beancounters":
                { "numproc": tasks, "numpty": terminals, "numtcpsock": sockets, "numfile": files },
            "deletionPolicy": "Destroy",
            "stopTimeout": "200ms",
        })
    }

    /// Whether the kernel has it; what it has, if not. (What programs hold, a plan with nothing to do tells.)
    fn is_in_force(&self, sandbox: &Sandbox, name: &str, pid: u32) -> Result<(), String> {
        let Self { units, percent, megabytes, tasks, terminals, .. } = self;
        let max =
            |number: Option<u64>, none: &str| number.map_or_else(|| none.to_owned(), |is| is.to_string());
        let units = units.unwrap_or(1000);
        let weight = WEIGHT
            .pick(&((units * 1024 + 500) / 1000).to_string(), &((units + 5) / 10).to_string())
            .to_owned();
        let quota = percent.map(|percent| percent * 1000);
        let quota = QUOTA.pick(&max(quota, "-1"), &format!("{} 100000", max(quota, "max"))).to_owned();
        let memory = megabytes.map(|megabytes| megabytes << 20);
        let memory = MEMORY.pick(&max(memory, "9223372036854771712"), &max(memory, "max")).to_owned();
        let expected = [(&WEIGHT, weight), (&QUOTA, quota), (&MEMORY, memory), (&TASKS, max(*tasks, "max"))];
        for (file, should) in expected {
            let is = file.read(sandbox, name);
            if is != should {
                return Err(format!("{name}: {is} where {should} was to be"));
            }
        }
        let mounts = std::fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let pts = mounts.lines().find(|line| line.contains(" /dev/pts ")).unwrap();
        let has = pts.split(',').find_map(|option| option.strip_prefix("max="));
        let should = terminals.map(|terminals| terminals.to_string());
        (has == should.as_deref()).then_some(()).ok_or(format!("{name}: {pts} where {should:?} was to be"))
    }
}

#[test]
fn a_thousand_edits_of_limits() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = Sandbox::new();
    let names: Vec<String> = (0..VES).map(|number| format!("ve{number:02}")).collect();
    let mut said: BTreeMap<&str, Limits> =
        names.iter().map(|name| (name.as_str(), Limits::default())).collect();
    said.iter().for_each(|(name, limits)| sandbox.ve(name, limits.spec()));
    let daemon = sandbox.daemon();
    let pids: BTreeMap<&str, u32> =
        names.iter().map(|name| (name.as_str(), sandbox.until_ready(name))).collect();
    let mut dice = Dice(0x5eed_0004);
    for _ in 0..EDITS {
        let name = names[usize::try_from(dice.roll(VES)).unwrap()].as_str();
        let limits = said.get_mut(name).unwrap();
        limits.edit(&mut dice);
        sandbox.ve(name, limits.spec());
        // Bursts, and now and then time to carry them out.
        if dice.roll(16) == 0 {
            holds_for(Duration::from_millis(20), "time passes", || true);
        }
    }
    for (name, limits) in &said {
        let done = |seconds| {
            let start = std::time::Instant::now();
            loop {
                let so = limits.is_in_force(&sandbox, name, pids[name]);
                if so.is_ok() || start.elapsed() > Duration::from_secs(seconds) {
                    return so;
                }
                holds_for(Duration::from_millis(15), "time passes", || true);
            }
        };
        assert_eq!(done(20), Ok(()), "{limits:?}");
        assert_eq!(sandbox.init_pid(name), pids[name], "{name} was restarted");
    }
    // The last edits may still be on their way to the records.
    eventually("nothing is left to do", || sandbox.vzd(&["plan", "--detailed-exitcode"]).code == 0);
    assert!(!sandbox.log_text().contains("panicked"));
    names.iter().for_each(|name| sandbox.unlink(&format!("{name}.yaml")));
    sandbox.write("nothing.yaml", "{apiVersion: vzd/v1, kind: Profile, metadata: {name: nothing}}\n");
    sandbox.vzd(&["apply", "--allow-prune", "20"]).ok();
    eventually("all are gone", || sandbox.list().is_empty());
    assert!(sandbox.cgroups().is_empty(), "{:?}", sandbox.cgroups());
    let peaks = sandbox.run_dir().join("peaks");
    let left = std::fs::read_dir(peaks).map(|entries| entries.count()).unwrap_or_default();
    assert_eq!(left, 0, "what was remembered of them is left");
    // Nothing is pinned, and what was attached went with the groups. The program of the usual devices waits for the next VE.
    let kept = fds_of(daemon.pid()).into_values();
    let kept: Vec<_> = kept.filter(|to| to.to_string_lossy().contains("bpf")).collect();
    assert!(kept.iter().all(|to| to.ends_with("anon_inode:bpf-prog")) && kept.len() <= 1, "{kept:?}");
    drop(daemon);
}
