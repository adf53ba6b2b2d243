//! Which acknowledgements can be believed.
//!
//! An idempotent producer numbers its messages. librdkafka calls a message delivered if the broker calls it a repeat, and
//! if a later one is acknowledged. Where client and broker do not count alike, that says of a message that it is safe, and
//! it is nowhere. One request in flight keeps that from happening; this is the net below it. Every message has an offset
//! of its own, and one producer's messages are appended to a partition in the order in which they are acknowledged. So an
//! acknowledgement without an offset, or with one that is not above all before it, is that of another message.
//!
//! Nor is anything believed of that partition afterwards: librdkafka counts on from an offset that it was not told, so the
//! rest of a batch would look as if it had places of its own. What cannot be seen here is a broker that names the offset
//! of a message whose own acknowledgement never came.
//!
//! A true repeat whose first acknowledgement was lost names the offset at which the message stands, and is believed,
//! unless the broker has forgotten the offset as well. Whoever is not believed is sent again: at worst there is a duplicate.

use std::sync::{Mutex, PoisonError};

/// Above every offset.
const NOTHING_MORE: i64 = i64::MAX;

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
        let Some(before) = highest.get_mut(index) else { return false };
        let is_above = offset > *before;
        *before = if is_above { offset } else { NOTHING_MORE };
        is_above
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
            // Named before, and nothing is believed of the partition from then on.
            (0, 7, false),
            (0, 8, false),
            // Between what was named before.
            (3, 6, false),
            (3, 8, false),
            // What librdkafka says of a batch for which it was told none.
            (1, -1, false),
            (1, 0, false),
            (1, 1, false),
            (2, -1001, false),
            (-1, 9, false),
            (4, 0, true),
        ] {
            assert_eq!(offsets.believe(partition, offset), believed, "{partition} {offset}");
        }
    }
}
