//! Which tests there are, what each needs, and in which kind of guest it runs. Must ask the test programs themselves: a
//! list kept by hand would be wrong soon.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::run::{Context, Result, capture, cargo, fail, shown, target};

/// The programs of vzd-tests whose tests run in guests too.
const PROGRAMS: &[&str] = &["host", "lab"];

/// A kind of guest, by what tests can need of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// systemd is the host's init, and the host may be rebooted.
    Systemd,
    /// Two plain ones on one link.
    Pair,
    /// One guest without a service manager: fast to start, tests side by side. Last: its tests run here too.
    Plain,
}

/// One test of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Test {
    /// `host::lifecycle::a_test`
    pub(crate) name: String,
    /// The program, and its name for the test.
    pub(super) program: PathBuf,
    pub(super) exact: String,
    /// As it declares them.
    pub(crate) needs: Vec<String>,
}

impl Test {
    /// Whether it does its work again and again, killed at another point each time: what takes longest by far.
    pub(crate) fn repeats(&self) -> bool {
        self.needs.iter().any(|need| need == "FaultPoints")
    }

    /// Where it can run.
    pub(super) fn kind(&self) -> Kind {
        let needs = |name: &str| self.needs.iter().any(|need| need == name);
        match (needs("TwoHosts"), needs("Systemd")) {
            (true, _) => Kind::Pair,
            (_, true) => Kind::Systemd,
            _ => Kind::Plain,
        }
    }
}

/// Builds the programs and asks them.
pub(crate) fn list() -> Result<Vec<Test>> {
    let mut all = Vec::new();
    for (name, program) in build(PROGRAMS)? {
        all.extend(of_program(&name, &program)?);
    }
    Ok(all)
}

/// Tests that do wrong on purpose, for the lab's own.
pub(super) fn broken() -> Result<Vec<Test>> {
    let mut all = Vec::new();
    for (name, program) in build(&["broken"])? {
        all.extend(of_program(&name, &program)?);
    }
    Ok(all)
}

fn build(programs: &[&str]) -> Result<Vec<(String, PathBuf)>> {
    let mut build = cargo(&[
        "test",
        "--quiet",
        "--no-run",
        "--message-format=json-render-diagnostics",
        "--package",
        "vzd-tests",
    ]);
    for program in programs {
        build.args(["--test", program]);
    }
    let text = capture(&mut build)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = messages.filter_map(|message| {
        let name = message.pointer("/target/name")?.as_str()?.to_owned();
        let program = message.get("executable")?.as_str()?.into();
        programs.contains(&name.as_str()).then_some((name, program))
    });
    Ok(built.collect())
}

fn of_program(name: &str, program: &Path) -> Result<Vec<Test>> {
    let file = target().join(format!("needs-{}", std::process::id()));
    let mut ask = Command::new(program);
    // A test stops where it declares what it needs, and only notes it.
    ask.args(["--quiet", "--test-threads=4"]).env("VZD_TEST_LIST_NEEDS", &file);
    let asked = ask.stdin(Stdio::null()).output().context(shown(&ask))?;
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    drop(std::fs::remove_file(&file));
    if !asked.status.success() {
        return fail(format!(
            "{name}: its tests don't tell their needs\n{}",
            String::from_utf8_lossy(&asked.stdout)
        ));
    }
    let listed = capture(Command::new(program).args(["--list", "--format=terse"]))?;
    let tests = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let test = |exact: &str| {
        let told = text.lines().filter_map(|line| line.split_once('\t')).find(|(test, _)| *test == exact);
        let Some((_, needs)) = told else {
            return fail(format!("{name}: {exact} doesn't begin with needs!(...)"));
        };
        let needs = needs.split_whitespace().map(str::to_owned).collect();
        Ok(Test {
            name: format!("{name}::{exact}"),
            program: program.to_owned(),
            exact: exact.to_owned(),
            needs,
        })
    };
    tests.map(test).collect()
}
