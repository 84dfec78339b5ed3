//! The second of two hosts: runs programs there. The lab's agent answers; see tests/xtask/src/lab/inside/serve.rs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::run::Ended;
use crate::{LONG, Must, within};

/// A host that does what it is told.
pub struct Peer {
    address: String,
}

impl Peer {
    /// Waits until it answers. Needs `TwoHosts`.
    #[track_caller]
    pub fn find() -> Peer {
        let address = std::env::var("VZD_LAB_PEER").must("find the second host");
        within(LONG, format!("{address} answers"), || TcpStream::connect(&address).ok());
        Peer { address }
    }

    /// Its address on the link.
    pub fn ip(&self) -> &str {
        self.address.split(':').next().unwrap_or_default()
    }

    /// This host's address on the link.
    pub fn own_ip() -> String {
        std::env::var("VZD_LAB_ADDRESS").must("find this host's address")
    }

    /// Runs a program there to its end.
    #[track_caller]
    pub fn run(&self, words: &[&str]) -> Ended {
        self.run_with(words, &[], &json!({}))
    }

    /// Runs a shell script there, which must go well, and returns what it printed, without the last newline.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.run(&["/bin/sh", "-c", script]).ok().stdout.trim_end().to_owned()
    }

    /// Puts a file there.
    #[track_caller]
    pub fn put(&self, path: &str, content: &[u8]) {
        self.run_with(&["/bin/sh", "-c", "cat > \"$0\"", path], content, &json!({})).ok();
    }

    /// The same with something to read and with variables.
    #[track_caller]
    pub fn run_with(&self, words: &[&str], input: &[u8], environment: &Value) -> Ended {
        let mut stream = TcpStream::connect(&self.address).must("reach the second host");
        stream.set_read_timeout(Some(crate::slow(Duration::from_secs(60)))).must("set a time limit");
        let request = json!({ "run": words, "input": input.len(), "environment": environment });
        stream.write_all(format!("{request}\n").as_bytes()).must("ask the second host");
        // It may answer and hang up before it has read all of it.
        drop(stream.write_all(input));
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).must("hear from the second host");
        let answer: Value = serde_json::from_str(&line).must(format!("read {line:?}"));
        let mut text = |key: &str| {
            let mut bytes = Vec::new();
            let length = answer[key].as_u64().unwrap_or(0);
            reader.by_ref().take(length).read_to_end(&mut bytes).must("read the second host's answer");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = (text("stdout"), text("stderr"));
        let code = answer["code"].as_i64().and_then(|code| i32::try_from(code).ok()).unwrap_or(-1);
        Ended { command: format!("on the second host: {}", words.join(" ")), code, stdout, stderr }
    }
}
