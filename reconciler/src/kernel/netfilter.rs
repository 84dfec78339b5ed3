//! How many packet filter entries a network namespace has: rules of nftables, and entries of the tables of
//! iptables, ip6tables and arptables.
//!
//! Read only: nothing here makes a table that is not there. Layouts follow include/uapi/linux/netfilter.

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::error::{At, SysError, SysResult};
use crate::kernel::ns::{Kind, Namespace, Visitor};

/// Counts the entries of the network namespace of a process. The caller checks by pidfd, afterwards, that
/// the pid still means the process it wants.
pub fn entries(pid: i32) -> SysResult<u64> {
    static VISITOR: Visitor = Visitor::new("netfilter");
    let tables = FAMILIES.map(|family| names(pid, family.names));
    VISITOR.visit(Namespace::of(pid, Kind::Net)?, move || {
        let mut sum = rules()?;
        for (family, names) in FAMILIES.iter().zip(&tables) {
            // A socket is made only where there is a table to ask for.
            if !names.is_empty() {
                let socket = socket(family.domain, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
                for name in names {
                    sum += family.entries(&socket, name)?;
                }
            }
        }
        Ok(sum)
    })
}

/// One of the older packet filters.
struct Family {
    /// The file in /proc/PID/net that names the tables that there are.
    names: &'static str,
    domain: i32,
    level: i32,
    /// `*T_SO_GET_INFO`
    option: i32,
    /// How many hooks `struct *t_getinfo` has room for.
    hooks: usize,
}

const FAMILIES: [Family; 3] = [
    Family { names: "ip_tables_names", domain: libc::AF_INET, level: libc::IPPROTO_IP, option: 64, hooks: 5 },
    Family {
        names: "ip6_tables_names",
        domain: libc::AF_INET6,
        level: libc::IPPROTO_IPV6,
        option: 64,
        hooks: 5,
    },
    Family {
        names: "arp_tables_names",
        domain: libc::AF_INET,
        level: libc::IPPROTO_IP,
        option: 96,
        hooks: 3,
    },
];

/// The tables that there are; none where the kernel has no such filter.
fn names(pid: i32, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/{file}")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl Family {
    /// Entries of a table but for those that each table has: the policy of each hook, and the end.
    fn entries(&self, socket: &OwnedFd, table: &str) -> SysResult<u64> {
        // char name[32]; u32 valid_hooks, hook_entry[hooks], underflow[hooks], num_entries, size
        let mut info = [0_u32; 8 + 1 + 2 * 5 + 2];
        let words = 8 + 1 + 2 * self.hooks + 2;
        for (at, byte) in table.bytes().take(31).enumerate() {
            info[at / 4] |= u32::from(byte) << (at % 4 * 8);
        }
        let mut length = libc::socklen_t::try_from(words * 4).unwrap_or_default();
        // SAFETY: the kernel writes at most `length` bytes, and `info` has as many or more.
        let rc = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                self.level,
                self.option,
                info.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        if rc != 0 {
            let error = std::io::Error::last_os_error();
            // It was taken away since its name was read.
            if error.kind() == ErrorKind::NotFound {
                return Ok(0);
            }
            return Err(SysError::new("count entries of", format_args!("table {table}"), error));
        }
        Ok(own_entries(info[8], info[words - 2]))
    }
}

fn own_entries(valid_hooks: u32, entries: u32) -> u64 {
    u64::from(entries.saturating_sub(valid_hooks.count_ones() + 1))
}

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const RULES: &str = "rules of nftables";

/// Rules of nftables of all families in the namespace of the calling thread.
fn rules() -> SysResult<u64> {
    let socket = match socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER) {
        // The kernel has no netfilter at all.
        Err(e) if e.errno == libc::EPROTONOSUPPORT => return Ok(0),
        other => other?,
    };
    let flags = u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_DUMP).unwrap_or_default();
    let mut request = Vec::with_capacity(20);
    request.extend(20_u32.to_ne_bytes());
    request.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE).to_ne_bytes());
    request.extend(flags.to_ne_bytes());
    // Sequence and port; then `struct nfgenmsg` of all families.
    request.extend([0; 12]);
    rustix::net::send(&socket, &request, rustix::net::SendFlags::empty()).at("ask for", RULES)?;
    let mut buffer = vec![0_u8; 32 * 1024];
    let mut sum = 0;
    loop {
        let (length, _) =
            rustix::net::recv(&socket, &mut buffer[..], rustix::net::RecvFlags::empty()).at("read", RULES)?;
        match messages(&buffer[..length], &mut sum) {
            Ok(true) => return Ok(sum),
            Ok(false) => {}
            // The kernel has no nftables: so there are no rules of it.
            Err(libc::EINVAL | libc::EOPNOTSUPP) => return Ok(0),
            Err(errno) => return Err(SysError::new("read", RULES, errno)),
        }
    }
}

/// Counts the rules in a part of the kernel's answer, and tells whether it is the last one.
fn messages(mut bytes: &[u8], sum: &mut u64) -> Result<bool, i32> {
    const HEADER: usize = 16;
    while bytes.len() >= HEADER {
        let word = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
        let kind = u16::from_ne_bytes(bytes[4..6].try_into().unwrap_or_default());
        let length = (word(0) as usize).max(HEADER);
        if i32::from(kind) == libc::NLMSG_DONE {
            return Ok(true);
        }
        if i32::from(kind) == libc::NLMSG_ERROR && bytes.len() >= HEADER + 4 {
            return Err(-word(HEADER).cast_signed());
        }
        *sum += u64::from(kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn socket(domain: i32, kind: i32, protocol: i32) -> SysResult<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(SysError::new(
            "open",
            format_args!("a socket of domain {domain}"),
            std::io::Error::last_os_error(),
        ));
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(16 + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn rules_are_counted_to_the_end_of_the_answer() {
        let rule = message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE, &[1, 2, 3]);
        let done = message(u16::try_from(libc::NLMSG_DONE).unwrap(), &[0; 4]);
        let mut sum = 0;
        assert_eq!(messages(&[rule.clone(), rule.clone()].concat(), &mut sum), Ok(false));
        assert_eq!(messages(&[rule, done].concat(), &mut sum), Ok(true));
        assert_eq!(sum, 3);
        let error = message(u16::try_from(libc::NLMSG_ERROR).unwrap(), &(-libc::EINVAL).to_ne_bytes());
        assert_eq!(messages(&error, &mut sum), Err(libc::EINVAL));
    }

    #[test]
    fn an_empty_table_has_no_entries() {
        // filter: INPUT, FORWARD and OUTPUT
        assert_eq!(own_entries(0b01110, 4), 0);
        assert_eq!(own_entries(0b01110, 6), 2);
    }
}
