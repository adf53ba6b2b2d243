//! What the process knows stays in the process: no core files, and no other process of the same user may look inside.
//!
//! Keys and passwords are in memory while the bridge runs. Root may still look at it.

use std::io;

use rustix::process::{Resource, Rlimit, setrlimit};

/// Makes the process, and whatever it starts, leave no core file, and keeps other processes of the same user from
/// attaching to it and from reading its memory and environment.
///
/// The limit alone is not enough: it does not count where core files are piped to a program.
///
/// # Errors
/// If the system does not let us.
pub(crate) fn keep_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}
