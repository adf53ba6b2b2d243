//! What can go wrong with a spool, as values. Delivery turns them into refusals and metrics.

use std::fmt;
use std::io;

use super::frame::TooLarge;

/// What the spool was doing when storage failed. A closed set, fit for a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Making a new segment, up to the name in the directory.
    CreateSegment,
    /// Writing frames.
    Write,
    /// Syncing frames.
    Sync,
    /// Looking whether the segment is still in its place.
    CheckOwner,
    /// Writing the watermark.
    Watermark,
    /// Removing a delivered segment, or setting a damaged one aside.
    Remove,
}

/// Why the spool cannot promise anything at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Storage failed, and nothing was acknowledged on its account. A probe that succeeds ends it.
    Storage {
        /// At what.
        operation: Operation,
        /// How.
        kind: io::ErrorKind,
        /// The error number of the operating system, where there is one.
        code: Option<i32>,
    },
    /// The segment is no longer in its place in the directory: somebody else acts as owner of this spool. Only a
    /// restart ends it. What was acknowledged can still be read and delivered by this process.
    Disowned,
    /// A sync has not come back in time, by the judgement of whoever called [`super::Monitor::report_hang`]. It ends
    /// with the first append or probe that succeeds.
    Hung,
}

impl Fault {
    pub(super) fn storage(operation: Operation, error: &io::Error) -> Self {
        Self::Storage { operation, kind: error.kind(), code: error.raw_os_error() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage { operation, kind, code } => {
                let doing = match operation {
                    Operation::CreateSegment => "making a segment",
                    Operation::Write => "writing frames",
                    Operation::Sync => "syncing frames",
                    Operation::CheckOwner => "checking the segment's place",
                    Operation::Watermark => "writing the watermark",
                    Operation::Remove => "removing a delivered segment",
                };
                write!(formatter, "storage failed at {doing}: {kind}")?;
                code.map_or(Ok(()), |code| write!(formatter, " (os error {code})"))
            }
            Self::Disowned => formatter.write_str("the spool's segment was removed or replaced by somebody else"),
            Self::Hung => formatter.write_str("a sync has not come back in time"),
        }
    }
}

/// Which limit leaves no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Full {
    /// `bytes_max` of the configuration.
    Cap,
    /// The volume: less than `disk_free_min` would be left, or nothing is.
    Disk,
}

impl fmt::Display for Full {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cap => "the spool has reached its size limit",
            Self::Disk => "the volume has too little free space",
        })
    }
}

/// Why a batch was not made durable. Nothing of it may be acknowledged; after [`AppendError::Unhealthy`] some of it
/// may nevertheless come to light after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendError {
    /// No room; nothing was written.
    Full(Full),
    /// The spool is at fault.
    Unhealthy(Fault),
    /// The batch breaks the contract; nothing was written.
    Invalid(Invalid),
}

/// How a batch can break the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// It has no frames, so there is nothing to prove.
    Empty,
    /// Sequences must rise by less than 2^48, and none may have been used before.
    Sequence {
        /// The one at fault.
        found: u64,
        /// The lowest that would do.
        expected_min: u64,
    },
    /// A message is larger than any frame.
    TooLarge {
        /// Sequence of the frame.
        sequence: u64,
        /// How large it is.
        size: TooLarge,
    },
}

impl fmt::Display for AppendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(full) => full.fmt(formatter),
            Self::Unhealthy(fault) => fault.fmt(formatter),
            Self::Invalid(Invalid::Empty) => formatter.write_str("a batch without frames"),
            Self::Invalid(Invalid::Sequence { found, expected_min }) => {
                write!(formatter, "sequence {found} where at least {expected_min} was due")
            }
            Self::Invalid(Invalid::TooLarge { sequence, size }) => write!(formatter, "frame {sequence}: {size}"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Why a spool was not opened.
#[derive(Debug)]
pub enum OpenError {
    /// Another process owns the directory.
    Owned,
    /// A file is of a later version of the format; an older program could only do harm.
    Newer {
        /// The file.
        file: String,
        /// Its version.
        version: u32,
    },
    /// The directory cannot be made, locked or listed.
    Directory(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owned => formatter.write_str("the spool directory is in use by another process"),
            Self::Newer { file, version } => write!(
                formatter,
                "{file} is written in format version {version}, and this program knows {} at most",
                super::segment::FORMAT_VERSION
            ),
            Self::Directory(error) => write!(formatter, "the spool directory cannot be used: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}
