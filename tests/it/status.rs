//! What operators are shown.
//!
//! Promise: every callback is shown with what became of it, and every refused one with what to change, whatever strangers
//! send; nothing secret is shown; and whoever looks, or stays to look, costs neither callbacks nor the end of the process
//! anything.

use std::thread;
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr;
use recording_bridge::callback::Scope;
use recording_bridge::config::SpoolConfig;
use serde_json::Value;

use crate::support_app::{
    ACKNOWLEDGED, Bridge, Broker, Client, KEY, Program, Setup, ask, body, body_signed, config_file, epoch_seconds,
    eventually, facts, get, now, post, signature,
};

/// The document. It is made twenty times a second at most, so it may be a second old.
fn document(bridge: &Bridge) -> Value {
    let answer = ask(bridge.admin, get("/status"));
    assert_eq!(answer.status(), 200, "{}", answer.0);
    serde_json::from_str(answer.body()).expect("the document is JSON")
}

/// The rows of the document, the newest first, once there are so many.
fn rows(bridge: &Bridge, count: usize) -> Vec<Value> {
    let rows = || document(bridge)["callbacks"].as_array().expect("a list").clone();
    eventually(&format!("{count} callbacks are shown"), || rows().len() >= count);
    let rows = rows();
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows
}

fn body_of_time(t: i64, key: &str) -> String {
    let t = t.to_string();
    format!(r#"{{{},"t":{t},"sign":"{}"}}"#, facts("clock"), signature(key, &t))
}

#[test]
fn a_callback_is_shown_with_what_became_of_it_and_where_its_event_is() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).key("second", "theSecondKeyOfTheTests01", Scope::default()).start();
    let first = body("a <b> & 'stream'");
    assert_eq!(bridge.post(&first).0, ACKNOWLEDGED);
    assert_eq!(bridge.post(&first).0, ACKNOWLEDGED);
    let t = (epoch_seconds() + 600).to_string();
    let screenshot = format!(r#"{{"event_type":200,"t":{t},"sign":"{}"}}"#, signature(KEY, &t));
    assert_eq!(bridge.post(screenshot).0, ACKNOWLEDGED);
    let rows = rows(&bridge, 3);
    let words = |row: &Value| format!("{} {} {}", row["outcome"], row["reason"], row["kind"]).replace('"', "");
    assert_eq!(
        rows.iter().map(words).collect::<Vec<_>>(),
        ["ignored screenshot screenshot", "duplicate repeat recording", "accepted kafka recording"]
    );
    let accepted = &rows[2];
    assert_eq!(accepted["stream"], "a <b> & 'stream'");
    assert!(accepted["file"].as_str().expect("a file").starts_with("1300000000_"), "{accepted}");
    assert_eq!(accepted["key"], "live");
    assert!(accepted["partition"].as_i64().is_some_and(|partition| (0..3).contains(&partition)), "{accepted}");
    assert_eq!(accepted["offset"], 0);
    assert!(accepted["milliseconds"].as_f64().is_some_and(|taken| taken > 0.0), "{accepted}");
    assert_eq!(accepted.get("source"), None, "the provider's addresses are of no use");
    assert_eq!((&rows[1]["partition"], &rows[1]["offset"]), (&accepted["partition"], &accepted["offset"]));

    // Without its script the page says as much, and markup in a name is none.
    let page = ask(bridge.admin, get("/"));
    assert!(page.body().contains("a &lt;b&gt; &amp; &#39;stream&#39;") && !page.body().contains("<b>"), "{}", page.0);
    assert!(page.body().contains("offset 0"), "{}", page.0);
    let document = document(&bridge);
    assert_eq!((&document["state"], &document["is_ready"]), (&Value::from("direct"), &Value::from(true)));
    assert_eq!(document["kafka"]["topic"], "recordings");
    assert_eq!(document["kafka"]["brokers"][0], broker.address());
    assert_eq!(document["received"], 3);
    let keys = document["keys"].as_array().expect("a list");
    assert_eq!((&keys[0]["name"], &keys[1]["name"]), (&Value::from("live"), &Value::from("second")));
    assert!(keys[0]["verified_at"].is_string() && keys[1].get("verified_at").is_none(), "{keys:?}");
    let hour = document["hour"].as_array().expect("a list");
    let sum = |name: &str| hour.iter().map(|minute| minute[name].as_u64().expect("a number")).sum::<u64>();
    assert_eq!((hour.len(), sum("accepted"), sum("other"), sum("refused")), (60, 1, 2, 0));
}

