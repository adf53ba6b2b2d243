//! The page: what is shown as HTML, and the files that it consists of.
//!
//! The server writes this moment and the newest callbacks, so that the page says something without its script; the script
//! then keeps it up to date. Everything that is put in goes through `escaped`, wherever it comes from.

use std::fmt::Write as _;

use super::document::WireRow;
use super::{Journal, Present};

const PAGE: &str = include_str!("page.html");
/// Its style.
pub const STYLE: &str = include_str!("page.css");
/// Its script.
pub const SCRIPT: &str = include_str!("page.js");
/// Where its style is.
pub const STYLE_PATH: &str = "/status/page.css";
/// Where its script is.
pub const SCRIPT_PATH: &str = "/status/page.js";
/// Where its events are.
pub const EVENTS_PATH: &str = "/status/events";

/// Callbacks that the server writes; the script shows the others.
const ROWS: usize = 20;

/// The page as it is now.
#[must_use]
pub fn render(journal: &Journal, present: &Present) -> String {
    let mut extract = journal.since(0);
    extract.rows.truncate(ROWS);
    let rows = journal.rows(&extract);
    let readiness_class = if present.is_ready { "ready" } else { "unready" };
    filled(PAGE, |place| match place {
        "state" => escaped(present.state.label()),
        "title" => escaped(&present.title()),
        "state_class" => escaped(present.state_class()),
        "state_words" => escaped(present.state_words()),
        "readiness" => escaped(&present.readiness_words()),
        "readiness_class" => readiness_class.to_owned(),
        "facts" => {
            lines(&present.facts(), |(name, value)| format!("<dt>{}</dt><dd>{}</dd>", escaped(name), escaped(value)))
        }
        "keys" => lines(&journal.keys(), |(name, verified_at)| {
            let time = verified_at.map_or("never since the start".to_owned(), |at| at.to_string());
            format!("<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(&time))
        }),
        "rows" => lines(&rows, line),
        "none_hidden" => {
            if rows.is_empty() {
                String::new()
            } else {
                " hidden".to_owned()
            }
        }
        "path" => escaped(&present.path),
        "version" => escaped(env!("CARGO_PKG_VERSION")),
        _ => String::new(),
    })
}

/// `page` with every `{{place}}` replaced by what `fill` says. What is put in is not looked at again.
fn filled(page: &str, fill: impl Fn(&str) -> String) -> String {
    let mut whole = String::with_capacity(2 * page.len());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((place, after)) = after.split_once("}}") else { break };
        whole.push_str(before);
        whole.push_str(&fill(place));
        rest = after;
    }
    whole.push_str(rest);
    whole
}

