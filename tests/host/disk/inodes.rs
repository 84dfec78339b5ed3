//! Limits of inodes, on what counts them.

use serde_json::json;

use super::{On, World, limit, limited, on_images, on_projects};

on_images!(inodes_are_limited_and_the_limit_goes_up_and_down);
on_projects!(inodes_are_limited_and_the_limit_goes_up_and_down);

fn inodes_are_limited_and_the_limit_goes_up_and_down(on: On) {
    let sandbox = World::new(on);
    let free =
        || sandbox.sh("web", "df -i / | tail -1").split_whitespace().nth(3).unwrap().parse::<u64>().unwrap();
    let make = |count: u64| {
        let script = format!(
            "mkdir -p /root/f; cd /root/f; i=0; while [ $i -lt {count} ] && touch $$.$i 2>/dev/null; \
                              do i=$((i+1)); done; echo $i"
        );
        sandbox.sh("web", &script).parse::<u64>().unwrap()
    };
    for (limit_is, at_least) in [(300, 200), (500, 150), (400, 0)] {
        limited(&sandbox, "web", json!({ "diskinodes": limit_is.to_string() }));
        sandbox.apply();
        if limit_is != 400 || on != On::Image {
            assert_eq!(limit(&sandbox, "web", "diskinodes"), limit_is);
        }
        let made = make(1000);
        assert!(made >= at_least && made < limit_is, "{made} with a limit of {limit_is}");
        assert_eq!(free(), 0);
    }
    // 500 are used where 400 are allowed: as files go, so does the rest of the old limit.
    assert!(sandbox.status("web").unwrap().is("ResizePending"));
    sandbox.sh("web", "rm -r /root/f; sync");
    sandbox.until_resized("web");
    assert_eq!(limit(&sandbox, "web", "diskinodes"), 400);
    let made = make(1000);
    assert!((300..400).contains(&made), "{made}");
}
