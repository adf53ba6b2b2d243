//! The promises of TLS on the callback listener: whoever speaks TLS 1.2 or 1.3 has the same listener as without, with
//! the same limits; whoever does not gets nothing; and a certificate is replaced under load without costing a callback,
//! or, where it cannot be, visibly not.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use recording_bridge::callback::Scope;
use recording_bridge::event::Timestamp;
use recording_bridge::http::tls::{self, Pair, Tls};
use recording_bridge::metrics::Metrics;
use rustix::process::Signal;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
};

use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, PATIENCE, Program, Setup, ask, body, config_file, epoch_seconds,
    eventually, get, now, post, series, without_date,
};

const DAY: i64 = 24 * 60 * 60;

// --------------------------------------------------------------------------------------------------------- certificates

/// An authority, and a folder of pairs laid out as Kubernetes mounts a secret: what is read are links into `..data`,
/// which is a link itself and is exchanged as a whole.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
    versions: AtomicU64,
    /// Days of validity count from here.
    made: i64,
}

/// A certificate and its key, in PEM and, to be recognised, as the client sees it.
struct Issued {
    certificate: String,
    key: String,
    seen: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        Self { issuer, folder, versions: AtomicU64::new(0), made: epoch_seconds() }
    }

    /// A certificate for the bridge that is valid for these days.
    fn issue(&self, days: std::ops::Range<i64>) -> Issued {
        self.issue_for(days, &["bridge.example.com", "127.0.0.1"])
    }

    fn issue_for(&self, days: std::ops::Range<i64>, names: &[&str]) -> Issued {
        let mut params =
            CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let at = |days: i64| {
            let seconds = u64::try_from(self.made + days * DAY).unwrap();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        (params.not_before, params.not_after) = (at(days.start), at(days.end));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate: certificate.pem(), key: key.serialize_pem(), seen: certificate.der().clone() }
    }

    /// Puts a certificate and a key in place, both at once.
    fn mount(&self, certificate: &str, key: &str) {
        let folder = self.folder.path();
        let version = format!("..version-{}", self.versions.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(folder.join(&version)).unwrap();
        fs::write(folder.join(&version).join("tls.crt"), certificate).unwrap();
        fs::write(folder.join(&version).join("tls.key"), key).unwrap();
        std::os::unix::fs::symlink(&version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        for name in ["tls.crt", "tls.key"] {
            if fs::symlink_metadata(folder.join(name)).is_err() {
                std::os::unix::fs::symlink(format!("..data/{name}"), folder.join(name)).unwrap();
            }
        }
    }

    fn files(&self) -> tls::Config {
        let file = |name: &str| self.folder.path().join(name);
        tls::Config { certificate_file: file("tls.crt"), key_file: file("tls.key") }
    }

    fn authority_file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// What a client of these versions trusts and offers.
    fn client(&self, versions: &[&'static SupportedProtocolVersion], protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// An authority whose certificate is mounted, and a bridge that has it.
fn with_tls(broker: &Broker, change: impl FnOnce(&mut recording_bridge::config::Config)) -> (Authority, Bridge) {
    let authority = Authority::new();
    let issued = authority.issue(-1..90);
    authority.mount(&issued.certificate, &issued.key);
    let files = authority.files();
    let bridge = Setup::new(broker).with(|config| config.http.tls = Some(files)).with(change).start();
    (authority, bridge)
}

// --------------------------------------------------------------------------------------------------------------- client

/// One encrypted connection.
struct Encrypted {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Encrypted {
    /// Connects and ends the handshake, or says how it failed.
    fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Self, std::io::Error> {
        let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from("bridge.example.com").unwrap();
        let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut stream = StreamOwned::new(connection, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Self { stream })
    }

    fn certificate(&self) -> CertificateDer<'static> {
        self.stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    }

    /// Writes a request and reads its answer; an error if there is none.
    fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<String, std::io::Error> {
        self.stream.write_all(request.as_ref())?;
        self.stream.flush()?;
        self.answer()
    }

    /// Reads one answer; an error if there is none.
    fn answer(&mut self) -> Result<String, std::io::Error> {
        let mut come = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&come).into_owned();
            if let Some((head, rest)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
                if rest.len() >= length.parse::<usize>().unwrap() {
                    return Ok(without_date(&text));
                }
            }
            match self.stream.read(&mut buffer)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                length => come.extend_from_slice(&buffer[..length]),
            }
        }
    }

    /// Everything until the server closes the connection; whether it said farewell.
    fn rest(&mut self) -> (String, bool) {
        let (mut come, mut buffer) = (Vec::new(), [0; 4096]);
        let farewell = loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => break true,
                Ok(length) => come.extend_from_slice(&buffer[..length]),
                Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                    break false;
                }
                Err(error) => panic!("the answer cannot be read: {error}"),
            }
        };
        (String::from_utf8(come).unwrap(), farewell)
    }
}

