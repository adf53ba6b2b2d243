//! The load: signed callbacks over kept connections, as fast as they are answered or by a timetable.
//!
//! With a timetable, a latency counts from the moment at which the callback was due, so that a server that stops for
//! a second is charged for everything that should have been sent in that second (coordinated omission).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::server::Server;
use super::support::bridge::{KEY, PATH};
use super::support::load::{callback, seconds_now};
use super::support::unique;

const STREAMS: u64 = 200;

/// What to send.
pub(crate) struct Load {
    /// Callbacks a second over all connections; `None`: the next one follows the answer.
    rate: Option<f64>,
    connections: u64,
    span: Duration,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    /// Answers other than 200.
    pub(crate) refused: u64,
    /// In microseconds, sorted.
    pub(crate) latencies: Vec<u32>,
    span: Duration,
    cpu: Duration,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.answered as f64 / self.span.as_secs_f64()
    }

    /// Of the server, all threads, in microseconds.
    pub(crate) fn cpu_per_callback(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.answered as f64
    }

    /// The latency in milliseconds that this share of the callbacks did not exceed.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.latencies.len() as f64).ceil() as usize;
        f64::from(self.latencies[rank.saturating_sub(1)]) / 1e3
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
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let run = unique() & 0xffff_ffff;
        let address = server.address();
        runtime.block_on(async {
            let mut connections = Vec::new();
            for number in 0..self.connections {
                connections.push((number, Connection::open(address).await));
            }
            let (cpu, began) = (server.cpu(), Instant::now());
            let senders: Vec<_> = connections
                .into_iter()
                .map(|(number, connection)| {
                    tokio::spawn(connection.send(number, self.connections, self.rate, self.span, began, run))
                })
                .collect();
            let mut outcome =
                Outcome { answered: 0, refused: 0, latencies: Vec::new(), span: Duration::ZERO, cpu: Duration::ZERO };
            for sender in senders {
                let (answers, refused) = sender.await.unwrap();
                outcome.answered += answers.len() as u64;
                outcome.refused += refused;
                outcome.latencies.extend(answers);
            }
            outcome.span = began.elapsed();
            outcome.cpu = server.cpu_since(cpu);
            outcome.latencies.sort_unstable();
            assert!(outcome.answered > 0, "no answer at all\n{}", server.log_tail());
            outcome
        })
    }
}

struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { address, stream, buffer: vec![0; 4096] }
    }

    /// The share of connection `number`: its latencies, and how many were refused.
    async fn send(
        mut self,
        number: u64,
        connections: u64,
        rate: Option<f64>,
        span: Duration,
        began: Instant,
        run: u64,
    ) -> (Vec<u32>, u64) {
        let (mut latencies, mut refused) = (Vec::new(), 0);
        for own in 0.. {
            let at = own * connections + number;
            let due = match rate {
                Some(rate) => began + Duration::from_secs_f64(at as f64 / rate),
                None => Instant::now(),
            };
            if due >= began + span {
                break;
            }
            if rate.is_some() {
                tokio::time::sleep_until(due.into()).await;
            }
            let stream = format!("live_{run:08x}_{}", at % STREAMS);
            let file = format!("1300000000_{run:08x}{number:08x}{own:016x}");
            let body = callback(KEY, seconds_now() + 600, &stream, &file);
            let request = format!(
                "POST {PATH} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                self.address,
                body.len()
            );
            // What was waited for before the callback could be sent counts; the making of its body does not.
            let sent = if rate.is_some() { due } else { Instant::now() };
            let status = if let Ok(status) = self.exchange(request.as_bytes()).await {
                status
            } else {
                // The connection ended while it was idle.
                self = Self::open(self.address).await;
                self.exchange(request.as_bytes()).await.unwrap()
            };
            latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap());
            refused += u64::from(status != 200);
        }
        (latencies, refused)
    }

    /// The status. An answer has a length, and nothing follows it.
    async fn exchange(&mut self, request: &[u8]) -> io::Result<u16> {
        self.stream.write_all(request).await?;
        let mut length = 0;
        loop {
            let count = self.stream.read(&mut self.buffer[length..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            length += count;
            let text = std::str::from_utf8(&self.buffer[..length]).unwrap();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let lower = head.to_ascii_lowercase();
            let (_, after) = lower.split_once("content-length: ").unwrap();
            let expected: usize = after.lines().next().unwrap().trim().parse().unwrap();
            if body.len() >= expected {
                return Ok(head[9..12].parse().unwrap());
            }
        }
    }
}
