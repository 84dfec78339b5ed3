//! `vzctl`: containers one by one. This file reads the command line up to the command; each command is in the
//! file of its subject.

mod create;
mod inside;
mod password;
mod power;
mod register;
mod reinstall;
mod set;
mod snapshot;
mod status;

use std::path::PathBuf;

use vzd_state::status::Document;

use super::exit::{self, OK, Refusal, Tool};
use super::settings;
use super::vz_conf::VzConf;
use crate::cli::connect::connect;
use crate::cli::output::{harmless, note};
use crate::control::{Control, Selector, VeState};
use crate::drivers::checkpoint;
use crate::drivers::disk::host_mount;
use crate::engine::Access;
use crate::error::{SysError, SysResult};
use crate::settings::Settings;

/// The largest number that OpenVZ gives containers.
const MOST: u32 = 2_147_483_644;

pub(crate) const USAGE: &str = "\
Usage: vzctl [options] <command> <ctid|name> [parameters]
vzctl create <ctid> [--ostemplate <name>] [--config <name>] [--name <name>]
   [--hostname <name>] [--ipadd <addr>] [--diskspace <kbytes>] [--description <text>] ...
vzctl destroy | mount | umount | status <ctid>
vzctl start <ctid> [--wait]
vzctl stop <ctid> [--fast] [--skip-umount]
vzctl restart <ctid> [--wait] [--fast]
vzctl set <ctid> --save [parameters]
vzctl enter <ctid> [--exec <command> ...]
vzctl exec | exec2 <ctid> <command> [arg ...]
vzctl exec3 <ctid> <program> [arg ...]
vzctl runscript <ctid> <script>
vzctl console <ctid>
vzctl suspend | resume <ctid>
vzctl snapshot <ctid> [--id <uuid>] [--skip-suspend]
vzctl snapshot-list <ctid> [-H] [-o field[,field...]] [--id <uuid>]
vzctl snapshot-switch | snapshot-delete <ctid> --id <uuid>
vzctl snapshot-mount <ctid> --id <uuid> --target <dir>
vzctl snapshot-umount <ctid> --id <uuid>
vzctl quotaon | quotaoff | quotainit <ctid>
vzctl reinstall <ctid> [--skipbackup] [--resetpwdb]
vzctl register <path> <ctid>
vzctl unregister <ctid>
Options: --quiet --verbose --skiplock --version --help
";

/// What every command gets.
struct Vzctl {
    settings: Settings,
    quiet: bool,
    global: VzConf,
    /// The container, as it was asked for.
    id: String,
}

/// A container that is known.
struct Container {
    name: String,
    document: Document,
}

impl Container {
    fn runs(&self) -> bool {
        self.document.status.init_pid.is_some()
    }

    /// Whether it can be resumed from its checkpoint.
    fn is_suspended(&self, control: &dyn Control) -> Tool<bool> {
        let used = control.usage(&self.selector()).map_err(|error| Refusal::of(exit::SYSTEM, &error))?;
        Ok(used.first().is_some_and(|used| used.state == VeState::Suspended))
    }

    /// Where its root is mounted on the host, while it is down.
    fn mounted(&self) -> Tool<Option<PathBuf>> {
        let all = host_mount::all().map_err(|error| Refusal::new(exit::SYSTEM, error.to_string()))?;
        Ok(self.document.metadata.uid.as_ref().and_then(|uid| all.get(uid.as_str()).cloned()))
    }

    /// The number, or else the name.
    fn ctid(&self) -> String {
        self.document.status.ctid.map_or_else(|| self.name.clone(), |ctid| ctid.get().to_string())
    }

    fn selector(&self) -> Selector {
        Selector { names: vec![self.name.clone()], ..Selector::default() }
    }
}

/// Runs the command line.
pub fn main(words: Vec<String>) -> u8 {
    match run(words) {
        Ok(code) => code,
        Err(refusal) => {
            if !refusal.message.is_empty() {
                note(&harmless_lines(&refusal.message));
            }
            refusal.exit
        }
    }
}

/// Lines may be several; control characters are none of them.
fn harmless_lines(text: &str) -> String {
    text.lines().map(|line| harmless(line).to_string()).collect::<Vec<_>>().join("\n")
}