const HANDSHAKE_FAILED: &str = "connection_faults_total{reason=\"handshake_failed\"}";
const HANDSHAKE_TOO_SLOW: &str = "connection_faults_total{reason=\"handshake_too_slow\"}";
const EVICTED: &str = "connections_evicted_total{reason=\"limit\"}";
const REFUSED: &str = "connections_refused_total{reason=\"limit\"}";
const NOT_AFTER: &str = "tls_certificate_not_after_timestamp_seconds";
const USABLE: &str = "tls_certificate_files_usable";
const TAKEN: &str = "tls_certificate_reloads_total{result=\"taken\"}";
const REJECTED: &str = "tls_certificate_reloads_total{result=\"rejected\"}";
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

/// Whether any connection ended by a fault.
fn faults(bridge: &Bridge) -> f64 {
    bridge.series().iter().filter(|(name, _)| name.contains("connection_faults_total")).map(|(_, value)| value).sum()
}

// ------------------------------------------------------------------------------------------------------------ handshakes

#[test]
fn each_version_gets_its_answer_and_comes_again_for_less() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |_| {});
    for (version, named) in [(&TLS12, ProtocolVersion::TLSv1_2), (&TLS13, ProtocolVersion::TLSv1_3)] {
        let config = authority.client(&[version], &["http/1.1"]);
        let mut first = Encrypted::connect(bridge.callbacks, &config).unwrap();
        for _ in 0..2 {
            assert_eq!(first.ask(post(body("encrypted"))).unwrap(), ACKNOWLEDGED);
        }
        assert_eq!(first.stream.conn.protocol_version(), Some(named));
        assert_eq!(first.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(first.stream.conn.handshake_kind(), Some(HandshakeKind::Full));
        let mut again = Encrypted::connect(bridge.callbacks, &config).unwrap();
        assert_eq!(again.ask(post(body("again"))).unwrap(), ACKNOWLEDGED);
        assert_eq!(again.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed), "{named:?}");
    }
    // Clients that leave without a farewell are no faults.
    bridge.counted("connections", 0.0);
    assert_eq!(faults(&bridge), 0.0);
    assert_eq!(broker.published(), 6);
}

#[test]
fn only_http_1_1_is_spoken() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |_| {});
    let refused = Encrypted::connect(bridge.callbacks, &authority.client(&BOTH, &["h2"])).err().expect("no handshake");
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    bridge.counted(HANDSHAKE_FAILED, 1.0);
    for (offered, chosen) in [(&["h2", "http/1.1"][..], Some(&b"http/1.1"[..])), (&[], None)] {
        let mut client = Encrypted::connect(bridge.callbacks, &authority.client(&BOTH, offered)).unwrap();
        assert_eq!(client.stream.conn.alpn_protocol(), chosen);
        assert_eq!(client.ask(post(body("chosen"))).unwrap(), ACKNOWLEDGED);
    }
    assert_eq!(bridge.metric(HANDSHAKE_FAILED), 1.0);
}

