//! Which sealed segments of a topic may go.

use mainstem_eventlog::{Cleanup, TopicConfig};

/// A sealed or active segment, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub base: i64,
    pub bytes: u64,
    pub max_time_ms: i64,
}

/// The new start of a partition, when segments are to go. `floor`: below it nobody needs anything any more; None keeps all. The last
/// segment stays, and so does every one behind one that stays.
pub fn new_start(config: &TopicConfig, segments: &[Span], floor: Option<i64>, now_ms: i64) -> Option<i64> {
    if config.cleanup != Cleanup::Delete {
        return None;
    }
    let floor = floor?;
    let mut left: u64 = segments.iter().map(|segment| segment.bytes).sum();
    let mut start = None;
    for pair in segments.windows(2) {
        let (segment, end) = (pair[0], pair[1].base);
        let old = config.retention_ms.is_some_and(|ms| segment.max_time_ms < now_ms.saturating_sub(ms));
        let many = config.retention_bytes.is_some_and(|most| left - segment.bytes >= most.max(0) as u64);
        if end > floor || !(old || many) {
            break;
        }
        left -= segment.bytes;
        start = Some(end);
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_go() {
        let segments: Vec<Span> = (0..5).map(|i| Span { base: i * 10, bytes: 100, max_time_ms: i * 1000 }).collect();
        let check = |cleanup, ms: Option<i64>, bytes: Option<i64>, floor: Option<i64>, expected: Option<i64>| {
            let config = TopicConfig { partitions: 1, cleanup, retention_ms: ms, retention_bytes: bytes };
            let case = format!("{config:?} floor {floor:?}");
            assert_eq!(new_start(&config, &segments, floor, 10_000), expected, "{case}");
        };
        let delete = Cleanup::Delete;
        check(delete, Some(0), None, None, None); // no floor told
        check(delete, None, None, Some(50), None); // no bound set
        check(delete, Some(0), None, Some(50), Some(40)); // never the active one
        check(delete, Some(7_500), None, Some(50), Some(30)); // older than 2,500
        check(delete, Some(0), None, Some(25), Some(20)); // the floor is inside the third
        check(delete, Some(0), None, Some(20), Some(20));
        check(delete, Some(0), None, Some(9), None);
        check(delete, None, Some(250), Some(50), Some(20)); // 300 stay: 200 would be too few
        check(delete, None, Some(0), Some(50), Some(40));
        check(Cleanup::Compact, Some(0), Some(0), Some(50), None);
    }
}
