//! A secret from the terminal, which nobody sees being typed.

#[cfg(unix)]
pub(super) use unix::read_hidden;

/// Asks, and reads a line that is not shown.
#[cfg(windows)]
pub(super) fn read_hidden(prompt: &str) -> std::io::Result<crate::secret::Secret> {
    rpassword::prompt_password(prompt).map(crate::secret::Secret::new)
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, ErrorKind, Read, Write};

    use rustix::process::{Signal, kill_current_process_group};
    use rustix::termios::{
        LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
    };
    use zeroize::Zeroizing;

    use crate::secret::Secret;

    /// The longest line that a terminal takes, its end included (termios(3), "Canonical and
    /// noncanonical mode"). It drops the rest without a word.
    const LONGEST: usize = 4096;

    /// Asks, and reads a line that is not shown. Ctrl-C ends the process, as everywhere else, but not
    /// before the terminal is as it was: a shell that prompts without an editor of its own would go
    /// on without echo.
    pub(in crate::commands) fn read_hidden(prompt: &str) -> io::Result<Secret> {
        let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
        let hidden = Hidden::new(&terminal)?;
        (&terminal).write_all(prompt.as_bytes())?;
        let mut line = Zeroizing::new([0; LONGEST]);
        let length = (&terminal).read(&mut *line)?;
        let interrupt = hidden.interrupt();
        drop(hidden);
        terminal.write_all(b"\n")?;
        match line[..length].split_last() {
            Some((end, _)) if *end == interrupt => {
                // As the terminal itself would have done: to whoever runs in front.
                kill_current_process_group(Signal::INT)?;
                Err(ErrorKind::Interrupted.into())
            }
            Some((b'\n', text)) if length < LONGEST => {
                let text = str::from_utf8(text).map_err(|_| ErrorKind::InvalidData)?;
                Ok(Secret::new(text.trim_end_matches('\r').to_owned()))
            }
            Some(_) => Err(ErrorKind::FileTooLarge.into()),
            // Ctrl-D.
            None => Ok(Secret::default()),
        }
    }

    /// A terminal that does not show what is typed, until this is dropped.
    struct Hidden<'a> {
        terminal: &'a File,
        before: Termios,
    }

    impl<'a> Hidden<'a> {
        fn new(terminal: &'a File) -> io::Result<Self> {
            let before = tcgetattr(terminal)?;
            let mut hidden = before.clone();
            // The key that interrupts ends the line instead of the process.
            hidden.local_modes -= LocalModes::ECHO | LocalModes::ISIG;
            hidden.special_codes[SpecialCodeIndex::VEOL] =
                before.special_codes[SpecialCodeIndex::VINTR];
            tcsetattr(terminal, OptionalActions::Now, &hidden)?;
            Ok(Self { terminal, before })
        }

        fn interrupt(&self) -> u8 {
            self.before.special_codes[SpecialCodeIndex::VINTR]
        }
    }

    impl Drop for Hidden<'_> {
        fn drop(&mut self) {
            // A terminal that has hung up needs no restoring.
            let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
        }
    }
}
