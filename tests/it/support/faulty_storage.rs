//! A directory in memory that breaks on demand.
//!
//! It keeps apart what the page cache shows and what the disk holds, sector by sector, and names apart from files.
//! A crash lets every unsynced sector and every unsynced name survive or not, each for itself. A failed sync marks
//! its sectors clean whether they reached the disk or not, as Linux does, and may let the cache forget them. Every
//! step is counted and can be made to fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use recording_bridge::spool::{Storage, StoredFile};

use super::random::Random;

/// Small, so that small frames, headers and slots tear.
const SECTOR: usize = 32;

/// What happens at a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The power fails during the step: it may take effect, and it and everything after it returns an error.
    Crash,
    /// EIO.
    Error,
    /// ENOSPC where the step changes something; nothing elsewhere.
    NoSpace,
    /// Half of a read or write; nothing elsewhere.
    Short,
}

/// What survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Survival {
    /// The process died, the system did not: everything in the cache.
    Cache,
    /// Only what was synced.
    Synced,
    /// What was synced, and by chance any part of the rest.
    Chance(u64),
}

#[derive(Debug, Default, Clone)]
struct Inode {
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
enum NameStep {
    Add(String, usize),
    Remove(String),
    Rename(String, String, usize),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a test")]
struct Disk {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_steps: Vec<NameStep>,
    locked: bool,
    steps: u64,
    plan: BTreeMap<u64, Trouble>,
    /// ENOSPC for every step that allocates.
    full: bool,
    free_bytes: u64,
    dead: bool,
    had_error: bool,
    ever_failed_to_sync: bool,
    log: Vec<String>,
    random: Random,
}

/// See the module. Clones share the disk.
#[derive(Debug, Clone)]
pub(crate) struct FaultyStorage(Arc<Mutex<Disk>>);

#[derive(Debug)]
pub(crate) struct FaultyFile {
    storage: FaultyStorage,
    inode: usize,
}

#[derive(Debug)]
pub(crate) struct FaultyLock(FaultyStorage);

impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.0.disk().locked = false;
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn no_space() -> io::Error {
    io::Error::from_raw_os_error(28)
}

impl FaultyStorage {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Disk {
            inodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_steps: Vec::new(),
            locked: false,
            steps: 0,
            plan: BTreeMap::new(),
            full: false,
            free_bytes: u64::MAX,
            dead: false,
            had_error: false,
            ever_failed_to_sync: false,
            log: Vec::new(),
            random: Random::new(seed),
        })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// Plans trouble for the given step, counted from the first ever.
    pub(crate) fn plan(&self, step: u64, trouble: Trouble) {
        self.disk().plan.insert(step, trouble);
    }

    /// No more trouble.
    pub(crate) fn heal(&self) {
        let mut disk = self.disk();
        disk.plan.clear();
        disk.full = false;
        disk.free_bytes = u64::MAX;
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    pub(crate) fn set_free_bytes(&self, bytes: u64) {
        self.disk().free_bytes = bytes;
    }

    pub(crate) fn steps(&self) -> u64 {
        self.disk().steps
    }

    /// Whether an error was injected since it was last forgotten.
    pub(crate) fn had_error(&self) -> bool {
        self.disk().had_error
    }

    /// Whether a sync ever failed.
    pub(crate) fn ever_failed_to_sync(&self) -> bool {
        self.disk().ever_failed_to_sync
    }

    pub(crate) fn forget_error(&self) {
        self.disk().had_error = false;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.disk().dead
    }

    /// Steps since the last call, as text.
    pub(crate) fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.disk().log)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.disk().names.keys().cloned().collect()
    }

    /// Changes the bytes of a file, on disk and in the cache.
    pub(crate) fn edit(&self, name: &str, edit: impl Fn(&mut Vec<u8>)) {
        let mut disk = self.disk();
        let inode = disk.names[name];
        edit(&mut disk.inodes[inode].cached);
        edit(&mut disk.inodes[inode].durable);
    }

