//! The status page in a real browser, before a real Apache Kafka.
//!
//! Promise: a callback is on the page within a second, with its partition and offset; an outage shows, and its end; what
//! is refused says what to change; a hostile name does nothing; and it works on a phone, in the dark and by keyboard.
//!
//! With `RECORDING_BRIDGE_PICTURES=1` it writes the pictures of the README to `docs/images`.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use serde_json::{Value, json};

use crate::support::bridge::{Bridge, KEY, PATH, plain};
use crate::support::browser::Browser;
use crate::support::kafka::{Cluster, Topic, read_topic, topic_name};
use crate::support::load::{Client, seconds_now, sign};
use crate::support::spooling::{SPOOL, await_direct};

/// Largest picture, in bytes: the README shows three of them.
const PICTURE_BYTES_MAX: u64 = 150_000;
const PICTURES: [&str; 3] = ["status-direct.png", "status-spooling.png", "status-refused.png"];

/// What a row shows, by the name of its stream; `null` if there is none.
const ROW: &str = "(stream) => {
    const name = [...document.querySelectorAll('#rows bdi')].find((name) => name.textContent === stream);
    return name ? [...name.closest('tr').cells].map((cell) => cell.innerText) : null;
}";

fn images() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images")
}

fn post_signed(bridge: &Bridge, stream: &str, key: &str) -> u16 {
    let t = seconds_now() + 600;
    let file = format!("1300000000_{stream}");
    let body = json!({
        "event_type": 100, "appid": 1_300_000_000, "app": "push.example.com", "stream_id": stream, "file_id": file,
        "video_url": "http://bucket.example.com/secret.mp4", "t": t, "sign": sign(key, t)
    });
    Client::new(bridge.callbacks()).post(PATH, &body.to_string()).unwrap()
}

fn post(bridge: &Bridge, stream: &str) {
    assert_eq!(post_signed(bridge, stream, KEY), 200, "{}", bridge.log_tail());
}

fn picture(browser: &mut Browser, name: &str) {
    assert!(PICTURES.contains(&name), "{name} is not in the list");
    if env::var_os("RECORDING_BRIDGE_PICTURES").is_some() {
        fs::create_dir_all(images()).unwrap();
        browser.picture(&images().join(name));
    }
}

fn row(browser: &mut Browser, stream: &str) -> Value {
    browser.run(&format!("({ROW})({})", json!(stream)))
}

#[test]
fn the_page_shows_callbacks_outages_and_refusals_as_they_come() {
    let cluster = Cluster::start(1);
    let topic = topic_name("status-page");
    cluster.create_topic(&Topic { name: &topic, partitions: 6, replication: 1, min_isr: 1, properties: &[] });
    let kafka = format!("{}, ack_deadline: 1s", plain(&cluster.brokers(), &topic));
    let bridge = Bridge::start_with(&kafka, SPOOL);
    await_direct(&bridge, Duration::from_secs(60));
    let url = format!("http://{}/", bridge.admin());
    let mut browser = Browser::start();
    browser.open(&url, 1280, "light");
    browser.until("document.querySelector('#following').textContent === 'Live'");

    callbacks_appear_with_their_place(&bridge, &mut browser, &cluster, &topic);
    picture(&mut browser, "status-direct.png");
    a_hostile_name_does_nothing(&bridge, &mut browser);
    an_outage_shows_and_its_end(&bridge, &mut browser, &cluster);
    what_is_refused_says_what_to_change(&bridge, &mut browser);
    rows_are_filtered(&mut browser);
    nothing_was_asked_for_elsewhere(&mut browser, &url);
    it_works_on_a_phone_in_the_dark_and_by_keyboard(&mut browser, &url);
    what_is_old_does_not_look_alive(&bridge, &mut browser);
    drop(browser);
    assert_eq!(bridge.terminate(), 0);
}

