//! A build drawn at the bottom of a terminal: the thin edge around [`super::state`] and
//! [`super::frame`].

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    frame::{self, Canvas},
    state::State,
};
use crate::{
    engine::{Event, Progress},
    report::terminal,
};

/// The times between two drawings; also how soon a resized window is drawn anew.
const PAUSE: Duration = Duration::from_millis(100);

/// Draws a build until it is dropped; then the drawing gives way to a summary.
///
/// It is drawn by a thread of its own, so that clocks go on whatever the program waits for.
pub(super) struct Live {
    shared: Arc<Shared>,
    drawing: Option<JoinHandle<()>>,
}

struct Shared {
    build: Mutex<Build>,
    over: Condvar,
    colours: bool,
}

struct Build {
    state: State,
    over: bool,
}

impl Live {
    pub(super) fn new(colours: bool) -> Self {
        let build = Mutex::new(Build { state: State::new(Instant::now()), over: false });
        let shared = Arc::new(Shared { build, over: Condvar::new(), colours });
        let drawer = Arc::clone(&shared);
        // Without a thread there is only the summary.
        let drawing = thread::Builder::new().name("progress".into()).spawn(move || drawer.draw());
        Self { shared, drawing: drawing.ok() }
    }
}

impl Progress for Live {
    fn event(&self, event: Event) {
        let line = self.shared.build().state.event(event, Instant::now());
        if let Some(line) = line {
            terminal::line(&line);
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.build().over = true;
        self.shared.over.notify_all();
        if let Some(drawing) = self.drawing.take() {
            // It panicked: there is nothing to add to what it said.
            let _ = drawing.join();
        }
        terminal::draw(&[]);
        let canvas = self.shared.canvas();
        for line in frame::end(&mut self.shared.build().state, canvas, Instant::now()) {
            terminal::line(&line);
        }
    }
}

impl Shared {
    fn build(&self) -> MutexGuard<'_, Build> {
        self.build.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn canvas(&self) -> Canvas {
        let (rows, columns) = terminal::size();
        // The cursor rests in the last row.
        Canvas { rows: rows.saturating_sub(1), columns, colours: self.colours }
    }

    fn draw(&self) {
        let mut build = self.build();
        while !build.over {
            terminal::draw(&frame::lines(&build.state, self.canvas(), Instant::now()));
            let waited = self.over.wait_timeout(build, PAUSE);
            build = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
