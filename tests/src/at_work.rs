//! A Debian that is at work: a web server, a database that is written to all the while, cron, a tree of twenty processes
//! and memory that is checked; and whether all of it goes on, and has lost nothing, when its VE has been moved.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::distribution::archives;
use crate::{Must, Sandbox, slow};

const ARCHIVE: &str = include_str!("../distribution/at-work.sh");

/// Twenty processes, each the child of the one before, and each counts.
const TREE: &str = "n=$1; if [ $n -gt 1 ]; then sh /root/tree $((n-1)) & fi; i=0; while :; do i=$((i+1)); echo $i > /root/c$n.new; \
                    mv /root/c$n.new /root/c$n; sleep $PACE_OF_TREE; done";

/// Rows that follow each other, each in a transaction of its own. Files have other numbers at another host, and SQLite, which
/// compares, refuses to write to a database that it opened before: it is to be opened again.
const WRITER: &str = "n=0; while :; do n=$((n+1)); \
                      until sqlite3 -cmd '.timeout 20000' /root/db \"insert into t values ($n)\" 2>> /root/failed; do :; done; sleep $PACE; done";

/// A line for each of what can be seen: a word, and what follows from it.
const LOOK: &str = r#"
echo "counts $(cat /root/c? /root/c?? 2>/dev/null | tr '\n' ' ')"
echo "passes $(cat /root/passes)"
echo "rows $(sqlite3 -cmd '.timeout 20000' /root/db 'select count(*), ifnull(max(n), 0) from t')"
echo "database $(sqlite3 -cmd '.timeout 20000' /root/db 'pragma integrity_check')"
echo "page $(busybox wget -q -O - http://127.0.0.1/ | grep -c '</html>')"
echo "apache2 $(pidof apache2)"
echo "cron $(pgrep -x -P 1 cron)"
echo "minutes $(grep -c . /root/minutes 2>/dev/null)"
echo "torn $(ls /root | grep torn; grep -v 'attempt to write a readonly database' /root/failed)"
"#;

const MEGABYTES: u32 = 200;

/// Services, as they are called there. Cron is the one that init has: a child of it comes and goes with each job, and while it starts
/// its pid file has the number of a process that ends.
const SERVICES: [&str; 2] = ["apache2", "cron"];

/// As often as a VE is moved where a test has little time; `VZD_TEST_MOVES=50` for those who have minutes.
pub fn moves() -> usize {
    std::env::var("VZD_TEST_MOVES").map_or(2, |moves| moves.parse().must("read VZD_TEST_MOVES"))
}

/// How far a VE has come with its work.
pub struct Work {
    /// Of the tree, of the database.
    counts: Vec<u64>,
    /// How often memory was changed and checked.
    passes: u64,
    /// The processes of each service, by their numbers in the VE.
    services: [String; 2],
    /// How often cron has done what it was told.
    minutes: u64,
}

impl Sandbox {
    /// The archive of that Debian; needs `Distribution`.
    #[track_caller]
    pub fn debian_at_work(&self) -> PathBuf {
        if let Some(folder) = archives() {
            return folder.join("at-work.tar");
        }
        let archive = self.host_dir("at-work").join("root.tar");
        let made = Command::new("sh").args(["-c", ARCHIVE, "sh"]).arg(&archive).output();
        let made = made.must("run mmdebstrap");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        archive
    }
}

impl Work {
    /// Starts it, in a VE in which `sh` runs scripts and which has `guest` in /usr/local/bin. It changes and checks all of its memory
    /// again and again, or so many megabytes a second.
    pub fn start(sh: &dyn Fn(&str) -> String, a_second: Option<u32>) {
        let seconds = |ms| slow(Duration::from_millis(ms)).as_secs_f32();
        // Each round of a process of the tree is two more, which are much for guests of the lab.
        let (pace, tree) = (seconds(100), seconds(300));
        let a_second = a_second.map_or_else(String::new, |a_second| a_second.to_string());
        let script = |name: &str, text: &str| format!("cat > /root/{name} <<'END'\n{text}\nEND\n");
        let start = |words: &str| format!("setsid {words} > /dev/null 2>&1 < /dev/null &\n");
        sh(&[
            script("tree", TREE),
            script("writer", WRITER),
            "sqlite3 /root/db 'create table t (n integer primary key)'\n".to_owned(),
            format!("export PACE={pace} PACE_OF_TREE={tree}\n"),
            start("sh /root/tree 20"),
            start("sh /root/writer"),
            start(&format!("guest remember {MEGABYTES} /root/passes {a_second}")),
            "echo '* * * * * date >> /root/minutes' | crontab -".to_owned(),
        ]
        .concat());
    }

    /// Looks at it; none as long as not all of it is at work. Fails the test if anything is lost.
    #[track_caller]
    pub fn look(sh: &dyn Fn(&str) -> String) -> Option<Work> {
        let told = sh(LOOK);
        let told: BTreeMap<_, _> = told.lines().filter_map(|line| line.split_once(' ')).collect();
        let rest = |of: &str| told.get(of).copied().unwrap_or_default().trim();
        assert_eq!(rest("torn"), "", "{told:?}");
        let mut counts: Vec<u64> = rest("counts").split(' ').filter_map(|count| count.parse().ok()).collect();
        let (rows, last) = rest("rows").split_once('|')?;
        assert_eq!(rows, last, "a row is missing");
        counts.push(rows.parse().ok()?);
        assert_eq!(rest("database"), "ok");
        let services = SERVICES.map(|of| rest(of).to_owned());
        let passes = rest("passes").parse().ok()?;
        let all = counts.len() == 21
            && rest("page") == "1"
            && counts.iter().all(|count| *count > 0)
            && !services.iter().any(String::is_empty);
        all.then(|| Work { counts, passes, services, minutes: rest("minutes").parse().unwrap_or(0) })
    }

    /// Whether all of it has come further than before, in the same processes.
    #[track_caller]
    pub fn is_on_from(&self, before: &Work) -> bool {
        assert_eq!(self.services, before.services);
        self.passes > before.passes + 1
            && self.counts.iter().zip(&before.counts).all(|(now, before)| now > before)
    }

    /// Whether cron has done something since then. Asks for no more, since it may be asked often.
    pub fn cron_went_on(&self, sh: &dyn Fn(&str) -> String) -> bool {
        number(&sh("grep -c . /root/minutes; true")) > self.minutes
    }

    /// Whether all of its memory was checked since then, of which it looks at three megabytes with each that it changes.
    pub fn checked_all(&self, sh: &dyn Fn(&str) -> String) -> bool {
        number(&sh("cat /root/passes")) > self.passes + u64::from(MEGABYTES / 3)
    }
}

/// None is 0.
fn number(text: &str) -> u64 {
    text.trim().parse().unwrap_or(0)
}
