//! Schedules that chance meets too seldom, written out.

use recording_bridge::delivery::ladder::{
    Answer, Attempt, Command, Denial, Failure, Ladder, Outcome, Placement, Recovered, Sequence, Settings, SpoolFault,
    State, Time,
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
