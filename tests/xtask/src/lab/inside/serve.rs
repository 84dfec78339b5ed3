//! The second of two guests: does what the test on the first asks for. Must be reachable only on the guests' own link,
//! since it runs whatever it is told.
//!
//! One connection a request: a line of JSON, `{"run": [word...], "input": bytes, "environment": {...}}`, and as many bytes
//! of input; the answer is a line `{"code": n, "stdout": bytes, "stderr": bytes}` and those bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::run::{Context, Failure, Result};

const ADDRESS: &str = "10.77.0.2:7077";

/// Serves until the guest is ended from outside.
pub(super) fn run() -> Result<u8> {
    let listener = TcpListener::bind(ADDRESS).context(ADDRESS)?;
    for stream in listener.incoming() {
        let stream = stream.context("accept")?;
        std::thread::spawn(move || {
            if let Err(Failure(why)) = answer(&stream) {
                eprintln!("lab: a request: {why}");
            }
        });
    }
    Ok(0)
}

fn answer(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).context("read")?;
    let request: Value = serde_json::from_str(&line).context("read")?;
    let words: Vec<&str> =
        request["run"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let Some((program, arguments)) = words.split_first() else { return Ok(()) };
    let mut input = reader.take(request["input"].as_u64().unwrap_or(0));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, value) in request["environment"].as_object().into_iter().flatten() {
        command.env(name, value.as_str().unwrap_or_default());
    }
    let output = match command.spawn() {
        Ok(mut child) => {
            if let Some(mut stdin) = child.stdin.take() {
                // A program may end before it has read everything.
                drop(std::io::copy(&mut input, &mut stdin));
            }
            child.wait_with_output().context(program)?
        }
        Err(error) => return send(stream, 127, &[], format!("{program}: {error}").as_bytes()),
    };
    send(stream, output.status.code().unwrap_or(-1), &output.stdout, &output.stderr)
}

fn send(mut stream: &TcpStream, code: i32, stdout: &[u8], stderr: &[u8]) -> Result<()> {
    let line = json!({ "code": code, "stdout": stdout.len(), "stderr": stderr.len() });
    let mut bytes = format!("{line}\n").into_bytes();
    bytes.extend_from_slice(stdout);
    bytes.extend_from_slice(stderr);
    stream.write_all(&bytes).context("send")
}