/// The first message of a client that speaks TLS 1.`minor` at most. Nothing else in it displeases.
fn hello_of_tls_1(minor: u8) -> Vec<u8> {
    let mut hello = vec![3, minor + 1];
    hello.extend([7; 32]);
    // No session; ECDHE-ECDSA with AES-128-GCM; no compression.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0]);
    // Extensions: ECDSA on P-256 with SHA-256; the group P-256; points as they are.
    hello.extend([0, 22, 0, 13, 0, 4, 0, 2, 4, 3, 0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 3, 1, 0, length + 4, 1, 0, 0, length];
    record.extend(hello);
    record
}

#[test]
fn whoever_speaks_no_tls_or_an_old_one_gets_no_answer_and_is_counted() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |_| {});
    let attempts = [post(body("plain")), get("/healthz").into_bytes(), hello_of_tls_1(1), vec![0; 300]];
    for (index, attempt) in attempts.iter().enumerate() {
        let mut client = bridge.client();
        client.write(attempt);
        let answer = client.rest();
        assert!(!answer.contains("HTTP"), "{answer}");
        #[expect(clippy::cast_precision_loss, reason = "a handful")]
        bridge.counted(HANDSHAKE_FAILED, (index + 1) as f64);
    }
    // It is the version that displeases ("protocol version", fatal): the same with TLS 1.2 is answered by a handshake.
    let mut old = bridge.client();
    old.write(hello_of_tls_1(1));
    assert_eq!(old.rest().as_bytes(), [0x15, 3, 3, 0, 2, 2, 70]);
    let mut young = bridge.client();
    young.write(hello_of_tls_1(2));
    young.finish();
    assert_eq!(young.rest().as_bytes()[0], 0x16);
    bridge.counted(HANDSHAKE_FAILED, 6.0);
    assert_eq!(bridge.metric("callbacks_received_total"), 0.0);
    // Who only looks whether the port is open is no fault, and who trusts another authority is one.
    let before = faults(&bridge);
    drop(bridge.client());
    bridge.counted("connections", 0.0);
    assert_eq!(faults(&bridge), before);
    let stranger = Authority::new().client(&BOTH, &[]);
    assert!(Encrypted::connect(bridge.callbacks, &stranger).is_err());
    bridge.counted(HANDSHAKE_FAILED, before + 1.0);
    let client = Encrypted::connect(bridge.callbacks, &authority.client(&BOTH, &[]));
    assert_eq!(client.unwrap().ask(post(body("still"))).unwrap(), ACKNOWLEDGED);
}

#[test]
fn operators_go_on_without_tls() {
    let broker = Broker::start();
    let (_authority, bridge) = with_tls(&broker, |_| {});
    assert_eq!(ask(bridge.admin, get("/ready")).status(), 200);
    assert!(ask(bridge.admin, get("/metrics")).body().contains("recording_bridge_tls_certificate_files_usable 1\n"));
}

#[test]
fn a_listener_without_tls_has_no_certificate_to_be_alarmed_by() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let series = bridge.series();
    assert!(!series.keys().any(|name| name.contains(NOT_AFTER) || name.contains(USABLE)), "{series:?}");
    assert_eq!(bridge.metric(REJECTED), 0.0);
}

// ---------------------------------------------------------------------------------------------------------------- limits

#[test]
fn a_handshake_that_never_ends_gives_its_place_back_and_keeps_nobody_out() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |config| {
        config.http.connections_max = 2;
        config.http.header_deadline = Duration::from_secs(1);
    });
    let config = authority.client(&BOTH, &[]);
    let silent = bridge.client();
    let mut half = bridge.client();
    let hello = hello_of_tls_1(2);
    half.write(&hello[..20]);
    bridge.counted("connections", 2.0);
    // They hold both places, and whoever is there for longest gives way.
    let mut client = Encrypted::connect(bridge.callbacks, &config).unwrap();
    assert_eq!(client.ask(post(body("beside"))).unwrap(), ACKNOWLEDGED);
    assert_eq!((bridge.metric(EVICTED), bridge.metric(REFUSED)), (1.0, 0.0));
    // The other one, or the first if its deadline came before the test got so far.
    eventually("a handshake ends by its deadline", || bridge.metric(HANDSHAKE_TOO_SLOW) >= 1.0);
    bridge.counted("connections", 0.0);
    let slow = bridge.metric(HANDSHAKE_TOO_SLOW);
    // Bytes that trickle do not make the deadline longer.
    let mut trickling = bridge.client();
    for byte in &hello {
        if bridge.metric(HANDSHAKE_TOO_SLOW) > slow {
            break;
        }
        trickling.write([*byte]);
        thread::sleep(Duration::from_millis(200));
    }
    bridge.counted(HANDSHAKE_TOO_SLOW, slow + 1.0);
    drop((silent, half));
}

