//! Schedules that chance meets too seldom, written out.

use recording_bridge::delivery::ladder::{
    Answer, Attempt, Command, Denial, Failure, FrameHead, Ladder, Lane, Outcome, Placement, Recovered, Sequence,
    Settings, SpoolFault, State, Time,
};

/// A ladder in Direct over an empty spool.
fn direct(now: Time) -> Ladder {
    let empty = Recovered { watermark: Sequence(0), last: Sequence(0) };
    let mut ladder = Ladder::new(Settings::default(), Some(empty));
    tick(&mut ladder, now);
    assert_eq!(ladder.state(), State::Direct);
    ladder
}

/// Lets time pass; producers are created at once.
fn tick(ladder: &mut Ladder, now: Time) -> Vec<Command> {
    let mut commands = Vec::new();
    ladder.tick(now, &mut commands);
    for command in commands.clone() {
        if let Command::StartProducer(generation, ..) = command {
            ladder.producer_ready(generation, now, &mut commands);
        }
    }
    commands
}

fn send(ladder: &mut Ladder, now: Time) -> Attempt {
    match ladder.arrive(now, &mut Vec::new()) {
        Placement::Send(attempt) => attempt,
        other => panic!("{other:?} instead of a send"),
    }
}

/// Found by the simulation, once in two million schedules.
#[test]
fn a_message_that_failed_beside_a_refused_one_is_not_spooled_when_the_spool_comes_back() {
    let now = Time::from_secs(1);
    let mut ladder = direct(now);
    let mut commands = Vec::new();
    // The spool turns out to be full, and the ladder goes on without it.
    let spooled = send(&mut ladder, now);
    ladder.report(spooled, Outcome::Failed(Failure::Transient), now, &mut commands);
    ladder.append_failed(spooled.sequence, SpoolFault::Full, now, &mut commands);
    let now = Time::from_secs(2);
    tick(&mut ladder, now);
    tick(&mut ladder, now);
    assert_eq!(ladder.state(), State::Direct);
    // Two messages fail together; the ladder hears of the first, and a newer message reaches Kafka.
    let (first, second) = (send(&mut ladder, now), send(&mut ladder, now));
    ladder.report(first, Outcome::Failed(Failure::Transient), now, &mut commands);
    let newer = send(&mut ladder, now);
    ladder.report(newer, Outcome::Delivered, now, &mut commands);
    // The spool has room again before the ladder hears of the second.
    ladder.spool_probed(Ok(()), now, &mut commands);
    assert!(ladder.spool_takes_frames());
    commands.clear();
    ladder.report(second, Outcome::Failed(Failure::Transient), now, &mut commands);
    let refused = Command::Answer(second.sequence, Answer::Denied(Denial::KafkaRefused));
    assert!(commands.contains(&refused), "{commands:?}");
    assert!(!commands.contains(&Command::Append(second.sequence)), "{commands:?}");
}

/// An outage without traffic: nothing but probes says whether Kafka is there.
#[test]
fn an_idle_outage_keeps_its_state_until_a_probe_succeeds_or_probes_fall_silent() {
    let mut now = Time::from_secs(1);
    let mut ladder = direct(now);
    let attempt = send(&mut ladder, now);
    ladder.report(attempt, Outcome::Delivered, now, &mut Vec::new());
    ladder.brokers_unreachable(attempt.generation, now, &mut Vec::new());
    assert_eq!(ladder.state(), State::Spooling);
    for _ in 0..60 {
        now += Time::from_secs(2);
        tick(&mut ladder, now);
        ladder.brokers_probed(false, now, &mut Vec::new());
        assert_eq!(ladder.state(), State::Spooling, "at {now:?}");
    }
    ladder.brokers_probed(true, now, &mut Vec::new());
    assert_eq!(ladder.state(), State::Direct);

    let attempt = send(&mut ladder, now);
    ladder.report(attempt, Outcome::Delivered, now, &mut Vec::new());
    ladder.brokers_unreachable(attempt.generation, now, &mut Vec::new());
    assert_eq!(ladder.state(), State::Spooling);
    tick(&mut ladder, now + Time::from_secs(1));
    tick(&mut ladder, now + Time::from_secs(11));
    assert_eq!(ladder.state(), State::Direct, "a probe that hangs must not keep the state for ever");
}

