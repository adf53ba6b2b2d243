//! The HTTP edge promises: every request gets exactly one answer, the right one to the byte; what is refused is
//! counted under its reason and leaves no trace in the topic or the log; and no client, slow, rude or gone, changes
//! that for another.
//!
//! Most cases stand in `tests/data/http`; here is what needs time, several connections or arithmetic.

#![expect(clippy::float_cmp, reason = "counters are whole numbers, which floats hold exactly")]

use std::collections::BTreeMap;
use std::time::Duration;

use recording_bridge::callback::Scope;
use recording_bridge::config::{Config, SpoolConfig};
use recording_bridge::spool::Directory;
use recording_bridge::spool::inspect::{self, Content};

use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, PATH, Program, Setup, ask, body, body_signed, config_file,
    epoch_seconds, eventually, facts, get, now, post, signature, without_date,
};

const HEADS: &str = include_str!("../data/http/heads.txt");
const BODIES: &str = include_str!("../data/http/bodies.txt");
const AUTHENTICATION: &str = include_str!("../data/http/authentication.txt");
const SCOPES: &str = include_str!("../data/http/scopes.txt");
const KINDS: &str = include_str!("../data/http/kinds.txt");

/// Largest body of the default configuration.
const BODY_BYTES_MAX: usize = 65_536;

/// Every key of the tables; the bridge does not have the last.
const KEYS: [(&str, &str); 6] = [
    ("live", KEY),
    ("second", "theSecondKeyOfTheTests01"),
    ("account", "boundToAccounts012345678"),
    ("domain", "boundToDomains0123456789"),
    ("both", "boundToBoth0123456789abc"),
    ("stranger", "nobodyGaveUsThisKey01234"),
];

fn scope(key: &str) -> Scope {
    let domain = "push.example.com".to_owned();
    match key {
        "account" => Scope { app_ids: vec![1_300_000_001, 1_300_000_002], push_domains: vec![] },
        "domain" => Scope { app_ids: vec![], push_domains: vec![domain] },
        "both" => Scope { app_ids: vec![1_300_000_001], push_domains: vec![domain] },
        _ => Scope::default(),
    }
}

fn bridge_with_every_key(broker: &Broker) -> Bridge {
    let known = KEYS.into_iter().filter(|(name, _)| !["live", "stranger"].contains(name));
    known.fold(Setup::new(broker), |setup, (name, secret)| setup.key(name, secret, scope(name))).start()
}

// ---------------------------------------------------------------------------------------------------------- tables

/// One block of a table.
struct Case {
    name: &'static str,
    text: &'static str,
    /// Whether the text is a whole request instead of a body.
    whole: bool,
    status: u16,
    /// Outcome and reason.
    counted: String,
    closes: bool,
}

/// A request made from a case, and what of it must not be seen.
struct Request {
    bytes: Vec<u8>,
    signatures: Vec<String>,
}

fn cases(table: &'static str) -> Vec<Case> {
    let whole = std::ptr::eq(table, HEADS);
    let cases: Vec<Case> = table
        .split("\n\n## ")
        .skip(1)
        .map(|block| {
            let (name, rest) = block.split_once('\n').expect("a name");
            let (text, expected) = rest.rsplit_once("=> ").expect("an expectation");
            let mut words = expected.split_whitespace();
            let mut word = || words.next().unwrap_or_else(|| panic!("{name}: status, outcome and reason"));
            let (status, outcome, reason) = (word().parse().expect("a status"), word(), word());
            let counted = format!("{outcome} {reason}");
            // An empty line at the end belongs to a head without a body.
            let text = text.strip_suffix('\n').filter(|line| !whole || !line.ends_with('\n')).unwrap_or(text);
            Case { name, text, whole, status, counted, closes: words.next() == Some("close") }
        })
        .collect();
    assert!(cases.len() >= 15, "only {} cases", cases.len());
    cases
}

