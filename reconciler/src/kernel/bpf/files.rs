//! Open files of VEs, at the kernel's security hooks: a program on the VE's control group counts a file when it is
//! allocated, and refuses one above a bound with ENFILE; one on the top of the tree counts it down when it is freed.
//!
//! A file is freed by whoever drops the last reference, often a kernel thread, so that this program runs for all of
//! the host. It knows whose a file is by its address: in a place that follows from the address, where that is free,
//! otherwise in a hash table. It and its maps are there for all VEs that are counted, and gone with the last of them.
//!
//! The top's programs are found by name, and changed only under a lock of the top: others than we count files too.
//!
//! Files that the kernel opens by the host's rights are not the VE's: an overlay opens each file a second time, in
//! its layers, as whoever has mounted it. A file's rights are those of a user namespace, and only the host's is
//! at level 0.

use std::ffi::c_uint;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;

use super::btf::{self, Ask};
use super::charge::{Count, charge, release};
use super::insn::{
    ALWAYS, Assembly, CALL_DELETE, CALL_LOOKUP, CALL_UPDATE, IF_NOT_ZERO, IF_ZERO, Insn, add, add_imm,
    atomic_add, call, compare_exchange, constant, frame, if_equal, load_double, map, map_value, multiply,
    shift_left, store, subtract,
};
use super::{Found, attach, detach, find, load_at, maps, own};
use crate::error::{At, SysError, SysResult};

const PROG_TYPE_LSM: u32 = 29;
pub(super) const ATTACH_LSM_CGROUP: u32 = 43;
const LSMS: &str = "/sys/kernel/security/lsm";

const ALLOC: &str = "vzd_file_alloc";
const FREE: &str = "vzd_file_free";

/// Places for addresses; a power of two.
const PLACES: i32 = 1 << 16;
/// Files that have no place, at a time; those beyond are opened, and not counted.
const MOST_OTHERS: u32 = 1 << 20;
/// VEs.
const MOST_OWNERS: u32 = 1 << 16;

/// The value of the map of places: how many files are elsewhere, and places of two words, file and owner.
const ELSEWHERE: i16 = 0;
const PLACE: i16 = 16;
const OWNER: i16 = PLACE + 8;

/// Places below the frame pointer.
const FILE: i16 = -8;
const ID: i16 = -16;
const KEY: i16 = -24;

/// What the kernel calls things, and where they are.
struct Kernel {
    alloc: u32,
    free: u32,
    /// Of a file, of those, of that: its rights, their user namespace, how deep that is.
    cred: i16,
    user_ns: i16,
    level: i16,
}

impl Kernel {
    /// Asked once: the kernel that runs stays the same, and its description has megabytes.
    fn known() -> SysResult<&'static Self> {
        static KNOWN: OnceLock<Kernel> = OnceLock::new();
        if let Some(kernel) = KNOWN.get() {
            return Ok(kernel);
        }
        let asked = Self::ask()?;
        Ok(KNOWN.get_or_init(|| asked))
    }

    fn ask() -> SysResult<Self> {
        let [alloc, free, cred, user_ns, level] = btf::ask([
            Ask::Function("bpf_lsm_file_alloc_security"),
            Ask::Function("bpf_lsm_file_free_security"),
            Ask::Member("file", "f_cred"),
            Ask::Member("cred", "user_ns"),
            Ask::Member("user_namespace", "level"),
        ])?;
        let offset =
            |at: u32| i16::try_from(at).map_err(|_| SysError::refused("reach", "a member", "too far"));
        Ok(Self { alloc, free, cred: offset(cred)?, user_ns: offset(user_ns)?, level: offset(level)? })
    }
}

/// The maps that all VEs share.
struct Shared {
    /// Whose the files are that have a place.
    places: OwnedFd,
    /// The owner of each other file.
    others: OwnedFd,
    /// The map of counts of each owner, by its cgroup's id.
    owners: OwnedFd,
}

/// The maps of one VE.
struct Own {
    counts: OwnedFd,
    /// No more than so many are opened.
    barrier: OwnedFd,
    id: u64,
}

/// r7: a number that stands for the file in r7, r1: its place.
fn place(code: &mut Assembly, places: &OwnedFd) {
    code.add(map_value(1, places));
    // What is between two addresses tells as much as one, and is no address.
    code.add([subtract(7, 1), Insn::mov(2, 7), multiply(2, 0x61c8_8647), Insn::shift_right(2, 32)]);
    code.add([Insn::and_imm(2, PLACES - 1), shift_left(2, 4), add(1, 2)]);
}

/// Whose the file in FILE is, in `others`.
fn in_others(code: &mut Assembly, others: &OwnedFd) {
    code.add(map(1, others));
    code.add(frame(2, FILE));
}

