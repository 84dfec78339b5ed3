//! A tree that is told in rounds while it changes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::XattrFlags;

use super::*;

/// From one directory to another; counts.
struct Way {
    _dir: tempfile::TempDir,
    from: PathBuf,
    to: PathBuf,
    sender: Sender,
    receiver: Counting,
}

struct Counting {
    receiver: Receiver,
    bytes: usize,
    same: Vec<String>,
    /// Done before an item is taken.
    meddle: Option<Meddle>,
}

type Meddle = Box<dyn FnMut(&Item)>;

impl Sink for Counting {
    fn item(&mut self, item: &Item) -> SysResult<()> {
        if let Some(meddle) = &mut self.meddle {
            meddle(item);
        }
        if let Item::Same(Bytes(name), _) = item {
            self.same.push(String::from_utf8(name.clone()).unwrap());
        }
        self.receiver.item(item)
    }

    fn data(&mut self, at: u64, bytes: &[u8]) -> SysResult<()> {
        self.bytes += bytes.len();
        self.receiver.data(at, bytes)
    }
}

impl Way {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        [&from, &to].iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let receiver = Receiver::of(&to).unwrap();
        let receiver = Counting { receiver, bytes: 0, same: Vec::new(), meddle: None };
        Way { _dir: dir, sender: Sender::of(from.clone()), from, to, receiver }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.from.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// A round in which everything counts as quiet.
    fn ahead(&mut self) {
        let quiet = SystemTime::now() + Duration::from_secs(60);
        self.sender.ahead_since(quiet, &mut self.receiver).unwrap();
        assert!(self.receiver.receiver.is_done());
    }

    /// The last round: what was sent in it, and what was the same.
    fn rest(&mut self) -> (usize, Vec<String>) {
        (self.receiver.bytes, self.receiver.same) = (0, Vec::new());
        self.sender.last(&mut self.receiver).unwrap();
        assert!(self.receiver.receiver.is_done());
        assert_eq!(tree(&self.from), tree(&self.to));
        self.receiver.same.sort();
        (self.receiver.bytes, self.receiver.same.clone())
    }

    /// Does something to a file until the kernel's clock has seen it.
    fn change(&self, name: &str, mut body: impl FnMut(&Path)) {
        let path = self.path(name);
        let changed =
            || fs::symlink_metadata(&path).map(|is| (is.ino(), is.ctime(), is.ctime_nsec())).unwrap();
        let before = changed();
        while changed() == before {
            body(&path);
        }
    }
}

/// All that makes a tree what it is, but for times of reading.
fn tree(top: &Path) -> BTreeMap<PathBuf, String> {
    fn below(top: &Path, at: &Path, all: &mut BTreeMap<PathBuf, String>) {
        let is = fs::symlink_metadata(at).unwrap();
        let kind = is.file_type();
        let what = if kind.is_symlink() {
            fs::read_link(at).unwrap().display().to_string()
        } else if kind.is_file() {
            fs::read_to_string(at).unwrap()
        } else {
            format!("{} {}", kind.is_dir(), kind.is_fifo())
        };
        let links = if kind.is_dir() { 0 } else { is.nlink() };
        let own = Traits::of(at, &is).unwrap();
        let own = Traits { accessed: (0, 0), ..own };
        all.insert(at.strip_prefix(top).unwrap().to_owned(), format!("{what} {links} {own:?}"));
        if kind.is_dir() {
            for entry in fs::read_dir(at).unwrap() {
                below(top, &entry.unwrap().path(), all);
            }
        }
    }
    let mut all = BTreeMap::new();
    below(top, top, &mut all);
    all
}

#[test]
fn only_what_has_changed_is_sent_again() {
    let mut way = Way::new();
    way.write("stays", "a long text that stays");
    way.write("d/changes", "old");
    way.write("d/same-size", "old");
    way.write("d/goes", "");
    way.write("moves", "moved");
    way.write("e/deep/er", "x");
    way.write("mode", "m");
    symlink("stays", way.path("link")).unwrap();
    symlink("e", way.path("becomes-dir")).unwrap();
    way.write("becomes-link/file", "x");
    rustix::fs::setxattr(way.path("d"), "user.one", b"1", XattrFlags::empty()).unwrap();
    way.ahead();
    assert_eq!(tree(&way.from), tree(&way.to));

    way.change("d/changes", |file| fs::write(file, "new and longer").unwrap());
    way.change("d/same-size", |file| fs::write(file, "new").unwrap());
    fs::remove_file(way.path("d/goes")).unwrap();
    way.change("moves", |file| {
        fs::rename(file, file.with_file_name("moved")).and_then(|()| fs::write(file, "")).unwrap()
    });
    fs::remove_dir_all(way.path("e")).unwrap();
    way.change("mode", |file| fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap());
    fs::remove_file(way.path("becomes-dir")).unwrap();
    way.write("becomes-dir/new", "n");
    fs::remove_dir_all(way.path("becomes-link")).unwrap();
    symlink("/etc", way.path("becomes-link")).unwrap();
    rustix::fs::removexattr(way.path("d"), "user.one").unwrap();
    rustix::fs::setxattr(way.path("d"), "user.two", b"2", XattrFlags::empty()).unwrap();
    let (bytes, same) = way.rest();
    assert_eq!(same, ["link", "stays"]);
    assert_eq!(bytes, "new and longer".len() + "new".len() + "moved".len() + "m".len() + "n".len());
    assert!(Path::new("/etc/passwd").exists(), "a link was followed");
}

