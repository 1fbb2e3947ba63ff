//! What a step wrote, kept for the error should it fail.

/// So much of it is kept at least.
const KEPT: usize = 1 << 20;

/// What a step wrote: the end of it, if it is much.
#[derive(Default)]
pub(super) struct Log {
    bytes: Vec<u8>,
    cut: bool,
}

impl Log {
    /// Takes in what the step wrote next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Moving is rare: only when twice as much is there as is kept.
        if self.bytes.len() > 2 * KEPT {
            self.bytes.drain(..self.bytes.len() - KEPT);
            self.cut = true;
        }
    }

    /// All that was kept, as text.
    pub(super) fn text(self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
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
            log.push(&[b'x'; KEPT / 8]);
        }
        log.push(b"the end\n");
        let text = log.text();
        assert!(text.starts_with("[earlier output left out]\n") && text.ends_with("the end\n"));
        assert!(text.len() <= 2 * KEPT + 64);
    }
}