fn run(words: Vec<String>) -> Tool {
    let mut words = words.into_iter().peekable();
    let mut quiet = false;
    while let Some(option) = words.next_if(|word| word.starts_with('-')) {
        match option.as_str() {
            "--quiet" => quiet = true,
            // Two of them never work on one VE: there is nothing that a lock could be skipped for.
            "--verbose" | "--skiplock" => {}
            "--version" => {
                print(&format!("vzctl version 4.11.1 (vzd {})\n", env!("CARGO_PKG_VERSION")));
                return Ok(OK);
            }
            "--help" => {
                print(USAGE);
                return Ok(OK);
            }
            _ => return Err(Refusal::new(exit::BAD_VALUE, format!("Unrecognized option {option}\n{USAGE}"))),
        }
    }
    let Some(command) = words.next() else { return Err(Refusal::new(exit::SYNTAX, USAGE)) };
    let settings = settings();
    let global = VzConf::read(&settings);
    let mut rest: Vec<String> = words.collect();
    let vzctl = |id: &str| Vzctl { settings, quiet, global, id: id.to_owned() };
    if command == "register" {
        return register::register(&vzctl(rest.last().map_or("?", String::as_str)), &rest);
    }
    let carry_out = command_of(&command)
        .ok_or_else(|| Refusal::new(exit::SYNTAX, format!("Bad command: {command}\n{USAGE}")))?;
    if rest.first().is_none_or(|id| id.starts_with('-')) {
        return Err(Refusal::new(exit::BAD_VALUE, "Invalid or missing container id"));
    }
    let id = rest.remove(0);
    if id == "0" {
        if command == "set" {
            return set::set_host(&rest);
        }
        return Err(Refusal::new(exit::BAD_VALUE, "CT 0 is the host itself"));
    }
    if id.bytes().all(|byte| byte.is_ascii_digit()) && id.parse::<u32>().map_or(true, |number| number > MOST)
    {
        return Err(Refusal::new(exit::BAD_VALUE, format!("Invalid container id {id}: it is 1 to {MOST}")));
    }
    let vzctl = vzctl(&id);
    carry_out(&vzctl, &id, &rest).inspect_err(|refusal| vzctl.global.log(&id, &refusal.message))
}

type Command = fn(&Vzctl, &str, &[String]) -> Tool;

fn command_of(word: &str) -> Option<Command> {
    Some(match word {
        "create" => create::create,
        "destroy" | "delete" => create::destroy,
        "unregister" => register::unregister,
        "start" => power::start,
        "stop" => power::stop,
        "restart" => power::restart,
        "pause" => power::pause,
        "mount" => power::mount,
        "umount" => power::umount,
        "suspend" | "chkpnt" | "checkpoint" => power::suspend,
        "resume" | "restore" => power::resume,
        "status" => status::status,
        "quotaon" => status::quotaon,
        "quotaoff" => status::quotaoff,
        "quotainit" => status::quotainit,
        "compact" => status::compact,
        "convert" => status::convert,
        "reinstall" => reinstall::reinstall,
        "set" => set::set,
        "exec" => inside::exec,
        "exec2" => inside::exec2,
        "exec3" => inside::exec3,
        "runscript" => inside::runscript,
        "enter" => inside::enter,
        "console" => inside::console,
        "snapshot" => snapshot::create,
        "snapshot-list" => snapshot::list,
        "snapshot-switch" => snapshot::switch,
        "snapshot-delete" => snapshot::delete,
        "snapshot-mount" => snapshot::mount,
        "snapshot-umount" => snapshot::umount,
        _ => return None,
    })
}

impl Vzctl {
    /// Says what is done; nobody has to hear it.
    fn say(&self, line: &str) {
        self.global.log(&self.id, line);
        if !self.quiet {
            print(&format!("{}\n", harmless(line)));
        }
    }

    /// Where the checkpoint of a suspended container lies.
    fn checkpoint_of(&self, container: &Container) -> SysResult<PathBuf> {
        let uid = container.document.metadata.uid.as_ref();
        let gone =
            || SysError::refused("find", format_args!("container {}", container.name), "it is not made yet");
        Ok(checkpoint::of(&self.settings.ves_dir().join(uid.ok_or_else(gone)?.as_str())))
    }

    fn control(&self, access: Access) -> Tool<Box<dyn Control>> {
        connect(&self.settings, access).map_err(|error| Refusal::of(exit::SYSTEM, &error))
    }

    /// The container of that number or name, if there is one.
    fn look(&self, control: &dyn Control, id: &str) -> Tool<Option<Container>> {
        let select = Selector { names: vec![id.to_owned()], ..Selector::default() };
        match control.list(&select, false) {
            Ok(documents) => Ok(documents
                .into_iter()
                .next()
                .map(|document| Container { name: document.metadata.name.to_string(), document })),
            Err(error) if error.code == "VZ0307" => Ok(None),
            Err(error) => Err(Refusal::of(exit::SYSTEM, &error)),
        }
    }

    /// The same, where it has to be there.
    fn find(&self, control: &dyn Control, id: &str) -> Tool<Container> {
        self.look(control, id)?.ok_or_else(|| {
            let is_number = id.bytes().all(|byte| byte.is_ascii_digit());
            let code = if is_number { exit::NO_CONFIG } else { exit::BAD_VALUE };
            Refusal::new(code, format!("Container {id} does not exist: no manifest describes it"))
        })
    }
}

/// Writes to stdout; a reader that went away is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
