//! A folder of secrets as Kubernetes mounts it: every file is a symbolic link into `..data`, which is a link itself and is
//! exchanged at once when the secret changes.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

pub(crate) struct Mounted {
    folder: TempDir,
    versions: Cell<u32>,
}

impl Mounted {
    pub(crate) fn with(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::Builder::new().prefix("recording-bridge-tests-").tempdir().unwrap();
        let mounted = Self { folder, versions: Cell::new(0) };
        mounted.replace(files);
        mounted
    }

    /// All files at once; each name must have been there from the beginning.
    pub(crate) fn replace(&self, files: &[(&str, &[u8])]) {
        let (folder, version) = (self.folder.path(), format!("..{}", self.versions.get()));
        self.versions.set(self.versions.get() + 1);
        fs::create_dir(folder.join(&version)).unwrap();
        for (name, content) in files {
            fs::write(folder.join(&version).join(name), content).unwrap();
        }
        symlink(version, folder.join("..data_new")).unwrap();
        fs::rename(folder.join("..data_new"), folder.join("..data")).unwrap();
        for (name, _) in files {
            if fs::symlink_metadata(folder.join(name)).is_err() {
                symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }
}
