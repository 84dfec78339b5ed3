//! Messages to a server, whatever they say, and what it says to them.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use serde::Serialize;

/// Who does not answer within that does not answer.
const WAIT: Duration = Duration::from_millis(1500);

/// What came back.
#[derive(Debug, Serialize)]
pub(crate) struct Replies {
    /// How many messages.
    count: u64,
    /// The last of them, as hexadecimal digits.
    last: Option<String>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sends a message so often, without waiting between, and returns what has come back when the server is silent.
pub(crate) fn ask(protocol: &str, server: SocketAddr, message: &[u8], times: u64) -> Result<Replies> {
    let mut replies = Replies { count: 0, last: None };
    if protocol == "tcp" {
        let mut stream = TcpStream::connect_timeout(&server, WAIT)?;
        stream.set_read_timeout(Some(WAIT))?;
        let length = u16::try_from(message.len()).map_err(|_| ErrorKind::InvalidInput)?;
        for _ in 0..times {
            stream.write_all(&[&length.to_be_bytes(), message].concat())?;
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                break;
            }
            let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut reply)?;
            replies = Replies { count: replies.count + 1, last: Some(hex(&reply)) };
        }
        return Ok(replies);
    }
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(server)?;
    socket.set_nonblocking(true)?;
    let mut buffer = vec![0; 0x1_0000];
    let mut take = |socket: &UdpSocket| match socket.recv(&mut buffer) {
        Ok(length) => {
            replies = Replies { count: replies.count + 1, last: buffer.get(..length).map(hex) };
            true
        }
        // Also that nobody is there: the kernel says so at the next call.
        Err(_) => false,
    };
    let mut silent = true;
    for _ in 0..times {
        // The socket's buffer may be full: what is lost is lost.
        let _ = socket.send(message);
        while take(&socket) {
            silent = false;
        }
    }
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(WAIT))?;
    while (silent || times > 1) && take(&socket) {
        silent = false;
    }
    Ok(replies)
}