#[test]
fn a_refused_callback_is_shown_with_its_source_and_what_to_change() {
    let broker = Broker::start();
    let scope = Scope { app_ids: Vec::new(), push_domains: vec!["other.example.com".to_owned()] };
    let bridge = Setup::new(&broker).key("bound", "boundToDomains0123456789", scope).start();
    let clock = epoch_seconds();
    let cases = [
        (post(body_signed("s", "nobodyGaveUsThisKey01234")), "signature_mismatch", "second template"),
        (post(format!("{{{}}}", facts("s"))), "signature_missing", "callback template"),
        (post(body_of_time(clock - 900, KEY)), "expired", "clock"),
        (post(body_of_time(clock + 1600, KEY)), "too_far_ahead", "clock"),
        (post(body_of_time(clock - 900, "nobodyGaveUsThisKey01234")), "expired", "callback.keys"),
        (post(body_signed("s", "boundToDomains0123456789")), "out_of_scope", "push_domains"),
        (get("/callback/recording").into_bytes(), "path_unknown", "http.path"),
        (get("/callbacks/recording").into_bytes(), "method_not_allowed", "only posts"),
        (post("not json"), "not_json", "somebody else"),
        (post("x".repeat(70_000)), "body_too_large", "http.body_bytes_max"),
    ];
    for (request, ..) in &cases {
        assert_ne!(ask(bridge.callbacks, request).status(), 200);
    }
    let rows = rows(&bridge, cases.len());
    for ((_, reason, advice), row) in cases.iter().zip(rows.iter().rev()) {
        assert_eq!((row["outcome"].as_str(), row["reason"].as_str()), (Some("refused"), Some(*reason)), "{row}");
        assert!(row["hint"].as_str().expect("a hint").contains(advice), "{row}");
        assert_eq!(row["source"], "127.0.0.1", "{row}");
        // What nobody has proved is not repeated.
        assert!(row.get("stream").is_none() && row.get("file").is_none(), "{row}");
        assert_eq!(row["is_authentic"], false, "{row}");
    }
    // Whether a key of ours has signed tells a wrong clock from a stranger.
    let key = |back: usize| rows[cases.len() - 1 - back].get("key").cloned();
    assert_eq!((key(2), key(3), key(4)), (Some("live".into()), Some("live".into()), None));
    assert!(document(&bridge)["keys"][0].get("verified_at").is_none(), "a replay verifies nothing");
}

#[test]
fn a_flood_of_refused_callbacks_pushes_out_no_authentic_one() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    assert_eq!(bridge.post(body("kept")).0, ACKNOWLEDGED);
    let replay = body_of_time(epoch_seconds() - 1200, KEY);
    let mut client = bridge.client();
    for number in 0..450 {
        // Strangers have signatures of ours, too: old ones.
        let flood = if number % 2 == 0 { "[]" } else { replay.as_str() };
        assert_ne!(client.ask(post(flood)).status(), 200);
    }
    let rows = rows(&bridge, 201);
    let kept: Vec<&Value> = rows.iter().filter(|row| row["is_authentic"] == true).collect();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0]["stream"], "kept");
    // And the reverse: the last refusals are there after as many authentic ones.
    for _ in 0..250 {
        assert_eq!(client.ask(post(body("many"))).0, ACKNOWLEDGED);
    }
    let rows = self::rows(&bridge, 400);
    let of = |authentic: bool| rows.iter().filter(|row| row["is_authentic"] == authentic).count();
    assert_eq!((of(true), of(false)), (200, 200));
    let numbers: Vec<u64> = rows.iter().map(|row| row["number"].as_u64().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|one, next| one > next), "the newest come first: {numbers:?}");
}