    /// Copies a file in from elsewhere.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let inode = disk.inodes.len();
        disk.inodes.push(Inode { cached: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        disk.names.insert(name.to_owned(), inode);
        disk.durable_names.insert(name.to_owned(), inode);
    }

    pub(crate) fn get(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.inodes[disk.names[name]].cached.clone()
    }

    /// The bytes of a file that a crash would leave, none if it would take the name.
    pub(crate) fn durable(&self, name: &str) -> Vec<u8> {
        let disk = self.disk();
        disk.durable_names.get(name).map(|inode| disk.inodes[*inode].durable.clone()).unwrap_or_default()
    }

    /// Removes a file behind everybody's back.
    pub(crate) fn remove(&self, name: &str) {
        let mut disk = self.disk();
        disk.names.remove(name);
        disk.durable_names.remove(name);
    }

    /// The disk as the next process finds it. Handles of the dead one must be gone.
    pub(crate) fn restart(&self, survival: Survival) {
        let mut disk = self.disk();
        disk.dead = false;
        disk.locked = false;
        let mut random = match survival {
            Survival::Cache => return,
            Survival::Synced => None,
            Survival::Chance(seed) => Some(Random::new(seed)),
        };
        let mut survives = || random.as_mut().is_some_and(|random| random.one_in(2));
        for step in std::mem::take(&mut disk.name_steps) {
            if survives() {
                apply(&mut disk.durable_names, step);
            }
        }
        for inode in &mut disk.inodes {
            for sector in std::mem::take(&mut inode.dirty) {
                if survives() {
                    persist(inode, sector);
                }
            }
            inode.cached.clone_from(&inode.durable);
        }
        disk.names = disk.durable_names.clone();
    }

    /// Counts a step and says what is to happen at it.
    fn step(&self, what: &str) -> (MutexGuard<'_, Disk>, Option<Trouble>) {
        let mut disk = self.disk();
        if disk.dead {
            return (disk, Some(Trouble::Crash));
        }
        let step = disk.steps;
        disk.steps += 1;
        let trouble = disk.plan.get(&step).copied();
        disk.log.push(trouble.map_or_else(|| what.to_owned(), |trouble| format!("{what}: {trouble:?}")));
        disk.had_error |= trouble == Some(Trouble::Error);
        disk.ever_failed_to_sync |= trouble == Some(Trouble::Error) && what == "sync";
        (disk, trouble)
    }

    /// A step that changes nothing.
    fn look(&self, what: &str) -> io::Result<MutexGuard<'_, Disk>> {
        let (mut disk, trouble) = self.step(what);
        match trouble {
            Some(Trouble::Crash) => {
                disk.dead = true;
                Err(eio())
            }
            Some(Trouble::Error) => Err(eio()),
            Some(Trouble::NoSpace | Trouble::Short) | None => Ok(disk),
        }
    }

    /// A step that changes something: `change` runs, or not, as the trouble wants it.
    fn change<T>(&self, what: &str, allocates: bool, change: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let (mut disk, trouble) = self.step(what);
        let was_dead = disk.dead;
        match trouble {
            Some(Trouble::Crash) => {
                disk.dead = true;
                if !was_dead && disk.random.one_in(2) {
                    change(&mut disk).ok();
                }
                Err(eio())
            }
            Some(Trouble::Error) => {
                if disk.random.one_in(2) {
                    change(&mut disk).ok();
                }
                Err(eio())
            }
            // A directory may need a block for a name, and a journal one for anything.
            Some(Trouble::NoSpace) => Err(no_space()),
            Some(Trouble::Short) | None if allocates && disk.full => Err(no_space()),
            Some(Trouble::Short) | None => change(&mut disk),
        }
    }
}

fn apply(names: &mut BTreeMap<String, usize>, step: NameStep) {
    match step {
        NameStep::Add(name, inode) => {
            names.insert(name, inode);
        }
        NameStep::Remove(name) => {
            names.remove(&name);
        }
        NameStep::Rename(from, to, inode) => {
            names.remove(&from);
            names.insert(to, inode);
        }
    }
}

fn name_step(disk: &mut Disk, step: NameStep) {
    apply(&mut disk.names, step.clone());
    disk.name_steps.push(step);
}

fn persist(inode: &mut Inode, sector: usize) {
    let from = sector * SECTOR;
    let to = (from + SECTOR).min(inode.cached.len());
    if inode.durable.len() < to {
        inode.durable.resize(to, 0);
    }
    inode.durable[from..to].copy_from_slice(&inode.cached[from..to]);
}

impl Storage for FaultyStorage {
    type File = FaultyFile;
    type Lock = FaultyLock;