fn callbacks_appear_with_their_place(bridge: &Bridge, browser: &mut Browser, cluster: &Cluster, topic: &str) {
    // The page notes when each row came; the row says when the callback was answered. Both clocks are this machine's.
    browser.run(
        "window.delays = []; new MutationObserver((changes) => {
            for (const change of changes) for (const line of change.addedNodes) {
                window.delays.push(Date.now() - Date.parse(line.querySelector('time').dateTime));
            }
        }).observe(document.querySelector('#rows'), { childList: true });",
    );
    let streams: Vec<String> = (0..9).map(|number| format!("lesson-{number}")).collect();
    for (number, stream) in streams.iter().enumerate() {
        post(bridge, stream);
        browser.until(&format!("window.delays.length === {}", number + 1));
    }
    let mut delays: Vec<i64> = serde_json::from_value(browser.run("window.delays")).unwrap();
    delays.sort_unstable();
    println!("rows appear after {delays:?} ms");
    // The median, for a machine that does many other things.
    assert!(delays[delays.len() / 2] < 1000, "{delays:?} ms");
    let records = read_topic(cluster, topic);
    for stream in &streams {
        let record = records.iter().find(|record| record.key.as_deref() == Some(stream.as_str())).unwrap();
        let row = row(browser, stream);
        assert_eq!(row[5], format!("partition {}, offset {}", record.partition, record.offset), "{row}");
        assert_eq!(row[1], "accepted", "{row}");
        assert_eq!(row[2], "recording\nkey tests", "{row}");
    }
    assert_eq!(browser.run("document.querySelector('#state').className"), "direct");
    assert_eq!(browser.run("document.querySelector('#readiness').className"), "ready");
    browser.until("document.querySelectorAll('#rates rect').length > 0 && document.querySelectorAll('#latencies rect').length > 0");
    let keys = browser.run("document.querySelector('#keys').innerText");
    assert!(keys.as_str().unwrap().starts_with("tests\t20"), "{keys}");
}

fn a_hostile_name_does_nothing(bridge: &Bridge, browser: &mut Browser) {
    let long = "x".repeat(256);
    let hostile = [
        r#"<img src=x onerror="document.title='owned'">"#,
        r#""><script>alert(1)</script>"#,
        "{{rows}} ${alert(1)} &lt;b&gt; 'quoted'",
        "\u{202e}gnp.evil\u{2066}",
    ];
    for name in hostile.into_iter().chain([long.as_str()]) {
        post(bridge, name);
    }
    for name in hostile {
        browser.until(&format!("({ROW})({}) !== null", json!(name)));
    }
    browser.until(&format!("({ROW})({}) !== null", json!(format!("{}…", "x".repeat(128)))));
    // Again as the server writes it.
    let written = Client::new(bridge.admin()).get("/").unwrap().1;
    assert!(!written.contains("<img") && !written.contains("<script>"), "{written}");
    assert_eq!(browser.run("document.querySelectorAll('img, iframe, #rows script, #rows b').length"), 0);
    assert_eq!(browser.run("document.title"), "direct · recording-bridge");
    assert_eq!(
        browser.run("document.documentElement.scrollWidth <= innerWidth"),
        true,
        "the long name widens the page"
    );
}

fn an_outage_shows_and_its_end(bridge: &Bridge, browser: &mut Browser, cluster: &Cluster) {
    cluster.kill(1);
    post(bridge, "during-the-outage");
    post(bridge, "later-in-the-outage");
    browser.until("document.querySelector('#state').className === 'spooling'");
    browser.until("document.querySelector('#state-words').textContent.includes('kept in the spool')");
    browser.until("document.querySelector('#facts').innerText.includes('2 events wait')");
    for stream in ["during-the-outage", "later-in-the-outage"] {
        browser.until(&format!("({ROW})({}) !== null", json!(stream)));
        let row = row(browser, stream);
        assert_eq!(row[1], "spooled", "{row}");
        assert!(row[5].as_str().unwrap().starts_with("spool, number "), "{row}");
    }
    assert_eq!(browser.run("document.title"), "spooling · recording-bridge");
    picture(browser, "status-spooling.png");
    cluster.restart(1);
    await_direct(bridge, Duration::from_secs(60));
    browser.until("document.querySelector('#state').className === 'direct'");
    browser.until("document.querySelector('#facts').innerText.includes('no event waits')");
}

fn what_is_refused_says_what_to_change(bridge: &Bridge, browser: &mut Browser) {
    assert_eq!(post_signed(bridge, "of-a-stranger", "anotherKeyThanOurs0123"), 403);
    assert_eq!(Client::new(bridge.callbacks()).post("/callback/recording", "{}").unwrap(), 404);
    let first = "document.querySelectorAll('#rows tr')[0]?.innerText ?? ''";
    browser.until(&format!("({first}).includes('path_unknown') && ({first}).includes('http.path')"));
    let second = browser.run("document.querySelectorAll('#rows tr')[1].innerText");
    let second = second.as_str().unwrap();
    for words in ["refused signature_mismatch", "second template", "from 127.0.0.1"] {
        assert!(second.contains(words), "{words:?} in {second}");
    }
    assert!(!second.contains("of-a-stranger"), "{second}");
}