#[test]
fn nothing_secret_is_shown_in_any_form() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let secret = "nobodyGaveUsThisKey01234";
    let bodies = [body("shown"), body_signed("nobody-has-proved", secret), body_of_time(epoch_seconds() - 900, KEY)];
    for body in &bodies {
        bridge.post(body);
    }
    rows(&bridge, 3);
    let mut follower = Client::connect(bridge.admin);
    follower.write(get("/status/events"));
    let events = follower.read_until("event: callbacks\n") + &follower.read_until("\n\n");
    for text in [ask(bridge.admin, get("/status")).0, ask(bridge.admin, get("/")).0, events] {
        let signatures = bodies.iter().map(|body| &body[body.len() - 34..body.len() - 2]);
        for hidden in signatures.chain([KEY, secret, "bucket.example.com", "video_url", "nobody-has-proved"]) {
            assert!(!text.contains(hidden), "{hidden:?} in {text}");
        }
        assert!(text.contains("shown"), "{text}");
    }
}

#[test]
fn an_outage_shows_in_the_state_and_in_every_row_and_so_does_its_end() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().expect("a folder");
    let bridge = Setup::new(&broker)
        .with(|config| {
            config.kafka.ack_deadline = Duration::from_secs(1);
            config.spool =
                SpoolConfig { directory: folder.path().join("spool"), disk_free_min: 0, ..SpoolConfig::default() };
        })
        .start();
    let state = || document(&bridge)["state"].as_str().expect("a state").to_owned();
    eventually("it is direct", || state() == "direct");
    assert_eq!(document(&bridge)["spool"]["events"], 0);
    broker.down();
    assert_eq!(bridge.post(body("outage")).0, ACKNOWLEDGED);
    eventually("it is spooling", || state() == "spooling");
    let row = rows(&bridge, 1).remove(0);
    assert_eq!((&row["outcome"], &row["reason"]), (&Value::from("accepted"), &Value::from("spool")));
    assert!(row["spool_sequence"].is_u64() && row.get("offset").is_none(), "{row}");
    let document = self::document(&bridge);
    assert_eq!((&document["is_ready"], &document["spool"]["events"]), (&Value::from(true), &Value::from(1)));
    assert!(document["state_words"].as_str().expect("words").contains("kept in the spool"), "{document}");
    broker.up();
    eventually("it is direct again", || state() == "direct");
}

