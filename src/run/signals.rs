//! The signals that ask a run to end: Ctrl-C, what CI systems and `timeout` send, and a terminal that
//! is closed.

use std::fmt;

use tokio::signal;

/// A signal that asks to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// The terminal was closed.
    HangUp,
    /// Ctrl-C.
    Interrupt,
    /// `kill`, a job that is cancelled, a time limit.
    Terminate,
}

impl Signal {
    /// Its number (signal(7)).
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HangUp => "the terminal was closed",
            Self::Interrupt => "interrupted",
            Self::Terminate => "terminated",
        })
    }
}

/// Waits for the first signal that asks to end.
#[cfg(unix)]
pub async fn first_signal() -> Signal {
    use signal::unix::{SignalKind, signal};
    let waits = |kind: SignalKind| async move {
        match signal(kind) {
            Ok(mut signals) => drop(signals.recv().await),
            // It ends us as it would have without us.
            Err(_) => std::future::pending().await,
        }
    };
    let hang_up = async {
        // What `nohup` started goes on.
        if ignores_hang_up() {
            std::future::pending::<()>().await;
        }
        waits(SignalKind::hangup()).await;
    };
    tokio::select! {
        () = waits(SignalKind::interrupt()) => Signal::Interrupt,
        () = waits(SignalKind::terminate()) => Signal::Terminate,
        () = hang_up => Signal::HangUp,
    }
}

/// Waits for Ctrl-C.
#[cfg(not(unix))]
pub async fn first_signal() -> Signal {
    match signal::ctrl_c().await {
        Ok(()) => Signal::Interrupt,
        Err(_) => std::future::pending().await,
    }
}

/// Ends the process at the next signal, wherever it is: whoever asks for the second time, or when
/// only a reader of the output is waited for, means it.
pub fn end_at_the_next_signal() {
    let waiting = std::thread::Builder::new().name("signals".into()).spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        if let Ok(runtime) = runtime {
            let signal = runtime.block_on(first_signal());
            std::process::exit((128 + signal.number()).into());
        }
    });
    // Without a thread it is as it would be without us.
    drop(waiting);
}

/// Whether whoever started us had us ignore the end of the terminal (proc_pid_status(5): `SigIgn`).
#[cfg(unix)]
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 != 0)
}