#[test]
fn a_handshake_gives_way_in_its_turn_and_a_request_never() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |config| {
        config.http.connections_max = 2;
        // Nothing here ends by a deadline.
        config.http.header_deadline = Duration::from_secs(14);
    });
    let config = authority.client(&BOTH, &[]);
    let connect = || Encrypted::connect(bridge.callbacks, &config);
    let mut half = bridge.client();
    half.write(&hello_of_tls_1(2)[..20]);
    bridge.counted("connections", 1.0);
    let mut idle = connect().unwrap();
    assert_eq!(idle.ask(post(body("idle"))).unwrap(), ACKNOWLEDGED);
    // The handshake is older.
    let mut first = connect().unwrap();
    assert_eq!(half.rest(), "");
    broker.slow(Duration::from_secs(1));
    first.stream.write_all(&post(body("first"))).unwrap();
    bridge.counted("kafka_outstanding_messages", 1.0);
    assert_eq!((bridge.metric("connections"), bridge.metric(EVICTED)), (2.0, 1.0));
    let mut second = connect().unwrap();
    assert_eq!(idle.rest().0, "");
    second.stream.write_all(&post(body("second"))).unwrap();
    bridge.counted("kafka_outstanding_messages", 2.0);
    assert!(connect().is_err(), "two requests are under way");
    assert_eq!((bridge.metric(EVICTED), bridge.metric(REFUSED)), (2.0, 1.0));
    broker.slow(Duration::ZERO);
    for client in [&mut first, &mut second] {
        assert_eq!(client.answer().unwrap(), ACKNOWLEDGED);
    }
    assert_eq!(faults(&bridge), 0.0, "giving way is no fault");
}

#[test]
fn a_sender_that_pauses_behind_its_handshake_is_served_while_silent_connections_come_and_come() {
    const PLACES: u16 = 8;
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |config| {
        config.http.connections_max = PLACES.into();
        config.http.header_deadline = Duration::from_secs(14);
    });
    let mut silent: Vec<_> = (0..PLACES).map(|_| bridge.client()).collect();
    bridge.counted("connections", PLACES.into());
    for version in BOTH {
        let before = bridge.metric(EVICTED);
        let mut honest = Encrypted::connect(bridge.callbacks, &authority.client(&[version], &[])).unwrap();
        // Every other connection gives way once, all of them without a request.
        for turn in 1..PLACES {
            silent.push(bridge.client());
            bridge.counted(EVICTED, before + 1.0 + f64::from(turn));
        }
        assert_eq!(honest.ask(post(body("pause"))).unwrap(), ACKNOWLEDGED, "{version:?}");
        drop(honest);
        bridge.counted("connections", f64::from(PLACES) - 1.0);
        silent.push(bridge.client());
        bridge.counted("connections", PLACES.into());
    }
}

#[test]
fn a_greeting_without_end_is_broken_off_before_it_takes_memory() {
    let broker = Broker::start();
    let (_authority, bridge) = with_tls(&broker, |config| config.http.header_deadline = Duration::from_secs(14));
    let mut client = bridge.client();
    // A greeting that says it has 65,000 bytes, in records of 16 KiB; it is sent up to two thirds.
    let greeting = [vec![1, 0, 0xFD, 0xE8], vec![0; 65_000]].concat();
    let records = greeting.chunks(16_384).take(3).flat_map(|part| {
        let length = u16::try_from(part.len()).unwrap().to_be_bytes();
        [&[0x16, 3, 1, length[0], length[1]], part].concat()
    });
    client.write(records.collect::<Vec<u8>>());
    bridge.counted(HANDSHAKE_FAILED, 1.0);
    assert_eq!(bridge.metric("connection_faults_total{reason=\"handshake_too_slow\"}"), 0.0);
}

