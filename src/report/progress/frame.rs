//! The lines that show a build, for so many rows and columns at a time.
//!
//! ```text
//! building  12.4s   7 of 12 steps
//! cached    4 steps
//! done      [build 2/5] RUN make                                              3.2s
//! run       [build 3/5] RUN ./test                                            1.2s
//!           | test a ... ok
//! push      2 of 5 layers  [########------------]  12.3 MB of 40.0 MB
//! ```
//!
//! Plain characters only, so that every terminal and font can show them.

use std::{fmt::Write as _, time::Instant};

use console::{Style, measure_text_width, strip_ansi_codes, truncate_str};

use super::{
    bytes,
    escapes::tamed,
    seconds,
    state::{Phase, State, Step},
};
use crate::engine::Amount;

/// Columns of the word at the beginning of a line.
const LABEL: usize = 10;
/// Times stand at the right, but never further away from the names than this.
const WIDEST: usize = 100;
/// Rows at most for what one step writes and moves.
const DETAILS: usize = 6;
/// Columns of a bar.
const BAR: usize = 20;
/// Steps at most that a summary names.
const NAMED: usize = 5;

/// Where the lines go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Canvas {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) colours: bool,
}

/// What a line tells.
#[derive(Clone, Copy)]
enum Tone {
    Good,
    Bad,
    Busy,
    Quiet,
    Usual,
}

impl Canvas {
    fn width(self) -> usize {
        // Nothing stands in the last column: some terminals go to the next line after it.
        self.columns.saturating_sub(1).min(WIDEST)
    }

    fn paint(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Good => Style::new().green(),
            Tone::Bad => Style::new().red().bold(),
            Tone::Busy => Style::new().yellow(),
            Tone::Quiet => Style::new().dim(),
            Tone::Usual => return text.to_owned(),
        };
        style.force_styling(self.colours).apply_to(text).to_string()
    }

    /// `label  text                time`, with the text cut where it does not fit.
    fn line(self, tone: Tone, label: &str, text: &str, time: &str) -> String {
        let width = self.width();
        let label = truncate_str(label, width, "");
        let beside = if time.is_empty() { 0 } else { time.len() + 2 };
        let room = width.saturating_sub(LABEL + beside);
        let text = printable(text);
        let text = truncate_str(&text, room, "...");
        // Where not even the dots fit, there is no text.
        let text = if measure_text_width(&text) > room { "" } else { &text };
        let mut line = self.paint(tone, &label);
        if !text.is_empty() {
            let gap = LABEL.saturating_sub(measure_text_width(&label));
            let _ = write!(line, "{:gap$}{text}", "");
        }
        if !time.is_empty() && width >= LABEL + beside {
            let gap = room - measure_text_width(text) + 2;
            let gap = if text.is_empty() { gap + LABEL - measure_text_width(&label) } else { gap };
            let _ = write!(line, "{:gap$}{}", "", self.paint(Tone::Quiet, time));
        }
        line
    }

    /// A line of what a step writes or moves.
    fn detail(self, text: &str) -> String {
        let text = format!("{:LABEL$}| {}", "", printable(text));
        self.paint(Tone::Quiet, &truncate_str(&text, self.width(), ""))
    }
}

