//! What a step wrote, kept for the error should it fail.

use super::progress::Stream;

/// So much of it is kept at least.
const KEPT: usize = 1 << 20;

/// What a step wrote: the end of it, if it is much.
///
/// The two streams come in pieces that end anywhere, so that lines are put together for each before
/// they are put one after the other.
#[derive(Default)]
pub struct Log {
    lines: Vec<u8>,
    out: Vec<u8>,
    err: Vec<u8>,
    cut: bool,
}

impl Log {
    /// Takes in what the step wrote next.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let line = match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        let begun = line.len();
        line.extend_from_slice(bytes);
        // What was there before has no end of a line. A line without end is one at some length.
        let whole = match bytes.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => begun + end + 1,
            None if line.len() > KEPT => line.len(),
            None => return,
        };
        self.lines.extend(line.drain(..whole));
        // Moving is rare: only when twice as much is there as is kept.
        if self.lines.len() > 2 * KEPT {
            self.lines.drain(..self.lines.len() - KEPT);
            self.cut = true;
        }
    }

    /// The last lines, oldest first. What has no end yet is a line too.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let begun = [&self.err, &self.out].into_iter().filter(|line| !line.is_empty());
        let whole = self.lines.strip_suffix(b"\n").unwrap_or(&self.lines);
        let whole = whole.rsplit(|byte| *byte == b'\n').filter(|_| !whole.is_empty());
        let latest = begun.map(Vec::as_slice).chain(whole).take(count);
        let mut lines: Vec<_> =
            latest.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        lines.reverse();
        lines
    }

    /// All that was kept, as text.
    pub fn text(mut self) -> String {
        self.lines.append(&mut self.out);
        self.lines.append(&mut self.err);
        let text = String::from_utf8_lossy(&self.lines);
        if self.cut { format!("[earlier output left out]\n{text}") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_of_a_talkative_step_keeps_its_end() {
        let mut log = Log::default();
        for _ in 0..40 {
            log.push(Stream::Stdout, &[b'x'; KEPT / 8]);
        }
        log.push(Stream::Stdout, b"the end\n");
        let text = log.text();
        assert!(text.starts_with("[earlier output left out]\n") && text.ends_with("the end\n"));
        assert!(text.len() <= 3 * KEPT + 64);
    }

    #[test]
    fn the_tail_is_the_last_lines_the_one_that_is_being_written_too() {
        let mut log = Log::default();
        assert!(log.tail(3).is_empty());
        log.push(Stream::Stdout, b"one\n\nthree\nfo");
        assert_eq!(log.tail(3), ["", "three", "fo"]);
        assert_eq!(log.tail(9), ["one", "", "three", "fo"]);
        log.push(Stream::Stdout, b"ur\n");
        assert_eq!(log.tail(1), ["four"]);
    }

    #[test]
    fn a_line_is_not_torn_by_the_other_stream() {
        let mut log = Log::default();
        log.push(Stream::Stdout, b"one\nt");
        log.push(Stream::Stderr, b"bad\nwor");
        log.push(Stream::Stdout, b"wo\n");
        log.push(Stream::Stderr, b"se");
        assert_eq!(log.text(), "one\nbad\ntwo\nworse");
    }
}