/// Hands over everything that is to be sent, and reads as asked, in chunks, until neither goes on.
fn publish_and_read(ladder: &mut Ladder, now: Time, commands: &mut Vec<Command>, sent: &mut Vec<Attempt>) -> usize {
    let mut reads = 0;
    loop {
        sent.extend(std::iter::from_fn(|| ladder.next_send(now)));
        let asked = commands.iter().find_map(|command| match command {
            Command::ReadSpool { after, through } => Some((*after, *through)),
            _ => None,
        });
        commands.clear();
        let Some((after, through)) = asked else { return reads };
        reads += 1;
        let end = Sequence(through.0.min(after.0 + 1_000));
        let frames: Vec<FrameHead> = (after.0 + 1..=end.0)
            .map(|number| FrameHead { sequence: Sequence(number), lane: Lane((number % 64) as u16), bytes: 1_000 })
            .collect();
        ladder.frames_read((after, end), &frames, now, commands);
    }
}

#[test]
fn before_kafka_has_acknowledged_anything_little_is_read_ahead() {
    let settings = Settings::default();
    let found = Recovered { watermark: Sequence(0), last: Sequence(1_000_000) };
    let mut now = Time::from_secs(1);
    let mut ladder = Ladder::new(settings, Some(found));
    let mut sent = Vec::new();
    let mut reads = 0;
    for _ in 0..400 {
        now += Time::from_millis(50);
        let mut commands = tick(&mut ladder, now);
        reads += publish_and_read(&mut ladder, now, &mut commands, &mut sent);
    }
    assert_eq!(ladder.state(), State::Spooling, "nothing is being published yet");
    let most = usize::from(settings.lanes) * settings.lane_frames_unproven_max;
    assert_eq!(sent.len(), most);
    assert!(reads < 10, "{reads} reads of frames for which there is no room");

    let mut watermark = Sequence(0);
    for _ in 0..1_000 {
        now += Time::from_millis(50);
        let mut commands = tick(&mut ladder, now);
        for attempt in std::mem::take(&mut sent) {
            ladder.report(attempt, Outcome::Delivered, now, &mut commands);
        }
        for command in commands.clone() {
            if let Command::Commit(through) = command {
                watermark = through;
                ladder.committed(true, now, &mut commands);
            }
        }
        publish_and_read(&mut ladder, now, &mut commands, &mut sent);
    }
    assert_eq!(watermark, found.last);
}

/// A ladder that has published the only frame of its spool, is about to stop, and has told the spool to note that.
fn published_and_stopping(now: Time, deadline: Time) -> Ladder {
    let one = Recovered { watermark: Sequence(0), last: Sequence(1) };
    let mut ladder = Ladder::new(Settings::default(), Some(one));
    let commands = tick(&mut ladder, now);
    let read = Command::ReadSpool { after: Sequence(0), through: Sequence(1) };
    assert!(commands.contains(&read), "{commands:?}");
    let head = FrameHead { sequence: Sequence(1), lane: Lane(0), bytes: 100 };
    let mut commands = Vec::new();
    ladder.frames_read((Sequence(0), Sequence(1)), &[head], now, &mut commands);
    let attempt = ladder.next_send(now).unwrap();
    ladder.report(attempt, Outcome::Delivered, now, &mut commands);
    assert!(commands.contains(&Command::Commit(Sequence(1))), "{commands:?}");
    ladder.stop(deadline, now, &mut commands);
    assert!(!commands.contains(&Command::Finished), "what was published is not noted yet: {commands:?}");
    ladder
}

