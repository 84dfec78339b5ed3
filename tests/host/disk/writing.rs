//! Every way of writing against a limit of bytes.

use serde_json::{Value, json};

use super::{MB, On, World, limited, on_each, on_images, on_projects, on_subvolumes, used};

on_each!(no_way_of_writing_passes_the_limit);

fn no_way_of_writing_passes_the_limit(on: On) {
    let sandbox = World::new(on);
    limited(&sandbox, "web", json!({ "diskspace": "8M", "diskinodes": "400" }));
    sandbox.apply();
    let within = |what: &str| {
        sandbox.sh("web", "sync");
        let used = used(&sandbox, "web", "diskspace");
        assert!(used <= 8 * MB, "{what}: {used}");
        used
    };
    let code = |script: &str| sandbox.exec("web", &["/bin/sh", "-c", script]).code;
    let empty = within("nothing");
    // Holes take nothing, however large.
    sandbox.sh(
        "web",
        "cd /root; truncate -s 1T hole; dd if=/dev/zero of=sparse bs=4096 seek=9999999 count=1 2>/dev/null",
    );
    assert!(within("holes") < empty + MB / 4);
    // All at once, which can't be; then past the cache of pages, until nothing is left.
    assert_ne!(code("fallocate -l 64M /root/reserved"), 0);
    within("fallocate");
    sandbox.sh("web", "rm -f /root/reserved /root/hole /root/sparse");
    assert_ne!(code("dd if=/dev/zero of=/root/direct oflag=direct bs=64k count=1000"), 0);
    assert!(within("direct I/O") > 7 * MB);
    // Full: names still change, and what is there can be cut and removed.
    let full = match on {
        // btrfs wants room for either; to remove it takes none.
        On::Btrfs => "rm /root/direct && sync && head -c 1048576 /dev/zero >/etc/direct",
        _ => "mv /root/direct /etc/direct && truncate -s 1M /etc/direct",
    };
    sandbox.sh("web", full);
    assert!(within("truncate") < 3 * MB);
    // An inode with many names is one.
    let inodes = || on.counts_inodes().then(|| used(&sandbox, "web", "diskinodes"));
    let before = inodes();
    sandbox.sh("web", "cd /etc; i=0; while [ $i -lt 600 ]; do ln direct l$i; i=$((i+1)); done");
    assert_eq!(inodes(), before);
    sandbox.sh("web", "rm /etc/direct /etc/l*");
    // Written in pieces, what was allocated at once needs more to say where it lies.
    sandbox.sh(
        "web",
        "fallocate -l 6M /root/pieces; i=0; while [ $i -lt 700 ]; do dd if=/dev/zero of=/root/pieces bs=4096 \
                       seek=$((i*2)) count=1 conv=notrunc 2>/dev/null; i=$((i+1)); done; sync",
    );
    within("pieces");
    // Through memory, and without a name.
    sandbox.sh("web", "rm /root/pieces; sync");
    const SIGBUS: i32 = 128 + 7;
    assert_eq!(sandbox.exec("web", &["/bin/guest", "drive", "mapped-blocks", "10000"]).code, SIGBUS);
    assert!(within("memory") > 7 * MB);
    let unnamed = "rm /root/mapped; sync; (guest drive unnamed-files 1000 & echo $! >/run/pid) | head -1; \
                   kill -9 $(cat /run/pid)";
    let made: Value = serde_json::from_str(&sandbox.sh("web", unnamed)).unwrap();
    assert!((90..=128).contains(&made["made"].as_u64().unwrap()), "{made}");
    within("unnamed files");
    // Others inside are bound as well.
    sandbox.sh("web", "sync; mkdir -m 777 /open; sync");
    assert_ne!(code("setpriv --reuid 1000 dd if=/dev/zero of=/open/big bs=64k count=1000 2>/dev/null"), 0);
    assert!(within("a user") <= 8 * MB);
}
