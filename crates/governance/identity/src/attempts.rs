//! Slows the guessing of passwords down. What slows is a user at an address, and an address whatever the user: an administrator who comes from
//! elsewhere never waits for a guesser.

use mainstem_env::Moment;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// Failures that cost nothing: people mistype. An address has more, for many may share it.
const FREE: u32 = 3;
const FREE_ADDRESS: u32 = 20;
const PAUSE_FIRST: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// Who would have to wait longer is turned away; a log-in has 10 s.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// After this silence a failure is forgotten.
const FORGET: Duration = Duration::from_secs(600);
/// Entries at most, 100 bytes each or so; beyond it the one that is closest to being forgotten goes.
const ENTRIES_MAX: usize = 10_000;

/// The failed log-ins of late.
#[derive(Default)]
pub struct Attempts(Mutex<HashMap<Key, Entry>>);

/// An address, and a user there; None stands for all users.
type Key = (IpAddr, Option<String>);

struct Entry {
    failures: u32,
    failed: Moment,
    /// When the next attempt may be judged.
    next: Moment,
}

/// What an attempt has to do before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wait(Duration),
    /// Come again after this time.
    Refuse(Duration),
}

impl Attempts {
    /// To be asked before a password is judged. `address` is what counts as one (see the listener's `group`). Attempts that come side by side
    /// stand in line.
    pub fn begin(&self, user: &str, address: IpAddr, now: Moment) -> Verdict {
        let mut entries = self.0.lock();
        let keys = keys(user, address);
        let wait = keys.iter().filter_map(|(key, free)| entries.get(key).filter(|e| e.failures >= *free && !e.is_old(now)));
        let wait = wait.map(|entry| entry.next - now).max().unwrap_or_default();
        if wait > WAIT_MAX {
            return Verdict::Refuse(wait);
        }
        for (key, free) in &keys {
            if let Some(entry) = entries.get_mut(key).filter(|entry| entry.failures >= *free) {
                entry.next = Moment(now.0 + wait + pause(entry.failures - free));
            }
        }
        Verdict::Wait(wait)
    }

    pub fn failed(&self, user: &str, address: IpAddr, now: Moment) {
        let mut entries = self.0.lock();
        for (key, free) in keys(user, address) {
            if entries.len() >= ENTRIES_MAX && !entries.contains_key(&key) {
                entries.retain(|_, entry| !entry.is_old(now));
                let oldest = entries.iter().min_by_key(|(_, entry)| entry.failed).map(|(key, _)| key.clone());
                if let (true, Some(oldest)) = (entries.len() >= ENTRIES_MAX, oldest) {
                    entries.remove(&oldest);
                }
            }
            let entry = entries.entry(key).or_insert(Entry { failures: 0, failed: now, next: now });
            if entry.is_old(now) {
                entry.failures = 0;
            }
            entry.failures += 1;
            entry.failed = now;
            if entry.failures >= free {
                entry.next = entry.next.max(Moment(now.0 + pause(entry.failures - free)));
            }
        }
    }

    /// A right password: what this user failed with at this address is forgotten.
    pub fn succeeded(&self, user: &str, address: IpAddr) {
        self.0.lock().remove(&(address, Some(name(user))));
    }
}

impl Entry {
    fn is_old(&self, now: Moment) -> bool {
        now - self.failed > FORGET
    }
}

/// The start of a name tells users apart well enough, and a guesser cannot make entries large.
fn name(user: &str) -> String {
    user.chars().take(64).collect()
}

/// What an attempt counts under, with the failures that are free there.
fn keys(user: &str, address: IpAddr) -> [(Key, u32); 2] {
    [((address, Some(name(user))), FREE), ((address, None), FREE_ADDRESS)]
}

/// Doubles with each failure.
fn pause(failures: u32) -> Duration {
    PAUSE_FIRST.saturating_mul(1 << failures.min(10)).min(PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Moment {
        Moment(Duration::from_secs_f64(seconds))
    }

    fn from(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    /// Guesses as fast as it is let for `seconds`; how many were judged.
    fn guesses(attempts: &Attempts, user: impl Fn(u32) -> String, address: IpAddr, seconds: f64) -> u32 {
        let (mut now, mut judged) = (0.0, 0);
        while now < seconds {
            match attempts.begin(&user(judged), address, at(now)) {
                Verdict::Wait(wait) => {
                    now += wait.as_secs_f64() + 0.001;
                    attempts.failed(&user(judged), address, at(now));
                    judged += 1;
                }
                Verdict::Refuse(wait) => now += wait.as_secs_f64(),
            }
        }
        judged
    }

    #[test]
    fn guessing_slows_down() {
        let attempts = Attempts::default();
        let judged = guesses(&attempts, |_| "admin".into(), from(1), 3600.0);
        assert!((100..150).contains(&judged), "{judged} guesses in an hour");
        // Elsewhere the same user waits for nothing, and here another user is slowed by the address alone.
        assert_eq!(attempts.begin("admin", from(2), at(3600.0)), Verdict::Wait(Duration::ZERO));
        // After a while all is forgotten.
        assert_eq!(attempts.begin("admin", from(1), at(5000.0)), Verdict::Wait(Duration::ZERO));
    }

    #[test]
    fn another_name_each_time_helps_nobody() {
        let judged = guesses(&Attempts::default(), |n| format!("user{n}"), from(1), 3600.0);
        assert!((100..170).contains(&judged), "{judged} guesses in an hour");
    }

    #[test]
    fn a_mistake_costs_nothing_and_a_success_ends_it() {
        let attempts = Attempts::default();
        for n in 0..2 {
            attempts.failed("eve", from(1), at(f64::from(n)));
        }
        assert_eq!(attempts.begin("eve", from(1), at(2.0)), Verdict::Wait(Duration::ZERO));
        attempts.failed("eve", from(1), at(2.0));
        assert_eq!(attempts.begin("eve", from(1), at(2.0)), Verdict::Wait(Duration::from_millis(500)));
        // Side by side they stand in line.
        assert_eq!(attempts.begin("eve", from(1), at(2.0)), Verdict::Wait(Duration::from_secs(1)));
        attempts.succeeded("eve", from(1));
        assert_eq!(attempts.begin("eve", from(1), at(2.0)), Verdict::Wait(Duration::ZERO));
    }

    #[test]
    fn memory_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..ENTRIES_MAX as u32 {
            attempts.failed(&"x".repeat(100_000), IpAddr::from(n.to_be_bytes()), at(f64::from(n) / 1000.0));
        }
        let entries = attempts.0.lock();
        assert!(entries.len() <= ENTRIES_MAX && entries.keys().all(|key| key.1.as_ref().is_none_or(|name| name.len() <= 64)));
    }
}