/// r6: the counts, r7: the file.
fn alloc_program(kernel: &Kernel, own: &Own, shared: &Shared) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([load_double(7, 1, 0), load_double(1, 7, kernel.cred), load_double(1, 1, kernel.user_ns)]);
    code.add([Insn::load(0, 1, kernel.level)]);
    code.jump(IF_ZERO, "allow");
    code.add(map_value(8, &own.counts));
    code.add(map_value(1, &own.barrier));
    code.add([load_double(1, 1, 0)]);
    charge(&mut code, 1, libc::ENFILE);
    place(&mut code, &shared.places);
    code.add([Insn::mov_imm(0, 0), add_imm(1, PLACE), compare_exchange(1, 7)]);
    code.add(constant(2, own.id));
    code.jump(IF_NOT_ZERO, "another has it");
    code.add([store(1, OWNER - PLACE, 2)]);
    code.jump(ALWAYS, "allow");
    code.label("another has it");
    code.add([store(10, FILE, 7), store(10, ID, 2)]);
    in_others(&mut code, &shared.others);
    code.add(frame(3, ID));
    code.add([Insn::mov_imm(4, 0), call(CALL_UPDATE)]);
    code.jump(IF_ZERO, "it is elsewhere");
    // Whose owner cannot be told later is not counted.
    code.add(release(8));
    code.jump(ALWAYS, "allow");
    code.label("it is elsewhere");
    code.add(map_value(1, &shared.places));
    code.add([Insn::mov_imm(2, 1), atomic_add(1, ELSEWHERE, 2)]);
    code.label("allow");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

fn free_program(Shared { places, others, owners }: &Shared) -> Vec<Insn> {
    let mut code = Assembly::default();
    code.add([load_double(7, 1, 0)]);
    place(&mut code, places);
    code.add([load_double(0, 1, PLACE)]);
    code.jump(if_equal(0, 7), "it is in its place");
    code.add(map_value(1, places));
    code.add([load_double(0, 1, ELSEWHERE)]);
    code.jump(IF_ZERO, "done");
    code.add([store(10, FILE, 7)]);
    in_others(&mut code, others);
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add([load_double(1, 0, 0), store(10, ID, 1)]);
    in_others(&mut code, others);
    code.add([call(CALL_DELETE)]);
    code.add(map_value(1, places));
    code.add([Insn::mov_imm(2, -1), atomic_add(1, ELSEWHERE, 2)]);
    code.jump(ALWAYS, "count down");
    code.label("it is in its place");
    // Nobody else changes it until it is free again.
    code.add([load_double(2, 1, OWNER), store(10, ID, 2), Insn::mov(0, 7), Insn::mov_imm(2, 0)]);
    code.add([add_imm(1, PLACE), compare_exchange(1, 2)]);
    code.label("count down");
    code.add(map(1, owners));
    code.add(frame(2, ID));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add([Insn::mov(1, 0), Insn::mov_imm(2, 0), store(10, KEY, 2)]);
    code.add(frame(2, KEY));
    code.add([call(CALL_LOOKUP)]);
    code.jump(IF_ZERO, "done");
    code.add(release(0));
    code.label("done");
    code.add([Insn::mov_imm(0, 1), Insn::exit()]);
    code.finish()
}

const PLACES_SIZE: usize = PLACE as usize + PLACES as usize * 16;

fn new_shared(counts: &OwnedFd, others: u32) -> SysResult<Shared> {
    let size = u32::try_from(PLACES_SIZE).unwrap_or(u32::MAX);
    Ok(Shared {
        places: maps::new_map(maps::ARRAY, (4, size), 1, 0, "vzd_files")?,
        others: maps::new_map(maps::HASH, (8, 8), others, maps::NO_PREALLOC, "vzd_files_more")?,
        owners: maps::new_map_of(counts, 8, MOST_OWNERS, "vzd_file_owners")?,
    })
}

fn new_own(id: u64) -> SysResult<Own> {
    let size = u32::try_from(size_of::<Count>()).unwrap_or(u32::MAX);
    let counts = maps::new_map(maps::ARRAY, (4, size), 1, 0, "vzd_file_count")?;
    let barrier = maps::new_map(maps::ARRAY, (4, 8), 1, 0, "vzd_file_bound")?;
    maps::write(&barrier, 0_u32, u64::MAX)?;
    Ok(Own { counts, barrier, id })
}

fn load_free(kernel: &Kernel, shared: &Shared) -> SysResult<OwnedFd> {
    load_at((PROG_TYPE_LSM, ATTACH_LSM_CGROUP), kernel.free, &free_program(shared), FREE)
}

fn load_alloc(kernel: &Kernel, own: &Own, shared: &Shared) -> SysResult<OwnedFd> {
    load_at((PROG_TYPE_LSM, ATTACH_LSM_CGROUP), kernel.alloc, &alloc_program(kernel, own, shared), ALLOC)
}

/// Whether files can be counted here: `top` is where the control groups' version 2 tree is mounted.
pub fn try_load_files(top: &Path) -> SysResult<()> {
    let active = std::fs::read_to_string(LSMS).at("read", LSMS)?;
    if !active.trim().split(',').any(|name| name == "bpf") {
        return Err(SysError::refused(
            "load",
            "BPF LSM program",
            format!("{LSMS} has no bpf (boot with lsm=...,bpf)"),
        ));
    }
    // The kernel's own number of the real one; a container has another.
    if std::fs::metadata(top).at("stat", top.display())?.ino() != 1 {
        return Err(SysError::refused(
            "use",
            top.display(),
            "it is not the top of the host's control groups",
        ));
    }
    let kernel = Kernel::known()?;
    let own = new_own(0)?;
    // Room for all others is 16 MB.
    let shared = new_shared(&own.counts, 1)?;
    load_free(kernel, &shared)?;
    load_alloc(kernel, &own, &shared).map(drop)
}