/// The lines of a build under way: none before there is anything to show, and never more than fit.
pub(super) fn lines(state: &State, canvas: Canvas, now: Instant) -> Vec<String> {
    if state.steps.is_empty() && state.layers.count() == 0 {
        return Vec::new();
    }
    let mut room = canvas.rows;
    let mut lines = Vec::new();
    let mut take = |wanted: usize| {
        let got = wanted.min(room);
        room -= got;
        got
    };
    // What is most wanted takes its rows first.
    let head = take(1);
    let layers = take(usize::from(state.layers.count() > 0));
    let running: Vec<&Step> =
        state.steps.iter().filter(|step| matches!(step.phase, Phase::Running { .. })).collect();
    let shown = take(running.len());
    let cached_steps = state.count(|phase| phase == Phase::Cached);
    let cached = take(usize::from(cached_steps > 0));
    let failed: Vec<&Step> =
        state.steps.iter().filter(|step| matches!(step.phase, Phase::Failed { .. })).collect();
    let failures = take(failed.len());
    let mut details: Vec<Vec<String>> = running.iter().map(|step| details(step, canvas)).collect();
    details.truncate(shown);
    // One row more for each step in turn, so that none takes them all.
    let mut granted = vec![0; details.len()];
    for _ in 0..DETAILS {
        for (granted, details) in granted.iter_mut().zip(&details) {
            *granted += take(usize::from(*granted < details.len()));
        }
    }
    let mut done: Vec<(u32, &Step)> = state.steps.iter().filter_map(of_done).collect();
    done.sort_by_key(|(place, _)| *place);
    let kept = take(done.len());

    if head > 0 {
        lines.push(headline(state, canvas, now));
    }
    if cached > 0 {
        lines.push(canvas.line(Tone::Quiet, "cached", &steps(cached_steps), ""));
    }
    for (_, step) in &done[done.len() - kept..] {
        let Phase::Done { took, .. } = step.phase else { continue };
        lines.push(canvas.line(Tone::Good, "done", &step.name, &seconds(took)));
    }
    for step in &failed[..failures] {
        let Phase::Failed { took } = step.phase else { continue };
        lines.push(canvas.line(Tone::Bad, "failed", &step.name, &seconds(took)));
    }
    for (index, step) in running[..shown].iter().enumerate() {
        let Phase::Running { since } = step.phase else { continue };
        let time = seconds(now.saturating_duration_since(since));
        lines.push(canvas.line(Tone::Busy, "run", &step.name, &time));
        let latest = details[index].len() - granted[index];
        lines.extend(details[index].drain(latest..));
    }
    if layers > 0 {
        lines.push(layers_line(state, canvas));
    }
    lines
}

/// What stays when it is over: what failed with all it wrote, what was stopped, or else a summary.
pub(super) fn end(state: &mut State, canvas: Canvas, now: Instant) -> Vec<String> {
    if let Some(step) = state.failed() {
        let Phase::Failed { took } = step.phase else { return Vec::new() };
        let mut lines = vec![canvas.line(Tone::Bad, "failed", &step.name, &seconds(took))];
        let log = std::mem::take(&mut step.log).text();
        lines.extend(log.lines().map(|line| tamed(line, canvas.colours)));
        return lines;
    }
    let took = seconds(now.saturating_duration_since(state.since));
    let mut lines: Vec<String> = Vec::new();
    for step in &state.steps {
        if let Phase::Running { since } = step.phase {
            let time = seconds(now.saturating_duration_since(since));
            lines.push(canvas.line(Tone::Busy, "stopped", &step.name, &time));
        }
    }
    lines.truncate(NAMED);
    let done = state.count(|phase| matches!(phase, Phase::Done { .. }));
    let cached = state.count(|phase| phase == Phase::Cached);
    if lines.is_empty() && done + cached > 0 {
        let text = match (done, cached) {
            (_, 0) => steps(done),
            (0, _) => format!("{}, all cached", steps(cached)),
            _ => format!("{}, {cached} of them cached", steps(done + cached)),
        };
        lines.push(canvas.line(Tone::Good, "built", &text, &took));
    }
    lines
}

fn of_done(step: &Step) -> Option<(u32, &Step)> {
    match step.phase {
        // What the engine does for itself is worth a line only while it takes time.
        Phase::Done { place, .. } if !step.name.starts_with("[internal]") => Some((place, step)),
        _ => None,
    }
}

fn headline(state: &State, canvas: Canvas, now: Instant) -> String {
    let ended = state.count(|phase| !matches!(phase, Phase::Waiting | Phase::Running { .. }));
    let text = format!("{ended} of {}", steps(state.steps.len()));
    let time = seconds(now.saturating_duration_since(state.since));
    canvas.line(Tone::Usual, "building", &text, &time)
}

