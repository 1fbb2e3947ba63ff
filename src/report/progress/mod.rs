//! A build as it goes on, shown on stderr.
//!
//! Knows how events are worded and laid out; must not know where they come from.
//!
//! ```text
//! events -> state     what is known of the build            (pure)
//!        -> frame     its lines for a width, a height, a time  (pure)
//!        -> live      draws them, ten times a second
//! events -> plain     line by line
//!        -> rawjson   for programs
//! ```

mod escapes;
mod frame;
mod live;
mod plain;
mod rawjson;
mod state;

use std::{io, time::Duration};

use self::{escapes::Tamed, live::Live, plain::Plain, rawjson::RawJson};
use super::terminal;
use crate::{
    engine::{Event, Progress},
    settings::Progress as Kind,
};

/// Somebody who shows a build in the way that was asked for. What is drawn on a terminal is taken
/// off it when this is dropped.
#[must_use]
pub fn watch(kind: Kind) -> Box<dyn Progress> {
    let live = match kind {
        Kind::Auto => terminal::can_draw(),
        // Who insists knows the terminal better, as long as there is one.
        Kind::Tty => terminal::is_one(),
        Kind::Plain | Kind::Rawjson | Kind::Quiet => false,
    };
    match kind {
        _ if live => Box::new(Live::new(terminal::colours())),
        Kind::Rawjson => Box::new(RawJson::new(io::stderr())),
        // What is read by no terminal is kept as it was written.
        _ if terminal::is_one() => {
            let out = Tamed::new(io::stderr(), terminal::colours());
            Box::new(Plain::new(out, kind != Kind::Quiet))
        }
        _ => Box::new(Plain::new(io::stderr(), kind != Kind::Quiet)),
    }
}

/// Something that is said, in the form of `rawjson`.
pub(super) fn note(text: &str) -> String {
    rawjson::alone(Event::Note { text: format!("{text}\n") })
}

/// A warning of ours, in the form of `rawjson`.
pub(super) fn warning_for_programs(text: &str) -> String {
    let short = text.to_owned();
    rawjson::alone(Event::Warning { short, detail: Vec::new(), url: None, line: None })
}

/// A warning of the engine's in one line, with its place in the Dockerfile if it does not say it
/// itself.
fn warning(short: &str, line: Option<u32>) -> String {
    let place = line.map(|line| format!(" (line {line})")).unwrap_or_default();
    let place = if short.ends_with(&place) { "" } else { &place };
    format!("warning: {short}{place}")
}

/// A time as it stands at the end of a line: `1.2s`, `3m 7s`, `2h 5m`.
fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    match whole {
        0..60 => format!("{:.1}s", took.as_secs_f64()),
        60..3600 => format!("{}m {}s", whole / 60, whole % 60),
        _ => format!("{}h {}m", whole / 3600, whole % 3600 / 60),
    }
}

/// A number of bytes as people say it.
fn bytes(number: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
    let value = number as f64;
    match number {
        0..1_000 => format!("{number} B"),
        1_000..1_000_000 => format!("{:.1} kB", value / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", value / 1e6),
        _ => format!("{:.1} GB", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_names_its_line_once() {
        assert_eq!(warning("bad", Some(2)), "warning: bad (line 2)");
        assert_eq!(warning("bad (line 2)", Some(2)), "warning: bad (line 2)");
        assert_eq!(warning("bad", None), "warning: bad");
    }

    #[test]
    fn times_and_sizes_are_short() {
        for (seconds_, text) in [(0, "0.0s"), (59, "59.0s"), (187, "3m 7s"), (7_500, "2h 5m")] {
            assert_eq!(seconds(Duration::from_secs(seconds_)), text);
        }
        for (number, text) in [(0, "0 B"), (999, "999 B"), (12_345_678, "12.3 MB")] {
            assert_eq!(bytes(number), text);
        }
    }
}
