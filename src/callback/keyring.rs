//! The active callback keys and what each is good for.

use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::{fmt, fs, io, str};

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Config, KeyConfig};

/// Longest key that the provider's console accepts, in characters.
const KEY_LENGTH_MAX: usize = 32;

/// What a key is good for. An empty list means everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Accounts.
    pub app_ids: Vec<u64>,
    /// Push domains.
    pub push_domains: Vec<String>,
}

/// A named key. Its bytes are wiped when it goes, and never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key {
    #[zeroize(skip)]
    name: String,
    secret: Vec<u8>,
    #[zeroize(skip)]
    scope: Scope,
}

impl Key {
    /// A key by its name, its bytes and what it is good for.
    #[must_use]
    pub fn new(name: &str, secret: &str, scope: Scope) -> Self {
        Self { name: name.to_owned(), secret: secret.as_bytes().to_vec(), scope }
    }

    /// Name in metrics and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Length in characters, for `check`.
    #[must_use]
    pub fn length(&self) -> usize {
        self.secret.len()
    }

    pub(super) fn secret(&self) -> &[u8] {
        &self.secret
    }

    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// Why a key file gives no key. The text never holds the file's content.
#[derive(Debug)]
pub enum KeyError {
    /// The file cannot be read.
    Unreadable(io::Error),
    /// Nothing in it.
    Empty,
    /// Something other than ASCII letters and digits in it.
    NotAlphanumeric,
    /// Fewer characters than the configured minimum.
    TooShort(usize),
    /// More characters than the provider's console accepts.
    TooLong(usize),
}

impl fmt::Display for KeyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => write!(formatter, "the key file cannot be read: {error}"),
            Self::Empty => formatter.write_str("the key file is empty"),
            Self::NotAlphanumeric => {
                formatter.write_str("the key file holds something other than one word of ASCII letters and digits")
            }
            Self::TooShort(length) => write!(
                formatter,
                "the key has only {length} characters, which invites guessing; set a longer one in the provider's \
                 console, or lower callback.key_length_min"
            ),
            Self::TooLong(length) => {
                write!(formatter, "the key has {length} characters; the provider accepts {KEY_LENGTH_MAX} at most")
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// Reads the key that `config` names. White space around it is ignored, since editors and `echo` end files with a
/// line feed.
///
/// # Errors
/// If the file cannot be read, or holds something that is no key of the provider.
pub fn read_key(config: &KeyConfig, length_min: usize) -> Result<Key, KeyError> {
    let content = read(&config.file).map_err(KeyError::Unreadable)?;
    let text = str::from_utf8(&content).map_err(|_| KeyError::NotAlphanumeric)?;
    let secret = judge(text.trim(), length_min)?;
    let scope = Scope { app_ids: config.app_ids.clone(), push_domains: config.push_domains.clone() };
    Ok(Key::new(&config.name, secret, scope))
}

/// Most bytes that are read of a key file: no key is longer, and a mistaken path may lead anywhere.
const FILE_BYTES_MAX: usize = 4096;

/// The beginning of a file, wiped when it goes. The buffer is as long as it will ever be: one that grows leaves copies
/// of its content behind.
fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe or a device would be waited for, or read, without end.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    let mut file = fs::File::open(file)?;
    let mut content = Zeroizing::new(vec![0; FILE_BYTES_MAX]);
    let mut length = 0;
    while let Some(rest) = content.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    content.truncate(length);
    Ok(content)
}

fn judge(secret: &str, length_min: usize) -> Result<&str, KeyError> {
    match secret.len() {
        0 => Err(KeyError::Empty),
        _ if !secret.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Err(KeyError::NotAlphanumeric),
        length if length > KEY_LENGTH_MAX => Err(KeyError::TooLong(length)),
        length if length < length_min => Err(KeyError::TooShort(length)),
        _ => Ok(secret),
    }
}

/// What became of a key whose file was read again.
#[derive(Debug)]
pub enum Reread {
    /// The file holds the key that is in use.
    Same,
    /// The file holds another key.
    Changed,
    /// The file gives no key; the one in use stays.
    Rejected(KeyError),
}

/// Every active key.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    keys: Vec<Key>,
}

impl Keyring {
    /// Reads every key that `config` names.
    ///
    /// # Errors
    /// Every key file that gives no key, by the name of the key.
    pub fn read(config: &Config) -> Result<Self, Vec<(String, KeyError)>> {
        let (mut keys, mut faults) = (Vec::new(), Vec::new());
        for named in &config.keys {
            match read_key(named, config.key_length_min) {
                Ok(key) => keys.push(key),
                Err(error) => faults.push((named.name.clone(), error)),
            }
        }
        if faults.is_empty() { Ok(Self::new(keys)) } else { Err(faults) }
    }

    /// Reads every key file of `config` again. Each key changes on its own: one whose file is unusable stays as it was.
    /// What became of each is told in the order of the configuration, in which the keys of this ring must stand too.
    #[must_use]
    pub fn reread(&self, config: &Config) -> (Self, Vec<Reread>) {
        let again = |(named, old): (&KeyConfig, &Key)| match read_key(named, config.key_length_min) {
            Ok(key) if key.secret == old.secret => (old.clone(), Reread::Same),
            Ok(key) => (key, Reread::Changed),
            Err(error) => (old.clone(), Reread::Rejected(error)),
        };
        let (keys, found) = config.keys.iter().zip(&self.keys).map(again).unzip();
        (Self { keys }, found)
    }

    /// A ring of `keys`, in the order of the configuration.
    #[must_use]
    pub fn new(keys: Vec<Key>) -> Self {
        Self { keys }
    }

    /// The keys, in the order of the configuration.
    #[must_use]
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }
}

/// The keyring in use, replaced as a whole when key files change.
#[derive(Debug)]
pub struct ActiveKeyring(RwLock<Arc<Keyring>>);

impl ActiveKeyring {
    /// Begins with `keyring`.
    #[must_use]
    pub fn new(keyring: Keyring) -> Self {
        Self(RwLock::new(Arc::new(keyring)))
    }

    /// The keyring of this moment.
    #[must_use]
    pub fn current(&self) -> Arc<Keyring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts another keyring in use.
    pub fn replace(&self, keyring: Keyring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }
}
