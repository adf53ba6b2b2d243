//! Who holds the lock of a directory, as far as the kernel's table of locks tells.
//!
//! It only looks: taking the lock to find out would make a bridge fail that starts at that moment. It promises
//! nothing: a process in another container, or on a filesystem that numbers its devices differently, is not seen.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{major, minor};

/// The table of locks.
const LOCKS: &str = "/proc/locks";

/// A process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub process: u32,
    /// Its name, if it may be known.
    pub name: Option<String>,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "process {}", self.process)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(formatter, " ({name})"))
    }
}

/// The process that is seen to hold the lock of the directory at `path`.
pub(super) fn holder(path: &Path) -> Option<Holder> {
    let directory = fs::metadata(path).ok()?;
    let device = (major(directory.dev()), minor(directory.dev()));
    let process = find(&fs::read_to_string(LOCKS).ok()?, device, directory.ino())?;
    Some(Holder { process, name: name(process) })
}

/// The name of the program; the one that the kernel keeps for a process is cut off after 15 bytes.
fn name(process: u32) -> Option<String> {
    let line = fs::read(format!("/proc/{process}/cmdline")).ok()?;
    let program = line.split(|byte| *byte == 0).next()?;
    let name = Path::new(std::str::from_utf8(program).ok()?).file_name()?;
    name.to_str().map(str::to_owned)
}

/// The holder of a lock of the whole file `inode` on `device`, in a table such as
/// `1: FLOCK  ADVISORY  WRITE 24805 fe:00:5505113 0 EOF`. Those that wait for it have an arrow behind the number.
fn find(table: &str, (major, minor): (u32, u32), inode: u64) -> Option<u32> {
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        (fields.next() == Some("FLOCK")).then_some(())?;
        let process = fields.nth(2)?;
        (fields.next() == Some(file.as_str())).then(|| process.parse().ok().filter(|process| *process > 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "1: POSIX  ADVISORY  WRITE 11 fe:00:5505113 0 EOF\n\
        1: -> FLOCK  ADVISORY  WRITE 12 fe:00:5505113 0 EOF\n\
        2: FLOCK  ADVISORY  WRITE 13 fe:00:55051130 0 EOF\n\
        3: FLOCK  ADVISORY  WRITE 14 fe:01:5505113 0 EOF\n\
        4: FLOCK  ADVISORY  WRITE 15 fe:00:5505113 0 EOF\n\
        5: FLOCK  ADVISORY  WRITE 0 08:10:7 0 EOF\n";

    #[test]
    fn the_holder_is_the_process_whose_lock_is_of_this_very_file() {
        assert_eq!(find(TABLE, (0xfe, 0), 5_505_113), Some(15));
        assert_eq!(find(TABLE, (0xfe, 0), 5), None);
        // Its holder lives where we cannot see it.
        assert_eq!(find(TABLE, (8, 16), 7), None);
        assert_eq!(find("nonsense\n\n", (8, 16), 7), None);
    }
}
