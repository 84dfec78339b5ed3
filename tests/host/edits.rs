//! Five hundred random edits of a directory under a running controller: in the end everything is as the directory says.
//!
//! The edits are of all the kinds that people, editors and git make: writes in place and by rename, broken files, files
//! that are renamed, split and merged, removals below the prune guard, and the whole directory swapped by its link.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use vzd_tests::{Sandbox, eventually, holds_for, needs, within};

const EDITS: u32 = 500;
/// Never edited: they must run on untouched.
const STEADY: [&str; 2] = ["steady-a", "steady-b"];
/// Edited, but never removed.
const KEPT: [&str; 3] = ["kept-a", "kept-b", "kept-c"];
/// Edited, removed and made again: fewer than the prune guard lets through at once.
const FLEETING: [&str; 3] = ["fleet-a", "fleet-b", "fleet-c"];

/// A small generator that gives the same edits for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[usize::try_from(self.roll(of.len() as u64)).unwrap()]
    }
}

/// The directory as it should be: what each VE's note says, and in which file it is.
struct Edits<'a> {
    sandbox: &'a Sandbox,
    dice: Dice,
    notes: BTreeMap<String, (u32, String)>,
    trees: u32,
}

impl Edits<'_> {
    fn dir(&self) -> PathBuf {
        self.sandbox.dir().join("trees").join(self.trees.to_string())
    }

    /// The document of a VE. One of the kept runs, so that live changes are among the edits.
    fn document(&self, name: &str, note: u32) -> String {
        let running = name == KEPT[0];
        let spec = json!({
            "state": if running { "running" } else { "stopped" },
            "description": format!("note {note}"),
            "hostname": format!("host{note}"),
            "deletionPolicy": "Destroy",
            "stopTimeout": "200ms",
        });
        self.sandbox.document(name, spec)
    }

    /// Writes a file with all VEs that belong into it, in place or by a rename.
    fn write(&mut self, file: &str) {
        let mut text = String::new();
        for (name, (note, _)) in self.notes.iter().filter(|(_, (_, is_in))| is_in == file) {
            writeln!(text, "---\n{}", self.document(name, *note)).unwrap();
        }
        let path = self.dir().join(file);
        if text.is_empty() {
            // It may never have been written.
            drop(std::fs::remove_file(path));
        } else if self.dice.roll(3) == 0 {
            std::fs::write(path, text).unwrap();
        } else {
            let temporary = self.dir().join(format!(".{file}.swp"));
            std::fs::write(&temporary, text).unwrap();
            std::fs::rename(temporary, path).unwrap();
        }
    }

    fn file_of(&self, name: &str) -> String {
        self.notes.get(name).map_or_else(|| format!("{name}.yaml"), |(_, file)| file.clone())
    }

    fn set(&mut self, name: &str, note: u32) {
        let file = self.file_of(name);
        self.notes.insert(name.to_owned(), (note, file.clone()));
        self.write(&file);
    }

    fn edit(&mut self, note: u32) {
        let all = [KEPT.as_slice(), FLEETING.as_slice()].concat();
        match self.dice.roll(10) {
            0..=3 => {
                let name = self.dice.pick(&all);
                self.set(name, note);
            }
            4 => self.remove(),
            5 => self.break_one(&all),
            6 => self.rename_one(&all, note),
            7 => self.merge_two(&all),
            8 => self.swap_tree(),
            _ => {
                // What editors leave about, and what is no change.
                let name = self.dice.pick(&["x.yaml~", ".hidden.yaml", "notes.txt", "y.yaml.bak"]);
                std::fs::write(self.dir().join(name), "kind: nonsense").unwrap();
                let same = self.file_of(self.dice_name(&all));
                self.write(&same);
            }
        }
    }

    fn dice_name<'n>(&self, of: &[&'n str]) -> &'n str {
        of[self.notes.len() % of.len()]
    }

    fn remove(&mut self) {
        let name = self.dice.pick(&FLEETING);
        if let Some((_, file)) = self.notes.remove(name) {
            self.write(&file);
        }
    }

    /// Broken for now: the next edit of that file, or the end, mends it.
    fn break_one(&mut self, all: &[&str]) {
        let name = self.dice.pick(all);
        let broken = [
            "kind: [",
            "apiVersion: vzd/v1\nkind: VE\nmetadata: {name: }\n",
            "\u{0}",
            "a: &a [*a, *a]\n",
            "",
        ];
        let text = self.dice.pick(&broken);
        if self.notes.contains_key(name) {
            self.until_seen(&self.file_of(name));
            std::fs::write(self.dir().join(self.file_of(name)), text).unwrap();
        }
    }

    /// Waits until the controller knows what is in a file. A VE that was moved into a file which is broken before it
    /// was ever seen there cannot be told from one that was removed.
    fn until_seen(&self, file: &str) {
        let path = self.sandbox.manifests().join(file).display().to_string();
        for (name, _) in self.notes.iter().filter(|(_, (_, is_in))| is_in == file) {
            self.sandbox.until(name, "seen", |ve| ve.0["status"]["source"]["file"] == path.as_str());
        }
    }

    /// Another name for a file changes nothing about its VEs; half of the time they change as well.
    fn rename_one(&mut self, all: &[&str], note: u32) {
        let name = self.dice.pick(all);
        let Some((_, old)) = self.notes.get(name).cloned() else { return };
        let new = format!("moved-{note}.yaml");
        // Only what is whole: a broken file stays where it is until it is mended.
        self.write(&old);
        std::fs::rename(self.dir().join(&old), self.dir().join(&new)).unwrap();
        self.notes.values_mut().filter(|(_, file)| *file == old).for_each(|(_, file)| file.clone_from(&new));
        if note.is_multiple_of(2) {
            self.set(name, note);
        }
    }

    /// One VE goes into the file of another: at no moment is it in none.
    fn merge_two(&mut self, all: &[&str]) {
        let (name, other) = (self.dice.pick(all), self.dice.pick(all));
        let (Some((_, from)), Some((_, to))) =
            (self.notes.get(name).cloned(), self.notes.get(other).cloned())
        else {
            return;
        };
        if from != to {
            if let Some((_, file)) = self.notes.get_mut(name) {
                file.clone_from(&to);
            }
            self.write(&to);
            self.write(&from);
        }
    }

    /// A new tree with one more change, put in place of the old by its link, as git-sync does.
    fn swap_tree(&mut self) {
        let old = self.dir();
        self.trees += 1;
        let new = self.dir();
        std::fs::create_dir(&new).unwrap();
        for entry in std::fs::read_dir(&old).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), new.join(entry.file_name())).unwrap();
        }
        self.set(KEPT[1], 1_000_000 + self.trees);
        let link = self.sandbox.dir().join("link.new");
        std::os::unix::fs::symlink(&new, &link).unwrap();
        std::fs::rename(link, self.sandbox.manifests()).unwrap();
        std::fs::remove_dir_all(old).unwrap();
    }

    /// Mends every file, so that the directory says one thing.
    fn mend(&mut self) {
        let files: Vec<String> = self.notes.values().map(|(_, file)| file.clone()).collect();
        for file in files {
            self.write(&file);
        }
    }
}

