//! The Sakila shop at work: rentals, returns, payments, corrections, refunds, at a given rate over several connections.

use crate::Result;
use crate::postgres::connect;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config};

#[derive(Clone, Debug)]
pub struct ShopOptions {
    /// Transactions per second over all connections; 0 = as fast as it goes.
    pub rate: u32,
    pub connections: u32,
    pub seed: u64,
}

impl Default for ShopOptions {
    fn default() -> Self {
        Self { rate: 200, connections: 4, seed: 1 }
    }
}

/// What the shop has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShopCounts {
    pub transactions: u64,
    pub rentals: u64,
    pub returns: u64,
    /// Customers, films, inventory and payments changed in place.
    pub corrections: u64,
    /// Payment and rental deleted.
    pub refunds: u64,
    /// Transactions lost to a failing connection; the shop connects again and goes on.
    pub failures: u64,
}

#[derive(Default)]
struct Counters {
    rentals: AtomicU64,
    returns: AtomicU64,
    corrections: AtomicU64,
    refunds: AtomicU64,
    failures: AtomicU64,
}

/// A running shop. `stop` it; dropping it stops it too, without waiting.
pub struct Shop {
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl Shop {
    /// Starts working on a loaded Sakila database.
    pub fn start(config: Config, options: ShopOptions) -> Self {
        let counters = Arc::new(Counters::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let connections = options.connections.max(1);
        let pause = (options.rate > 0).then(|| Duration::from_secs_f64(f64::from(connections) / f64::from(options.rate)));
        let workers = (0..connections)
            .map(|number| {
                let worker = Worker {
                    config: config.clone(),
                    counters: counters.clone(),
                    stopping: stopping.clone(),
                    random: StdRng::seed_from_u64(options.seed * 1000 + u64::from(number)),
                    pause,
                };
                tokio::spawn(worker.run())
            })
            .collect();
        Self { counters, stopping, workers }
    }

    pub fn counts(&self) -> ShopCounts {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let c = &self.counters;
        let (rentals, returns, corrections, refunds) = (get(&c.rentals), get(&c.returns), get(&c.corrections), get(&c.refunds));
        let transactions = rentals + returns + corrections + refunds;
        ShopCounts { transactions, rentals, returns, corrections, refunds, failures: get(&c.failures) }
    }

    /// Ends after the transactions under way.
    pub async fn stop(mut self) -> ShopCounts {
        self.stopping.store(true, Ordering::Relaxed);
        for worker in self.workers.drain(..) {
            let _ = worker.await;
        }
        self.counts()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
    }
}

struct Worker {
    config: Config,
    counters: Arc<Counters>,
    stopping: Arc<AtomicBool>,
    random: StdRng,
    pause: Option<Duration>,
}

impl Worker {
    async fn run(mut self) {
        let mut due = Instant::now();
        while !self.stopping.load(Ordering::Relaxed) {
            let Ok(mut client) = connect(&self.config).await else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            while !self.stopping.load(Ordering::Relaxed) {
                if self.transact(&mut client).await.is_err() {
                    self.counters.failures.fetch_add(1, Ordering::Relaxed);
                    if client.is_closed() {
                        break;
                    }
                }
                if let Some(pause) = self.pause {
                    // After a hole (server down) the rate goes on from now; the missed work is not made up for.
                    due = (due + pause).max(Instant::now() - pause * 20);
                    tokio::time::sleep_until(due.into()).await;
                }
            }
        }
    }

    async fn transact(&mut self, client: &mut Client) -> Result<()> {
        let counter = match self.random.random_range(0..100) {
            0..45 => {
                self.rent(client).await?;
                &self.counters.rentals
            }
            45..75 => {
                self.give_back(client).await?;
                &self.counters.returns
            }
            75..92 => {
                self.correct(client).await?;
                &self.counters.corrections
            }
            _ => {
                self.refund(client).await?;
                &self.counters.refunds
            }
        };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A rental and its payment in one transaction.
    async fn rent(&mut self, client: &mut Client) -> Result<()> {
        let inventory: i32 = self.random.random_range(1..=4581);
        let customer: i32 = self.random.random_range(1..=599);
        let staff: i32 = self.random.random_range(1..=2);
        let transaction = client.transaction().await?;
        let rental: i32 = transaction
            .query_one(
                "INSERT INTO rental (rental_date, inventory_id, customer_id, staff_id) \
                 VALUES (clock_timestamp(), $1, $2, $3) RETURNING rental_id",
                &[&inventory, &customer, &staff],
            )
            .await?
            .get(0);
        // No RETURNING here: `payment` has rules.
        transaction
            .execute(
                "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) \
                 SELECT $1, $2, $3, f.rental_rate, clock_timestamp() FROM inventory i JOIN film f USING (film_id) WHERE i.inventory_id = $4",
                &[&customer, &staff, &rental, &inventory],
            )
            .await?;
        Ok(transaction.commit().await?)
    }

    /// The newest open rentals come back first: a few of them, so that workers seldom meet.
    async fn give_back(&mut self, client: &mut Client) -> Result<()> {
        let skip: i64 = self.random.random_range(0..50);
        client
            .execute(
                "UPDATE rental SET return_date = clock_timestamp() WHERE rental_id = (SELECT rental_id FROM rental \
                 WHERE return_date IS NULL ORDER BY rental_id DESC OFFSET $1 LIMIT 1 FOR UPDATE SKIP LOCKED)",
                &[&skip],
            )
            .await?;
        Ok(())
    }

    async fn correct(&mut self, client: &mut Client) -> Result<()> {
        let number: i32 = self.random.random_range(0..1_000_000);
        let sql = match self.random.random_range(0..5) {
            0 => "UPDATE customer SET email = lower(first_name) || $1::int || '@example.org' WHERE customer_id = 1 + $1 % 599",
            1 => "UPDATE film SET rental_rate = 0.99 + $1::int % 5 WHERE film_id = 1 + $1 % 1000",
            2 => {
                "UPDATE film SET description = 'A Tale of ' || $1::int || ' Rentals', rating = 'PG-13' WHERE film_id = 1 + $1 % 1000"
            }
            3 => "UPDATE inventory SET store_id = 3 - store_id WHERE inventory_id = 1 + $1::int % 4581",
            _ => {
                "UPDATE ONLY payment SET amount = amount + 0.5 WHERE amount < 900 AND payment_id = \
                 (SELECT max(payment_id) - $1::int % 50 FROM ONLY payment)"
            }
        };
        client.execute(sql, &[&number]).await?;
        Ok(())
    }

    /// Undoes a recent rental: payment, then rental. Payments of 2007 are in tables without a key and stay.
    async fn refund(&mut self, client: &mut Client) -> Result<()> {
        let skip: i64 = self.random.random_range(0..20);
        let transaction = client.transaction().await?;
        let row = transaction
            .query_opt(
                "SELECT rental_id FROM rental WHERE rental_id > 16049 ORDER BY rental_id DESC OFFSET $1 LIMIT 1 FOR UPDATE SKIP LOCKED",
                &[&skip],
            )
            .await?;
        if let Some(row) = row {
            let rental: i32 = row.get(0);
            transaction.execute("DELETE FROM ONLY payment WHERE rental_id = $1", &[&rental]).await?;
            transaction.execute("DELETE FROM rental WHERE rental_id = $1", &[&rental]).await?;
        }
        Ok(transaction.commit().await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Postgres, StopMode};
    use crate::sakila;

    #[tokio::test(flavor = "multi_thread")]
    async fn works_and_survives_a_restart_of_the_server() {
        let mut postgres = Postgres::start_default().unwrap();
        sakila::load(&postgres).unwrap();
        let shop = Shop::start(postgres.config("sakila"), ShopOptions { rate: 0, ..Default::default() });
        let reach = async |kind: fn(&ShopCounts) -> u64, goal: u64| {
            for _ in 0..600 {
                if kind(&shop.counts()) >= goal {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("{:?} never reached {goal}", shop.counts());
        };
        reach(|c| c.refunds.min(c.corrections).min(c.returns).min(c.rentals), 20).await;
        postgres.stop(StopMode::Immediate).unwrap();
        postgres.start_again().unwrap();
        let before = shop.counts().transactions;
        reach(|c| c.transactions, before + 50).await;
        let counts = shop.stop().await;
        assert!(counts.failures < 50, "{counts:?}");
        let rentals: u64 =
            postgres.psql("sakila", "SELECT count(*) FROM rental WHERE rental_id > 16049").unwrap().trim().parse().unwrap();
        assert!(rentals > 0 && rentals <= counts.rentals, "{rentals} of {counts:?}");
    }
}