#[test]
fn deadlines_and_ages_hold_behind_a_handshake() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |config| {
        config.http.header_deadline = Duration::from_secs(1);
        config.http.connection_age_max = Duration::from_secs(2);
    });
    let config = authority.client(&BOTH, &[]);
    // A head that never comes.
    let mut silent = Encrypted::connect(bridge.callbacks, &config).unwrap();
    assert_eq!(silent.rest().0, "");
    bridge.counted("connection_faults_total{reason=\"head_too_slow\"}", 1.0);
    // A connection in use is closed at its age, with the answer and a farewell.
    broker.slow(Duration::from_secs(3));
    let mut busy = Encrypted::connect(bridge.callbacks, &config).unwrap();
    busy.stream.write_all(&post(body("busy"))).unwrap();
    let (answer, farewell) = busy.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(farewell);
    broker.slow(Duration::ZERO);
    bridge.counted("connections", 0.0);
}

#[test]
fn a_client_that_takes_no_encrypted_answers_is_dropped_long_before_the_age_of_its_connection() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |config| config.http.header_deadline = Duration::from_secs(1));
    let mut deaf = Encrypted::connect(bridge.callbacks, &authority.client(&BOTH, &[])).unwrap();
    let many = post("[]").repeat(64);
    let begun = now();
    // Until the bridge has had enough and closes.
    while deaf.stream.write_all(&many).is_ok() {
        assert!(now() - begun < PATIENCE, "everything is taken");
    }
    bridge.counted("connection_faults_total{reason=\"broken\"}", 1.0);
    bridge.counted("connections", 0.0);
}

#[test]
fn limits_of_a_source_and_the_good_end_hold_behind_a_handshake() {
    let broker = Broker::start();
    let (authority, mut bridge) = with_tls(&broker, |config| config.http.connections_per_source_max = 2);
    let config = authority.client(&BOTH, &[]);
    let mut idle = Encrypted::connect(bridge.callbacks, &config).unwrap();
    assert_eq!(idle.ask(post(body("idle"))).unwrap(), ACKNOWLEDGED);
    let mut busy = Encrypted::connect(bridge.callbacks, &config).unwrap();
    bridge.counted("connections", 2.0);
    // The source gives up what it has idle.
    let mut next = Encrypted::connect(bridge.callbacks, &config).unwrap();
    assert_eq!(idle.rest().0, "");
    bridge.counted("connections_evicted_total{reason=\"source_limit\"}", 1.0);
    assert_eq!(busy.ask(post(body("before"))).unwrap(), ACKNOWLEDGED);
    // One callback is on its way when the end comes.
    broker.slow(Duration::from_millis(1500));
    busy.stream.write_all(&post(body("busy"))).unwrap();
    bridge.counted("kafka_outstanding_messages", 1.0);
    bridge.shutdown.request();
    let (answer, farewell) = busy.rest();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("{\"code\":0}"), "{answer}");
    assert!(answer.contains("connection: close\r\n") && farewell, "{answer}");
    assert_eq!(next.rest(), (String::new(), true));
    bridge.stop();
}

#[test]
fn an_unfinished_handshake_does_not_put_off_the_end() {
    let broker = Broker::start();
    let (_authority, mut bridge) = with_tls(&broker, |config| config.http.header_deadline = Duration::from_secs(14));
    let mut half = bridge.client();
    half.write(&hello_of_tls_1(2)[..20]);
    bridge.counted("connections", 1.0);
    let begun = now();
    bridge.stop();
    assert!(now() - begun < Duration::from_secs(10), "the end took {:?}", now() - begun);
}

// ----------------------------------------------------------------------------------------------------------- replacement

