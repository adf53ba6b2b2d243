//! The law: what was answered against what the topic holds.
//!
//! 1. Every callback that was ever answered 200 is in the topic.
//! 2. Every record lies where the Java producer would have put its key, its key is the stream of its value, and
//!    somebody sent it.
//! 3. Within a stream, if one callback's 200 had come before another was sent, its first record comes first; a
//!    callback that was ever answered otherwise than 200 is exempt.
//!
//! Duplicates break nothing (consumers remove them) and are counted.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::kafka::Record;
use super::load::Answer;

/// How a load and a topic relate.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    accepted: usize,
    records: usize,
    pub(crate) duplicates: usize,
    /// Pairs of callbacks whose order was decided and compared.
    pub(crate) ordered: usize,
    pub(crate) lost: Vec<String>,
    pub(crate) inverted: Vec<String>,
    pub(crate) misplaced: Vec<String>,
    pub(crate) wrong_key: Vec<String>,
    pub(crate) unknown: Vec<String>,
}

impl Findings {
    /// Whether the law holds.
    pub(crate) fn hold(&self) -> bool {
        [&self.lost, &self.inverted, &self.misplaced, &self.wrong_key, &self.unknown].iter().all(|list| list.is_empty())
    }

    /// Panics with everything that was found if the law is broken, or if there was nothing to try it on.
    #[track_caller]
    pub(crate) fn assert_hold(&self) {
        assert!(self.hold(), "the law is broken\n{self}");
        assert!(self.accepted > 0, "no callback was accepted, so nothing is proved\n{self}");
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { accepted, records, duplicates, ordered, .. } = self;
        writeln!(
            formatter,
            "{accepted} accepted, {records} records, {duplicates} duplicates, {ordered} pairs in order"
        )?;
        for (name, list) in [
            ("lost", &self.lost),
            ("inverted", &self.inverted),
            ("on another partition than the Java client's", &self.misplaced),
            ("under another key than their stream", &self.wrong_key),
            ("sent by nobody", &self.unknown),
        ] {
            writeln!(formatter, "{} {name}", list.len())?;
            for line in list.iter().take(10) {
                writeln!(formatter, "    {line}")?;
            }
        }
        Ok(())
    }
}

/// Tries the law on the answers to a load and the records of its topic (in the order of their offsets).
pub(crate) fn law(answers: &[Answer], records: &[Record]) -> Findings {
    let mut findings = Findings { records: records.len(), ..Findings::default() };
    let mut sent: HashMap<&str, Vec<&Answer>> = HashMap::new();
    for answer in answers {
        sent.entry(&answer.file_id).or_default().push(answer);
    }
    let first = first_records(records, &sent, &mut findings);
    let is_accepted = |answer: &Answer| answer.status == Some(200);
    let mut streams: HashMap<&str, Vec<(&Answer, i64)>> = HashMap::new();
    for (file_id, attempts) in &sent {
        let Some(accepted) = attempts.iter().copied().find(|attempt| is_accepted(attempt)) else { continue };
        findings.accepted += 1;
        let Some(&offset) = first.get(*file_id) else {
            findings.lost.push(format!("{accepted:?}"));
            continue;
        };
        if attempts.iter().all(|attempt| is_accepted(attempt)) {
            streams.entry(&accepted.stream_id).or_default().push((accepted, offset));
        }
    }
    for callbacks in streams.into_values() {
        order(callbacks, &mut findings);
    }
    findings
}

/// The offset of the first record of every file. One stream has one key, so its offsets lie on one partition, or
/// some of its records are reported as misplaced.
fn first_records(
    records: &[Record],
    sent: &HashMap<&str, Vec<&Answer>>,
    findings: &mut Findings,
) -> HashMap<String, i64> {
    let mut first = HashMap::new();
    for record in records {
        let place = format!("partition {} offset {}", record.partition, record.offset);
        let value: Value = serde_json::from_str(&record.value).unwrap_or_default();
        let key = record.key.as_deref();
        if record.java_partition != Some(record.partition) {
            findings.misplaced.push(format!("{place}: {key:?} belongs on {:?}", record.java_partition));
        }
        if key.is_none() || value["stream_id"].as_str() != key {
            findings.wrong_key.push(format!("{place}: key {key:?}, stream {}", value["stream_id"]));
        }
        let file_id = value["file_id"].as_str().unwrap_or_default();
        let known = sent.get(file_id).is_some_and(|attempts| Some(attempts[0].stream_id.as_str()) == key);
        if !known {
            findings.unknown.push(format!("{place}: {}", record.value));
        }
        if first.contains_key(file_id) {
            findings.duplicates += 1;
        } else {
            first.insert(file_id.to_owned(), record.offset);
        }
    }
    first
}

