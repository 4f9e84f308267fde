//! The load generator: one thread, a fixed number of connections, each sends the next request when the answer is whole.
//! Prints one JSON object: requests, errors, latencies, and the CPU time and memory of the process under load.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::http::Message;
use crate::{Options, Outcome};

/// Before anything is counted: connections are made, code and caches are warm.
const WARM_UP: Duration = Duration::from_millis(400);

struct Connection {
    socket: TcpStream,
    request: Vec<u8>,
    sent: usize,
    since: Instant,
    answer: Message,
}

struct Load {
    /// Values of the header `x-bench-key` that the requests take in turn, where in the request it stands, and which is next.
    keys: u64,
    key_at: usize,
    next: u64,
    latencies: Vec<u32>,
    errors: u64,
    counting: bool,
    sample: Option<Vec<u8>>,
    last_error: String,
}

pub fn run(options: &Options) -> Outcome<()> {
    let port: u16 = options.number("port", 0);
    let seconds: f64 = options.number("seconds", 1.0);
    let pid: u32 = options.number("pid", 0);
    let request = request(options, port)?;
    let key = request.windows(KEY.len()).position(|text| text == KEY.as_bytes());
    let mut load = Load {
        keys: options.number("keys", 1),
        key_at: key.ok_or("the request has no key")? + KEY.len(),
        next: 0,
        latencies: Vec::with_capacity(200_000),
        errors: 0,
        counting: false,
        sample: None,
        last_error: String::new(),
    };
    let mut poll = Poll::new()?;
    let mut connections = Vec::new();
    for index in 0..options.number("connections", 16) {
        let mut socket = TcpStream::connect(([127, 0, 0, 1], port).into())?;
        poll.registry().register(&mut socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        let answer = Message::keeping_body(index == 0);
        let mut request = request.clone();
        load.turn(&mut request);
        connections.push(Connection { socket, request, sent: 0, since: Instant::now(), answer });
    }
    let mut events = Events::with_capacity(64);
    let begun = Instant::now();
    let mut window = begun;
    let mut cpu = 0;
    loop {
        if !load.counting && begun.elapsed() >= WARM_UP {
            (load.counting, window, cpu) = (true, Instant::now(), cpu_nanoseconds(pid));
        }
        if load.counting && window.elapsed().as_secs_f64() >= seconds {
            break;
        }
        poll.poll(&mut events, Some(Duration::from_millis(5)))?;
        for event in events.iter() {
            let Some(connection) = connections.get_mut(event.token().0) else { continue };
            load.serve(connection)?;
        }
    }
    let (took, cpu) = (window.elapsed().as_secs_f64(), cpu_nanoseconds(pid).saturating_sub(cpu));
    load.report(took, cpu, memory_kilobytes(pid));
    if let (Ok(file), Some(sample)) = (options.text("save"), &load.sample) {
        std::fs::write(file, sample)?;
    }
    Ok(())
}

fn request(options: &Options, port: u16) -> Outcome<Vec<u8>> {
    let body = std::fs::read(options.text("body")?)?;
    let pace = options.text("pace").map(|pace| format!("x-bench-pace: {pace}\r\n")).unwrap_or_default();
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\naccept: */*\r\nauthorization: Bearer bench\r\n{KEY}00000\r\n{pace}content-length: {}\r\n\r\n",
        options.text("path")?,
        body.len()
    );
    Ok([head.as_bytes(), &body].concat())
}

/// The header by which budgets are kept, before its value of five digits.
const KEY: &str = "x-bench-key: ";

impl Load {
    /// The next request is another key's.
    fn turn(&mut self, request: &mut [u8]) {
        let key = format!("{:05}", self.next % self.keys);
        request[self.key_at..self.key_at + key.len()].copy_from_slice(key.as_bytes());
        self.next += 1;
    }

    fn serve(&mut self, connection: &mut Connection) -> Outcome<()> {
        let mut buffer = [0; 65536];
        loop {
            while connection.sent < connection.request.len() {
                match connection.socket.write(&connection.request[connection.sent..]) {
                    Ok(count) => connection.sent += count,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => break,
                    Err(error) => return Err(error.into()),
                }
            }
            match connection.socket.read(&mut buffer) {
                Ok(0) => return Err(format!("the connection was closed; {}", self.last_error).into()),
                Ok(count) => {
                    connection.answer.take(&buffer[..count]);
                    if connection.answer.done() {
                        self.count(connection);
                    }
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn count(&mut self, connection: &mut Connection) {
        let ok = connection.answer.status() == 200;
        if self.counting && ok {
            self.latencies.push(connection.since.elapsed().as_micros() as u32);
        }
        if !ok {
            self.errors += 1;
            self.last_error = String::from_utf8_lossy(&connection.answer.head).into_owned();
        }
        if self.sample.is_none() && connection.answer.keep_body {
            self.sample = Some([&connection.answer.head[..], &connection.answer.body].concat());
            connection.answer.keep_body = false;
        }
        connection.answer.clear();
        self.turn(&mut connection.request);
        connection.sent = 0;
        connection.since = Instant::now();
    }

    fn report(&mut self, seconds: f64, cpu: u64, memory: u64) {
        self.latencies.sort_unstable();
        let at = |share: f64| {
            let last = self.latencies.len().saturating_sub(1);
            self.latencies.get((last as f64 * share).round() as usize).copied().unwrap_or(0)
        };
        println!(
            r#"{{"requests":{},"errors":{},"seconds":{seconds},"p50_us":{},"p99_us":{},"cpu_ns":{cpu},"rss_kb":{memory}}}"#,
            self.latencies.len(),
            self.errors,
            at(0.5),
            at(0.99)
        );
    }
}

/// CPU time of all threads of a process, from the scheduler's own account.
fn cpu_nanoseconds(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let account = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    threads.flatten().filter_map(account).sum()
}

fn memory_kilobytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