#[test]
fn while_no_callback_comes_it_says_of_kafka_what_the_last_probe_found() {
    let broker = Broker::start();
    broker.fail_topic(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    let folder = tempfile::tempdir().expect("a folder");
    let with_spool = Setup::new(&broker).with(|config| {
        config.spool =
            SpoolConfig { directory: folder.path().join("spool"), disk_free_min: 0, ..SpoolConfig::default() };
    });
    let bridge = with_spool.start_unready();
    let says = |bridge: &Bridge, name: &str| document(bridge)[name].as_str().expect("a text").to_owned();
    let probed = |bridge: &Bridge| document(bridge)["kafka"]["takes_events"].clone();
    assert_ne!(says(&bridge, "state_words"), "Events go straight to Kafka.", "nobody has asked Kafka yet");
    eventually("the probe has found no topic", || probed(&bridge) == false);
    let page = document(&bridge);
    assert_eq!(page["kafka"]["obstacle"], "the topic does not exist, or may not be seen", "{page}");
    assert_eq!((&page["state"], &page["state_class"]), (&Value::from("direct"), &Value::from("direct doubtful")));
    let facts = page["facts"].as_array().expect("a list");
    assert_eq!(facts[0], serde_json::json!(["Kafka", "the topic does not exist, or may not be seen"]), "{page}");
    broker.fail_topic(RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
    eventually("the probe has found the topic", || probed(&bridge) == true);
    assert_eq!(says(&bridge, "state_words"), "Events go straight to Kafka.");
    drop(bridge);

    // Without a spool the state stays direct in an outage, where every callback is refused.
    let bridge = Bridge::start(&broker);
    broker.down();
    eventually("the outage shows", || says(&bridge, "title") == "direct, not ready");
    assert_eq!(says(&bridge, "state_class"), "direct refusing");
    assert!(says(&bridge, "state_words").contains("callbacks are refused"), "{}", says(&bridge, "state_words"));
    let page = ask(bridge.admin, get("/"));
    assert!(page.body().contains("<title>direct, not ready") && !page.body().contains("go straight"), "{}", page.0);
}

#[test]
fn switched_off_it_is_as_if_there_were_none() {
    let broker = Broker::start();
    let bridge = Setup::new(&broker).with(|config| config.admin.status_page = false).start();
    assert_eq!(bridge.post(body("unseen")).0, ACKNOWLEDGED);
    for path in ["/", "/status", "/status/events", "/status/page.css", "/status/page.js"] {
        let answer = ask(bridge.admin, get(path));
        assert_eq!((answer.status(), answer.body()), (404, "here are /metrics, /live and /ready\n"), "{path}");
    }
}

#[test]
fn nobody_can_be_made_to_load_send_or_frame_anything() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    for (path, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/status", "application/json"),
        ("/status/page.css", "text/css; charset=utf-8"),
        ("/status/page.js", "text/javascript; charset=utf-8"),
    ] {
        let answer = ask(bridge.admin, get(path));
        for header in [
            format!("content-type: {kind}\r\n"),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
                .to_owned(),
            "x-content-type-options: nosniff\r\n".to_owned(),
            "cache-control: no-store\r\n".to_owned(),
            "cross-origin-resource-policy: same-origin\r\n".to_owned(),
        ] {
            assert!(answer.0.contains(&header), "{path} has no {header:?} in {}", answer.0);
        }
        assert!(!answer.0.contains("access-control-allow"), "{path}");
        assert_eq!(ask(bridge.admin, get(path).replace("GET", "POST")).status(), 405, "{path}");
    }
}

#[test]
fn under_a_name_that_anybody_may_have_given_the_address_nothing_is_shown() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let paths = ["/", "/status", "/status/events", "/status/page.css", "/status/page.js"];
    let status = |path: &str, host: &str| {
        let mut client = Client::connect(bridge.admin);
        client.write(get(path).replace("Host: localhost", &format!("Host: {host}")));
        client.read_until("\r\n")
    };
    for host in ["127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "10.1.2.3:80", "localhost", "LOCALHOST:9090"] {
        for path in paths {
            assert!(status(path, host).contains(" 200 "), "{path} of {host}");
        }
    }
    for host in ["rebound.example:9090", "localhost.rebound.example", "127.0.0.1.rebound.example", "bridge", "a b", ""]
    {
        for path in paths {
            let line = status(path, host);
            assert!(line.contains(" 421 ") || line.contains(" 400 "), "{path} of {host:?}: {line}");
        }
        for path in ["/live", "/ready", "/metrics"] {
            let line = status(path, host);
            assert!(line.contains(" 200 ") || line.contains(" 400 "), "{path} of {host:?}: {line}");
        }
    }
    let named = get("/").replace("Host: localhost", "Host: rebound.example");
    assert!(ask(bridge.admin, named).body().starts_with("ask for this page by address, or as localhost"));
}

// ---------------------------------------------------------------------------------------------------------- followers

fn follow(admin: std::net::SocketAddr, last: &str) -> Client {
    let mut client = Client::connect(admin);
    client.write(format!("GET /status/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {last}\r\n\r\n"));
    client
}

/// The id and the rows of the next event about callbacks.
fn next_rows(follower: &mut Client) -> (String, Vec<Value>) {
    follower.read_until("id: ");
    let id = follower.read_until("\n").trim().to_owned();
    follower.read_until("event: callbacks\ndata: ");
    // A chunk of HTTP/1.1 is one event or several; none is cut.
    let data = follower.read_until("\n\n");
    let document: Value = serde_json::from_str(&data).expect("data is JSON");
    (id, document["callbacks"].as_array().expect("a list").clone())
}

