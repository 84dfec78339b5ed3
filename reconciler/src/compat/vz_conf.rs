//! OpenVZ's global configuration, `vz.conf`, as commands read it each time: what is said there for all containers, where
//! templates lie, and what is logged. The host's manifest and profiles have the last word; the controller knows nothing of it.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use vzd_schema::edit::Change;
use vzd_schema::v1::TemplateSource;

use super::conf::{self, Conf};
use super::draft::Draft;
use super::manifests::{Manifests, twin};
use super::params::{Home, Written, by_key, rate};
use crate::cli::output::{harmless, note};
use crate::engine::clock;
use crate::settings::Settings;
use crate::template::Store;

/// As archives of templates are called.
const ARCHIVES: [&str; 4] = [".tar.zst", ".tar.xz", ".tar.gz", ".tar"];
/// The file; says nothing where there is none.
#[derive(Debug, Default)]
pub struct VzConf {
    path: PathBuf,
    conf: Conf,
}

impl VzConf {
    /// Reads the one beside the directory of configurations. One that somebody else than root could have written is not
    /// believed.
    pub fn read(settings: &Settings) -> Self {
        let path = settings.scripts.parent().unwrap_or(Path::new("/")).join("vz.conf");
        let conf = of_root(&path).map(|text| conf::parse(&text)).unwrap_or_default();
        Self { path, conf }
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.conf.get(key).filter(|value| !value.is_empty())
    }

    /// The sample of containers that name none, unless the host's manifest says it.
    pub fn sample(&self, manifests: &Manifests) -> Option<&str> {
        self.get("CONFIGFILE").filter(|_| manifests.default_profile().is_none())
    }

    /// The template of containers for which neither they nor anything else says one.
    pub fn template(&self) -> Option<&str> {
        self.get("DEF_OSTEMPLATE")
    }

    /// What a manifest calls a template: an archive of OpenVZ's by its path, if vzd has none of that name.
    pub fn source(&self, settings: &Settings, name: &str) -> String {
        let dir = self.get("TEMPLATE").map(Path::new).filter(|dir| dir.is_absolute());
        let is_name = || matches!(name.parse(), Ok(TemplateSource::Name(_)));
        let is_ours = || {
            let store = Store::open(&settings.templates_dir());
            store.is_ok_and(|store| store.names().iter().any(|known| known == name))
        };
        let archive = dir.filter(|_| is_name() && !is_ours()).and_then(|dir| {
            let paths = ARCHIVES.iter().map(|end| dir.join("cache").join(format!("{name}{end}")));
            paths.into_iter().find(|path| path.is_file())
        });
        archive.map_or_else(|| name.to_owned(), |path| format!("file:{}", path.display()))
    }

    /// Where the root of a container that is down is mounted.
    pub fn root(&self, settings: &Settings, ctid: &str) -> PathBuf {
        let said = self.get("VE_ROOT").map(|root| root.replace("${VEID}", ctid).replace("$VEID", ctid));
        let said = said.map(PathBuf::from).filter(|root| root.is_absolute());
        said.unwrap_or_else(|| settings.root_dir(ctid))
    }

    /// Says in the draft of a new container what holds for all and neither it nor its profile says.
    pub fn fill(&self, draft: &mut Draft, profile_says: impl Fn(&str) -> bool) {
        for setting in self.conf.settings.iter().filter(|is| !is.value.is_empty()) {
            let Some(param) = by_key(&setting.key) else { continue };
            let tell = |why: &str| {
                let shown = format!("{}=\"{}\"", setting.key, setting.value);
                let text = format!("{}:{}: {shown} is not used: {why}", self.path.display(), setting.line);
                note(&harmless(&text));
            };
            let mut with = draft.clone();
            let put = match (&*setting.key, param.home) {
                // As OpenVZ.
                ("NETFILTER", _) => Err("it is a container's own".to_owned()),
                // Those that OpenVZ ships mean nothing until shaping is on.
                ("RATE" | "RATEBOUND", _) if self.get("TRAFFIC_SHAPING") != Some("yes") => continue,
                ("RATE", _) => rate::fits(Some(&setting.value), self.get("RATEBOUND"), false)
                    .and_then(|()| param.put(&mut with, &setting.value, Written::File)),
                ("OSTEMPLATE" | "NAME" | "RATEBOUND", _) | (_, Home::Needless(_)) => continue,
                _ => param.put(&mut with, &setting.value, Written::File),
            };
            if let Err(why) = put {
                tell(&why);
                continue;
            }
            let said = |field: &str| profile_says(field) || draft.get(field).is_some();
            let taken = |change: &Change| {
                let (Change::Set(path, _) | Change::Remove(path)) = change;
                let field = path.join(".");
                said(&field) || twin(&field).is_some_and(said)
            };
            if !with.changes().iter().skip(draft.changes().len()).any(taken) {
                *draft = with;
            }
        }
    }

    /// Adds a line to the log file, if there is one.
    pub fn log(&self, ctid: &str, message: &str) {
        let Some(path) = self.get("LOGFILE").filter(|_| self.get("LOGGING") == Some("yes")) else { return };
        let now: String = clock::now().to_string().chars().take(19).collect();
        let lines =
            message.lines().map(|line| format!("{now}+0000 vzctl : CT {ctid} : {}\n", harmless(line)));
        let log = std::fs::OpenOptions::new().append(true).create(true).mode(0o644).open(path);
        // What a command does, it does without a log too.
        let _ = log.and_then(|mut log| log.write_all(lines.collect::<String>().as_bytes()));
    }
}

/// The text of a file, if there is one and nobody but root could have written it. The largest script is what the kernel takes as one word.
pub fn of_root(path: &Path) -> Option<String> {
    const MOST: u64 = 120 << 10;
    let stat = std::fs::metadata(path).ok()?;
    if stat.uid() != 0 || stat.mode() & 0o022 != 0 || !stat.is_file() || stat.len() > MOST {
        let why = "others than root can write to it, or it is no file, or too large";
        note(&format!("{} is not used: {why}", path.display()));
        return None;
    }
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}
