//! The load: signed callbacks over kept connections, as fast as they are answered or by a timetable.
//!
//! With a timetable, a callback that is due while its connection still waits for an answer counts from the moment at
//! which it was due, so that a server that stops for a second is charged for everything that should have been sent in
//! that second (coordinated omission). Whether the sender itself woke up late is no business of the server's.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::report::{Report, Unit};
use super::server::Server;
use super::support::bridge::{KEY, PATH};
use super::support::load::{callback, seconds_now};
use super::support::unique;

const STREAMS: u64 = 200;
const ANSWER_BYTES_MAX: usize = 4096;
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What to send.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Callbacks a second over all connections; `None`: the next one follows the answer.
    rate: Option<f64>,
    connections: u64,
    span: Duration,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Answers other than 200.
    pub(crate) refused: u64,
    /// In microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
    pub(crate) span: Duration,
    pub(crate) cpu: Duration,
    /// How often its threads have gone to sleep or were put aside.
    switches: u64,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64()
    }

    /// Of the server, all threads, in microseconds.
    pub(crate) fn cpu_per_callback(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered as f64
    }

    /// Of the server's threads.
    pub(crate) fn switches_per_callback(&self) -> f64 {
        self.switches as f64 / self.answered as f64
    }

    /// The latency in milliseconds that this share of the callbacks did not exceed.
    fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        f64::from(self.latencies[rank.saturating_sub(1)]) / 1e3
    }

    /// Reports the usual quantiles.
    pub(crate) fn report(&self, row: &str, name: &str, report: &mut Report) {
        for (label, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            report.add(row, &format!("{label} at {name}"), Unit::Milliseconds, self.quantile(share));
        }
    }

    fn add(&mut self, answers: &[u32], refused: u64) {
        self.answered += answers.len() as u64;
        self.refused += refused;
        self.latencies.extend(answers);
    }
}

impl Load {
    pub(crate) fn saturating(connections: u64, span: Duration) -> Self {
        Self { rate: None, connections, span }
    }

    pub(crate) fn open(rate: f64, connections: u64, span: Duration) -> Self {
        Self { rate: Some(rate), connections, span }
    }

    /// Sends everything, and watches the server's CPU meanwhile.
    pub(crate) fn run(&self, server: &Server) -> Outcome {
        let run = unique() & 0xffff_ffff;
        let requests = (0..self.connections).map(|number| Request::new(server.address(), run, number));
        let requests: Vec<_> = requests.collect();
        let (switches, cpu, began) = (server.switches(), server.cpu(), Instant::now());
        let mut outcome = match self.rate {
            None => self.saturate(server.address(), requests, began),
            Some(rate) => self.keep_time(server.address(), requests, began, rate),
        };
        outcome.span = began.elapsed();
        outcome.cpu = server.cpu().saturating_sub(cpu);
        outcome.switches = server.switches().saturating_sub(switches);
        outcome.latencies.sort_unstable();
        assert!(outcome.answered > 0, "no answer at all\n{}", server.log_tail());
        outcome
    }

    /// One thread for all connections, so that the load takes as little of the machine as it can.
    fn saturate(&self, address: SocketAddr, requests: Vec<Request>, began: Instant) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let ends = began + self.span;
            let sent = requests.into_iter().map(|request| tokio::spawn(follow(address, request, ends)));
            let mut outcome = Outcome::default();
            for sender in sent.collect::<Vec<_>>() {
                let (answers, refused) = sender.await.unwrap();
                outcome.add(&answers, refused);
            }
            outcome
        })
    }

    /// A thread for each connection: the timers of a runtime are as coarse as what is measured.
    fn keep_time(&self, address: SocketAddr, requests: Vec<Request>, began: Instant, rate: f64) -> Outcome {
        let mut outcome = Outcome::default();
        let due =
            |number: u64, own: u64| began + Duration::from_secs_f64((own * self.connections + number) as f64 / rate);
        std::thread::scope(|scope| {
            let senders: Vec<_> = (0..)
                .zip(requests)
                .map(|(number, request)| {
                    let timetable = (0..).map(move |own| due(number, own)).take_while(|due| *due < began + self.span);
                    scope.spawn(move || keep_timetable(address, request, timetable))
                })
                .collect();
            for sender in senders {
                let (answers, refused) = sender.join().unwrap();
                outcome.add(&answers, refused);
            }
        });
        outcome
    }
}

