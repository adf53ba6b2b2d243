//! The filesystem steps that the spool takes, one method each, and the real filesystem.
//!
//! Everything durable goes through [`Storage`], so that a test can count the steps, break any of them and cut the
//! power after it. The trait decides nothing: order, retries and meaning belong to the callers.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FallocateFlags, RenameFlags};
use rustix::io::Errno;

use super::holder::{Holder, holder};

/// A directory of files. Names are plain file names.
pub trait Storage: Send + Sync + 'static {
    /// An open file.
    type File: StoredFile;
    /// Exclusive ownership of the directory, given up when dropped.
    type Lock: Send + Sync + 'static;

    /// Makes the directory if it is not there and locks it; `None` if it has another owner.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn lock(&self) -> io::Result<Option<Self::Lock>>;

    /// Names of the files in the directory, in any order.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates a file for reading and writing that must not exist.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the filesystem says.
    fn create_new(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `NotFound`, or whatever the filesystem says.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or whatever the filesystem says.
    fn open_writable(&self, name: &str) -> io::Result<Self::File>;

    /// Renames a file to a name that must be free.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the filesystem says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a name.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn unlink(&self, name: &str) -> io::Result<()>;

    /// Makes the names in the directory durable.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn sync_directory(&self) -> io::Result<()>;

    /// Bytes that may still be allocated on the volume.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn free_bytes(&self) -> io::Result<u64>;

    /// Whether `name` still names exactly this open file.
    ///
    /// # Errors
    /// Whatever the filesystem says; a missing name is `Ok(false)`.
    fn is_linked(&self, name: &str, file: &Self::File) -> io::Result<bool>;
}

/// An open file. Positions are explicit, so that it can be shared between threads.
pub trait StoredFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes a prefix of `bytes` and says how long it was.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Reserves `bytes` from the start on, as zeros, so that writing there needs no more space.
    ///
    /// # Errors
    /// `StorageFull`, or whatever the filesystem says.
    fn allocate(&self, bytes: u64) -> io::Result<()>;

    /// Gives back what lies beyond `bytes`.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn shorten(&self, bytes: u64) -> io::Result<()>;

    /// Makes what was written durable.
    ///
    /// # Errors
    /// Whatever the filesystem says. After an error, what was written since the last success may be lost although
    /// it can still be read, and a second call that succeeds proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// Whatever the filesystem says.
    fn length(&self) -> io::Result<u64>;
}

/// Reads `length` bytes at `offset`, fewer only if the file ends.
pub(super) fn read_fully(file: &impl StoredFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count.min(length - filled),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Writes all of `bytes` at `offset`, however many short writes it takes.
pub(super) fn write_fully(file: &impl StoredFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                offset += count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A directory on a local filesystem: 0700, with files of 0600.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`, which need not exist before it is locked.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks the directory as it is, without making or changing anything; `None` if it has another owner.
    ///
    /// # Errors
    /// `NotFound`, or whatever the filesystem says.
    pub fn hold(&self) -> io::Result<Option<File>> {
        let directory = File::open(&self.path)?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(directory)),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether this process may make files in the directory, or make the directory itself; nothing is made or changed.
    /// `false` if it is not there yet.
    ///
    /// # Errors
    /// `NotADirectory`, `PermissionDenied`, `ReadOnlyFilesystem`, or whatever else the filesystem says.
    pub fn try_access(&self) -> io::Result<bool> {
        let there = self.path.ancestors().find(|path| path.symlink_metadata().is_ok()).unwrap_or(Path::new("."));
        if !fs::metadata(there)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let access = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
        // As the user that the process acts for, who need not be the one that began it.
        rustix::fs::accessat(CWD, there, access, AtFlags::EACCESS)?;
        Ok(there == self.path)
    }

    /// The process that is seen to own the directory. There may be one that is not seen.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        holder(&self.path)
    }
}

impl Storage for Directory {
    type File = File;
    type Lock = File;

    fn lock(&self) -> io::Result<Option<File>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        if fs::metadata(&self.path)?.mode() & 0o077 != 0 {
            fs::set_permissions(&self.path, Permissions::from_mode(0o700))?;
        }
        // A new directory must outlive a power cut as well, or its segments would go with it.
        if let Some(parent) = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            File::open(parent)?.sync_all()?;
        }
        self.hold()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create_new(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(self.path.join(name))
    }

    fn open(&self, name: &str) -> io::Result<File> {
        File::open(self.path.join(name))
    }

    fn open_writable(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(self.path.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path.join(from), self.path.join(to));
        match rustix::fs::renameat_with(CWD, &from, CWD, &to, RenameFlags::NOREPLACE) {
            // Some filesystems know no exclusive rename; the directory lock makes a look beforehand enough there.
            Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_ok() => Err(ErrorKind::AlreadyExists.into()),
            Err(Errno::INVAL | Errno::NOSYS) => fs::rename(&from, &to),
            other => Ok(other?),
        }
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let volume = rustix::fs::statvfs(&self.path)?;
        Ok(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    fn is_linked(&self, name: &str, file: &File) -> io::Result<bool> {
        match self.path.join(name).symlink_metadata() {
            Ok(named) => {
                let open = file.metadata()?;
                Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl StoredFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        static ZEROS: [u8; 1 << 16] = [0; 1 << 16];
        match rustix::fs::fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // Written zeros are the next best thing where space cannot be reserved.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let mut offset = 0;
                while offset < bytes {
                    let count = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZEROS.len());
                    write_fully(self, ZEROS.get(..count).unwrap_or_default(), offset)?;
                    offset += count as u64;
                }
                Ok(())
            }
            other => Ok(other?),
        }
    }

    fn shorten(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}