fn rows_are_filtered(browser: &mut Browser) {
    let outcomes = "[...new Set([...document.querySelectorAll('#rows strong')].map((word) => word.textContent))]";
    browser.choose("#outcome", "refused");
    assert_eq!(browser.run(outcomes), json!(["refused"]));
    assert!(browser.run("document.querySelector('#count').textContent").as_str().unwrap().starts_with("2 of "));
    browser.run("document.querySelector('#callbacks').scrollIntoView()");
    picture(browser, "status-refused.png");
    browser.choose("#outcome", "spooled");
    assert_eq!(browser.run("document.querySelectorAll('#rows tr').length"), 2);
    browser.choose("#outcome", "");
    browser.fill("#text", "Lesson-3 tests");
    assert_eq!(browser.run("document.querySelectorAll('#rows tr').length"), 1);
    browser.fill("#text", "nothing is called so");
    assert_eq!(browser.run("document.querySelectorAll('#rows tr').length"), 0);
    browser.fill("#text", "");
    let all = browser.run("document.querySelectorAll('#rows tr').length");
    assert_eq!(all, 9 + 5 + 2 + 2);
}

fn nothing_was_asked_for_elsewhere(browser: &mut Browser, url: &str) {
    let seen = browser.seen();
    assert_eq!(seen.errors, [""; 0]);
    assert!(seen.requests.len() >= 4, "{seen:?}");
    assert!(seen.requests.iter().all(|asked| asked.starts_with(url) || asked == "data:,"), "{seen:?}");
}

fn it_works_on_a_phone_in_the_dark_and_by_keyboard(browser: &mut Browser, url: &str) {
    let light = browser.run("getComputedStyle(document.body).backgroundColor");
    browser.open(url, 360, "dark");
    browser.until("document.querySelectorAll('#rows tr').length === 18");
    assert_ne!(browser.run("getComputedStyle(document.body).backgroundColor"), light);
    assert_eq!(browser.run("document.documentElement.scrollWidth <= 360"), true, "wider than the phone");
    // Everything that takes input is reached, has a name, and shows that it is reached.
    let mut reached = Vec::new();
    for _ in 0..4 {
        browser.press("Tab");
        let state = browser.run(
            "(() => { const at = document.activeElement; const name = at.labels?.[0]?.innerText \
             ?? at.getAttribute('aria-label') ?? at.innerText; \
             return [at.id || at.className, name.trim().split(/\\s/)[0], getComputedStyle(at).outlineStyle]; })()",
        );
        assert_eq!(state[2], "solid", "{state}");
        reached.push(format!("{} {}", state[0], state[1]).replace('"', ""));
    }
    assert_eq!(reached, ["skip Skip", "outcome Outcome", "text Text", "wide Callbacks"]);
    assert_eq!(browser.seen().errors, [""; 0]);
}

fn what_is_old_does_not_look_alive(bridge: &Bridge, browser: &mut Browser) {
    let following = "document.querySelector('#following').textContent";
    browser.until(&format!("{following} === 'Live'"));
    // The connection stays, and nothing comes any more.
    bridge.freeze();
    browser.until("document.body.className === 'stale'");
    assert!(browser.run(following).as_str().unwrap().starts_with("Not connected: what is shown is as of 20"));
    assert_eq!(browser.run("document.title"), "not connected · recording-bridge");
    let colour = "((of) => getComputedStyle(document.querySelector(of)).color)";
    assert_eq!(
        browser.run(&format!("{colour}('#state-name') === {colour}('#following')")),
        true,
        "the state is as green as ever"
    );
    bridge.thaw();
    browser.until(&format!("{following} === 'Live' && document.body.className === ''"));
    browser.until("document.title === 'direct · recording-bridge'");
}

#[test]
fn the_readme_shows_pictures_that_are_there_and_small() {
    let readme = include_str!("../../README.md");
    for name in PICTURES {
        assert!(readme.contains(&format!("](docs/images/{name})")), "{name}");
        let bytes = fs::metadata(images().join(name)).unwrap_or_else(|error| panic!("{name}: {error}")).len();
        assert!(bytes < PICTURE_BYTES_MAX, "{name} has {bytes} bytes");
    }
    assert_eq!(fs::read_dir(images()).unwrap().count(), PICTURES.len());
}
