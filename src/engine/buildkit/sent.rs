//! How far the context is: BuildKit says how much came, and only we know how much it asked for.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::engine::progress::{Amount, Event, Progress};

/// Bytes of the context that were asked for, and that were sent.
#[derive(Clone, Default)]
pub(super) struct Sent(Arc<(AtomicU64, AtomicU64)>);

impl Sent {
    /// A file of this size was asked for.
    pub(super) fn asked(&self, size: u64) {
        self.0.0.fetch_add(size, Relaxed);
    }

    /// So much was sent.
    pub(super) fn sent(&self, length: usize) {
        self.0.1.fetch_add(length as u64, Relaxed);
    }

    fn amount(&self) -> Option<Amount> {
        let total = Some(self.0.0.load(Relaxed)).filter(|total| *total > 0);
        total.map(|total| Amount { current: self.0.1.load(Relaxed), total: Some(total) })
    }
}

/// Tells of the context's transfer in our own figures.
pub(super) struct Measured<'a> {
    pub(super) progress: &'a dyn Progress,
    pub(super) sent: Sent,
}

impl Progress for Measured<'_> {
    fn event(&self, event: Event) {
        self.progress.event(match event {
            Event::Transfer { step, what, amount, done: false }
                if what.starts_with("transferring context") =>
            {
                let amount = self.sent.amount().unwrap_or(amount);
                Event::Transfer { step, what, amount, done: false }
            }
            event => event,
        });
    }
}
