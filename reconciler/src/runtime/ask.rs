//! Asking a VE over its own network: whether a port takes a connection, what a web server answers.
//!
//! Who answers is hostile. A call costs a few kilobytes and ends at its deadline, whatever comes and
//! however slowly: nothing is read beyond the line that holds the status.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::AddressFamily;

use crate::error::{At, SysError, SysResult};

/// The addresses that every VE has.
pub const LOCAL: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// All that is looked at of an answer.
const HEAD: usize = 4096;

/// A connection, and when it has to be over.
#[derive(Debug)]
pub struct Call {
    stream: TcpStream,
    to: SocketAddr,
    deadline: Instant,
}

/// Connects to the first of these that answers; `socket` makes a TCP socket in the network they are in.
/// What takes longer than `within` is `ETIMEDOUT`.
pub fn connect(
    to: &[SocketAddr],
    within: Duration,
    socket: impl Fn(AddressFamily) -> SysResult<OwnedFd>,
) -> SysResult<Call> {
    let deadline = Instant::now() + within;
    let mut refused = None;
    for to in to {
        let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let call = Call { stream: socket(family)?.into(), to: *to, deadline };
        match call.connect() {
            Ok(()) => return Ok(call),
            Err(e) if e.errno == libc::ETIMEDOUT => return Err(e),
            Err(e) => refused = refused.or(Some(e)),
        }
    }
    Err(refused.unwrap_or_else(|| SysError::refused("connect to", "a VE", "it has no address")))
}