/// What a running step moves, and the last that it wrote.
fn details(step: &Step, canvas: Canvas) -> Vec<String> {
    let moving = step.transfers.iter().filter(|(_, amount)| amount.current > 0);
    let mut lines: Vec<String> = step
        .log
        .tail(DETAILS)
        .iter()
        // Programs draw over a line of their own: what was drawn last is seen.
        .map(|line| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default())
        .map(|line| canvas.detail(line))
        .collect();
    lines.extend(moving.map(|(what, amount)| canvas.detail(&transfer(what, *amount))));
    let first = lines.len().saturating_sub(DETAILS);
    lines.split_off(first)
}

fn transfer(what: &str, amount: Amount) -> String {
    let what = what.trim_end_matches(':');
    // Layers are called by their digests.
    let what = what.strip_prefix("sha256:").and_then(|hex| hex.get(..12)).unwrap_or(what);
    format!("{what}  {}", gauge(amount))
}

fn layers_line(state: &State, canvas: Canvas) -> String {
    let (layers, amount) = (&state.layers, state.layers.amount());
    let mut text = format!("{} of {} layers", layers.there(), layers.count());
    if amount.total > Some(0) {
        let _ = write!(text, "  {}", gauge(amount));
    }
    let (tone, label) = (Tone::Busy, if layers.pull { "pull" } else { "push" });
    canvas.line(if layers.there() == layers.count() { Tone::Good } else { tone }, label, &text, "")
}

/// `[######--------------]  12.3 MB of 40.0 MB`, or only so many bytes where the whole is unknown.
fn gauge(amount: Amount) -> String {
    match amount.total.filter(|total| *total > 0) {
        None => bytes(amount.current),
        Some(total) => {
            let current = amount.current.min(total);
            let full = usize::try_from(u128::from(current) * BAR as u128 / u128::from(total));
            let full = full.unwrap_or(BAR);
            let (done, left) = ("#".repeat(full), "-".repeat(BAR - full));
            format!("[{done}{left}]  {} of {}", bytes(current), bytes(total))
        }
    }
}

fn steps(count: usize) -> String {
    if count == 1 { "1 step".to_owned() } else { format!("{count} steps") }
}

