//! What a step wrote, kept for the error should it fail.

use super::progress::Stream;

/// So much of it is kept at least.
const KEPT: usize = 1 << 20;

/// What a step wrote: the end of it, if it is much.
///
/// The two streams come in pieces that end anywhere, so that lines are put together for each before
/// they are put one after the other.
#[derive(Default)]
pub(super) struct Log {
    lines: Vec<u8>,
    out: Vec<u8>,
    err: Vec<u8>,
    cut: bool,
}

impl Log {
    /// Takes in what the step wrote next.
    pub(super) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        let line = match stream {
            Stream::Stdout => &mut self.out,
            Stream::Stderr => &mut self.err,
        };
        line.extend_from_slice(bytes);
        // A line without end is one at some length.
        let whole = match line.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
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

    /// All that was kept, as text.
    pub(super) fn text(mut self) -> String {
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
    fn a_line_is_not_torn_by_the_other_stream() {
        let mut log = Log::default();
        log.push(Stream::Stdout, b"one\nt");
        log.push(Stream::Stderr, b"bad\nwor");
        log.push(Stream::Stdout, b"wo\n");
        log.push(Stream::Stderr, b"se");
        assert_eq!(log.text(), "one\nbad\ntwo\nworse");
    }
}