#[test]
fn the_end_waits_until_what_was_published_is_noted_unless_the_disk_fails_or_hangs() {
    let (now, deadline) = (Time::from_secs(1), Time::from_secs(10));
    for success in [true, false] {
        let mut commands = Vec::new();
        published_and_stopping(now, deadline).committed(success, now, &mut commands);
        assert!(commands.contains(&Command::Finished), "{commands:?}");
    }
    let mut ladder = published_and_stopping(now, deadline);
    assert!(!tick(&mut ladder, deadline).contains(&Command::Finished));
    let patience = Settings::default().append_patience;
    assert!(tick(&mut ladder, deadline + patience).contains(&Command::Finished));
}

#[test]
fn the_end_waits_for_the_spool_only_while_kafka_takes_its_frames() {
    let (now, deadline) = (Time::from_secs(1), Time::from_secs(10));
    let found = Recovered { watermark: Sequence(0), last: Sequence(100_000) };
    for kafka_takes_frames in [false, true] {
        let mut ladder = Ladder::new(Settings::default(), Some(found));
        let mut sent = Vec::new();
        let mut commands = tick(&mut ladder, now);
        publish_and_read(&mut ladder, now, &mut commands, &mut sent);
        if kafka_takes_frames {
            let last = sent.pop().unwrap();
            ladder.report(last, Outcome::Delivered, now, &mut commands);
        }
        let mut commands = Vec::new();
        ladder.stop(deadline, now, &mut commands);
        assert_eq!(commands.contains(&Command::Finished), !kafka_takes_frames, "{commands:?}");
        let mut ends = tick(&mut ladder, deadline);
        ends.extend(commands);
        assert!(ends.contains(&Command::Finished), "{ends:?}");
    }
}

/// New credentials while all is well: what is on its way goes to the spool, and a new producer is made. Where there is no
/// spool for it, the producer that works stays.
#[test]
fn new_credentials_replace_a_producer_only_where_nothing_is_refused_for_it() {
    let now = Time::from_secs(1);
    let mut ladder = direct(now);
    let old = send(&mut ladder, now);
    let mut commands = Vec::new();
    ladder.credentials_changed(false, now, &mut commands);
    assert!(commands.contains(&Command::Append(old.sequence)), "{commands:?}");
    assert_eq!(ladder.state(), State::Spooling);

    let mut spoolless = Ladder::new(Settings::default(), None);
    tick(&mut spoolless, now);
    let kept = send(&mut spoolless, now);
    commands.clear();
    spoolless.credentials_changed(false, now, &mut commands);
    assert_eq!(commands, [], "it works");
    spoolless.credentials_changed(true, now, &mut commands);
    assert!(commands.contains(&Command::RetireProducer(kept.generation)), "{commands:?}");
}

/// A producer that is being made when credentials change was made of the old ones: it must not stay.
#[test]
fn a_producer_that_is_being_made_when_credentials_change_is_not_wanted() {
    let now = Time::from_secs(1);
    let mut ladder = direct(now);
    let old = send(&mut ladder, now);
    let mut commands = Vec::new();
    ladder.credentials_changed(true, now, &mut commands);
    ladder.appended(old.sequence, now, &mut commands);
    let later = now + Time::from_secs(1);
    ladder.tick(later, &mut commands);
    let started = |commands: &[Command]| {
        commands
            .iter()
            .filter_map(|command| match command {
                Command::StartProducer(generation, ..) => Some(*generation),
                _ => None,
            })
            .collect::<Vec<_>>()
    };
    let made = *started(&commands).first().expect("a producer for the frame");
    commands.clear();
    ladder.credentials_changed(true, later, &mut commands);
    assert!(commands.contains(&Command::RetireProducer(made)), "{commands:?}");
    assert!(!ladder.producer_ready(made, later, &mut commands));
    ladder.tick(later + Time::from_secs(1), &mut commands);
    let next = *started(&commands).first().expect("another one");
    assert!(ladder.producer_ready(next, later, &mut commands));
}