/// Sends the next callback after the answer to the one before.
async fn follow(address: SocketAddr, mut request: Request, ends: Instant) -> (Vec<u32>, u64) {
    let (mut answers, mut refused) = (Vec::new(), 0);
    let mut buffer = [0; ANSWER_BYTES_MAX];
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for own in 0.. {
        let sent = Instant::now();
        if sent >= ends {
            break;
        }
        stream.write_all(request.next(own)).await.unwrap();
        let mut length = 0;
        let status = loop {
            let count = stream.read(&mut buffer[length..]).await.unwrap();
            assert!(count > 0, "a busy connection was closed");
            length += count;
            if let Some(status) = status(&buffer[..length]) {
                break status;
            }
        };
        answers.push(u32::try_from(sent.elapsed().as_micros()).unwrap());
        refused += u64::from(status != 200);
    }
    (answers, refused)
}

fn keep_timetable(
    address: SocketAddr,
    mut request: Request,
    timetable: impl Iterator<Item = Instant>,
) -> (Vec<u32>, u64) {
    // 50 µs otherwise.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap();
    let (mut answers, mut refused) = (Vec::new(), 0);
    let mut stream = connect(address);
    for (own, due) in (0..).zip(timetable) {
        let now = Instant::now();
        let counts_from = if now > due {
            due
        } else {
            std::thread::sleep(due - now);
            Instant::now()
        };
        let status = exchange(&mut stream, request.next(own)).unwrap_or_else(|_| {
            // The connection ended while it was idle.
            stream = connect(address);
            exchange(&mut stream, request.next(own)).unwrap()
        });
        answers.push(u32::try_from(counts_from.elapsed().as_micros()).unwrap());
        refused += u64::from(status != 200);
    }
    (answers, refused)
}

fn connect(address: SocketAddr) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(ANSWER_PATIENCE)).unwrap();
    stream
}

fn exchange(stream: &mut std::net::TcpStream, request: &[u8]) -> io::Result<u16> {
    stream.write_all(request)?;
    let (mut buffer, mut length) = ([0; ANSWER_BYTES_MAX], 0);
    loop {
        let count = stream.read(&mut buffer[length..])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        length += count;
        if let Some(status) = status(&buffer[..length]) {
            return Ok(status);
        }
    }
}

/// The status of an answer that is whole. It has a length, and nothing follows it.
fn status(answer: &[u8]) -> Option<u16> {
    let text = std::str::from_utf8(answer).unwrap();
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (_, after) = head.split_once("content-length: ").unwrap();
    let length: usize = after.lines().next().unwrap().trim().parse().unwrap();
    (body.len() >= length).then(|| head[9..12].parse().unwrap())
}

/// A request whose stream and file are filled in anew each time: to make bodies must not cost what is measured.
struct Request {
    bytes: Vec<u8>,
    stream: Vec<usize>,
    file: Vec<usize>,
    number: u64,
}

impl Request {
    fn new(address: SocketAddr, run: u64, number: u64) -> Self {
        const HOLE: &str = "000";
        let (stream, file) = (format!("live_{run:08x}_{HOLE}"), format!("1300000000_{run:08x}{number:08x}{:016x}", 0));
        let body = callback(KEY, seconds_now() + 600, &stream, &file);
        let text = format!(
            "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let ends_of = |name: &str| text.match_indices(name).map(|(start, _)| start + name.len()).collect::<Vec<_>>();
        let (stream, file) = (ends_of(&stream), ends_of(&file));
        Self { bytes: text.into_bytes(), stream, file, number }
    }

    fn next(&mut self, own: u64) -> &[u8] {
        // Neighbouring connections send to different streams, and one connection to all of them in turn.
        let stream = format!("{:03}", (own + self.number * 7) % STREAMS);
        let file = format!("{own:016x}");
        for (ends, text) in [(&self.stream, &stream), (&self.file, &file)] {
            for end in ends {
                self.bytes[end - text.len()..*end].copy_from_slice(text.as_bytes());
            }
        }
        &self.bytes
    }
}
