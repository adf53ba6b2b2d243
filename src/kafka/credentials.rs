//! What the files of `kafka.tls` and `kafka.sasl` hold.
//!
//! librdkafka reads none of them: they are read here, judged and kept, and every client is made of what was last found
//! usable. So a file that is being rewritten, empty or damaged changes nothing, and a producer that has to be replaced
//! then can be. It promises that nothing here shows a secret in `Debug`, and that what is held here is wiped. The copies
//! that a client is made of are librdkafka's and its wrapper's, and those do not wipe them.

use std::fs::{self, File};
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
    // A pipe or a device would be waited for, or read, without end.
    if !fs::metadata(file).map_err(said)?.is_file() {
        return Err("is no regular file".to_owned());
    }
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

/// Contents, and how many changes there were before them.
type Version = (u64, Arc<Contents>);

/// What the files hold, for everything that makes clients.
#[derive(Debug)]
pub(super) struct Credentials {
    versions: Mutex<Versions>,
}

#[derive(Debug)]
struct Versions {
    /// The newest that can be used, as far as that can be told without a broker.
    newest: Version,
    /// What producers are made of.
    taken: Version,
}

impl Credentials {
    pub(super) fn read(config: &Config) -> Result<Self, StartError> {
        let first = (0, Arc::new(Contents::read(config)?));
        Ok(Self { versions: Mutex::new(Versions { newest: first.clone(), taken: first }) })
    }

    fn lock(&self) -> MutexGuard<'_, Versions> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The version that producers are made of.
    pub(super) fn revision(&self) -> u64 {
        self.lock().taken.0
    }

    /// What producers are made of.
    pub(super) fn contents(&self) -> Arc<Contents> {
        Arc::clone(&self.lock().taken.1)
    }

    /// What the files held when they could be used last.
    pub(super) fn newest(&self) -> Arc<Contents> {
        Arc::clone(&self.lock().newest.1)
    }

    /// Makes producers of the newest contents from now on, if that is still `revision`.
    pub(super) fn take(&self, revision: u64) {
        let mut versions = self.lock();
        if versions.newest.0 == revision {
            versions.taken = versions.newest.clone();
        }
    }