fn random_edits(seed: u64, settle: u32) {
    let mut sandbox = Sandbox::new();
    sandbox.settle = settle;
    std::fs::remove_dir(sandbox.manifests()).unwrap();
    std::fs::create_dir_all(sandbox.dir().join("trees/0")).unwrap();
    std::os::unix::fs::symlink(sandbox.dir().join("trees/0"), sandbox.manifests()).unwrap();
    for name in STEADY {
        sandbox.ve(name, json!({}));
    }
    let mut edits = Edits { sandbox: &sandbox, dice: Dice(seed), notes: BTreeMap::new(), trees: 0 };
    for name in KEPT.iter().chain(&FLEETING) {
        edits.set(name, 0);
    }
    let _daemon = sandbox.daemon();
    let pids = STEADY.map(|name| sandbox.until_ready(name));
    let kept_pid = sandbox.until_ready(KEPT[0]);
    let kept_uids =
        KEPT.map(|name| sandbox.until(name, "made", |ve| ve.uid().is_some()).uid().map(str::to_owned));
    for note in 1..=EDITS {
        edits.edit(note);
        // Bursts, and now and then time to settle.
        let pause = match edits.dice.roll(8) {
            0 => 60,
            1 | 2 => 8,
            _ => 0,
        };
        holds_for(Duration::from_millis(pause), "time passes", || true);
    }
    edits.mend();
    for (name, (note, _)) in &edits.notes {
        let said = format!("note {note}");
        sandbox.until(name, &said, |ve| {
            ve.0["spec"]["description"] == said.as_str() && !ve.is("Stalled") && !ve.is("Reconciling")
        });
    }
    for name in FLEETING.iter().filter(|name| !edits.notes.contains_key(**name)) {
        sandbox.until_gone(name);
    }
    let (note, _) = &edits.notes[KEPT[0]];
    eventually("the running one has its name", || sandbox.sh(KEPT[0], "hostname") == format!("host{note}"));
    assert_eq!(sandbox.init_pid(KEPT[0]), kept_pid, "it was restarted");
    assert_eq!(STEADY.map(|name| sandbox.init_pid(name)), pids);
    let uids = KEPT.map(|name| sandbox.status(name).unwrap().uid().map(str::to_owned));
    assert_eq!(uids, kept_uids, "a kept VE was made anew");
    // Nothing else is there, nothing is left to do, and nothing panicked on the way.
    let status = within(Duration::from_secs(10), "no errors", || {
        Some(sandbox.vzd(&["status", "-o", "json"]).json())
            .filter(|status| status["diagnostics"] == json!([]))
    });
    assert_eq!(status["ves"], STEADY.len() + edits.notes.len());
    assert_eq!(sandbox.list().len(), STEADY.len() + edits.notes.len());
    sandbox.vzd(&["plan", "--detailed-exitcode"]).ends(0);
    let dirs = std::fs::read_dir(sandbox.state_dir().join("ves")).unwrap().count();
    assert_eq!(dirs, STEADY.len() + edits.notes.len());
    assert!(!sandbox.log_text().contains("panicked"), "{}", sandbox.log_text());
}

#[test]
fn five_hundred_edits_without_a_settle_time() {
    needs!(Root, Cgroups, Busybox);
    random_edits(0x5eed_0001, 0);
}

#[test]
fn five_hundred_edits_with_a_settle_time() {
    needs!(Root, Cgroups, Busybox);
    random_edits(0x5eed_0002, 20);
}