fn lines<T>(all: &[T], line: impl Fn(&T) -> String) -> String {
    all.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// One callback, as the script would write it.
fn line(row: &WireRow<'_>) -> String {
    let outcome = if row.reason == "spool" { "spooled" } else { row.outcome };
    let place = match (row.partition.zip(row.offset), row.spool_sequence, row.source) {
        (Some((partition, offset)), _, _) => format!("partition {partition}, offset {offset}"),
        (None, Some(sequence), _) => format!("spool, number {sequence}"),
        (None, None, Some(source)) => format!("from {source}"),
        (None, None, None) => String::new(),
    };
    let mut what = format!("<strong class=\"o-{outcome}\">{outcome}</strong>");
    if !matches!(outcome, "accepted" | "spooled" | "duplicate") {
        what.extend([" ", row.reason]);
    }
    if let Some(hint) = row.hint {
        what.extend(["<span class=\"hint\">", &escaped(hint), "</span>"]);
    }
    let key = row.key.map(|key| format!("<span class=\"more\">key {}</span>", escaped(key))).unwrap_or_default();
    let mut line = String::new();
    let written = write!(
        line,
        "<tr><td>{}</td><td>{what}</td><td>{}{key}</td><td><bdi>{}</bdi><bdi class=\"file\">{}</bdi></td><td>{:.1} \
         ms</td><td>{}</td></tr>",
        row.at,
        row.kind.unwrap_or_default(),
        escaped(&row.stream),
        escaped(&row.file),
        row.milliseconds,
        escaped(&place),
    );
    debug_assert!(written.is_ok(), "a text takes everything");
    line
}

/// `text` as it must stand in HTML, between tags or within quotes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;
    use crate::callback::Kind;
    use crate::event::Timestamp;
    use crate::metrics::{DeliveryState, Outcome};
    use crate::refusal::Refusal;
    use crate::status::{Ending, KafkaPresent, Place, Signed};

    #[test]
    fn nothing_that_is_put_in_becomes_markup() {
        assert_eq!(
            escaped(r#"<img src=x onerror="a('b')">&"#),
            "&lt;img src=x onerror=&quot;a(&#39;b&#39;)&quot;&gt;&amp;"
        );
        assert_eq!(escaped("直播 \u{202e}é"), "直播 \u{202e}é");
    }

    #[test]
    fn places_are_filled_once_and_what_fills_them_is_left_alone() {
        assert_eq!(filled("a {{b}} c {{d}}", |place| format!("[{place} {{{{b}}}}]")), "a [b {{b}}] c [d {{b}}]");
        assert_eq!(filled("a {{b", |_| String::new()), "a {{b");
    }

    #[test]
    fn every_place_of_the_page_is_known() {
        let unknown = PAGE.split("{{").skip(1).map(|after| after.split("}}").next().unwrap());
        for place in unknown {
            let source = include_str!("page.rs");
            assert!(source.contains(&format!("\"{place}\" =>")), "{place}");
        }
    }

    /// The colours of a scheme, by name.
    fn palette(style: &str) -> Vec<(&str, [f64; 3])> {
        let block = style.split('}').next().unwrap();
        let colours = block.split(';').filter_map(|rule| rule.split_once("--")?.1.split_once(": #"));
        let part =
            |hex: &str, at: usize| f64::from(u8::from_str_radix(hex.get(at..at + 2).unwrap(), 16).unwrap()) / 255.0;
        colours.map(|(name, hex)| (name, [part(hex, 0), part(hex, 2), part(hex, 4)])).collect()
    }

    /// Relative luminance, by WCAG 2.2.
    fn luminance(colour: [f64; 3]) -> f64 {
        let linear = |part: f64| if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) };
        let [red, green, blue] = colour.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    #[test]
    fn every_colour_is_legible_in_light_and_dark() {
        let (light, dark) = STYLE.split_once("@media (prefers-color-scheme: dark)").unwrap();
        for scheme in [light, dark] {
            let palette = palette(scheme.split_once(":root {").unwrap().1);
            assert_eq!(palette.len(), 11, "{palette:?}");
            let of = |wanted: &str| luminance(palette.iter().find(|(name, _)| *name == wanted).unwrap().1);
            for (name, colour) in palette.iter().filter(|(name, _)| !["ground", "raised"].contains(name)) {
                for ground in ["ground", "raised"] {
                    let (one, other) = (luminance(*colour), of(ground));
                    let contrast = (one.max(other) + 0.05) / (one.min(other) + 0.05);
                    // 4.5 for texts; lines and focus need 3, and have as much.
                    assert!(contrast >= 4.5, "{name} on {ground}: {contrast:.2}");
                }
            }
        }
        // A colour that stands elsewhere would not have been looked at.
        let elsewhere = STYLE.lines().filter(|line| line.contains('#') && line.contains(": #") && !line.contains("--"));
        assert_eq!(elsewhere.count(), 0);
    }

    /// A page that shows as many callbacks as it can, with names as hostile and as long as they get.
    fn full_page() -> String {
        let at = Timestamp::from_seconds(1_770_000_000, 0).unwrap();
        let journal = Journal::new(vec!["k".repeat(64); 8], at);
        for number in 0..2 * ROWS {
            let hostile = "\"<img src=x onerror=alert(1)>'".repeat(9);
            let signed = Signed::timely(0, Some(Kind::RecordingException), &hostile);
            let outcome = if number % 2 == 0 { Outcome::Accepted } else { Outcome::Refused(Refusal::OutOfScope) };
            journal.record(&Ending {
                at,
                outcome,
                place: Some(Place::Kafka { partition: i32::MAX, offset: i64::MAX }),
                microseconds: u64::from(u32::MAX),
                source: IpAddr::V6(Ipv6Addr::from_bits(u128::MAX)),
                signed: Some(&signed),
                stream: hostile.as_bytes(),
                member: "",
            });
        }
        let kafka = KafkaPresent {
            brokers: vec!["b".repeat(80); 9],
            topic: "t".repeat(249),
            dead_letter_topic: "<b>".repeat(83),
            brokers_up: 9,
            brokers_connecting: 0,
            brokers_down: 0,
            outstanding_messages: 0,
            takes_events: None,
            obstacle: None,
        };
        let present = Present {
            at,
            state: DeliveryState::Direct,
            is_ready: false,
            is_stopping: false,
            kafka,
            spool: None,
            clock_ahead_seconds: Some(-0.5),
            path: "/<script>".to_owned(),
            received: u64::MAX,
            in_flight: u64::MAX,
            connection_faults: u64::MAX,
        };
        render(&journal, &present)
    }

    #[test]
    fn everything_together_has_less_than_60_kilobytes() {
        let whole = full_page().len() + STYLE.len() + SCRIPT.len();
        assert!((20_000..60_000).contains(&whole), "{whole} bytes");
    }

    #[test]
    fn a_hostile_name_is_shown_as_it_is_and_does_nothing() {
        let page = full_page();
        assert_eq!(page.matches("&lt;img src=x onerror=alert(1)&gt;").count() % ROWS, 0);
        for markup in ["<img", "<b>", "{{"] {
            assert!(!page.contains(markup), "{markup}");
        }
        // The one script is its own, and it stands in a file of its own.
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("<tr><td>").count(), ROWS);
        for foreign in ["style=", "onclick", "onload", "http:", "https:"] {
            assert!(!PAGE.contains(foreign), "{foreign} in the page as it is written");
        }
    }
}