#[test]
fn a_new_certificate_is_taken_under_load_and_costs_no_callback() {
    const SENDERS: u64 = 8;
    /// Of each sender: 200 callbacks a second in all.
    const PAUSE: Duration = Duration::from_millis(40);
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |_| {});
    let first = bridge.metric(NOT_AFTER);
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let next = authority.issue(-1..120);
    let config = authority.client(&BOTH, &["http/1.1"]);
    let mut steady = Encrypted::connect(bridge.callbacks, &config).unwrap();
    let old = steady.certificate();
    thread::scope(|scope| {
        let end = StopAtEnd(&stop);
        for number in 0..SENDERS {
            let (stop, sent, bridge, config) = (&stop, &sent, &bridge, &config);
            scope.spawn(move || {
                let mut due = now();
                let mut client = Encrypted::connect(bridge.callbacks, config).unwrap();
                client.ask(get("/healthz")).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    // Half of them come with a new connection each time.
                    if number % 2 == 0 {
                        client = Encrypted::connect(bridge.callbacks, config).unwrap();
                    }
                    assert_eq!(client.ask(post(body("steady"))).unwrap(), ACKNOWLEDGED);
                    sent.fetch_add(1, Ordering::Relaxed);
                    due += PAUSE;
                    thread::sleep(due.saturating_duration_since(now()));
                }
            });
        }
        eventually("the load has begun", || sent.load(Ordering::Relaxed) > 200);
        assert_eq!(steady.ask(post(body("before"))).unwrap(), ACKNOWLEDGED);
        authority.mount(&next.certificate, &next.key);
        // A connection that is in use stays in use.
        while bridge.metric(TAKEN) < 1.0 {
            assert_eq!(steady.ask(post(body("meanwhile"))).unwrap(), ACKNOWLEDGED);
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(steady.ask(post(body("after"))).unwrap(), ACKNOWLEDGED);
        let seen = sent.load(Ordering::Relaxed);
        eventually("the load goes on", || sent.load(Ordering::Relaxed) > seen + 200);
        drop(end);
    });
    // Even with a ticket of the old one.
    let new = Encrypted::connect(bridge.callbacks, &config).unwrap();
    assert_eq!((new.certificate(), steady.certificate()), (next.seen, old));
    assert_eq!(bridge.metric(NOT_AFTER) - first, 30.0 * 86400.0);
    assert_eq!((bridge.metric(REJECTED), bridge.metric(USABLE), faults(&bridge)), (0.0, 1.0, 0.0));
}

/// Ends a load also when an assertion fails, or its threads would be waited for without end.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn files_that_make_no_pair_keep_the_old_one_and_say_so_until_they_are_mended() {
    let (broker, authority) = (Broker::start(), Authority::new());
    let (old, new) = (authority.issue(-1..90), authority.issue(-1..120));
    authority.mount(&old.certificate, &old.key);
    let program = Program::serve(&program_config(&authority, &broker));
    program.ready();
    let address = program.address("callbacks");
    let served = |issued: &Issued| {
        let fresh = authority.client(&[&TLS13], &[]);
        assert_eq!(Encrypted::connect(address, &fresh).unwrap().certificate(), issued.seen);
    };
    let crt = authority.folder.path().join("tls.crt");
    for (certificate, key, says) in [
        (new.certificate.as_str(), old.key.as_str(), "holds the key of another certificate than the first one in"),
        (old.certificate.as_str(), new.key.as_str(), "holds the key of another certificate than the first one in"),
        ("", new.key.as_str(), "tls.crt: is empty"),
        (new.certificate.as_str(), "no key", "tls.key: holds no private key in PEM"),
        (&new.certificate[..new.certificate.len() / 2], new.key.as_str(), "tls.crt: holds no certificate in PEM"),
    ] {
        authority.mount(certificate, key);
        program.signal(Signal::HUP);
        eventually("the pair is judged", || program.metric(USABLE) == 0.0);
        program.says(says);
        served(&old);
        // Mended by the old pair, which was in use all the time.
        authority.mount(&old.certificate, &old.key);
        program.signal(Signal::HUP);
        eventually("the old pair is there again", || program.metric(USABLE) == 1.0);
    }
    assert_eq!((program.metric(REJECTED), program.metric(TAKEN)), (5.0, 0.0));
    // A volume that goes is a fault as well, and what comes back is taken.
    let lines: Vec<_> = program.log().lines().filter(|line| line.contains("be replaced")).map(str::to_owned).collect();
    assert!(lines.len() == 5 && lines.iter().all(|line| line.contains("\"ERROR\"")), "{lines:#?}");
    fs::remove_file(&crt).unwrap();
    program.signal(Signal::HUP);
    program.says("tls.crt: cannot be read: No such file");
    fs::write(&crt, &new.certificate).unwrap();
    fs::remove_file(authority.folder.path().join("tls.key")).unwrap();
    fs::write(authority.folder.path().join("tls.key"), &new.key).unwrap();
    eventually("the new pair is taken", || program.metric(TAKEN) == 1.0 && program.metric(USABLE) == 1.0);
    served(&new);
    for issued in [&old, &new] {
        let secret = issued.key.lines().nth(1).unwrap();
        assert!(!program.log().contains(secret));
    }
}