#[test]
fn what_was_changed_a_moment_ago_is_sent_again() {
    let mut way = Way::new();
    way.write("fresh", "text");
    way.sender.ahead(&mut way.receiver).unwrap();
    assert_eq!(way.rest(), ("text".len(), Vec::new()));
}

#[test]
fn files_of_several_names_stay_one() {
    let mut way = Way::new();
    way.write("a", "one");
    fs::hard_link(way.path("a"), way.path("b")).unwrap();
    way.write("c", "two");
    fs::hard_link(way.path("c"), way.path("d")).unwrap();
    way.ahead();
    way.change("a", |file| fs::write(file, "three").unwrap());
    fs::remove_file(way.path("d")).unwrap();
    fs::hard_link(way.path("a"), way.path("d")).unwrap();
    way.rest();
    assert_eq!(fs::metadata(way.to.join("b")).unwrap().nlink(), 3);
    assert_eq!(fs::metadata(way.to.join("c")).unwrap().nlink(), 1);
    // Nothing at all has changed.
    let mut quiet = Way::new();
    quiet.write("a", "one");
    fs::hard_link(quiet.path("a"), quiet.path("b")).unwrap();
    quiet.ahead();
    assert_eq!(quiet.rest().0, 0);
}

/// A hostile VE puts links where files and directories were, while they are read.
#[test]
fn nothing_out_of_the_tree_is_sent_whatever_moves() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    fs::write(outside.path().join("file"), "secret").unwrap();
    let mut way = Way::new();
    for name in ["d1", "d2", "d3"] {
        way.write(&format!("{name}/file"), "text");
        way.write(&format!("{name}/sub/file"), "text");
        way.write(&format!("file-{name}"), "text");
    }
    let (from, outside) = (way.from.clone(), outside.path().to_owned());
    let mut round = 0;
    way.receiver.meddle = Some(Box::new(move |_| {
        round += 1;
        for name in ["d1", "d2", "d3", "d1/sub", "d2/sub", "file-d1", "file-d2", "file-d3", "d3/file"] {
            let (here, away) = (from.join(name), from.join(name.replace('/', "-") + ".away"));
            if fs::symlink_metadata(&away).is_ok() {
                let _ = fs::remove_file(&here);
                let _ = fs::rename(&away, &here);
            } else if round % 2 == 0 && fs::rename(&here, &away).is_ok() {
                let target = if name.contains("file") { outside.join("secret") } else { outside.clone() };
                let _ = symlink(target, &here);
            }
        }
    }));
    for _ in 0..50 {
        way.ahead();
        let shown = format!("{:?}", tree(&way.to));
        assert!(!shown.contains("\"secret "), "{shown}");
    }
    way.receiver.meddle = None;
    way.rest();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let enter = |traits: &Traits| Item::Enter(Bytes(Vec::new()), traits.clone());
    let same = Item::Same(Bytes(b"x".to_vec()), None);
    let way = Way::new();
    let traits = Traits::of(&way.from, &fs::metadata(&way.from).unwrap()).unwrap();
    let mut receiver = Receiver::of(&way.to).unwrap();
    receiver.item(&enter(&traits)).unwrap();
    receiver.item(&same).unwrap_err();
    receiver.item(&Item::Leave).unwrap();
    receiver.item(&Item::Leave).unwrap_err();
    receiver.item(&enter(&traits)).unwrap();
    receiver.item(&same).unwrap_err();
    for name in [&b".."[..], b".", b"", b"a/b", b"/"] {
        receiver.item(&Item::Same(Bytes(name.to_vec()), None)).unwrap_err();
        receiver.item(&Item::File(Bytes(name.to_vec()), traits.clone(), None)).unwrap_err();
    }
}
