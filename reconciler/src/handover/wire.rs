//! A TCP connection under TLS, joined to a pair of local streams: all that both ends of a hand-over by TLS have in common.
//!
//! An end that is said (TLS's close_notify) goes on as the end of a stream, in each direction by itself; a connection that
//! is cut is an error. Knows nothing of certificates or of what is said.

use std::io;
use std::pin::pin;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// So much is carried at a time.
const PIECE: usize = 64 << 10;
/// A link over which nothing has come for that long is looked at, and then again a few times.
const QUIET: Duration = Duration::from_secs(15);
const LOOKS: u32 = 3;
/// What was sent is heard of within this, or the link is cut: as long as all looks take.
const UNHEARD: Duration = Duration::from_secs(45);

/// Has a connection noticed that is cut without a word, and nothing wait for more to be said.
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_nodelay(stream, true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, QUIET)?;
    sockopt::set_tcp_keepintvl(stream, QUIET)?;
    sockopt::set_tcp_keepcnt(stream, LOOKS)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(UNHEARD.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// Carries all that comes, to its end, which is passed on.
pub(super) async fn carry(
    from: impl AsyncRead + Unpin,
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    tokio::io::copy_buf(&mut BufReader::with_capacity(PIECE, from), to).await?;
    to.shutdown().await
}

/// Does both until `last` has ended, which then is what has come of it.
pub(super) async fn until<T>(
    last: impl Future<Output = T>,
    other: impl Future<Output = io::Result<()>>,
) -> T {
    let (mut last, mut other) = (pin!(last), pin!(other));
    let mut goes_on = true;
    loop {
        tokio::select! {
            // What is read of a connection tells why it has ended; what is written only that it has.
            biased;
            ended = &mut last => return ended,
            _ = &mut other, if goes_on => goes_on = false,
        }
    }
}
