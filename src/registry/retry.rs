//! Trying again: what, when, and how long to wait.

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use super::{config::Retries, error::Error, transport::Counters};

/// The attempts at one request that may be repeated: it reads, or writes the same content to the
/// same place.
///
/// ```text
/// let mut attempts = Attempts::new(...);
/// loop {
///     match once().await {
///         Err(error) => attempts.after(error).await?,
///         done => return done,
///     }
/// }
/// ```
pub(super) struct Attempts<'a> {
    retries: &'a Retries,
    counters: &'a Counters,
    left: u32,
    pause: Duration,
}

impl<'a> Attempts<'a> {
    pub(super) fn new(retries: &'a Retries, counters: &'a Counters) -> Self {
        Self { retries, counters, left: retries.attempts, pause: retries.pause }
    }

    /// Waits until it is time to try again, or gives the error back: it is for good, or there were
    /// attempts enough.
    pub(super) async fn after(&mut self, error: Error) -> Result<(), Error> {
        self.left = self.left.saturating_sub(1);
        let wait = wait_after(&error, self.pause, self.retries.patience);
        let Some(wait) = wait.filter(|_| self.left > 0 && error.is_passing()) else {
            return Err(error);
        };
        self.pause *= 2;
        self.counters.retries.fetch_add(1, Relaxed);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// How long to wait after `error`; `None` when the server asks for more than we have patience for.
///
/// What the server asks for is the least: pipelines that it sent away together shall not come back
/// together.
fn wait_after(error: &Error, pause: Duration, patience: Duration) -> Option<Duration> {
    let asked = error.retry_after().unwrap_or_default();
    (asked <= patience).then(|| asked + spread(pause))
}

/// A time between half of `mean` and one and a half of it, at random.
fn spread(mean: Duration) -> Duration {
    // The keys of the standard library's hasher are the randomness at hand.
    let random = RandomState::new().hash_one(()) % 1000;
    mean / 2 + mean.mul_f64(random as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken() -> Error {
        Error::Broken { action: String::new(), host: String::new(), reason: String::new() }
    }

    fn limited(seconds: u64) -> Error {
        let retry_after = Some(Duration::from_secs(seconds));
        Error::RateLimited { action: String::new(), host: String::new(), retry_after }
    }

    async fn outcome(errors: Vec<Error>) -> (Result<(), Error>, u32) {
        let retries = Retries { pause: Duration::from_micros(1), ..Retries::default() };
        let counters = Counters::default();
        let mut attempts = Attempts::new(&retries, &counters);
        let mut calls = 0;
        let mut result = Ok(());
        for error in errors {
            calls += 1;
            result = attempts.after(error).await;
            if result.is_err() {
                return (result, calls);
            }
        }
        calls += 1;
        (result, calls)
    }

    #[tokio::test]
    async fn passing_trouble_is_tried_again_but_not_for_ever() {
        let (result, calls) = outcome(vec![broken(), broken(), broken()]).await;
        assert!(result.is_ok());
        assert_eq!(calls, 4);
        let (result, calls) = outcome((0..9).map(|_| broken()).collect()).await;
        assert!(result.is_err());
        assert_eq!(calls, 4);
    }

    #[tokio::test]
    async fn a_server_that_wants_too_much_patience_gets_none() {
        let (result, calls) = outcome(vec![limited(3600)]).await;
        assert!(result.unwrap_err().to_string().contains("try again in 3600 s"));
        assert_eq!(calls, 1);
    }

    #[test]
    fn what_the_server_asks_for_is_the_least_wait() {
        let (pause, patience) = (Duration::from_millis(100), Duration::from_secs(60));
        for _ in 0..100 {
            let wait = wait_after(&limited(7), pause, patience).unwrap();
            assert!((7050..7150).contains(&wait.as_millis()), "{wait:?}");
            let wait = wait_after(&broken(), pause, patience).unwrap();
            assert!((50..150).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
