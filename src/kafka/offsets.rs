//! Which acknowledgements can be believed.
//!
//! An idempotent producer numbers its messages, and a broker that meets a number for the second time drops the message
//! and says that all is well: it takes it for a repeat. If client and broker do not count alike any more, which
//! librdkafka has been known for after a broker forgot a topic for a moment, that says of a new message that it is safe,
//! and it is nowhere. But every message has an offset of its own, and one producer's messages are appended to a partition
//! in the order in which they are acknowledged. So an acknowledgement without an offset, or with one that is not above
//! all before it, is that of another message.
//!
//! A true repeat whose first acknowledgement was lost names the offset at which the message stands, and is believed,
//! unless the broker has forgotten the offset as well. Whoever is not believed is sent again: at worst there is a duplicate.

use std::sync::{Mutex, PoisonError};

/// The highest offset that was acknowledged in each partition to one producer.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    highest: Mutex<Vec<i64>>,
}

impl Offsets {
    /// Takes note of an acknowledgement; `false` if no message of its own stands behind it. To be called in the order
    /// of the acknowledgements.
    pub(super) fn believe(&self, partition: i32, offset: i64) -> bool {
        let Ok(index) = usize::try_from(partition) else { return false };
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        if highest.len() <= index {
            highest.resize(index + 1, -1);
        }
        let Some(before) = highest.get_mut(index).filter(|before| offset > **before) else { return false };
        *before = offset;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_an_offset_of_its_own_above_those_before_it() {
        let offsets = Offsets::default();
        for (partition, offset, believed) in [
            (0, 0, true),
            (0, 1, true),
            // Others may write to the partition, too.
            (0, 7, true),
            (3, 7, true),
            // Named before, or between what was named before.
            (0, 7, false),
            (0, 2, false),
            (0, 8, true),
            (3, 6, false),
            (3, 8, true),
            // What librdkafka says if it was told none.
            (3, -1, false),
            (3, -1001, false),
            (-1, 9, false),
        ] {
            assert_eq!(offsets.believe(partition, offset), believed, "{partition} {offset}");
        }
    }
}