/// Compares every callback of one stream with the one that lies furthest back among those answered before it was
/// sent: if that one comes first, all of them do.
fn order(callbacks: Vec<(&Answer, i64)>, findings: &mut Findings) {
    let mut by_answer = callbacks.clone();
    by_answer.sort_by_key(|(answer, _)| answer.answered_at());
    let mut by_sending = callbacks;
    by_sending.sort_by_key(|(answer, _)| answer.sent_at);
    let mut answered = by_answer.into_iter().peekable();
    let mut furthest: Option<(&Answer, i64)> = None;
    for (later, offset) in by_sending {
        let before = |answer: &Answer, time: Duration| answer.answered_at() <= time;
        while let Some((earlier, offset)) = answered.next_if(|(earlier, _)| before(earlier, later.sent_at)) {
            if furthest.is_none_or(|(_, furthest)| furthest < offset) {
                furthest = Some((earlier, offset));
            }
        }
        if let Some((earlier, earlier_offset)) = furthest {
            findings.ordered += 1;
            if earlier_offset > offset {
                findings.inverted.push(format!("{later:?} at {offset} before {earlier:?} at {earlier_offset}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three callbacks of one stream, each sent after the answer to the one before.
    fn answers() -> Vec<Answer> {
        (0..3).map(|number| answer(number, number * 10, 5, Some(200))).collect()
    }

    fn answer(number: u64, sent_at: u64, latency: u64, status: Option<u16>) -> Answer {
        Answer {
            stream_id: "stream".to_owned(),
            file_id: format!("file-{number}"),
            sent_at: Duration::from_millis(sent_at),
            latency: Duration::from_millis(latency),
            status,
        }
    }

    /// A topic that holds these files in this order.
    fn topic(files: &[u64]) -> Vec<Record> {
        files.iter().zip(0..).map(|(file, offset)| record(*file, offset)).collect()
    }

    fn record(file: u64, offset: i64) -> Record {
        Record {
            partition: 3,
            offset,
            key: Some("stream".to_owned()),
            java_partition: Some(3),
            timestamp: 0,
            headers: Vec::new(),
            value: format!(r#"{{"stream_id":"stream","file_id":"file-{file}"}}"#),
        }
    }

    #[test]
    fn the_law_holds_for_a_topic_that_holds_everything_in_order() {
        let findings = law(&answers(), &topic(&[0, 1, 2]));
        assert!(findings.hold(), "{findings}");
        assert_eq!((findings.accepted, findings.records, findings.ordered, findings.duplicates), (3, 3, 2, 0));
    }

    #[test]
    fn an_accepted_callback_that_is_not_in_the_topic_is_lost() {
        let findings = law(&answers(), &topic(&[0, 2]));
        assert_eq!((findings.lost.len(), findings.hold()), (1, false));
        assert!(findings.lost[0].contains("file-1"), "{findings}");
    }

    #[test]
    fn a_refused_or_unanswered_callback_may_be_in_the_topic_or_not() {
        let refused = |status| [answer(0, 0, 5, Some(200)), answer(1, 10, 5, status)];
        for status in [Some(503), None] {
            assert!(law(&refused(status), &topic(&[0])).hold());
            assert!(law(&refused(status), &topic(&[0, 1])).hold());
        }
    }

    #[test]
    fn a_later_callback_before_an_earlier_one_is_an_inversion() {
        let findings = law(&answers(), &topic(&[1, 0, 2]));
        assert_eq!((findings.inverted.len(), findings.hold()), (1, false));
        // The inversion may lie between callbacks that are no neighbours.
        assert_eq!(law(&answers(), &topic(&[2, 0, 1])).inverted.len(), 1);
        assert_eq!(law(&answers(), &topic(&[1, 2, 0])).inverted.len(), 2);
    }

    #[test]
    fn a_duplicate_is_counted_and_only_the_first_record_orders() {
        let findings = law(&answers(), &topic(&[0, 1, 0, 2, 1]));
        assert_eq!((findings.duplicates, findings.hold()), (2, true));
        assert_eq!(law(&answers(), &topic(&[1, 0, 1, 2])).inverted.len(), 1);
    }

    #[test]
    fn callbacks_that_were_under_way_together_have_no_order() {
        let together = [answer(0, 0, 20, Some(200)), answer(1, 10, 20, Some(200))];
        assert!(law(&together, &topic(&[1, 0])).hold());
    }

    #[test]
    fn a_callback_that_was_ever_refused_is_exempt_from_the_order_and_still_not_lost() {
        let again = [answer(0, 0, 5, Some(503)), answer(1, 10, 5, Some(200)), answer(0, 20, 5, Some(200))];
        assert!(law(&again, &topic(&[0, 1])).hold());
        assert!(law(&again, &topic(&[1, 0])).hold());
        assert_eq!(law(&again, &topic(&[1])).lost.len(), 1);
    }

    #[test]
    fn a_record_on_another_partition_than_the_java_clients_is_misplaced() {
        let mut records = topic(&[0, 1, 2]);
        records[1].java_partition = Some(4);
        let findings = law(&answers(), &records);
        assert_eq!((findings.misplaced.len(), findings.hold()), (1, false));
    }

    #[test]
    fn a_record_under_another_key_than_its_stream_is_reported() {
        for key in [None, Some("another".to_owned())] {
            let mut records = topic(&[0, 1, 2]);
            records[1].key = key;
            let findings = law(&answers(), &records);
            assert_eq!((findings.wrong_key.len(), findings.hold()), (1, false));
        }
    }

    #[test]
    fn a_record_that_nobody_sent_is_reported() {
        let findings = law(&answers(), &topic(&[0, 1, 2, 3]));
        assert_eq!((findings.unknown.len(), findings.hold()), (1, false));
    }

    #[test]
    #[should_panic(expected = "nothing is proved")]
    fn a_law_without_an_accepted_callback_proves_nothing() {
        law(&[answer(0, 0, 5, Some(503))], &[]).assert_hold();
    }
}
