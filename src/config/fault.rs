//! What is wrong with a configuration: every fault with its key, its line and a sentence saying what to write.
//!
//! A fault quotes keys, and values only once they have been understood as a duration, a size or a number. Whatever
//! else stands in the file may be a secret in the wrong place, and faults end up in logs.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The dotted path of the key (`callback.keys[0].name`); empty where the fault is the file's as a whole.
    pub path: String,
    /// The line in the file, from 1; `None` for what is not written there.
    pub line: Option<u32>,
    /// What is wrong, and what would be right.
    pub sentence: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(formatter, "{}: ", self.path)?;
        }
        formatter.write_str(&self.sentence)
    }
}

/// Everything that is wrong with one file, in the order of its lines; what has no line comes last. Never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    file: Option<PathBuf>,
    faults: Vec<Fault>,
}

impl Faults {
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by_key(|fault| fault.line.unwrap_or(u32::MAX));
        Self { file: None, faults }
    }

    /// The same faults, displayed with the name of their file.
    pub(super) fn of_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// The faults one by one.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.faults
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self::new(vec![fault])
    }
}

impl fmt::Display for Faults {
    /// One fault a line, as compilers write them: `config.yaml:12: kafka.ack_deadline: …`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(formatter)?;
            }
            match (&self.file, fault.line) {
                (Some(file), Some(line)) => write!(formatter, "{}:{line}: ", file.display())?,
                (Some(file), None) => write!(formatter, "{}: ", file.display())?,
                (None, Some(line)) => write!(formatter, "line {line}: ")?,
                (None, None) => {}
            }
            fault.fmt(formatter)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}