/// The top of the tree, for ourselves alone until it is dropped.
fn lock(top: &Path) -> SysResult<OwnedFd> {
    let fd = std::fs::File::open(top).map(OwnedFd::from).at("open", top.display())?;
    rustix::fs::flock(&fd, rustix::fs::FlockOperation::LockExclusive).at("lock", top.display())?;
    Ok(fd)
}

fn shared_of(free: Found) -> SysResult<Shared> {
    let missing = || SysError::refused("find", FREE, "the program has other maps");
    let [places, others, owners] = free.maps[..] else { return Err(missing()) };
    Ok(Shared { places: maps::open(places)?, others: maps::open(others)?, owners: maps::open(owners)? })
}

/// Begins to count the files of a cgroup, unless that is so already. Those that are open stay uncounted.
pub fn count_files(top: &Path, cgroup: impl AsFd) -> SysResult<()> {
    let cgroup = cgroup.as_fd();
    if find(cgroup, ATTACH_LSM_CGROUP, |name| name == ALLOC)?.is_some() {
        return Ok(());
    }
    let kernel = Kernel::known()?;
    let id = rustix::fs::fstat(cgroup).at("stat", "control group")?.st_ino;
    let own = new_own(id)?;
    let top = lock(top)?;
    let shared = match find(top.as_fd(), ATTACH_LSM_CGROUP, |name| name == FREE)? {
        Some(free) => shared_of(free)?,
        None => {
            let shared = new_shared(&own.counts, MOST_OTHERS)?;
            attach(top.as_fd(), &load_free(kernel, &shared)?, ATTACH_LSM_CGROUP, None)?;
            shared
        }
    };
    maps::write(&shared.owners, id, own.counts.as_raw_fd())?;
    attach(cgroup, &load_alloc(kernel, &own, &shared)?, ATTACH_LSM_CGROUP, None)
}

/// Forgets cgroups that are gone, and with the last of them takes the program from the top.
pub fn forget_files(top: &Path) -> SysResult<()> {
    let top = lock(top)?;
    let Some(free) = find(top.as_fd(), ATTACH_LSM_CGROUP, |name| name == FREE)? else { return Ok(()) };
    let program = free.fd.try_clone().at("duplicate", FREE)?;
    let owners = shared_of(free)?.owners;
    let mut any_left = false;
    for id in maps::keys::<u64>(&owners)? {
        if is_there(&top, id) {
            any_left = true;
        } else {
            maps::delete(&owners, id)?;
        }
    }
    if any_left { Ok(()) } else { detach(top.as_fd(), &program, ATTACH_LSM_CGROUP) }
}

/// Whether there is a cgroup with this id.
fn is_there(top: &OwnedFd, id: u64) -> bool {
    #[repr(C)]
    struct Handle {
        bytes: c_uint,
        kind: i32,
        id: [u8; 8],
    }
    const FILEID_KERNFS: i32 = 0xfe;
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the handle starts like struct file_handle, and is as long as it says.
    let fd = unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, top.as_raw_fd(), std::ptr::from_mut(&mut handle), flags)
    };
    match i32::try_from(fd) {
        Ok(fd) if fd >= 0 => {
            drop(own(fd));
            true
        }
        _ => std::io::Error::last_os_error().raw_os_error() != Some(libc::ESTALE),
    }
}

/// A map of the cgroup's program, by the size of its values; none where files are not counted.
fn map_of(cgroup: impl AsFd, value_size: usize) -> SysResult<Option<OwnedFd>> {
    let Some(alloc) = find(cgroup.as_fd(), ATTACH_LSM_CGROUP, |name| name == ALLOC)? else { return Ok(None) };
    maps::of_program(alloc, value_size)
}

/// Refuses files above so many; those that are open stay so.
pub fn set_file_barrier(cgroup: impl AsFd, barrier: Option<u64>) -> SysResult<()> {
    // The program names its bound before the other map with values of eight bytes.
    let map = map_of(cgroup, size_of::<u64>())?;
    let map = map.ok_or_else(|| SysError::refused("bound", "files", "nothing counts them"))?;
    maps::write(&map, 0_u32, barrier.unwrap_or(u64::MAX))
}

/// The bound in force, if there is one.
pub fn file_barrier(cgroup: impl AsFd) -> SysResult<Option<u64>> {
    let Some(map) = map_of(cgroup, size_of::<u64>())? else { return Ok(None) };
    Ok(Some(maps::read::<_, u64>(&map, 0_u32)?).filter(|barrier| *barrier != u64::MAX))
}

/// What was counted on this cgroup; none where nothing counts.
pub fn file_count(cgroup: impl AsFd) -> SysResult<Option<Count>> {
    map_of(cgroup, size_of::<Count>())?.map(|map| maps::read(&map, 0_u32)).transpose()
}
