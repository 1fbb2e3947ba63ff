//! What a registry writes down: its access log, in the combined log format, and its complaints.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

/// The rig's own requests say so, and are left out of what tests see.
pub(crate) const OWN_AGENT: &str = "smartbuild-test-rig";

/// A line of the registry's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `GET`, `HEAD`, `PUT`, ...
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What follows the `?`; empty where there is none.
    pub query: String,
    /// The status of the answer.
    pub status: u16,
    /// How many bytes of body were sent.
    pub bytes: u64,
    /// The client, as it names itself.
    pub agent: String,
}

impl Entry {
    /// Whether the content of a blob went over the wire, in either direction.
    #[must_use]
    pub fn transfers_blob(&self) -> bool {
        let upload = self.path.contains("/blobs/uploads/");
        match self.method.as_str() {
            "GET" => self.path.contains("/blobs/") && !upload,
            "PUT" | "PATCH" => upload,
            // A POST with `mount` moves nothing; answered with 202 it only opens an upload.
            "POST" => upload && self.query.contains("digest="),
            _ => false,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { method, path, query, status, bytes, agent } = self;
        let mark = if query.is_empty() { "" } else { "?" };
        write!(f, "{method} {path}{mark}{query} -> {status}, {bytes} bytes, {agent}")
    }
}

/// What the server wrote so far, and a bell for news.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Lines>, Condvar);

#[derive(Debug, Default)]
struct Lines {
    access: Vec<Entry>,
    talk: Vec<String>,
}

impl Log {
    /// A line of the server's standard output.
    pub(crate) fn access(&self, line: &str) {
        let mut lines = self.0.lock().unwrap();
        match parse_access(line) {
            Some(entry) => lines.access.push(entry),
            None => lines.talk.push(line.to_owned()),
        }
        self.1.notify_all();
    }

    /// A line of its standard error.
    pub(crate) fn talk(&self, line: &str) {
        self.0.lock().unwrap().talk.push(line.to_owned());
    }

    /// Waits until a request with this query is written down.
    pub(crate) fn wait_for(&self, query: &str) {
        let missing = |lines: &mut Lines| !lines.access.iter().any(|entry| entry.query == query);
        let lines = self.0.lock().unwrap();
        let waited = self.1.wait_timeout_while(lines, Duration::from_secs(60), missing).unwrap();
        assert!(!waited.1.timed_out(), "the registry writes no access log");
    }

    /// The requests of others than the rig.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let lines = self.0.lock().unwrap();
        lines.access.iter().filter(|entry| entry.agent != OWN_AGENT).cloned().collect()
    }

    /// For people: the requests, and what the server complained about.
    pub(crate) fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let own = |entry: &&Entry| entry.agent != OWN_AGENT;
        let access = lines.access.iter().filter(own).map(Entry::to_string);
        let complaint = |line: &&String| {
            let error = ["level=error", "level=fatal", "level=panic", "configuration error"];
            error.iter().any(|word| line.contains(word)) && !line.contains(OWN_AGENT)
        };
        access.chain(lines.talk.iter().filter(complaint).cloned()).collect::<Vec<_>>().join("\n")
    }
}

/// Reads a line of the combined log format.
fn parse_access(line: &str) -> Option<Entry> {
    let mut quoted = line.split('"');
    let _client_and_time = quoted.next()?;
    let mut request = quoted.next()?.split(' ');
    let mut numbers = quoted.next()?.split_whitespace();
    let _referrer = (quoted.next()?, quoted.next()?);
    let agent = quoted.next()?.to_owned();
    let method = request.next()?.to_owned();
    let target = request.next()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Entry {
        method,
        path: path.to_owned(),
        query: query.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
        agent,
    })
}

/// Hands on each line as it comes.
pub(crate) fn follow(pipe: impl Read + Send + 'static, each: impl Fn(&str) + Send + 'static) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
            each(&String::from_utf8_lossy(&line));
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_lines_are_read() {
        let line = r#"127.0.0.1 - - [23/Nov/2026:17:45:18 +0000] "PUT /v2/a/blobs/uploads/1?digest=sha256:0 HTTP/1.1" 201 0 "" "docker/28""#;
        let entry = parse_access(line).unwrap();
        assert_eq!((entry.method.as_str(), entry.status), ("PUT", 201));
        assert_eq!(entry.query, "digest=sha256:0");
        assert_eq!(entry.agent, "docker/28");
        assert!(entry.transfers_blob());
        assert_eq!(parse_access("something else"), None);
    }
}