#[test]
fn a_follower_sees_what_comes_and_after_a_break_what_he_has_missed() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let streams = |rows: &[Value]| rows.iter().map(|row| row["stream"].clone()).collect::<Vec<_>>();
    assert_eq!(bridge.post(body("before")).0, ACKNOWLEDGED);
    let mut follower = follow(bridge.admin, "");
    let (first, rows) = next_rows(&mut follower);
    assert_eq!(streams(&rows), ["before"]);
    assert_eq!(bridge.post(body("while")).0, ACKNOWLEDGED);
    let answered = now();
    let (_, rows) = next_rows(&mut follower);
    assert_eq!(streams(&rows), ["while"]);
    println!("shown {:?} after the answer", answered.elapsed());
    follower.read_until("event: present\ndata: {");
    drop(follower);

    assert_eq!(bridge.post(body("missed")).0, ACKNOWLEDGED);
    let (id, rows) = next_rows(&mut follow(bridge.admin, &first));
    assert_eq!(streams(&rows), ["missed", "while"]);
    let (_, rows) = next_rows(&mut follow(bridge.admin, &id));
    assert_eq!(streams(&rows), [Value::Null; 0]);
    // Numbers of the process before, and nonsense, are of no account.
    for other in ["1-2", "-", "x", "99999999999999999999-1"] {
        let (_, rows) = next_rows(&mut follow(bridge.admin, other));
        assert_eq!(rows.len(), 3, "{other:?}");
    }
}

#[test]
fn so_many_may_follow_and_no_more_and_the_others_still_get_their_answers() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let mut followers: Vec<Client> = (0..8).map(|_| follow(bridge.admin, "")).collect();
    for follower in &mut followers {
        next_rows(follower);
    }
    assert_eq!(ask(bridge.admin, get("/status/events")).status(), 503);
    assert_eq!(ask(bridge.admin, get("/live")).status(), 200);
    followers.pop();
    eventually("a seat is free", || {
        let mut follower = Client::connect(bridge.admin);
        follower.write(get("/status/events"));
        follower.read_until("\r\n").contains(" 200 ")
    });
}

#[test]
fn so_many_may_begin_to_follow_in_a_second_and_no_other_site_may() {
    let broker = Broker::start();
    let bridge = Bridge::start(&broker);
    let begin = |further: &str| {
        let mut follower = Client::connect(bridge.admin);
        follower.write(get("/status/events").replace("\r\n\r\n", &format!("\r\n{further}\r\n")));
        follower.read_until("\r\n").contains(" 200 ")
    };
    for site in ["cross-site", "same-site"] {
        assert!(!begin(&format!("Sec-Fetch-Site: {site}\r\n")), "{site}");
    }
    for site in ["same-origin", "none"] {
        eventually(site, || begin(&format!("Sec-Fetch-Site: {site}\r\n")));
    }
    // Each leaves at once; a seat that is not free yet is no harm here.
    let started = now();
    let taken = (0..100).filter(|_| begin("")).count();
    let seconds = usize::try_from(started.elapsed().as_secs()).expect("a short time") + 2;
    assert!((1..=20 * seconds).contains(&taken), "{taken} in {seconds} s");
}

#[test]
fn a_stop_does_not_wait_for_followers() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().expect("a folder");
    let further = "shutdown: {drain_delay: 0s}\n";
    let keys = [("live", KEY, Scope::default())];
    let mut program = Program::serve(&config_file(folder.path(), &broker.address(), &keys, further));
    program.ready();
    let mut followers: Vec<Client> = (0..3).map(|_| follow(program.address("admin"), "")).collect();
    for follower in &mut followers {
        next_rows(follower);
    }
    // One of them reads on, the others do not.
    let reader = thread::spawn({
        let mut follower = followers.remove(0);
        move || follower.rest()
    });
    program.terminate();
    assert_eq!(program.exit_code(), 0);
    let rest = reader.join().expect("a reader");
    assert!(rest.ends_with("0\r\n\r\n"), "the answer ends in good order: {rest:?}");
    let log = program.log();
    assert!(log.contains("\"stopped\"") && !log.contains("does not end"), "{log}");
}
