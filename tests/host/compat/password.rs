//! `vzctl set --userpasswd`: by the container's own programs, here one of the test's, and in no manifest.

use super::{manifest, running, tool};
use vzd_tests::needs;

#[test]
fn a_password_is_set_inside_and_written_nowhere_else() {
    needs!(Root, Cgroups, Busybox);
    let sandbox = running();
    let before = manifest(&sandbox, "101.yaml");
    let chpasswd = "#!/bin/sh\n{ printf '%s\\n' \"$*\"; cat; } > /root/told\n";
    let put = "cat > /bin/chpasswd; chmod 755 /bin/chpasswd; echo admin:x:0:0::/:/bin/sh >> /etc/passwd; echo '#!/bin/sh' > /bin/useradd; \
               chmod 755 /bin/useradd";
    sandbox.vzd_with_input(&["exec", "101", "--", "/bin/sh", "-c", put], chpasswd.as_bytes()).ok();
    tool(&sandbox, "vzctl set 101 --userpasswd admin:a:b").ends(0);
    assert_eq!(sandbox.sh("101", "cat /root/told"), "\nadmin:a:b", "without options");
    tool(&sandbox, "vzctl set 101 --userpasswd new:$6$x$y --crypted --save").ends(0);
    assert_eq!(sandbox.sh("101", "cat /root/told"), "-e\nnew:$6$x$y");
    assert_eq!(manifest(&sandbox, "101.yaml"), before);
    let two_lines = sandbox.vzd(&["vzctl", "set", "101", "--userpasswd", "admin:x\nroot:y"]);
    assert_eq!((two_lines.code, two_lines.stderr.is_empty()), (21, false));
    tool(&sandbox, "vzctl set 101 --userpasswd admin").ends(21);
    sandbox.sh("101", "printf '#!/bin/sh\\nexit 1\\n' > /bin/chpasswd");
    tool(&sandbox, "vzctl set 101 --userpasswd admin:x --numproc 77 --save").ends(74);
    assert_eq!(manifest(&sandbox, "101.yaml"), before, "nothing is saved if anything failed");
    sandbox
        .write("101.yaml", &before.replace("spec:", "spec:\n  users: [{name: admin, passwordHash: \"*\"}]"));
    tool(&sandbox, "vzctl set 101 --userpasswd admin:x")
        .ends(74)
        .says("the manifest says the password of admin");
    sandbox.write("101.yaml", &before);
    tool(&sandbox, "vzctl stop 101").ends(0);
    tool(&sandbox, "vzctl set 101 --userpasswd admin:x").ends(74);
}