impl Case {
    fn request(&self, marker: &str) -> Request {
        let mut request = Request { bytes: Vec::new(), signatures: Vec::new() };
        let now = epoch_seconds();
        let good = body(marker);
        let text = self.text.replace("MARKER", marker);
        let mut parts = text.split('%');
        request.bytes.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
        while let Some(placeholder) = parts.next() {
            request.put(placeholder, now, &good, marker);
            request.bytes.extend_from_slice(parts.next().expect("a placeholder ends").as_bytes());
        }
        if self.whole {
            let lines = request.bytes.split(|byte| *byte == b'\n').collect::<Vec<_>>();
            request.bytes = lines.join(&b"\r\n"[..]);
        } else {
            request.bytes = post(&request.bytes);
        }
        request
    }

    /// The answer to the byte, but for its date.
    fn answer(&self) -> String {
        if self.counted.starts_with("unread") { without_body(self.status) } else { answer(self.status, self.closes) }
    }
}

impl Request {
    fn put(&mut self, placeholder: &str, now: i64, good: &str, marker: &str) {
        let mut words = placeholder.splitn(3, ':');
        let (word, argument) = (words.next().unwrap_or_default(), words.next());
        let secret = words.next().filter(|_| word == "signature").map_or(KEY, |name| {
            KEYS.iter().find(|(known, _)| *known == name).map(|(_, secret)| *secret).expect("a key of the tables")
        });
        let number = argument.and_then(|argument| argument.parse::<i64>().ok());
        let t = (now + number.unwrap_or(600)).to_string();
        let sign = signature(secret, &t);
        if let Ok(byte) = u8::from_str_radix(word, 16)
            && word.len() == 2
        {
            self.bytes.push(byte);
            return;
        }
        let text = match word {
            "facts" => facts(marker),
            "t" => t,
            "sign" | "SIGN" | "signature" => {
                self.signatures.push(sign.clone());
                match word {
                    "sign" => sign,
                    "SIGN" => sign.to_uppercase(),
                    _ => format!(r#""t":{t},"sign":"{sign}""#),
                }
            }
            "body" => good.to_owned(),
            "length" => good.len().to_string(),
            "chunks" => {
                chunks(good, &placeholder.split_once(':').map_or(String::new(), |(_, line)| format!("{line}\n")))
            }
            "headers" => "X-More: yes\n".repeat(usize::try_from(number.expect("a number")).expect("not negative")),
            letter => {
                assert_eq!(letter.len(), 1, "{placeholder:?} is no placeholder");
                letter.repeat(usize::try_from(number.expect("a number")).expect("not negative"))
            }
        };
        self.bytes.extend_from_slice(text.as_bytes());
    }
}

/// `body` in two chunks, and lines of a trailer.
fn chunks(body: &str, trailer: &str) -> String {
    let (one, two) = body.split_at(body.len() / 2);
    format!("{:x}\n{one}\n{:X};extension=1\n{two}\n0\n{trailer}\n", one.len(), two.len())
}

/// Every answer there is, written down once.
fn answer(status: u16, closes: bool) -> String {
    let (reason, header, body) = match status {
        200 => ("OK", "", r#"{"code":0}"#),
        400 => ("Bad Request", "", r#"{"code":400,"message":"the request is malformed"}"#),
        403 => ("Forbidden", "", r#"{"code":403,"message":"the callback is not authentic"}"#),
        404 => ("Not Found", "", r#"{"code":404,"message":"no such path"}"#),
        405 => ("Method Not Allowed", "allow: POST\r\n", r#"{"code":405,"message":"only POST is allowed here"}"#),
        408 => ("Request Timeout", "", r#"{"code":408,"message":"the body did not arrive in time"}"#),
        413 => ("Payload Too Large", "", r#"{"code":413,"message":"the body is too large"}"#),
        415 => ("Unsupported Media Type", "", r#"{"code":415,"message":"encoded bodies are not accepted"}"#),
        503 => {
            ("Service Unavailable", "retry-after: 60\r\n", r#"{"code":503,"message":"not stored, please send again"}"#)
        }
        other => panic!("no callback is ever answered with {other}"),
    };
    let close = if closes { "connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\n{header}{close}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// What is answered where no request could be read.
fn without_body(status: u16) -> String {
    let reason = match status {
        0 => return String::new(),
        400 => "Bad Request",
        431 => "Request Header Fields Too Large",
        other => panic!("an unreadable request is never answered with {other}"),
    };
    format!("HTTP/1.1 {status} {reason}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
}

/// Sends every case and compares its answer to the byte, what it does to the connection, and what is counted.
fn try_table(table: &'static str) {
    let broker = Broker::start();
    let bridge = bridge_with_every_key(&broker);
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    let (mut accepted, mut unread) = (0, 0.0);
    for case in cases(table) {
        let mut client = bridge.client();
        client.write(case.request("stream").bytes);
        if case.closes {
            assert_eq!(without_date(&client.rest()), case.answer(), "{}", case.name);
        } else {
            assert_eq!(client.answer().0, case.answer(), "{}", case.name);
            // The next request on this connection is read from where it begins.
            assert_eq!(client.ask(get("/healthz")).body(), "ready\n", "{}", case.name);
        }
        if case.counted == "unread unreadable" {
            unread += 1.0;
            bridge.counted("connection_faults_total{reason=\"unreadable\"}", unread);
        } else {
            *expected.entry(case.counted.clone()).or_default() += 1.0;
        }
        accepted += i64::from(case.counted.starts_with("accepted"));
        assert_eq!(bridge.outcomes(), expected, "{}", case.name);
    }
    assert_eq!(broker.published(), accepted, "what is accepted is in the topic, and nothing else");
}

#[test]
fn every_head_gets_its_answer() {
    try_table(HEADS);
}

#[test]
fn every_body_gets_its_answer() {
    try_table(BODIES);
}

#[test]
fn every_signature_is_judged_and_every_inauthentic_callback_gets_the_same_answer() {
    try_table(AUTHENTICATION);
}

#[test]
fn a_key_is_good_for_its_accounts_and_domains_alone() {
    try_table(SCOPES);
}

#[test]
fn every_kind_is_acknowledged_and_every_unusable_callback_stays_with_its_sender_where_there_is_no_spool() {
    try_table(KINDS);
}

#[test]
fn every_unusable_callback_is_set_aside_where_there_is_a_spool() {
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let enable = |config: &mut Config| {
        config.spool =
            SpoolConfig { directory: folder.path().join("spool"), disk_free_min: 0, ..SpoolConfig::default() };
    };
    let mut bridge = Setup::new(&broker).with(enable).start();
    let mut expected = BTreeMap::new();
    for case in cases(KINDS).into_iter().filter(|case| case.status == 503) {
        let mut client = bridge.client();
        client.write(case.request("stream").bytes);
        assert_eq!(client.answer().0, ACKNOWLEDGED, "{}", case.name);
        *expected.entry(case.counted.replace("refused", "dead_lettered")).or_default() += 1.0;
    }
    assert_eq!(bridge.outcomes(), expected);
    assert_eq!(bridge.metric("dead_letters_appended_total"), expected.values().sum::<f64>());
    bridge.stop();
    let mut letters = 0.0;
    let directory = Directory::at(folder.path().join("spool/dead-letters"));
    for file in inspect::survey(&directory).expect("a spool").files {
        let count = |content| letters += f64::from(u8::from(matches!(content, Content::Frame(_))));
        inspect::read(&directory, &file, count).expect("a segment");
    }
    assert_eq!(letters, expected.values().sum::<f64>(), "all are on disk");
    assert_eq!(broker.published(), 0);
}

#[test]
fn nothing_of_a_refused_request_reaches_the_log_or_the_topic() {
    const MARKER: &str = "m4rk3rOfAStranger";
    let (broker, folder) = (Broker::start(), tempfile::tempdir().expect("a folder"));
    let bound: Vec<(&str, &str, Scope)> = KEYS
        .into_iter()
        .filter(|(name, _)| *name != "stranger")
        .map(|(name, secret)| (name, secret, scope(name)))
        .collect();
    let program = Program::serve(&config_file(folder.path(), &broker.address(), &bound, "log: {level: trace}\n"));
    program.ready();
    let address = program.address("callbacks");
    let (mut cases_tried, mut signatures) = (0, Vec::new());
    let tables = [HEADS, BODIES, AUTHENTICATION, SCOPES, KINDS];
    for case in tables.into_iter().flat_map(cases).filter(|case| case.status != 200) {
        let request = case.request(MARKER);
        // The log takes so many refusals a second; each case is tried until it has a line of its own.
        let refusals = || program.log().matches("\"message\":\"refused\"").count();
        let before = refusals();
        let unread = case.counted.starts_with("unread");
        eventually(case.name, || {
            let mut client = Client::connect(address);
            client.write(&request.bytes);
            client.finish();
            assert!(without_date(&client.rest()).starts_with(&case.answer()), "{}", case.name);
            unread || refusals() > before
        });
        signatures.extend(request.signatures);
        cases_tried += 1;
    }
    assert!(cases_tried > 100, "{cases_tried} cases");
    let log = program.log();
    for hidden in signatures.iter().map(String::as_str).chain([MARKER]).chain(KEYS.map(|(_, secret)| secret)) {
        assert!(!log.to_lowercase().contains(&hidden.to_lowercase()), "{hidden} is in the log:\n{log}");
    }
    let metrics = ask(program.address("admin"), get("/metrics"));
    assert!(!metrics.body().contains(MARKER), "the marker is in the metrics");
    assert_eq!(broker.published(), 0);
}

// ------------------------------------------------------------------------------------------------- authentication

#[test]
fn a_signature_in_the_query_or_in_a_header_counts_for_nothing() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let t = (epoch_seconds() + 600).to_string();
    let sign = signature(KEY, &t);
    let body = format!("{{{}}}", facts("elsewhere"));
    for head in [
        format!("POST {PATH}?t={t}&sign={sign} HTTP/1.1\r\nHost: bridge\r\n"),
        format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nt: {t}\r\nsign: {sign}\r\n"),
        format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nX-Sign: {sign}\r\nAuthorization: {sign}\r\n"),
    ] {
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(ask(bridge.callbacks, request).0, answer(403, false));
    }
    assert_eq!(bridge.outcomes(), BTreeMap::from([("refused signature_missing".to_owned(), 3.0)]));
    assert_eq!(broker.published(), 0);
}

#[test]
fn authentic_callbacks_are_counted_by_the_name_of_their_key_and_by_kind() {
    let broker = Broker::start();
    let bridge = bridge_with_every_key(&broker);
    for (_, secret) in KEYS {
        bridge.post(body_signed("any", secret));
    }
    let count = |key: &str, kind: &str| {
        bridge
            .series()
            .get(&format!("recording_bridge_authentic_callbacks_total{{key=\"{key}\",kind=\"{kind}\"}}"))
            .copied()
    };
    assert_eq!(count("live", "recording"), Some(1.0));
    assert_eq!(count("second", "recording"), Some(1.0));
    assert_eq!(count("domain", "recording"), Some(1.0));
    assert_eq!(count("account", "recording"), Some(0.0), "out of its scope");
    assert_eq!(count("stranger", "recording"), None, "no key of ours");
}

// ---------------------------------------------------------------------------------------------- bodies and waiting

#[test]
fn a_body_exactly_at_the_limit_is_taken_and_one_byte_more_is_not() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let filled = |length: usize| {
        let small = body("full");
        let around = r#""fill":"","#.len();
        let fill = "f".repeat(length - small.len() - around);
        small.replacen('{', &format!(r#"{{"fill":"{fill}","#), 1)
    };
    assert_eq!(filled(BODY_BYTES_MAX).len(), BODY_BYTES_MAX);
    assert_eq!(bridge.post(filled(BODY_BYTES_MAX)).0, ACKNOWLEDGED);
    let chunked = |body: &str| {
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: bridge\r\nTransfer-Encoding: chunked\r\n\r\n{}",
            chunks(body, "").replace('\n', "\r\n")
        )
    };
    assert_eq!(ask(bridge.callbacks, chunked(&filled(BODY_BYTES_MAX))).0, ACKNOWLEDGED);
    assert_eq!(ask(bridge.callbacks, chunked(&filled(BODY_BYTES_MAX + 1))).0, answer(413, true));
    assert_eq!(bridge.metric("members_dropped_total"), 2.0, "the filling is too long to be published");
    assert_eq!(broker.published(), 2);
}

#[test]
fn a_body_in_many_small_pieces_is_one_body() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let mut client = bridge.client();
    for piece in post(body("pieces")).chunks(3) {
        client.write(piece);
    }
    assert_eq!(client.answer().0, ACKNOWLEDGED);
    let pieces = body("chunks").chars().map(|letter| format!("1\r\n{letter}\r\n")).collect::<Vec<_>>().concat();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.ask(format!("{head}{pieces}0\r\n\r\n")).0, ACKNOWLEDGED);
    assert_eq!(broker.streams(2), ["chunks", "pieces"]);
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let requests = [post(body("one")), post("[]"), post(body("two")), get("/healthz").into_bytes()].concat();
    let mut client = bridge.client();
    client.write(requests);
    assert_eq!(client.answer().0, ACKNOWLEDGED);
    assert_eq!(client.answer().0, answer(400, false));
    assert_eq!(client.answer().0, ACKNOWLEDGED);
    assert_eq!(client.answer().body(), "ready\n");
    assert_eq!(broker.streams(2), ["one", "two"]);
}

#[test]
fn a_client_that_asks_first_is_told_to_continue_and_one_that_is_refused_is_not() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let body = body("patient");
    let head = |path: &str| {
        let length = body.len();
        format!("POST {path} HTTP/1.1\r\nHost: bridge\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let mut client = bridge.client();
    client.write(head(PATH));
    assert_eq!(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(client.ask(&body).0, ACKNOWLEDGED);
    let mut client = bridge.client();
    client.write(head("/elsewhere"));
    assert_eq!(without_date(&client.rest()), answer(404, true));
}

#[test]
fn old_clients_are_served_and_their_connection_closed() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let request = |line: &str| {
        let body = body("old");
        format!("POST {PATH} HTTP/1.0\r\n{line}Content-Length: {}\r\n\r\n{body}", body.len())
    };
    for line in ["", "Host: bridge\r\n"] {
        let mut client = bridge.client();
        client.write(request(line));
        let answer = without_date(&client.rest());
        assert_eq!(answer, ACKNOWLEDGED.replacen("HTTP/1.1", "HTTP/1.0", 1), "{line:?}");
    }
    // Chunks were not known then.
    let mut client = bridge.client();
    client.write(format!("POST {PATH} HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
    assert_eq!(without_date(&client.rest()), without_body(400));
    assert_eq!(broker.published(), 2);
}

#[test]
fn a_client_that_closes_its_sending_half_still_gets_its_answer() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let mut client = bridge.client();
    client.write(post(body("half")));
    client.finish();
    assert_eq!(without_date(&client.rest()), ACKNOWLEDGED);
}

#[test]
fn a_head_that_takes_too_long_and_an_idle_connection_are_closed() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.http.header_deadline = Duration::from_millis(300)).start();
    let (mut silent, mut slow, mut idle) = (bridge.client(), bridge.client(), bridge.client());
    slow.write(format!("POST {PATH} HTTP/1.1\r\nHost: bri"));
    assert_eq!(idle.ask(get("/healthz")).status(), 200);
    let started = now();
    assert_eq!(silent.rest(), "");
    assert_eq!(slow.rest(), "");
    assert_eq!(idle.rest(), "");
    assert!(now() - started < Duration::from_secs(10), "closed after {:?}", now() - started);
    bridge.counted("connections", 0.0);
    assert!(bridge.metric("connection_faults_total{reason=\"head_too_slow\"}") >= 1.0);
    assert_eq!(bridge.outcomes(), BTreeMap::new(), "no request ever reached the service");
}

#[test]
fn a_body_that_takes_too_long_is_answered_with_408() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker)
        .with(|config| {
            config.kafka.ack_deadline = Duration::from_millis(200);
            config.http.request_deadline = Duration::from_millis(500);
        })
        .start();
    let mut client = bridge.client();
    client.write(format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: 100\r\n\r\n{{\"event"));
    assert_eq!(without_date(&client.rest()), answer(408, true));
    assert_eq!(bridge.outcomes(), BTreeMap::from([("refused body_too_slow".to_owned(), 1.0)]));
}

#[test]
fn a_client_that_leaves_before_its_body_is_whole_is_counted_as_gone() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let request = post(body("half"));
    let (part, _) = request.split_at(request.len() - 10);
    for leave_politely in [true, false] {
        let before = bridge.outcome("refused", "client_gone");
        let mut client = bridge.client();
        client.write(part);
        bridge.counted("callbacks_in_flight", 1.0);
        if leave_politely {
            client.finish();
            client.rest();
        }
        drop(client);
        eventually("the client is gone", || bridge.outcome("refused", "client_gone") > before);
    }
    assert_eq!(bridge.outcomes(), BTreeMap::from([("refused client_gone".to_owned(), 2.0)]));
    assert_eq!(broker.published(), 0);
}

#[test]
fn a_client_that_leaves_after_a_whole_body_cannot_stop_the_delivery() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    broker.slow(Duration::from_millis(300));
    let mut client = bridge.client();
    client.write(post(body("abandoned")));
    bridge.counted("kafka_outstanding_messages", 1.0);
    drop(client);
    eventually("the callback is accepted", || bridge.outcome("accepted", "kafka") > 0.5);
    broker.slow(Duration::ZERO);
    assert_eq!(broker.streams(1), ["abandoned"]);
    assert_eq!(broker.published(), 1);
}

// ---------------------------------------------------------------------------------------------------------- limits

#[test]
fn callbacks_beyond_those_in_flight_are_left_to_their_sender() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.http.in_flight_max = 1).start();
    broker.slow(Duration::from_millis(500));
    // Anybody can begin a body.
    let mut stranger = bridge.client();
    stranger.write(format!("POST {PATH} HTTP/1.1\r\nHost: bridge\r\nContent-Length: 100\r\n\r\n{{"));
    bridge.counted("callbacks_in_flight", 1.0);
    let mut first = bridge.client();
    first.write(post(body("first")));
    bridge.counted("kafka_outstanding_messages", 1.0);
    let mut second = bridge.client();
    second.write(post(body("second")));
    assert_eq!(without_date(&second.rest()), answer(503, true));
    assert_eq!(first.answer().0, ACKNOWLEDGED);
    broker.slow(Duration::ZERO);
    assert_eq!(bridge.post(body("third")).0, ACKNOWLEDGED);
    assert_eq!(bridge.outcome("refused", "too_many_in_flight"), 1.0);
    assert_eq!(broker.published(), 2);
}

#[test]
fn peers_of_other_networks_are_refused_before_anything_else() {
    let broker = Broker::start();
    let other = recording_bridge::http::Network::parse("10.0.0.0/8").expect("a network");
    let bridge = Setup::new(&broker).with(|config| config.http.allowed_networks = vec![other]).start();
    let mut client = bridge.client();
    client.write(post(body("elsewhere")));
    assert_eq!(without_date(&client.rest()), answer(403, true));
    assert_eq!(bridge.outcomes(), BTreeMap::from([("refused network_not_allowed".to_owned(), 1.0)]));
    assert_eq!(broker.published(), 0);
}

#[test]
fn a_connection_is_closed_at_its_age_after_its_current_request() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.http.connection_age_max = Duration::from_millis(200)).start();
    broker.slow(Duration::from_millis(600));
    let mut client = bridge.client();
    client.write(post(body("aged")));
    let answer = without_date(&client.rest());
    assert_eq!(answer, self::answer(200, true));
    broker.slow(Duration::ZERO);
}

#[test]
fn operators_are_answered_on_a_port_of_their_own() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    for (request, status, body) in [
        (get("/live"), 200, "live\n"),
        (get("/ready"), 200, "ready\n"),
        (get("/else"), 404, "here are /, /status, /metrics, /live and /ready\n"),
        ("POST /metrics HTTP/1.1\r\nHost: bridge\r\n\r\n".to_owned(), 405, "only GET is allowed here\n"),
    ] {
        let answer = ask(bridge.admin, request);
        assert_eq!((answer.status(), answer.body()), (status, body));
    }
    let scrape = ask(bridge.admin, get("/metrics"));
    assert!(scrape.0.contains("content-type: text/plain; version=0.0.4"), "{}", scrape.0);
    assert!(scrape.body().contains("\nrecording_bridge_ready 1\n"), "{}", scrape.body());
    // Nothing of this is a callback, and callbacks are not taken here.
    assert_eq!(bridge.metric("callbacks_received_total"), 0.0);
    assert_eq!(ask(bridge.admin, post(self::body("wrong port"))).status(), 405);
    assert_eq!(ask(bridge.callbacks, get("/metrics")).0, answer(404, true));
}
