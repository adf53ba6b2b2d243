//! What the files of `kafka.tls` and `kafka.sasl` hold.
//!
//! librdkafka reads none of them: they are read here, judged and kept, and every client is made of what was last found
//! usable. So a file that is being rewritten, empty or damaged changes nothing, and a producer that has to be replaced
//! then can be. It promises that nothing here shows a secret in `Debug`, and that what is held here is wiped. The copies
//! that a client is made of are librdkafka's and its wrapper's, and those do not wipe them.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zeroize::Zeroizing;

use super::{Config, Look, StartError, pem};

/// No password and no chain of certificates is longer.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The one pass-through property that names a file.
const REVOCATIONS: &str = "ssl.crl.location";

type Bytes = Zeroizing<Vec<u8>>;

/// The contents of the files at one time, all of them usable.
#[derive(Default, PartialEq, Eq)]
pub struct Contents {
    pub(super) authorities: Option<Bytes>,
    pub(super) certificate: Option<Bytes>,
    pub(super) key: Option<Bytes>,
    pub(super) password: Option<Bytes>,
    /// librdkafka reads this one itself; it is kept to see it change.
    revocations: Option<Bytes>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl Contents {
    /// Reads and judges every file that `config` names.
    ///
    /// # Errors
    /// A sentence on the first file that cannot be used. It never quotes what a file holds.
    pub fn read(config: &Config) -> Result<Self, StartError> {
        let tls = config.tls.as_ref();
        let named = |key: &str, file: Option<&Path>, judge: Judge<'_>| match file {
            None => Ok(None),
            Some(file) => match read(file).and_then(|bytes| judge(&bytes).map(|()| bytes)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(fault) => Err(StartError::new(format!("{key} {}: {fault}", file.display()))),
            },
        };
        let certificates = |bytes: &Bytes| pem::certificates(bytes).map(drop);
        let authorities = named("kafka.tls.ca_file", tls.and_then(|tls| tls.ca_file.as_deref()), &certificates)?;
        let own = tls.and_then(|tls| tls.certificate_file.as_deref());
        let certificate = named("kafka.tls.certificate_file", own, &certificates)?;
        let fits = |bytes: &Bytes| {
            let key = pem::private_key(bytes)?;
            match &certificate {
                Some(certificate) => pem::assert_pair(&pem::certificates(certificate)?, &key),
                None => Ok(()),
            }
        };
        let key = named("kafka.tls.key_file", tls.and_then(|tls| tls.key_file.as_deref()), &fits)?;
        let login = config.sasl.as_ref().map(|sasl| sasl.password_file.as_path());
        let password = named("kafka.sasl.password_file", login, &|bytes| password(bytes).map(drop))?;
        let revocations = config.properties.get(REVOCATIONS).map(Path::new);
        let judge = |bytes: &Bytes| pem::assert_only_revocations(bytes);
        let revocations = named("kafka.properties.ssl.crl.location", revocations, &judge)?;
        Ok(Self { authorities, certificate, key, password, revocations })
    }

    /// The password without the line end after it.
    pub(super) fn password(&self) -> Option<&str> {
        self.password.as_ref().and_then(|bytes| password(bytes).ok())
    }
}

type Judge<'a> = &'a dyn Fn(&Bytes) -> Result<(), String>;

fn read(file: &Path) -> Result<Bytes, String> {
    let said = |error: std::io::Error| error.to_string();
    let opened = File::open(file).map_err(said)?;
    let length = opened.metadata().map_err(said)?.len().min(FILE_BYTES_MAX);
    // Room for all of it, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 1));
    opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("is longer than {FILE_BYTES_MAX} bytes"));
    }
    Ok(bytes)
}

fn password(bytes: &[u8]) -> Result<&str, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err("holds no password".to_owned());
    }
    if text.contains(['\0', '\r', '\n']) {
        return Err("holds more than one line, or a zero byte: the password and nothing else belongs there".to_owned());
    }
    Ok(text)
}

/// The newest usable contents, for everything that makes clients.
#[derive(Debug)]
pub(super) struct Credentials {
    newest: Mutex<(u64, Arc<Contents>)>,
}

impl Credentials {
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        Ok(Self { newest: Mutex::new((0, Arc::new(Contents::read(config)?))) })
    }

    fn lock(&self) -> MutexGuard<'_, (u64, Arc<Contents>)> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn revision(&self) -> u64 {
        self.lock().0
    }

    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.lock().1)
    }

    /// Reads the files again. What has changed is taken if a client could be made of it, by `try_client`.
    pub(super) fn look(&self, config: &Config, try_client: impl Fn(&Contents) -> Result<(), StartError>) -> Look {
        let known = self.contents();
        let read = Contents::read(config);
        match read.and_then(|found| if found == *known { Ok(None) } else { try_client(&found).map(|()| Some(found)) }) {
            Ok(None) => Look::Usable(self.revision()),
            Ok(Some(found)) => {
                let mut newest = self.lock();
                newest.0 += 1;
                newest.1 = Arc::new(found);
                Look::Usable(newest.0)
            }
            Err(error) => Look::Unusable(error.to_string()),
        }
    }
}
