//! What a `get` costs, from each place that a login can come from, over an empty process.
//!
//! ```text
//! cargo bench -p docker-credential-aliyun --bench get          # 400 runs each
//! cargo bench -p docker-credential-aliyun --bench get -- 2000  # that many
//! ```
//!
//! The contenders take turns in blocks of 50. Wall time is the median of single runs; CPU time (user
//! and system, of the program and what it starts) is the mean over all runs, as the kernel accounts
//! for the children of this process in hundredths of a second. Linux with GNOME Keyring only.

#![allow(clippy::print_stdout, reason = "it prints what it measures")]
#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use smartbuild_test_rig::{Work, unique};

#[path = "../tests/it/session.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod session;

use session::Session;

const HELPER: &str = env!("CARGO_BIN_EXE_docker-credential-aliyun");
const BLOCK: usize = 50;
/// The registry that the others are about; and one of Alibaba Cloud's, for which there are tokens.
const HOST: &str = "registry.example.com";
const CLOUD_HOST: &str = "registry.cn-hangzhou.aliyuncs.com";

/// A command that is run over and over.
struct Contender {
    name: &'static str,
    program: &'static str,
    host: String,
    variables: Vec<(String, String)>,
    walls: Vec<Duration>,
    cpu: Duration,
}

impl Contender {
    /// A `get` of our program with these variables.
    fn get(name: &'static str, host: &str, variables: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = variables.iter().map(own).collect();
        let (host, walls) = (host.to_owned(), Vec::new());
        Self { name, program: HELPER, host, variables, walls, cpu: Duration::ZERO }
    }

    /// The same, after the program has stored a login there.
    fn stored(name: &'static str, host: &str, variables: &[(&str, &str)]) -> Self {
        let contender = Self::get(name, host, variables);
        let login = json!({ "ServerURL": host, "Username": "ci@1", "Secret": "secret" });
        contender.call("store", &login.to_string());
        contender
    }

    fn call(&self, verb: &str, input: &str) -> String {
        let mut child = Command::new(self.program)
            .arg(verb)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // An empty process does not read it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}: {verb}: {said}", self.name);
        said
    }

    /// A block of runs.
    fn run(&mut self) {
        let before = cpu_of_children();
        for _ in 0..BLOCK {
            let start = Instant::now();
            self.call("get", &self.host);
            self.walls.push(start.elapsed());
        }
        self.cpu += cpu_of_children() - before;
    }

    fn median(&mut self) -> Duration {
        self.walls.sort_unstable();
        self.walls[self.walls.len() / 2]
    }

    fn mean_cpu(&self) -> Duration {
        self.cpu / u32::try_from(self.walls.len()).unwrap()
    }
}

/// User and system time of this process's children that have ended (proc_pid_stat(5), fields 16 and
/// 17, in hundredths of a second).
fn cpu_of_children() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(13).take(2).map(|field| field.parse::<u64>().unwrap());
    Duration::from_millis(10 * ticks.sum::<u64>())
}

/// Gets a token from a service that knows one answer, so that it is in the cache.
fn fill_token_cache(variables: &[(&str, &str)]) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 8192];
        let _ = stream.read(&mut request).unwrap();
        let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1);
        let token = json!({ "data": {
            "authorizationToken": "token",
            "tempUserName": "cr_temp_user",
            "expireDate": end.as_millisecond(),
        } });
        let body = token.to_string();
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json";
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let endpoint = [("DOCKER_CREDENTIAL_ALIYUN_CR_ENDPOINT", address.as_str())];
    Contender::get("a new token", CLOUD_HOST, &[variables, &endpoint].concat())
        .call("get", CLOUD_HOST);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn main() {
    let runs = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(400_usize);
    let (session, work) = (Session::unlocked(), Work::new());
    let bus = session.variables().map(|(name, value)| (name, value.into_string().unwrap()));
    let bus = bus.each_ref().map(|(name, value)| (*name, value.as_str()));
    let home = work.home();
    let home = ("HOME", text(&home));
    let (by_key, by_phrase) = (work.join("by-key"), work.join("by-phrase"));
    let key = work.join("key");
    let unique_host = format!("{}.example.com", unique("bench"));
    let store = |name| ("DOCKER_CREDENTIAL_ALIYUN_STORE", name);
    let file = |path| ("DOCKER_CREDENTIAL_ALIYUN_FILE", path);
    let cloud = [
        home,
        ("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"),
        ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret"),
    ];
    fill_token_cache(&cloud);

    let mut contenders = [
        Contender { program: "/bin/true", ..Contender::get("/bin/true", HOST, &[]) },
        Contender::get(
            "CI variables",
            HOST,
            &[
                home,
                ("REGISTRY_URL", HOST),
                ("REGISTRY_USERNAME", "ci@1"),
                ("REGISTRY_PASSWORD", "secret"),
            ],
        ),
        Contender::stored("Secret Service", HOST, &[&[home], &bus[..]].concat()),
        Contender::stored(
            "encrypted file, key file",
            HOST,
            &[home, file(text(&by_key)), ("DOCKER_CREDENTIAL_ALIYUN_KEY_FILE", text(&key))],
        ),
        Contender::stored(
            "encrypted file, pass-phrase",
            HOST,
            &[
                home,
                file(text(&by_phrase)),
                ("DOCKER_CREDENTIAL_ALIYUN_PASSPHRASE", "correct horse battery staple"),
            ],
        ),
        Contender::stored("kernel keyring", &unique_host, &[home, store("keyutils")]),
        Contender::get("cached token", CLOUD_HOST, &cloud),
    ];
    for _ in 0..runs.div_ceil(BLOCK) {
        contenders.iter_mut().for_each(Contender::run);
    }
    let (wall, cpu) = (contenders[0].median(), contenders[0].mean_cpu());
    contenders[5].call("erase", &unique_host);

    let runs = contenders[0].walls.len();
    println!("{runs} runs each; wall: median, CPU: mean, in milliseconds; (over /bin/true)\n");
    println!("| get from | wall | | CPU | |\n|---|---|---|---|---|");
    for contender in &mut contenders {
        let (own_wall, own_cpu) = (contender.median(), contender.mean_cpu());
        println!(
            "| {} | {:.2} | (+{:.2}, x{:.1}) | {:.2} | (+{:.2}, x{:.1}) |",
            contender.name,
            milliseconds(own_wall),
            milliseconds(own_wall) - milliseconds(wall),
            own_wall.as_secs_f64() / wall.as_secs_f64(),
            milliseconds(own_cpu),
            milliseconds(own_cpu) - milliseconds(cpu),
            own_cpu.as_secs_f64() / cpu.as_secs_f64(),
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
