//! Time. Wall time is for showing and for records; `Moment` is for measuring and deadlines and never goes back.

use async_trait::async_trait;
use std::ops::Sub;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A reading of the monotonic clock: time since the clock was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub Duration);

impl Sub for Moment {
    type Output = Duration;
    fn sub(self, earlier: Moment) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

#[async_trait]
pub trait Clock: Send + Sync {
    /// Microseconds since 1970-01-01T00:00:00Z.
    fn now_us(&self) -> i64;
    fn moment(&self) -> Moment;
    async fn sleep(&self, duration: Duration);
}

pub struct RealClock {
    start: Instant,
}

#[allow(clippy::disallowed_methods)] // the one place that reads the machine's clock
impl RealClock {
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods)] // the one place that reads the machine's clock
#[async_trait]
impl Clock for RealClock {
    fn now_us(&self) -> i64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as i64)
    }

    fn moment(&self) -> Moment {
        Moment(self.start.elapsed())
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