#[test]
fn however_often_the_files_are_looked_at_each_change_counts_once() {
    let authority = Authority::new();
    let (old, new) = (authority.issue(-1..90), authority.issue(-1..120));
    authority.mount(&old.certificate, &old.key);
    let metrics = Arc::new(Metrics::new(&[], &[], ""));
    let now = Timestamp::from_seconds(u64::try_from(authority.made).unwrap(), 0).unwrap();
    let tls = Tls::new(authority.files(), Arc::clone(&metrics), now).unwrap();
    let counted = || {
        let series = series(&String::from_utf8(metrics.render()).unwrap());
        [USABLE, TAKEN, REJECTED].map(|name| series[&format!("recording_bridge_{name}")])
    };
    for (certificate, key, expected) in [
        (&old.certificate, &old.key, [1.0, 0.0, 0.0]),
        (&new.certificate, &old.key, [0.0, 0.0, 1.0]),
        (&new.certificate, &new.key, [1.0, 1.0, 1.0]),
        (&new.certificate, &old.key, [0.0, 1.0, 2.0]),
        (&new.certificate, &String::new(), [0.0, 1.0, 3.0]),
        (&new.certificate, &new.key, [1.0, 1.0, 3.0]),
    ] {
        authority.mount(certificate, key);
        for _ in 0..3 {
            tls.look_again(now);
            assert_eq!(counted(), expected);
        }
    }
    let shown = format!("{tls:?} {:?}", Pair::read(&authority.files()).unwrap());
    assert!(shown.contains("bridge.example.com") && !shown.contains("certified"), "{shown}");
}

/// A configuration of the real program, with TLS.
fn program_config(authority: &Authority, broker: &Broker) -> PathBuf {
    let further = "http: {listen: '127.0.0.1:0', tls: {certificate_file: tls.crt, key_file: tls.key}}\n";
    config_file(authority.folder.path(), &broker.address(), &[("live", KEY, Scope::default())], further)
}

#[test]
fn a_certificate_that_ends_soon_or_is_not_valid_is_warned_of_and_used() {
    let (broker, authority) = (Broker::start(), Authority::new());
    let [good, soon, over, early] = [-1..15, -10..13, -10..-1, 1..90].map(|days| authority.issue(days));
    authority.mount(&soon.certificate, &soon.key);
    let program = Program::serve(&program_config(&authority, &broker));
    program.ready();
    let warned = |text: &str| {
        program.says(text);
        let log = program.log();
        let line = log.lines().find(|line| line.contains(text)).unwrap();
        assert!(line.contains("\"WARN\"") && line.contains("validity"), "{line}");
    };
    warned("the certificate ends in less than 14 days");
    let taken = |issued: &Issued, count: f64| {
        authority.mount(&issued.certificate, &issued.key);
        program.signal(Signal::HUP);
        eventually("the next one is taken", || program.metric(TAKEN) == count);
    };
    taken(&over, 1.0);
    warned("the certificate has expired");
    #[expect(clippy::cast_precision_loss, reason = "seconds of this millennium")]
    let present = epoch_seconds() as f64;
    assert!(program.metric(NOT_AFTER) < present);
    taken(&early, 2.0);
    warned("the certificate is not valid yet");
    let warnings = || program.log().matches("\"WARN\"").count();
    let before = warnings();
    taken(&good, 3.0);
    assert_eq!(warnings(), before, "{}", program.log());
}

