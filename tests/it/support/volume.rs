//! A small volume of its own for a spool: ext4 in a file, on a loop device. It can be filled, made read-only, and made
//! to fail like a dying disk.
//!
//! A volume with files open for writing cannot be mounted read-only anew, and the device mapper is not there on every
//! machine. So both faults are made with ext4's immutable flag. On every file in the volume it refuses each write and
//! each change of a directory, through files that are open already too (EPERM): to a program the volume is read-only.
//! On the file that holds the volume it fails each write of the block device, as bad sectors would: the bridge gets a
//! true EIO from the kernel at its next sync. The volume has no journal, which would give up for good at the first
//! fault. The folder must be on ext4 itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// See the module. Unmounted at the end.
pub(crate) struct Volume {
    image: PathBuf,
    path: PathBuf,
}

impl Volume {
    /// A new one of 48 MiB in `folder`.
    pub(crate) fn mount(folder: &Path) -> Self {
        let (image, path) = (folder.join("disk.img"), folder.join("disk"));
        fs::create_dir(&path).unwrap();
        succeed(&format!("truncate -s 48M {}", image.display()));
        succeed(&format!("mkfs.ext4 -q -m 0 -O ^has_journal {}", image.display()));
        let volume = Self { image, path };
        volume.attach();
        volume
    }

    /// Everything that the system remembers of it is forgotten: afterwards it holds what its disk holds. Nobody may
    /// have a file open in it. As at a start of the machine, the file system is mended first.
    pub(crate) fn mount_again(&self) {
        succeed(&format!("umount {}", self.path.display()));
        // 1 says that something was mended.
        succeed(&format!("e2fsck -fy {} || [ $? -eq 1 ]", self.image.display()));
        self.attach();
    }

    fn attach(&self) {
        succeed(&format!("mount -o loop,errors=continue {} {}", self.image.display(), self.path.display()));
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it to the last byte.
    pub(crate) fn fill(&self) {
        let output = shell(&format!("cat /dev/zero > {}", self.path.join("filler").display()));
        assert!(String::from_utf8_lossy(&output.stderr).contains("No space"), "the disk is not full: {output:?}");
    }

    /// Nothing in it can be changed any more, until it can again.
    pub(crate) fn set_read_only(&self, read_only: bool) {
        succeed(&format!("chattr -R {} {}", if read_only { "+i" } else { "-i" }, self.path.display()));
    }

    /// Whatever is written to it fails, until it does not again. What was synced can be read.
    pub(crate) fn set_failing(&self, failing: bool) {
        succeed(&format!("chattr {} {}", if failing { "+i" } else { "-i" }, self.image.display()));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // An immutable file cannot be removed either. A failure here would hide the one that ended the test.
        drop(shell(&format!("chattr -i {}; chattr -R -i {}", self.image.display(), self.path.display())));
        drop(shell(&format!("umount -l {}", self.path.display())));
    }
}

fn shell(command: &str) -> Output {
    Command::new("sh").args(["-c", &format!("PATH=$PATH:/sbin:/usr/sbin; {command}")]).output().unwrap()
}

fn succeed(command: &str) {
    let output = shell(command);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command}: {said}\nA volume needs root, e2fsprogs, loop mounts and a folder on ext4."
    );
}
