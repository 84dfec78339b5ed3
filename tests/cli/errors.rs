//! How errors look, and who is told.

use std::os::unix::net::UnixListener;

use vzd_tests::Must;

use crate::harness::{Place, same};

#[test]
fn a_controller_that_does_not_answer_is_an_error_of_its_own() {
    let place = Place::new();
    std::fs::create_dir(place.path().join("r")).must("make a directory");
    let listener = UnixListener::bind(place.path().join("r/vzd.sock")).must("bind");
    std::thread::spawn(move || {
        // The command looks whether anyone is there, then asks.
        for connection in listener.incoming().take(2) {
            drop(connection);
        }
    });
    let said = place.vzd(&["get"]);
    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert!(said.stderr.starts_with("error[VZ0403]: no answer from the controller at r/vzd.sock"), "{said}");
}

#[test]
fn what_is_not_known_cannot_be_explained() {
    same!("explain_unknown", Place::new().vzd(&["explain", "spec.nonsense"]));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let binary = vzd_tests::vzd_binary();
    let script = format!("{} schema | head -c 1; echo \" ${{PIPESTATUS[0]}}\"", binary.display());
    let output = std::process::Command::new("bash").args(["-c", &script]).output().must("run bash");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{ 0\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