// ----------------------------------------------------------------------------------------------------------- the program

/// Exit code and everything said by a run of the program.
fn run(arguments: &[&str]) -> (i32, String) {
    let mut program = Program::start(arguments);
    let code = program.exit_code();
    (code, program.out() + &program.log())
}

#[test]
fn an_unusable_pair_is_refused_at_the_start_by_the_name_of_its_file() {
    let (broker, authority) = (Broker::start(), Authority::new());
    let (one, other) = (authority.issue(-1..90), authority.issue(-1..90));
    let config = program_config(&authority, &broker);
    let config = config.to_str().unwrap();
    for (certificate, key, says) in [
        (one.certificate.as_str(), other.key.as_str(), "tls.key: holds the key of another certificate"),
        (one.certificate.as_str(), "", "tls.key: is empty"),
        (one.key.as_str(), one.key.as_str(), "tls.crt: holds no certificate in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            one.key.as_str(),
            "tls.crt: holds a certificate that",
        ),
    ] {
        authority.mount(certificate, key);
        for command in ["serve", "check"] {
            let (code, said) = run(&[command, "--config", config]);
            assert_eq!(code, 64, "{said}");
            assert!(said.contains("http.tls: ") && said.contains(says), "{said}");
            assert!(!said.contains(one.key.lines().nth(1).unwrap()), "{said}");
        }
    }
    fs::remove_file(authority.folder.path().join("tls.key")).unwrap();
    let (code, said) = run(&["serve", "--config", config]);
    assert!(code == 64 && said.contains("tls.key: cannot be read: No such file"), "{said}");
}

#[test]
fn check_tells_what_senders_will_see() {
    let (broker, authority) = (Broker::start(), Authority::new());
    let config = program_config(&authority, &broker);
    let checked = |issued: &Issued| {
        authority.mount(&issued.certificate, &issued.key);
        run(&["check", "--config", config.to_str().unwrap()])
    };
    let (code, said) = checked(&authority.issue(-1..90));
    assert_eq!(code, 0, "{said}");
    assert!(
        said.contains("which is for bridge.example.com, 127.0.0.1\n") && said.contains("tls.crt: valid from 2"),
        "{said}"
    );
    assert!(!said.contains("warning"), "{said}");
    for (days, code, says) in [(-10..13, 0, "warning  "), (-10..-1, 64, "FAULT    "), (1..90, 64, "FAULT    ")] {
        let (found, said) = checked(&authority.issue(days.clone()));
        assert_eq!(found, code, "{days:?}: {said}");
        assert!(said.lines().any(|line| line.starts_with(says) && line.contains("tls.crt: ")), "{said}");
    }
    let (code, said) = checked(&authority.issue_for(-1..90, &[]));
    assert!(code == 0 && said.contains("it is for no host name or address (subjectAltName)"), "{said}");
    let mut odd = authority.issue(-1..90);
    odd.certificate += &authority.issue(-1..90).certificate;
    let (code, said) = checked(&odd);
    assert!(code == 0 && said.contains("the certificates behind it are not in order"), "{said}");
}

#[test]
fn send_trusts_the_authorities_it_is_told_to_trust() {
    let broker = Broker::start();
    let (authority, bridge) = with_tls(&broker, |_| {});
    let key = authority.folder.path().join("key");
    fs::write(&key, KEY).unwrap();
    let url = format!("https://{}{}", bridge.callbacks, crate::support_app::PATH);
    let send = |authorities: &Path| {
        run(&["send", &url, "--key-file", key.to_str().unwrap(), "--ca-file", authorities.to_str().unwrap()])
    };
    let (code, said) = send(&authority.authority_file());
    assert!(code == 0 && said.starts_with("200 "), "{said}");
    let (code, said) = send(&Authority::new().authority_file());
    assert!(code == 1 && said.contains("no answer"), "{said}");
    let (code, said) = send(&key);
    assert!(code == 64 && said.contains("holds no certificate in PEM"), "{said}");
    drop(Client::connect(bridge.callbacks));
    assert_eq!(broker.published(), 1);
}
