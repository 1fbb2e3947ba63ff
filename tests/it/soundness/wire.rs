//! What BuildKit is sent is what is in the key: a session with a real engine is written down on its
//! way, and its entries are held against what `smartbuild inputs` lists, name by name, mode by mode,
//! byte by byte.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
};

use bollard_buildkit_proto::fsutil::types::{Packet, packet::PacketType};
use fastrand::Rng;
use prost::Message;
use serde_json::Value;
use smartbuild_test_rig::{Engine, Program, Registry, Work, sha256, unique};

use super::{
    Bench, maker, number,
    oracle::{self, Oracle},
    summary,
};

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn what_buildkit_is_sent_is_what_is_in_the_key() {
    let (recorder, bench) = (Recorder::start(), Bench::with(Oracle::ours()));
    let recorded = Oracle::Ours { docker: "docker".into(), host: recorder.host() };
    let count = number("SMARTBUILD_TEST_CASES").unwrap_or(18);
    let first = number("SMARTBUILD_TEST_SEED").unwrap_or_else(|| u64::from(Rng::new().u32(..)));
    summary::say(&format!("wire: {count} cases from seed {first}"));
    let (mut builds, mut files) = (0, 0);
    for seed in first..first + count {
        let case = maker::case(seed, bench.features);
        bench.servers.publish(&case, None);
        let hosts = bench.servers.hosts();
        let laid = case.lay(&hosts);
        recorder.forget();
        if recorded.case(&case, &laid, &hosts).is_err() {
            continue;
        }
        let listed = listed(&oracle::inputs(&case, &laid, &hosts));
        let mut sent = recorder.sent();
        // Older frontends ask for the ignore file alone before they ask for the context.
        sent.retain(|entries| !asked_alone(entries) || listed.contains(entries));
        assert_eq!(sent, listed, "seed {seed}: sent, and in the key\n{case}");
        builds += 1;
        files += sent.iter().map(Vec::len).sum::<usize>();
    }
    summary::say(&format!("wire: {builds} builds were sent {files} entries"));
    assert!(files > 0);
}

#[test]
#[ignore = "needs an engine and a registry: run tests/run.sh"]
fn nothing_is_sent_for_a_stage_that_an_image_stands_for() {
    let (recorder, registry, work) = (Recorder::start(), Registry::open(), Work::new());
    let base = registry.push_base();
    // What was never built before, in directories that one stage alone reads, and in shared ones.
    for path in ["sources/of/tool", "sources/more", "only/of/its/base", "shared/a", "shared/b"] {
        work.write(path, unique("content"));
    }
    work.write("file", unique("first")).write(
        "Dockerfile",
        format!(
            "FROM {base} AS under\nCOPY only /only\n\
             FROM under AS tools\nCOPY sources shared/a /made/\n\
             RUN --mount=source=sources/more,target=/m cat /m > /made/more\n\
             FROM {base}\nCOPY --from=tools /made /made\nCOPY file shared/b /\n"
        ),
    );
    let name = registry.name(&unique("replaced"));
    let smartbuild = |command: &[&str], tag: &str| {
        let tag = format!("{name}:{tag}");
        let program = Program::smartbuild(command).args(["-t", &tag, "--json"]);
        work.run(program.env("DOCKER_HOST", recorder.host())).success()
    };
    let build = |tag| smartbuild(&["--push", "--cache-stages"], tag);
    build("1");
    let paths = |entries: &[Vec<String>]| {
        let path = |entry: &String| entry.split(' ').next().unwrap().to_owned();
        entries.iter().map(|entries| entries.iter().map(path).collect()).collect::<Vec<Vec<_>>>()
    };
    let all = ["file", "only", "only/of", "only/of/its", "only/of/its/base", "shared", "shared/a"];
    let rest = ["shared/b", "sources", "sources/more", "sources/of", "sources/of/tool"];
    assert_eq!(paths(&recorder.sent())[0], [&all[..], &rest].concat());

    work.write("file", unique("second"));
    let key = smartbuild(&["inputs"], "2").json()["key"].clone();
    recorder.forget();
    let built = build("2").says(&["stage tools: "]);
    // The files that it still needs, and only one of them has changed.
    let session = recorder.sent();
    assert_eq!(paths(&session), [["file", "shared", "shared/b"]], "{session:?}");
    assert_eq!(built.json()["key"], key, "what is sent does not matter to the key");
    Engine::get().forget(&format!("{name}:2"));
}

fn asked_alone(entries: &[String]) -> bool {
    matches!(entries, [only] if only.starts_with(".dockerignore "))
}

/// The entries of every context in a listing, in its order. A context without entries is not sent.
fn listed(inputs: &Value) -> Vec<Vec<String>> {
    let entry = |row: &Value| {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let what = match &*text("kind") {
            "file" => format!("file of {} bytes, {}", row["size"], text("digest")),
            "symlink" => format!("link to {}", text("target")),
            kind => kind.to_owned(),
        };
        let mode = u32::from_str_radix(&text("mode"), 8).unwrap();
        format!("{} {mode:o} {what}", text("path"))
    };
    let entries = |rows: &Value| rows.as_array().unwrap().iter().map(entry).collect::<Vec<_>>();
    let named = inputs["contexts"].as_object().into_iter().flat_map(|all| all.values());
    let mut contexts: Vec<_> = named.chain([&inputs["context"]]).map(entries).collect();
    contexts.retain(|entries| !entries.is_empty());
    contexts.sort();
    contexts.dedup();
    contexts
}