/// A text on one line, without what would move the cursor or change colours.
fn printable(text: &str) -> String {
    let blank = |c: char| if c.is_control() { ' ' } else { c };
    strip_ansi_codes(text.trim_end()).chars().map(blank).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::{Event, StepId, Stream};

    /// A build that began at a time from which the clock counts.
    struct Film {
        state: State,
        start: Instant,
        clock: Duration,
    }

    impl Film {
        fn new() -> Self {
            let start = Instant::now();
            Self { state: State::new(start), start, clock: Duration::ZERO }
        }

        fn after(mut self, milliseconds: u64) -> Self {
            self.clock += Duration::from_millis(milliseconds);
            self
        }

        fn event(mut self, event: Event) -> Self {
            self.state.event(event, self.start + self.clock);
            self
        }

        fn known(self, step: u32, name: &str) -> Self {
            self.event(Event::StepKnown { step: StepId(step), name: name.into(), place: None })
        }

        fn run(self, step: u32, name: &str) -> Self {
            self.known(step, name).event(Event::StepStarted { step: StepId(step) })
        }

        fn cached(self, step: u32, name: &str) -> Self {
            self.known(step, name).event(Event::StepCached { step: StepId(step) })
        }

        fn done(self, step: u32, milliseconds: u64) -> Self {
            let took = Duration::from_millis(milliseconds);
            self.event(Event::StepFinished { step: StepId(step), took })
        }

        fn failed(self, step: u32, message: &str) -> Self {
            let (step, message) = (StepId(step), message.into());
            self.event(Event::StepFailed { step, message, at: None })
        }

        fn log(self, step: u32, text: &str) -> Self {
            let text = text.as_bytes().to_vec();
            self.event(Event::Log { step: StepId(step), stream: Stream::Stdout, text })
        }

        fn moved(self, step: u32, what: &str, current: u64, total: Option<u64>) -> Self {
            let amount = Amount { current, total };
            let (step, what) = (StepId(step), what.into());
            self.event(Event::Transfer { step, what, amount, done: false })
        }

        fn layer(self, layer: &str, status: &str, current: u64, total: u64) -> Self {
            let amount = (total > 0).then_some(Amount { current, total: Some(total) });
            self.event(Event::Layer { layer: layer.into(), status: status.into(), amount })
        }

        fn shown(&self, rows: usize, columns: usize) -> Vec<String> {
            let canvas = Canvas { rows, columns, colours: false };
            lines(&self.state, canvas, self.start + self.clock)
        }

        fn end(&mut self, colours: bool) -> Vec<String> {
            let canvas = Canvas { rows: 24, columns: 60, colours };
            end(&mut self.state, canvas, self.start + self.clock)
        }
    }

    fn film() -> Film {
        Film::new()
            .cached(0, "[internal] load metadata")
            .cached(1, "[1/4] FROM base")
            .run(2, "[2/4] RUN make")
            .after(1_200)
            .done(2, 1_200)
            .run(3, "[3/4] RUN ./test")
            .known(4, "[4/4] COPY . .")
            .log(3, "one\ntwo\nthr")
            .after(300)
    }

    #[test]
    fn a_build_is_shown_as_it_stands() {
        assert_eq!(
            film().shown(24, 60),
            [
                "building  3 of 5 steps                                 1.5s",
                "cached    2 steps",
                "done      [2/4] RUN make                               1.2s",
                "run       [3/4] RUN ./test                             0.3s",
                "          | one",
                "          | two",
                "          | thr",
            ]
        );
    }

    #[test]
    fn where_rows_are_few_what_runs_is_shown_first() {
        let film = film();
        assert_eq!(film.shown(1, 60), film.shown(9, 60)[..1]);
        let five = film.shown(5, 60);
        assert_eq!(five.len(), 5);
        assert!(five[2].starts_with("run ") && five[4] == "          | thr", "{five:?}");
        assert!(film.shown(0, 60).is_empty());
    }

    #[test]
    fn steps_that_run_side_by_side_share_the_rows() {
        let mut film = Film::new();
        for step in 0..4 {
            let lines: String = (0..20).map(|line| format!("{step}.{line}\n")).collect();
            film = film.run(step, &format!("[{step}/4] RUN it")).log(step, &lines);
        }
        let shown = film.shown(13, 60);
        assert_eq!(shown.len(), 13);
        for step in 0..4 {
            assert!(shown.contains(&format!("          | {step}.19")), "{shown:#?}");
        }
    }

    #[test]
    fn nothing_is_wider_than_the_window() {
        let wide = "\u{4f60}\u{597d}, \u{4e16}\u{754c}! e\u{301}\u{301} \u{1f600}\t".repeat(12);
        let film = film()
            .run(7, &format!("[7/7] RUN {wide}"))
            .log(7, &wide)
            .log(7, "\u{1b}[31mred\u{1b}[0m\u{1b}[2K 10%\r 20%\r")
            .moved(7, "sha256:0123456789abcdef", 5, Some(10))
            .layer("ab", "Pushing", 1_000, 10_000);
        for columns in 1..130 {
            for rows in [3, 24] {
                let shown = film.shown(rows, columns);
                assert!(shown.len() <= rows);
                for line in &shown {
                    assert!(measure_text_width(line) < columns.max(2), "{columns}: {line:?}");
                    assert!(!line.contains(char::is_control), "{line:?}");
                }
            }
        }
        assert!(film.shown(24, 80).contains(&"          |  20%".to_owned()));
    }

    #[test]
    fn what_moves_has_a_bar_where_the_whole_is_known() {
        let film = Film::new()
            .run(0, "[internal] load build context")
            .moved(0, "transferring context:", 10_000_000, Some(40_000_000))
            .run(1, "[1/2] FROM base")
            .moved(1, "sha256:0123456789abcdef", 1_234, None);
        let shown = film.shown(24, 80);
        let bar = "          | transferring context  [#####---------------]  10.0 MB of 40.0 MB";
        assert_eq!(shown[2], bar);
        assert_eq!(shown[4], "          | 0123456789ab  1.2 kB");
    }

    #[test]
    fn layers_are_one_line() {
        let film = Film::new()
            .layer("aa", "Preparing", 0, 0)
            .layer("bb", "Layer already exists", 0, 0)
            .layer("aa", "Pushing", 25, 100);
        let line = "push      1 of 2 layers  [#####---------------]  25 B of 100 B";
        assert_eq!(film.shown(24, 80)[1], line);
        let film = film.layer("aa", "Pushed", 0, 0);
        let line = "push      2 of 2 layers  [####################]  100 B of 100 B";
        assert_eq!(film.shown(24, 80)[1], line);
        // A pull after it is another thing.
        let film = film.layer("cc", "Pulling fs layer", 0, 0);
        assert_eq!(film.shown(24, 80)[1], "pull      0 of 1 layers");
    }

    #[test]
    fn a_step_that_fails_leaves_all_that_it_wrote() {
        let log: String = (0..50).map(|line| format!("line {line}\n")).collect();
        let mut film = film()
            .log(3, "\n\u{1b}[31mred")
            .log(3, "\u{1b}[0m\n")
            .log(3, &log)
            .run(5, "[other 1/1] RUN sleep")
            .after(200)
            .failed(5, "context canceled: context canceled")
            .failed(3, "exit code: 2");
        let lines = film.end(false);
        assert_eq!(lines[0], "failed    [3/4] RUN ./test                             0.5s");
        assert_eq!(lines[1..5], ["one", "two", "thr", "red"]);
        assert_eq!(lines[5..].len(), 50);
        assert_eq!(film.shown(24, 60).len(), 4, "nothing runs, nothing has details");
    }

    #[test]
    fn a_step_keeps_its_colours_but_not_ours() {
        let mut film =
            Film::new().run(0, "[1/1] RUN it").log(0, "\u{1b}[31mred\n").failed(0, "exit");
        assert_eq!(film.end(true)[1], "\u{1b}[31mred\u{1b}[0m");
    }

    #[test]
    fn the_end_is_short() {
        let mut film = Film::new();
        assert!(film.end(false).is_empty(), "nothing was built");
        let mut film = film_of(2, 3);
        assert_eq!(film.end(false), [line("built     5 steps, 2 of them cached", "0.0s")]);
        let mut film = film_of(4, 0);
        assert_eq!(film.end(false), [line("built     4 steps, all cached", "0.0s")]);
    }

    #[test]
    fn what_was_stopped_is_named() {
        let mut film = film().after(2_000);
        assert_eq!(film.end(false), [line("stopped   [3/4] RUN ./test", "2.3s")]);
    }

    #[test]
    fn colours_are_there_when_they_are_wanted() {
        let film = film();
        let canvas = Canvas { rows: 24, columns: 60, colours: true };
        let coloured = lines(&film.state, canvas, film.start + film.clock);
        assert!(coloured[2].starts_with("\u{1b}[32mdone\u{1b}[0m"), "{:?}", coloured[2]);
        let bare: Vec<_> = coloured.iter().map(|line| strip_ansi_codes(line)).collect();
        assert_eq!(bare, film.shown(24, 60));
    }

    fn film_of(cached: u32, done: u32) -> Film {
        let film = (0..cached).fold(Film::new(), |film, step| film.cached(step, "[1/9] RUN it"));
        (cached..cached + done)
            .fold(film, |film, step| film.run(step, "[1/9] RUN it").done(step, 100))
    }

    fn line(text: &str, time: &str) -> String {
        format!("{text:<55}{time}")
    }
}
