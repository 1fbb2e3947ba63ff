//! A terminal with somebody in front of it: tmux, so that what is drawn can be looked at.

use std::{
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{Program, Work, unique};

/// How long something may take to appear.
const PATIENCE: Duration = Duration::from_secs(120);

/// A terminal window with a shell in it; it is closed when dropped.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
    _work: Work,
}

impl Terminal {
    /// Opens a window of so many rows and columns.
    #[must_use]
    pub fn open(rows: usize, columns: usize) -> Self {
        let work = Work::new();
        let terminal = Self { socket: work.join(unique("tmux")), _work: work };
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let shell = "PS1='$ ' exec sh";
        let size = ["-x", &columns, "-y", &rows];
        let start = ["-f", "/dev/null", "new-session", "-d"];
        terminal
            .tmux(&[&start[..], &size, &["env", "-i", "TERM=screen", "sh", "-c", shell]].concat());
        terminal.until("a prompt", |screen| screen.contains('$'));
        terminal
    }

    /// Types the command line of a program, run in `work`. When it ends, `ended with CODE` appears.
    pub fn run(&self, program: Program, work: &Work) {
        let line = format!("clear; {}; echo ended with $?", program.line(work));
        work.write("../line", line);
        let script = work.join("../line");
        self.keys(&[&format!(". {}", script.display()), "Enter"]);
    }

    /// Presses keys, as tmux calls them: `C-c`, `Enter`.
    pub fn keys(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Makes the window another size.
    pub fn resize(&self, rows: usize, columns: usize) {
        let (rows, columns) = (rows.to_string(), columns.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]);
    }

    /// What is on the screen, without the empty lines at the end.
    #[must_use]
    pub fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"]).trim_end().to_owned()
    }

    /// What is on the screen and above it.
    #[must_use]
    pub fn history(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-"]).trim_end().to_owned()
    }

    /// The same with the escapes for colours.
    #[must_use]
    pub fn painted(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-e"])
    }

    /// Whether the cursor can be seen.
    #[must_use]
    pub fn cursor_is_shown(&self) -> bool {
        self.tmux(&["display-message", "-p", "#{cursor_flag}"]).trim() == "1"
    }

    /// Waits until the screen is as it should be, and gives it.
    #[track_caller]
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if is(&screen) {
                println!("--- {what}\n{screen}\n---");
                return screen;
            }
            assert!(Instant::now() < end, "no {what} appeared:\n{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the end of what runs, and gives everything that it left.
    #[track_caller]
    pub fn end(&self) -> String {
        self.until("end", |screen| screen.contains("ended with "));
        self.history()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let run = Command::new("tmux")
            .arg("-S")
            .arg(&self.socket)
            .args(arguments)
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .output()
            .unwrap_or_else(|error| panic!("tmux: {error}; install it, or run tests/run.sh"));
        assert!(run.status.success(), "tmux {arguments:?}: {run:?}");
        String::from_utf8_lossy(&run.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let kill = Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output();
        drop(kill);
    }
}