/// What came over a connection so far.
type Record = Arc<Mutex<Vec<u8>>>;

/// An engine's socket that writes down what clients send.
struct Recorder {
    work: Work,
    connections: Arc<Mutex<Vec<Record>>>,
}

impl Recorder {
    fn start() -> Self {
        let work = Work::new();
        let listener = UnixListener::bind(work.join("engine.sock")).unwrap();
        let connections: Arc<Mutex<Vec<Record>>> = Arc::default();
        let kept = Arc::clone(&connections);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let path = Engine::get().host().strip_prefix("unix://").unwrap();
                let engine = UnixStream::connect(path).unwrap();
                let record = Arc::default();
                kept.lock().unwrap().push(Arc::clone(&record));
                carry(&client, &engine, Some(record));
                carry(&engine, &client, None);
            }
        });
        Self { work, connections }
    }

    fn host(&self) -> String {
        format!("unix://{}", self.work.join("engine.sock").display())
    }

    fn forget(&self) {
        self.connections.lock().unwrap().clear();
    }

    /// The entries of every context that was sent, in the order of their sending.
    fn sent(&self) -> Vec<Vec<String>> {
        let connections = self.connections.lock().unwrap();
        let records = connections.iter().map(|record| record.lock().unwrap().clone());
        let is_session = |record: &Vec<u8>| {
            let line = record.split(|byte| *byte == b'\r').next().unwrap_or_default();
            line.ends_with(b"/session HTTP/1.1")
        };
        let sessions = records.filter(is_session);
        let mut contexts: Vec<_> = sessions.flat_map(|session| contexts_in(&session)).collect();
        contexts.sort();
        // Every use of a named context asks for it.
        contexts.dedup();
        contexts
    }
}

fn carry(from: &UnixStream, to: &UnixStream, record: Option<Record>) {
    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            if let Some(record) = &record {
                record.lock().unwrap().extend(&buffer[..length]);
            }
            if to.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// What a session's side of HTTP/2 says of contexts (RFC 9113, section 4.1: frames).
fn contexts_in(session: &[u8]) -> Vec<Vec<String>> {
    const DATA: u8 = 0;
    const PADDED: u8 = 8;
    let head = session.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let mut rest = &session[head..];
    let mut streams: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let [a, b, c, kind, flags, s0, s1, s2, s3, after @ ..] = rest {
        let (payload, next) = after.split_at(u32::from_be_bytes([0, *a, *b, *c]) as usize);
        rest = next;
        if *kind == DATA {
            assert_eq!(flags & PADDED, 0, "nobody pads here");
            streams.entry(u32::from_be_bytes([*s0, *s1, *s2, *s3])).or_default().extend(payload);
        }
    }
    streams.values().filter_map(|stream| entries_in(stream)).collect()
}

/// The entries that a stream tells of; `None` where it is about something else.
fn entries_in(mut stream: &[u8]) -> Option<Vec<String>> {
    let mut entries = Vec::new();
    let mut contents: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    while let [0, a, b, c, d, after @ ..] = stream {
        let (message, next) = after.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        stream = next;
        // Other services speak other messages.
        let packet = Packet::decode(message).ok()?;
        entries.extend(packet.stat);
        if packet.r#type == PacketType::PacketData as i32 {
            contents.entry(packet.id).or_default().extend(packet.data);
        }
    }
    let dockerfile = ["Dockerfile", "Dockerfile.dockerignore"];
    let of_us = entries.iter().map(|stat| stat.path.as_str()).eq(dockerfile)
        && contents.get(&1).is_none_or(|text| text.starts_with(b"# What is ignored was left out"));
    if entries.is_empty() || of_us {
        return None;
    }
    let entry = |(id, stat): (u32, &bollard_buildkit_proto::fsutil::types::Stat)| {
        // Go's `FileMode`: kinds and special bits are at the other end.
        let (is_directory, is_link) = (stat.mode & 1 << 31 != 0, stat.mode & 1 << 27 != 0);
        let special = [(1 << 23, 0o4000), (1 << 22, 0o2000), (1 << 20, 0o1000)];
        let special = special.iter().filter(|(go, _)| stat.mode & go != 0).map(|(_, bit)| bit);
        let mode = stat.mode & 0o777 | special.sum::<u32>();
        assert_eq!((stat.uid, stat.gid), (0, 0), "{stat:?}");
        let what = if is_directory {
            "directory".to_owned()
        } else if is_link {
            format!("link to {}", stat.linkname)
        } else {
            let content = contents.get(&id).map(|content| sha256(content));
            format!("file of {} bytes, {}", stat.size, content.as_deref().unwrap_or("not sent"))
        };
        format!("{} {mode:o} {what}", stat.path)
    };
    Some((0..).zip(&entries).map(entry).collect())
}