impl Call {
    /// Asks a web server for a page; fine if its status is 200 to 399.
    pub fn get(self, path: &str) -> SysResult<()> {
        let object = format!("http://{}{path}", self.to);
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: vzd\r\nAccept: */*\r\nConnection: close\r\n\r\n",
            self.to
        );
        let mut unsent = request.as_bytes();
        while !unsent.is_empty() {
            let sent = self.in_time("ask", |mut stream| stream.write(unsent))?;
            unsent = &unsent[sent..];
        }
        let refused = |why: &str| SysError::refused("ask", &object, why);
        let (mut head, mut len) = ([0; HEAD], 0);
        loop {
            match status(&head[..len]) {
                Heard::Status(200..=399) => return Ok(()),
                Heard::Status(status) => return Err(refused(&format!("it answered with status {status}"))),
                Heard::Nonsense => return Err(refused("what answers does not speak HTTP/1")),
                Heard::Little if len == HEAD => {
                    return Err(refused(&format!("there is no status in the first {HEAD} bytes")));
                }
                Heard::Little => {}
            }
            match self.in_time("ask", |mut stream| stream.read(&mut head[len..]))? {
                0 => return Err(refused("it hung up before it answered")),
                more => len += more,
            }
        }
    }

    fn connect(&self) -> SysResult<()> {
        // It is the time for sending that a connection may take (socket(7)).
        self.in_time("connect to", |stream| Ok(rustix::net::connect(stream, &self.to)?))
    }

    /// Does one thing that may wait, for no longer than is left.
    fn in_time<T>(&self, op: &str, body: impl FnOnce(&TcpStream) -> std::io::Result<T>) -> SysResult<T> {
        let late = || SysError::new(op, self.to, libc::ETIMEDOUT);
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late());
        }
        let set = self.stream.set_read_timeout(Some(left));
        set.and_then(|()| self.stream.set_write_timeout(Some(left))).at("limit the time of", self.to)?;
        body(&self.stream).map_err(|e| match e.raw_os_error() {
            Some(libc::EAGAIN | libc::EINPROGRESS) => late(),
            _ => SysError::new(op, self.to, e),
        })
    }
}

/// What the beginning of an answer says.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Status(u16),
    Nonsense,
    /// Not enough yet.
    Little,
}

/// The status of an answer, past those that only say that one will come (RFC 9110, 15.2).
fn status(head: &[u8]) -> Heard {
    let mut rest = head;
    loop {
        let Some(end) = rest.iter().position(|byte| *byte == b'\n') else { return Heard::Little };
        match status_of_line(&rest[..end]) {
            None => return Heard::Nonsense,
            Some(100..=199) => {
                let Some(blank) = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
                    return Heard::Little;
                };
                rest = &rest[blank + 4..];
            }
            Some(status) => return Heard::Status(status),
        }
    }
}

fn status_of_line(line: &[u8]) -> Option<u16> {
    let mut words = std::str::from_utf8(line).ok()?.trim_end().splitn(3, ' ');
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next().filter(|word| word.len() == 3)?;
    status.parse().ok().filter(|status| *status >= 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    fn socket(family: AddressFamily) -> SysResult<OwnedFd> {
        rustix::net::socket(family, rustix::net::SocketType::STREAM, None).at("make", "a socket")
    }

    /// Asks a server that does this with each connection.
    fn asked(within: Duration, serve: impl FnOnce(TcpStream) -> std::io::Result<()> + Send) -> SysResult<()> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        thread::scope(|scope| {
            scope.spawn(|| {
                let (mut taken, _) = listener.accept().unwrap();
                let mut request = [0; 512];
                let _ = taken.read(&mut request);
                assert!(request.starts_with(b"GET /well HTTP/1.1\r\nHost: 127.0.0.1:"));
                // That the caller hangs up is no failure of the server.
                let _ = serve(taken);
            });
            connect(&[at], within, socket)?.get("/well")
        })
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_status_of_200_to_399_is_well() {
        let answer = |text: &'static str| asked(LONG, move |mut stream| stream.write_all(text.as_bytes()));
        assert_eq!(answer("HTTP/1.1 200 OK\r\n\r\n"), Ok(()));
        assert_eq!(answer("HTTP/1.0 302\r\nLocation: /\r\n\r\n"), Ok(()));
        assert_eq!(answer("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n"), Ok(()));
        let said = |text| answer(text).unwrap_err().to_string();
        assert!(said("HTTP/1.1 503 Busy\r\n\r\n").ends_with("it answered with status 503"));
        assert!(said("HTTP/2 200\r\n").ends_with("does not speak HTTP/1"));
        assert!(said("HTTP/1.1 2000 OK\r\n").ends_with("does not speak HTTP/1"));
        assert!(said("\u{1f600}\n").ends_with("does not speak HTTP/1"));
        assert!(said("HTTP/1.1 200").ends_with("it hung up before it answered"));
        assert!(said("").ends_with("it hung up before it answered"));
    }

    #[test]
    fn a_server_that_never_ends_costs_a_few_kilobytes() {
        let endless = |begins: &'static str| {
            asked(LONG, move |mut stream| {
                stream.write_all(begins.as_bytes())?;
                loop {
                    stream.write_all(&[b'x'; 65536])?;
                }
            })
        };
        assert!(endless("").unwrap_err().to_string().ends_with("no status in the first 4096 bytes"));
        let hints = endless("HTTP/1.1 100 Continue\r\n");
        assert!(hints.unwrap_err().to_string().ends_with("no status in the first 4096 bytes"));
        assert_eq!(endless("HTTP/1.1 200 OK\r\nX-Endless: "), Ok(()), "nothing beyond its first line counts");
    }

    #[test]
    fn a_server_that_is_slow_is_left_at_the_deadline() {
        let drip = asked(Duration::from_millis(200), |mut stream| {
            loop {
                stream.write_all(b"x")?;
                thread::sleep(Duration::from_millis(20));
            }
        });
        assert_eq!(drip.unwrap_err().errno, libc::ETIMEDOUT);
        let silent = asked(Duration::from_millis(200), |mut stream| stream.read(&mut [0; 1]).map(drop));
        assert_eq!(silent.unwrap_err().errno, libc::ETIMEDOUT);
    }

    #[test]
    fn the_first_address_that_answers_is_taken_and_else_the_first_error() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        assert_eq!(connect(&[nobody, at], LONG, socket).unwrap().to, at);
        let refused = connect(&[nobody, nobody], LONG, socket).unwrap_err();
        assert_eq!((refused.errno, refused.object), (libc::ECONNREFUSED, nobody.to_string()));
        // A queue that is full takes nobody: what is sent is dropped, and the call waits in vain.
        let full = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let at = full.local_addr().unwrap();
        let _queued = connect(&[at], LONG, socket).unwrap();
        let waiting = connect(&[at], Duration::from_millis(200), socket);
        assert_eq!(waiting.unwrap_err().errno, libc::ETIMEDOUT);
    }
}
