//! Work of an engine that must not be silent for ever.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::time::timeout_at;

use crate::engine::{Event, Progress};

/// Passes on what an engine tells, and notes when.
pub(super) struct Watched<'a> {
    inner: &'a dyn Progress,
    last: Mutex<Instant>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(inner: &'a dyn Progress) -> Self {
        Self { inner, last: Mutex::new(Instant::now()) }
    }

    fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` until it has told nothing for `limit`.
    pub(super) async fn until_silent<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        tokio::pin!(work);
        loop {
            let last = self.last();
            match timeout_at((last + limit).into(), &mut work).await {
                Ok(output) => return Some(output),
                Err(_) if self.last() == last => return None,
                Err(_) => {}
            }
        }
    }
}

impl Progress for Watched<'_> {
    fn event(&self, event: Event) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.inner.event(event);
    }
}
