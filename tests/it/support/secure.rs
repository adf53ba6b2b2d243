//! One real broker that asks for TLS and a login, with certificates made for this run.
//!
//! Beside the plain listener, through which the tests look at what the topics hold, it has four others. Each user
//! exists for one mechanism alone, so a login shows that this mechanism was spoken. It creates topics that clients ask
//! for, as brokers do unless they are told not to. A topic is open to everybody until it is closed.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rdkafka::config::ClientConfig;

use super::java::run_java;
use super::kafka::{Cluster, Extras, Listener, free_ports};

/// The password of every user; nothing but the broker may ever say it.
pub(crate) const PASSWORD: &str = "correct-horse-battery-0123456789";
/// A password of no user.
pub(crate) const WRONG_PASSWORD: &str = "wrong-horse-battery-9876543210";
/// Of the key stores, which hold nothing worth keeping.
const STORE_PASSWORD: &str = "key-store";

/// Mechanism and the user that exists for it.
pub(crate) const USERS: [(&str, &str); 3] =
    [("PLAIN", "plain-user"), ("SCRAM-SHA-256", "scram-256-user"), ("SCRAM-SHA-512", "scram-512-user")];

/// The broker and where its certificates are.
pub(crate) struct SecureBroker {
    pub(crate) cluster: Cluster,
    folder: PathBuf,
    ports: [u16; 4],
}

/// One of the broker's listeners.
#[derive(Clone, Copy)]
pub(crate) enum Door {
    /// TLS and a login.
    Login,
    /// TLS and a login; the certificate is for another host.
    LoginElsewhere,
    /// TLS with certificates on both sides.
    Mutual,
    /// TLS and a login; the certificate has expired, until [`SecureBroker::renew_certificate`].
    Expired,
}

impl SecureBroker {
    fn start() -> Self {
        let ports: [u16; 4] = free_ports(4).try_into().unwrap();
        let mut folder = PathBuf::new();
        let cluster = Cluster::start_with(1, |_, home| {
            folder = home.join("certificates");
            fs::create_dir(&folder).unwrap();
            run_java("Certificates.java", &[folder.to_str().unwrap(), STORE_PASSWORD]);
            extras(&folder, ports)
        });
        for (_, user) in USERS {
            fs::write(folder.join(format!("{user}.password")), format!("{PASSWORD}\n")).unwrap();
        }
        fs::write(folder.join("wrong.password"), WRONG_PASSWORD).unwrap();
        Self { cluster, folder, ports }
    }

    /// The member `brokers` of the section `kafka`.
    pub(crate) fn brokers(&self, door: Door) -> String {
        format!("brokers: [\"127.0.0.1:{}\"]", self.ports[door as usize])
    }

    /// `ca_file: ...`: the authority that signed the broker's certificates.
    pub(crate) fn authority(&self) -> String {
        format!("ca_file: {}", self.file("authority.pem"))
    }

    /// `ca_file: ...`: an authority that signed nothing.
    pub(crate) fn stranger(&self) -> String {
        format!("ca_file: {}", self.file("stranger.pem"))
    }

    /// The client's certificate and key, as members of `kafka.tls`.
    pub(crate) fn client_certificate(&self) -> String {
        format!("certificate_file: {}, key_file: {}", self.file("client.pem"), self.file("client.key"))
    }

    /// The member `sasl` of the section `kafka`, with the password of the user.
    pub(crate) fn login(&self, mechanism: &str) -> String {
        let user = user_of(mechanism);
        self.login_with(mechanism, &format!("{user}.password"))
    }

    /// The same with a password that is not the user's.
    pub(crate) fn wrong_login(&self, mechanism: &str) -> String {
        self.login_with(mechanism, "wrong.password")
    }