    /// Reads the files again. What has changed is the newest if a client could be made of it, by `try_client`. Producers
    /// go on with what was taken.
    pub(super) fn look(&self, config: &Config, try_client: impl Fn(&Contents) -> Result<(), StartError>) -> Look {
        let known = self.newest();
        let read = Contents::read(config);
        match read.and_then(|found| if found == *known { Ok(None) } else { try_client(&found).map(|()| Some(found)) }) {
            Ok(None) => Look::Usable(self.lock().newest.0),
            Ok(Some(found)) => {
                let mut versions = self.lock();
                // Whoever takes a change back has changed nothing.
                versions.newest = if found == *versions.taken.1 {
                    versions.taken.clone()
                } else {
                    (versions.newest.0.max(versions.taken.0) + 1, Arc::new(found))
                };
                Look::Usable(versions.newest.0)
            }
            Err(error) => Look::Unusable(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::symm::Cipher;
    use openssl::x509::X509;
    use tempfile::TempDir;

    use super::super::{LibrdkafkaProducers, Producers as _, SaslConfig, SaslMechanism, TlsConfig};
    use super::*;

    const PASSWORD: &str = "correct-horse-battery";

    fn pair() -> (Vec<u8>, PKey<Private>) {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut builder = X509::builder().unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        (builder.build().to_pem().unwrap(), key)
    }

    /// Good files of every kind.
    struct Files {
        folder: TempDir,
        config: Config,
    }

    impl Files {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = |name: &str| folder.path().join(name);
            let mut config = Config::new(vec!["127.0.0.1:1".to_owned()], "topic".to_owned());
            config.tls = Some(TlsConfig {
                ca_file: Some(path("ca.pem")),
                certificate_file: Some(path("tls.crt")),
                key_file: Some(path("tls.key")),
            });
            config.sasl = Some(SaslConfig {
                mechanism: SaslMechanism::ScramSha512,
                username: "user".to_owned(),
                password_file: path("password"),
            });
            let files = Self { folder, config };
            let (certificate, key) = pair();
            files.put("ca.pem", &[certificate.clone(), pair().0].concat());
            files.put("tls.crt", &certificate);
            files.put("tls.key", &key.private_key_to_pem_pkcs8().unwrap());
            files.put("password", format!("{PASSWORD}\r\n").as_bytes());
            files
        }

        fn put(&self, name: &str, content: &[u8]) {
            fs::write(self.folder.path().join(name), content).unwrap();
        }
    }

    #[test]
    fn files_that_cannot_be_used_are_named_and_change_nothing() {
        let files = Files::new();
        let producers = LibrdkafkaProducers::new(&files.config).unwrap();
        assert_eq!(producers.look(), Look::Usable(0));
        let (other, key) = pair();
        let locked = key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
        let damaged = String::from_utf8([other.clone(), other.clone()].concat()).unwrap();
        let last = damaged.rfind("BEGIN CERTIFICATE-----").unwrap() + 60;
        let damaged = [&damaged.as_bytes()[..last], b"####", &damaged.as_bytes()[last + 4..]].concat();
        let too_long = vec![b'x'; 1 << 20 | 1];
        for (name, content, words) in [
            ("password", b"\n".as_slice(), "holds no password"),
            ("password", b"", "holds no password"),
            ("password", b"two\nlines", "more than one line"),
            ("password", b"\xff\xfe", "is not UTF-8"),
            ("password", &too_long, "is longer than"),
            ("ca.pem", b"no authority", "holds no certificate"),
            ("ca.pem", b"", "holds no certificate"),
            ("ca.pem", &damaged, "not all of the 2 certificate(s)"),
            ("tls.crt", b"\0", "is no text"),
            ("tls.key", b"-----BEGIN PRIVATE KEY-----", "holds no private key"),
            ("tls.key", &locked, "holds a key with a password"),
            ("tls.key", &key.private_key_to_pem_pkcs8().unwrap(), "does not belong to the certificate"),
            ("tls.crt", &other, "does not belong to the certificate"),
        ] {
            let good = fs::read(files.folder.path().join(name)).unwrap();
            files.put(name, content);
            let Look::Unusable(fault) = producers.look() else { panic!("{name} with {content:?}") };
            assert!(fault.contains(words) && fault.contains(files.folder.path().to_str().unwrap()), "{fault}");
            assert!(producers.check().is_ok(), "a producer can be made all the same");
            files.put(name, &good);
            assert_eq!(producers.look(), Look::Usable(0), "{name}");
        }
        fs::remove_file(files.folder.path().join("password")).unwrap();
        assert!(matches!(producers.look(), Look::Unusable(_)));
        assert_eq!(producers.revision(), 0);
    }

    #[test]
    fn what_has_changed_is_taken_and_counts_for_dead_letters_too() {
        let files = Files::new();
        let producers = LibrdkafkaProducers::new(&files.config).unwrap();
        let letters = producers.for_dead_letters();
        files.put("password", b"another");
        assert_eq!((producers.look(), letters.revision()), (Look::Usable(1), 0));
        assert_eq!(producers.credentials.contents().password(), Some(PASSWORD), "nobody has tried the new one");
        producers.take(1);
        assert_eq!((letters.revision(), letters.credentials.contents().password()), (1, Some("another")));
        files.put("password", b"mistyped");
        assert_eq!(producers.look(), Look::Usable(2));
        files.put("password", b"another");
        assert_eq!(producers.look(), Look::Usable(1), "it was taken back");
        let (certificate, key) = pair();
        files.put("tls.crt", &certificate);
        assert!(matches!(producers.look(), Look::Unusable(_)), "between two writes they do not fit");
        files.put("tls.key", &key.private_key_to_pem_pkcs8().unwrap());
        assert_eq!(producers.look(), Look::Usable(2));
        producers.take(1);
        assert_eq!(producers.revision(), 1, "what is not the newest any more is not taken");
        producers.take(2);
        assert_eq!((producers.revision(), producers.credentials.contents().password()), (2, Some("another")));
    }

    #[test]
    fn no_secret_is_ever_shown() {
        let files = Files::new();
        let producers = LibrdkafkaProducers::new(&files.config).unwrap();
        let contents = Contents::read(&files.config).unwrap();
        assert_eq!(contents.password(), Some(PASSWORD));
        let shown = format!("{:?} {producers:?} {contents:?} {:?}", files.config, producers.credentials);
        assert!(!shown.contains(PASSWORD) && !shown.contains(&format!("{:?}", PASSWORD.as_bytes())), "{shown}");
        assert!(!shown.contains("BEGIN") && !shown.contains("[45, 45"), "{shown}");
    }

    #[test]
    fn a_list_of_revocations_brings_no_authorities() {
        let mut files = Files::new();
        files.put("crl.pem", &pair().0);
        let path = files.folder.path().join("crl.pem").to_str().unwrap().to_owned();
        files.config.properties.insert(REVOCATIONS.to_owned(), path);
        let error = Contents::read(&files.config).unwrap_err();
        assert!(error.to_string().contains("holds certificates"), "{error}");
    }
}
