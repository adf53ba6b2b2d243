//! Promise: no secret leaves the process. Not the callback key, a signature, a push credential or the password of the
//! brokers; not in a log at its finest level, librdkafka's included, in the metrics, or in the key, value or headers of
//! what is kept.

use recording_bridge::callback::Scope;
use recording_bridge::message::Message;
use recording_bridge::spool::Directory;
use recording_bridge::spool::inspect::{self, Content};

use crate::support::unique;
use crate::support_app::{
    ACKNOWLEDGED, Broker, Client, Program, TOPIC, ask, config_file, epoch_seconds, eventually, get, post, signature,
};

/// 32 letters and digits that stand nowhere else.
fn secret() -> String {
    format!("{:016x}{:016x}", unique(), unique())
}

/// Every message and letter in a spool.
pub(crate) fn kept(directory: &Directory) -> Vec<Message> {
    let mut kept = Vec::new();
    for file in inspect::survey(directory).expect("a spool").files {
        let keep = |content| {
            if let Content::Frame(frame) = content {
                kept.push(frame.message);
            }
        };
        inspect::read(directory, &file, keep).expect("a segment");
    }
    kept
}

#[test]
fn no_secret_reaches_the_log_the_metrics_or_what_is_kept() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let [key, password, push, other] = [(); 4].map(|()| secret());
    std::fs::write(folder.path().join("password"), &password).expect("a password file");
    // The embedded broker does not speak SASL, so what is accepted goes to the spool; librdkafka tells all it does.
    let further = format!(
        "log: {{level: trace}}\nspool: {{directory: spool, disk_free_min: 0B}}\nkafka: {{brokers: ['{}'], topic: {TOPIC}, \
         ack_deadline: 500ms, sasl: {{mechanism: PLAIN, username: bridge, password_file: password}}, \
         properties: {{debug: all}}}}\n",
        broker.address()
    );
    let config = config_file(folder.path(), &broker.address(), &[("live", &key, Scope::default())], &further);
    let program = Program::serve(&config);
    let address = program.address("callbacks");
    let mut signatures = Vec::new();
    let mut send = |members: &str, expected: &str| {
        let t = epoch_seconds() + 600 - i64::try_from(signatures.len()).expect("a few");
        let sign = signature(&key, &t.to_string());
        let body = format!("{{{members},\"t\":{t},\"sign\":\"{sign}\"}}");
        signatures.push(sign);
        let mut client = Client::connect(address);
        assert!(client.ask(post(body)).0.starts_with(expected), "{members}");
    };
    let secrets = format!(
        "\"stream_param\":\"txSecret={push}&txTime=1\",\"push_token\":\"{other}\",\"nested\":{{\"password\":\"{other}\"}},\
         \"callback_ext\":\"{{\\\"session_id\\\":\\\"auth={other}\\\"}}\""
    );
    let other_text = format!("record_error auth={other}");
    let recording = format!("\"event_type\":100,\"appid\":1,\"stream_id\":\"s\",{secrets}");
    send(&format!("{recording},\"file_id\":\"f\""), ACKNOWLEDGED);
    send(&recording, ACKNOWLEDGED);
    send(
        &format!("\"event_type\":332,\"appid\":1,\"stream_id\":\"s\",\"record_event\":\"{other_text}\",{secrets}"),
        ACKNOWLEDGED,
    );
    send(&format!("\"event_type\":200,{secrets}"), ACKNOWLEDGED);
    send(&format!("\"event_type\":1{secrets}"), "HTTP/1.1 400 ");
    let t = epoch_seconds() + 600;
    let nearly = signature(&key, &(t + 1).to_string());
    let refused = Client::connect(address).ask(post(format!("{{{recording},\"t\":{t},\"sign\":\"{nearly}\"}}")));
    assert_eq!(refused.status(), 403);
    signatures.push(nearly);

    let said = |text: &str| eventually(text, || program.log().contains(text));
    said("\"message\":\"refused\"");
    said("\"level\":\"DEBUG\"");
    said("SASL");
    let spool = folder.path().join("spool");
    let [messages, letters] = [Directory::at(&spool), Directory::at(spool.join("dead-letters"))].map(|at| kept(&at));
    assert_eq!((messages.len(), letters.len()), (2, 1), "all are on disk");
    let (log, metrics) = (program.log(), ask(program.address("admin"), get("/metrics")));
    for secret in signatures.iter().chain([&key, &password, &push, &other]) {
        assert!(!log.contains(secret.as_str()), "{secret} is in the log:\n{log}");
        assert!(!metrics.body().contains(secret.as_str()), "{secret} is in the metrics");
        for message in messages.iter().chain(&letters) {
            let headers = message.headers().iter().flat_map(|header| [header.name.as_bytes(), &header.value]);
            for part in headers.chain([&message.key()[..], message.payload()]) {
                let part = String::from_utf8_lossy(part);
                assert!(!part.contains(secret.as_str()), "{secret} is kept: {part}");
            }
        }
    }
}
