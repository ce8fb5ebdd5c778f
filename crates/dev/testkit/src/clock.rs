//! A clock a thousand times as fast: it goes on by what is slept, and a sleep is over at once. What waits for seconds is tested in
//! milliseconds, and nothing else in it moves time.

use async_trait::async_trait;
use mainstem_env::{Clock, Moment};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What its wall clock shows at the start, microseconds since 1970-01-01T00:00:00Z.
const START_US: i64 = 1_700_000_000_000_000;

/// See the module. Each reading is later than the one before.
#[derive(Default)]
pub struct SimClock {
    now_us: AtomicU64,
}

impl SimClock {
    fn tick(&self) -> u64 {
        self.now_us.fetch_add(1, Ordering::Relaxed)
    }
}

#[async_trait]
impl Clock for SimClock {
    fn now_us(&self) -> i64 {
        START_US + self.tick() as i64
    }

    fn moment(&self) -> Moment {
        Moment(Duration::from_micros(self.tick()))
    }

    async fn sleep(&self, duration: Duration) {
        let end = self.now_us.load(Ordering::Relaxed) + duration.as_micros() as u64;
        tokio::time::sleep(duration / 1000).await;
        self.now_us.fetch_max(end, Ordering::Relaxed);
    }
}
