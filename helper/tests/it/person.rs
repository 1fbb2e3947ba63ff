//! Somebody at a terminal who reads before typing.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use smartbuild_test_rig::Work;

/// A program on a terminal of its own, and the person in front of it.
pub(crate) struct Person {
    program: Child,
    keyboard: ChildStdin,
    display: ChildStdout,
    /// What is on the screen so far.
    screen: String,
    terminal: String,
}

impl Person {
    /// Runs a shell's command line on a new terminal; our program is on its search path.
    pub(crate) fn at_terminal(work: &Work, line: &str) -> Self {
        Self::in_surroundings(work, line, &[])
    }

    /// The same with more variables.
    pub(crate) fn in_surroundings(work: &Work, line: &str, variables: &[(&str, OsString)]) -> Self {
        let test = std::env::current_exe().unwrap();
        let ours = test.ancestors().nth(2).unwrap().to_owned();
        let theirs = std::env::var_os("PATH").unwrap();
        let path = [ours].into_iter().chain(std::env::split_paths(&theirs));
        let mut program = Command::new("script")
            .args(["-qefc", &format!("tty; {line}"), "/dev/null"])
            .env_clear()
            .env("HOME", work.home())
            .env("PATH", std::env::join_paths(path).unwrap())
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script cannot be started; it is in the distribution's bsdutils");
        let (keyboard, display) = (program.stdin.take().unwrap(), program.stdout.take().unwrap());
        let (screen, terminal) = (String::new(), String::new());
        let mut person = Self { program, keyboard, display, screen, terminal };
        person.reads("\n");
        person.terminal = person.screen.lines().next().unwrap_or_default().trim().to_owned();
        person
    }

    /// Reads until a text is on the screen.
    pub(crate) fn reads(&mut self, text: &str) {
        while !self.screen.contains(text) {
            let mut bytes = [0; 256];
            let count = self.display.read(&mut bytes).unwrap();
            assert!(count > 0, "the program ended without {text:?}: {}", self.screen);
            self.screen.push_str(&String::from_utf8_lossy(&bytes[..count]));
        }
    }

    /// Waits until the terminal no longer shows what is typed.
    pub(crate) fn waits_for_hidden_input(&self) {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let stty = Command::new("stty").args(["-F", &self.terminal, "-a"]).output().unwrap();
            if String::from_utf8_lossy(&stty.stdout).contains("-echo ") {
                return;
            }
            assert!(Instant::now() < end, "the terminal shows the password");
        }
    }

    /// Types a line, and the key that ends it.
    pub(crate) fn types(&mut self, line: &str) {
        self.presses(&format!("{line}\n"));
    }

    /// Presses keys.
    pub(crate) fn presses(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// The whole screen, when the program has ended.
    pub(crate) fn reads_to_the_end(mut self) -> String {
        let mut rest = Vec::new();
        self.display.read_to_end(&mut rest).unwrap();
        self.program.wait().unwrap();
        std::mem::take(&mut self.screen) + &String::from_utf8_lossy(&rest)
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
