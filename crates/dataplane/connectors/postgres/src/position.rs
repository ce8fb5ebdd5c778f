//! A place in a Postgres cluster's WAL: `<system identifier>/<timeline>/<LSN>` (decision 26).

use mainstem_types::Position;

/// LSNs of one cluster on one timeline. A `system` of 0 stands for "whichever": a place that a user wrote as a bare LSN before we
/// knew the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Place {
    pub system: u64,
    pub timeline: u32,
    /// The end of a commit record, or a place that a keepalive named.
    pub lsn: u64,
}

impl Place {
    /// Accepts the long form and a bare LSN (then system and timeline are 0).
    pub fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.trim().split('/').collect();
        match parts.as_slice() {
            [system, timeline, high, low] => {
                Some(Self { system: system.parse().ok()?, timeline: timeline.parse().ok()?, lsn: lsn_of(high, low)? })
            }
            [high, low] => Some(Self { system: 0, timeline: 0, lsn: lsn_of(high, low)? }),
            _ => None,
        }
    }

    pub fn position(&self) -> Position {
        Position::new(&format!("{}/{}/{}", self.system, self.timeline, lsn_text(self.lsn)))
    }

    pub fn at(self, lsn: u64) -> Self {
        Self { lsn, ..self }
    }

    /// Whether all that is before `other` is before this too. Places of different clusters never cover each other.
    pub fn covers(&self, other: &Self) -> bool {
        let same = self.system == other.system || self.system == 0 || other.system == 0;
        same && self.lsn >= other.lsn
    }

    /// Whether a timeline with this history file has the place, which lies on another one: it left that timeline no earlier. Lines are
    /// `<timeline> <LSN of the switch> <reason>`, with comments after `#`.
    pub fn is_before_switch(&self, history: &str) -> bool {
        history.lines().any(|line| {
            let mut words = line.split_whitespace();
            let timeline = words.next().and_then(|word| word.parse::<u32>().ok());
            let switch = words.next().and_then(parse_lsn);
            timeline == Some(self.timeline) && switch.is_some_and(|switch| self.lsn <= switch)
        })
    }
}

fn lsn_of(high: &str, low: &str) -> Option<u64> {
    let half = |text: &str| u32::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
    Some(u64::from(half(high)?) << 32 | u64::from(half(low)?))
}

/// `16/B374D848` -> number.
pub fn parse_lsn(text: &str) -> Option<u64> {
    let (high, low) = text.split_once('/')?;
    lsn_of(high, low)
}

pub fn lsn_text(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// Widens a transaction id to xid8 by a nearby full one: the epoch that puts it closest (they are never 2^31 apart).
pub fn widen(xid: u32, near: u64) -> u64 {
    let distance = xid.wrapping_sub(near as u32) as i32;
    near.wrapping_add_signed(i64::from(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip() {
        let place = Place { system: 7_123, timeline: 2, lsn: 0x16_B374_D848 };
        assert_eq!(place.position().0.as_ref(), "7123/2/16/B374D848");
        assert_eq!(Place::parse("7123/2/16/B374D848"), Some(place));
        assert_eq!(Place::parse("0/16B3748").unwrap().lsn, 0x16B_3748);
        for bad in ["", "x", "0/", "1/2/3", "0/16B3748Z", "1/1/1/+1", "0/1FFFFFFFF"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_history_has_what_came_before_the_switch() {
        let history = "# kept\n1\t0/3000158\tno recovery target specified\n\n2\t1/10\tbefore transaction 5\n";
        let check = |timeline, lsn, expected| {
            let place = Place { system: 1, timeline, lsn };
            assert_eq!(place.is_before_switch(history), expected, "{place:?}");
        };
        check(1, 0x300_0158, true);
        check(1, 0x300_0159, false);
        check(2, 0x300_0159, true);
        check(2, 0x1_0000_0011, false);
        check(3, 1, false);
        assert!(!Place { system: 1, timeline: 1, lsn: 1 }.is_before_switch(""));
    }

    #[test]
    fn xids_widen_across_the_wrap() {
        let epoch = 1u64 << 32;
        assert_eq!(widen(5, epoch - 3), epoch + 5);
        assert_eq!(widen(u32::MAX, epoch + 3), epoch - 1);
        assert_eq!(widen(800, 790), 800);
    }
}
