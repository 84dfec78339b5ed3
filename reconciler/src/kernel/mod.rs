//! The kernel as vzd uses it: the only place with `unsafe` or raw system calls.
//!
//! One small file a concern; each wraps what rustix and nix do not offer behind a safe function that
//! names the operation, the object and the errno. Nothing here knows about VEs, manifests or plans:
//! a function here takes paths, ids and file descriptors.

pub mod alarms;
pub mod bpf;
pub mod btrfs;
pub mod caps;
pub mod cgroup;
pub mod clone;
pub mod ext4;
pub mod fanotify;
pub mod handle;
pub mod heap;
pub mod kmsg;
pub mod loopdev;
pub mod marks;
pub mod mount;
pub mod net;
pub mod netfilter;
pub mod ns;
pub mod pidfd;
pub mod pin;
pub mod process;
pub mod procfs;
pub mod pty;
pub mod quota;
pub mod seccomp;
pub mod seqpacket;
pub mod sockdiag;
pub mod stash;