    /// A client with a right login that does not look at names in certificates.
    pub(crate) fn careless(&self, door: Door) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", format!("127.0.0.1:{}", self.ports[door as usize]));
        client.set("security.protocol", "sasl_ssl").set("ssl.ca.location", self.file("authority.pem"));
        client.set("ssl.endpoint.identification.algorithm", "none");
        client.set("sasl.mechanism", "PLAIN").set("sasl.username", user_of("PLAIN")).set("sasl.password", PASSWORD);
        client
    }

    /// Gives the listener with the expired certificate a good one.
    pub(crate) fn renew_certificate(&self) {
        let property = "listener.name.expired.ssl.keystore.location";
        self.alter(&["property", property, &self.file("here.p12")]);
    }

    /// Creates a user for SCRAM-SHA-512, or gives an old one another password. Connections live on.
    pub(crate) fn set_password(&self, user: &str, password: &str) {
        self.alter(&["password", user, password]);
    }

    /// Closes a topic to all but the principal.
    pub(crate) fn open_only_to(&self, principal: &str, topic: &str) {
        self.alter(&["only", principal, topic]);
    }

    fn alter(&self, change: &[&str]) {
        run_java("Alter.java", &[&[self.cluster.brokers().as_str()], change].concat());
    }

    /// What one of the files holds that were made for this broker.
    pub(crate) fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.folder.join(name)).unwrap()
    }

    fn login_with(&self, mechanism: &str, password: &str) -> String {
        let (user, password) = (user_of(mechanism), self.file(password));
        format!("sasl: {{mechanism: {mechanism}, username: {user}, password_file: {password}}}")
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }
}

/// The one broker of this kind, for all tests.
pub(crate) fn secure_broker() -> &'static SecureBroker {
    static BROKER: LazyLock<SecureBroker> = LazyLock::new(SecureBroker::start);
    &BROKER
}

fn user_of(mechanism: &str) -> &'static str {
    USERS.iter().find(|(name, _)| *name == mechanism).unwrap().1
}

fn extras(folder: &Path, ports: [u16; 4]) -> Extras {
    let listener = |name, protocol, port| Listener { name, protocol, host: "127.0.0.1", port };
    let [login, elsewhere, mutual, expired] = ports;
    let store = |listener: &str, name: &str| {
        let file = folder.join(name).display().to_string();
        format!(
            "listener.name.{listener}.ssl.keystore.type=PKCS12\n\
             listener.name.{listener}.ssl.keystore.location={file}\n\
             listener.name.{listener}.ssl.keystore.password={STORE_PASSWORD}\n\
             listener.name.{listener}.ssl.key.password={STORE_PASSWORD}\n"
        )
    };
    let mut properties =
        store("login", "here.p12") + &store("elsewhere", "elsewhere.p12") + &store("mutual", "here.p12");
    properties += &store("expired", "here-expired.p12");
    let authority = folder.join("authority.pem");
    let authority = authority.display();
    write!(
        properties,
        "listener.name.mutual.ssl.client.auth=required\n\
         listener.name.mutual.ssl.truststore.type=PEM\n\
         listener.name.mutual.ssl.truststore.location={authority}\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n\
         auto.create.topics.enable=true\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS\n\
         allow.everyone.if.no.acl.found=true\n"
    )
    .unwrap();
    let module = "org.apache.kafka.common.security";
    for door in ["login", "elsewhere", "expired"] {
        writeln!(
            properties,
            "listener.name.{door}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required \
             user_{}=\"{PASSWORD}\";\n\
             listener.name.{door}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;\n\
             listener.name.{door}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;",
            user_of("PLAIN")
        )
        .unwrap();
    }
    let scram = USERS.iter().filter(|(mechanism, _)| mechanism.starts_with("SCRAM"));
    let format = scram.flat_map(|(mechanism, user)| {
        ["--add-scram".to_owned(), format!("{mechanism}=[name={user},password={PASSWORD}]")]
    });
    Extras {
        listeners: vec![
            listener("LOGIN", "SASL_SSL", login),
            listener("ELSEWHERE", "SASL_SSL", elsewhere),
            listener("MUTUAL", "SSL", mutual),
            listener("EXPIRED", "SASL_SSL", expired),
        ],
        properties,
        format: format.collect(),
    }
}