    fn lock(&self) -> io::Result<Option<FaultyLock>> {
        let mut disk = self.look("lock")?;
        if disk.locked {
            return Ok(None);
        }
        disk.locked = true;
        drop(disk);
        Ok(Some(FaultyLock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.look("list")?.names.keys().cloned().collect())
    }

    fn create_new(&self, name: &str) -> io::Result<FaultyFile> {
        let inode = self.change(&format!("create {name}"), true, |disk| {
            if disk.names.contains_key(name) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            disk.inodes.push(Inode::default());
            let inode = disk.inodes.len() - 1;
            name_step(disk, NameStep::Add(name.to_owned(), inode));
            Ok(inode)
        })?;
        Ok(FaultyFile { storage: self.clone(), inode })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let inode = self.look(&format!("open {name}"))?.names.get(name).copied().ok_or(ErrorKind::NotFound)?;
        Ok(FaultyFile { storage: self.clone(), inode })
    }

    fn open_writable(&self, name: &str) -> io::Result<FaultyFile> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(&format!("rename {from} {to}"), false, |disk| {
            if disk.names.contains_key(to) {
                return Err(ErrorKind::AlreadyExists.into());
            }
            let inode = *disk.names.get(from).ok_or(ErrorKind::NotFound)?;
            name_step(disk, NameStep::Rename(from.to_owned(), to.to_owned(), inode));
            Ok(())
        })
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        self.change(&format!("unlink {name}"), false, |disk| {
            disk.names.get(name).ok_or(ErrorKind::NotFound)?;
            name_step(disk, NameStep::Remove(name.to_owned()));
            Ok(())
        })
    }

    fn sync_directory(&self) -> io::Result<()> {
        self.change("sync directory", false, |disk| {
            disk.name_steps.clear();
            disk.durable_names = disk.names.clone();
            Ok(())
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(self.look("free")?.free_bytes)
    }

    fn is_linked(&self, name: &str, file: &FaultyFile) -> io::Result<bool> {
        Ok(self.look("link")?.names.get(name) == Some(&file.inode))
    }
}

impl StoredFile for FaultyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let (mut disk, trouble) = self.storage.step("read");
        match trouble {
            Some(Trouble::Crash) => {
                disk.dead = true;
                return Err(eio());
            }
            Some(Trouble::Error) => return Err(eio()),
            Some(Trouble::NoSpace | Trouble::Short) | None => {}
        }
        let bytes = &disk.inodes[self.inode].cached;
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let mut count = buffer.len().min(bytes.len() - from);
        if trouble == Some(Trouble::Short) && count > 1 {
            count /= 2;
        }
        buffer[..count].copy_from_slice(&bytes[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let (mut disk, trouble) = self.storage.step("write");
        let was_dead = disk.dead;
        let count = match trouble {
            Some(Trouble::Crash | Trouble::Error) => {
                disk.dead |= trouble == Some(Trouble::Crash);
                if was_dead { 0 } else { usize::try_from(disk.random.below(bytes.len() as u64 + 1)).unwrap() }
            }
            Some(Trouble::Short) if bytes.len() > 1 => bytes.len() / 2,
            Some(Trouble::NoSpace) => return Err(no_space()),
            Some(Trouble::Short) | None => bytes.len(),
        };
        let inode = &mut disk.inodes[self.inode];
        let from = usize::try_from(offset).unwrap();
        if inode.cached.len() < from + count {
            inode.cached.resize(from + count, 0);
        }
        inode.cached[from..from + count].copy_from_slice(&bytes[..count]);
        if count > 0 {
            inode.dirty.extend(from / SECTOR..=(from + count - 1) / SECTOR);
        }
        match trouble {
            Some(Trouble::Crash | Trouble::Error) => Err(eio()),
            Some(Trouble::NoSpace | Trouble::Short) | None => Ok(count),
        }
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.storage.change("allocate", true, |disk| {
            let inode = &mut disk.inodes[self.inode];
            let length = usize::try_from(bytes).unwrap().max(inode.cached.len());
            inode.cached.resize(length, 0);
            inode.dirty.extend(0..length.div_ceil(SECTOR));
            Ok(())
        })
    }

    fn shorten(&self, bytes: u64) -> io::Result<()> {
        self.storage.change("shorten", false, |disk| {
            let inode = &mut disk.inodes[self.inode];
            // What is durable stays as long as it was until a crash shows it again, as it may.
            inode.cached.truncate(usize::try_from(bytes).unwrap());
            let sectors = inode.cached.len().div_ceil(SECTOR);
            inode.dirty.retain(|sector| *sector < sectors);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut disk, trouble) = self.storage.step("sync");
        if disk.dead {
            return Err(eio());
        }
        let failed = matches!(trouble, Some(Trouble::Crash | Trouble::Error));
        if trouble == Some(Trouble::Crash) {
            disk.dead = true;
        }
        let crash = disk.dead;
        let mut random = Random::new(disk.random.next());
        let inode = &mut disk.inodes[self.inode];
        let forget = random.one_in(2);
        for sector in inode.dirty.clone() {
            if !failed || random.one_in(2) {
                persist(inode, sector);
            }
        }
        if !crash {
            inode.dirty.clear();
        }
        if failed {
            if forget && !crash {
                let length = inode.cached.len();
                inode.cached.clone_from(&inode.durable);
                inode.cached.resize(length, 0);
            }
            return Err(eio());
        }
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.storage.look("length")?.inodes[self.inode].cached.len() as u64)
    }
}
