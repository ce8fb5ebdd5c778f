//! Standby status updates: a task of its own tells the server how far we are, whether anybody reads the stream or not. It never says
//! more than what was acknowledged (decision 3, 26).

use crate::wire::Io;
use bytes::{BufMut, BytesMut};
use mainstem_connector::KEEPALIVE_INTERVAL;
use mainstem_env::{Env, JoinOnDrop, spawn};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::Notify;

/// Acknowledgements come with every batch; the server needs them about once a second.
const ACKNOWLEDGE_INTERVAL: Duration = Duration::from_millis(500);

/// What the stream, the status task and `head` tell each other.
#[derive(Default)]
pub struct Feedback {
    /// LSN up to which everything is durable here.
    pub acknowledged: AtomicU64,
    /// Somebody waits until the stream has passed this.
    pub wanted: AtomicU64,
    ask: AtomicBool,
    urgent: AtomicBool,
    wake: Notify,
    acknowledged_wake: Notify,
}

impl Feedback {
    pub fn acknowledge(&self, lsn: u64) {
        self.acknowledged.fetch_max(lsn, Ordering::AcqRel);
        self.acknowledged_wake.notify_one();
        self.wake.notify_one();
    }

    /// A new stream begins: what an earlier one was told holds no more (the server may be another).
    pub fn reset(&self, lsn: u64) {
        self.acknowledged.store(lsn, Ordering::Release);
        self.wanted.store(0, Ordering::Release);
    }

    /// Returns when something was acknowledged since the last call.
    pub async fn acknowledgement(&self) {
        self.acknowledged_wake.notified().await;
    }

    /// The server asked for an answer.
    pub fn reply_now(&self) {
        self.urgent.store(true, Ordering::Release);
        self.wake.notify_one();
    }

    /// Asks the server for a keepalive that says how far it is.
    pub fn ask_keepalive(&self, wanted: u64) {
        self.wanted.fetch_max(wanted, Ordering::AcqRel);
        self.ask.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

fn status_update(acknowledged: u64, now_us: i64, ask: bool) -> BytesMut {
    let mut out = BytesMut::with_capacity(39);
    out.put_u8(b'd');
    out.put_u32(38);
    out.put_u8(b'r');
    for _ in 0..3 {
        out.put_u64(acknowledged); // written, flushed, applied
    }
    out.put_i64(now_us - crate::pgoutput::EPOCH_SHIFT_US);
    out.put_u8(u8::from(ask));
    out
}

/// Runs until its handle goes or the connection does.
pub fn start(env: Env, feedback: Arc<Feedback>, mut io: WriteHalf<Box<dyn Io>>) -> JoinOnDrop<()> {
    spawn("postgres status updates", async move {
        let mut next = env.clock.moment();
        let mut sent = u64::MAX;
        loop {
            let acknowledged = feedback.acknowledged.load(Ordering::Acquire);
            let ask = feedback.ask.swap(false, Ordering::AcqRel);
            let urgent = feedback.urgent.swap(false, Ordering::AcqRel);
            let now = env.clock.moment();
            if ask || urgent || now >= next || (acknowledged != sent && sent == u64::MAX) {
                let out = status_update(acknowledged, env.clock.now_us(), ask);
                if io.write_all(&out).await.is_err() || io.flush().await.is_err() {
                    return; // the reader finds out by itself
                }
                sent = acknowledged;
                next.0 = now.0 + KEEPALIVE_INTERVAL;
            } else if acknowledged != sent {
                next.0 = next.0.min(now.0 + ACKNOWLEDGE_INTERVAL);
            }
            let wait = next - env.clock.moment();
            tokio::select! {
                () = env.clock.sleep(wait) => {}
                () = feedback.wake.notified() => {}
            }
        }
    })
}
