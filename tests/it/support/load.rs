//! A load of signed callbacks, sent by a small HTTP/1.1 client of its own: no code of the bridge takes part.
//!
//! The load is open: every connection has a timetable of its own, so a late answer delays that connection and no
//! other. A connection that has fallen behind sends what is overdue at once.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) use super::body::{APP_ID, callback, sign};
use super::unique;

/// The provider gives up after 20 s; waiting a little longer shows an answer that comes too late.
const ANSWER_PATIENCE: Duration = Duration::from_secs(25);
/// The bridge closes connections that are idle for 5 s. A request that crosses such an end has no answer, and that would
/// say nothing about the bridge.
const IDLE_MAX: Duration = Duration::from_secs(3);

/// What to send.
#[derive(Clone)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    pub(crate) key: String,
    /// Callbacks in all.
    pub(crate) count: u64,
    /// Callbacks a second, over all connections.
    pub(crate) rate: f64,
    pub(crate) streams: u64,
    pub(crate) connections: u64,
    /// A stream's next callback is sent only after the answer to the one before.
    pub(crate) closed_loop_per_stream: bool,
    /// Every so many callbacks one is sent again after its answer, as the provider does; 0: none.
    pub(crate) repeat_every: u64,
}

/// A callback that was sent, and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) stream_id: String,
    pub(crate) file_id: String,
    /// Since the load began.
    pub(crate) sent_at: Duration,
    pub(crate) latency: Duration,
    /// `None` if the connection ended without an answer.
    pub(crate) status: Option<u16>,
}

impl Answer {
    pub(crate) fn answered_at(&self) -> Duration {
        self.sent_at + self.latency
    }
}

impl Load {
    /// Sends everything; back when the last answer is there.
    pub(crate) fn run(&self) -> Vec<Answer> {
        assert!(self.streams > 0 && self.connections > 0 && self.rate > 0.0);
        let run = unique();
        let began = Instant::now();
        thread::scope(|scope| {
            let senders: Vec<_> = (0..self.connections)
                .map(|connection| scope.spawn(move || self.send_share(connection, run, began)))
                .collect();
            let mut answers: Vec<Answer> = senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect();
            answers.sort_by_key(|answer| answer.sent_at);
            answers
        })
    }

    /// What connection number `connection` has to send, in the order of its timetable.
    fn send_share(&self, connection: u64, run: u64, began: Instant) -> Vec<Answer> {
        let mut client = Client::new(self.address);
        let mut answers = Vec::new();
        // With a closed loop a stream stays on one connection, which sends one callback at a time; otherwise
        // callbacks of one stream overtake each other on different connections.
        let mine = |number: &u64| {
            let lane = if self.closed_loop_per_stream { number % self.streams } else { *number };
            lane % self.connections == connection
        };
        for number in (0..self.count).filter(mine) {
            #[expect(clippy::cast_precision_loss, reason = "numbers of callbacks are small")]
            let due = Duration::from_secs_f64(number as f64 / self.rate);
            thread::sleep(due.saturating_sub(began.elapsed()));
            let stream = number % self.streams;
            let (stream_id, file_id) = (stream_id(run, stream), file_id(run, stream, number / self.streams));
            let body = callback(&self.key, expiry_from_now(), &stream_id, &file_id);
            let (sent_at, sent) = (began.elapsed(), Instant::now());
            let status = client.post(&self.path, &body).ok();
            answers.push(Answer { stream_id, file_id, sent_at, latency: sent.elapsed(), status });
            if self.repeat_every > 0 && number.is_multiple_of(self.repeat_every) {
                let (sent_at, sent) = (began.elapsed(), Instant::now());
                let status = client.post(&self.path, &body).ok();
                let first = answers.last().expect("it was just put there").clone();
                answers.push(Answer { sent_at, latency: sent.elapsed(), status, ..first });
            }
        }
        answers
    }
}

/// Statuses and latencies of a load, to print.
pub(crate) struct Statuses<'a>(pub(crate) &'a [Answer]);

impl fmt::Display for Statuses<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut statuses: Vec<Option<u16>> = self.0.iter().map(|answer| answer.status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        for status in statuses {
            let mut latencies: Vec<Duration> =
                self.0.iter().filter(|answer| answer.status == status).map(|answer| answer.latency).collect();
            latencies.sort_unstable();
            let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
            let name = status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
            let count = latencies.len();
            writeln!(formatter, "{name}: {count}, p50 {:?}, p99 {:?}, max {:?}", at(50), at(99), at(100))?;
        }
        Ok(())
    }
}

/// Every seventh stream has a name outside ASCII, every fifth looks like a number: keys are bytes.
fn stream_id(run: u64, stream: u64) -> String {
    let run = run & 0xffff_ffff;
    match stream {
        _ if stream.is_multiple_of(7) => format!("直播_{run:08x}_{stream}"),
        _ if stream.is_multiple_of(5) => format!("0{run:010}{stream:04}"),
        _ => format!("live_{run:08x}_{stream}"),
    }
}

/// In the provider's form: the account and 32 hexadecimal digits, here those of run, stream and sequence.
fn file_id(run: u64, stream: u64, sequence: u64) -> String {
    format!("{APP_ID}_{:08x}{stream:08x}{sequence:016x}", run & 0xffff_ffff)
}

pub(crate) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// The provider's signature expires ten minutes after it was made.
fn expiry_from_now() -> u64 {
    seconds_now() + 600
}

/// One keep-alive connection, opened again when it has ended.
pub(crate) struct Client {
    address: SocketAddr,
    /// The open connection, and when it was used last.
    connection: Option<(TcpStream, Instant)>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, connection: None }
    }

    /// The status of the answer; an error if there is none.
    pub(crate) fn post(&mut self, path: &str, body: &str) -> io::Result<u16> {
        let address = self.address;
        let length = body.len();
        self.exchange(&format!(
            "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .map(|(status, _)| status)
    }

    /// Status and body of the answer.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<(u16, String)> {
        let address = self.address;
        self.exchange(&format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
    }

    fn exchange(&mut self, request: &str) -> io::Result<(u16, String)> {
        let fresh = |(connection, used): &(TcpStream, Instant)| used.elapsed() < IDLE_MAX && is_open(connection);
        let mut connection = match self.connection.take().filter(fresh) {
            Some((connection, _)) => connection,
            None => connect(self.address)?,
        };
        connection.write_all(request.as_bytes())?;
        let (status, body, closes) = read_answer(&mut connection)?;
        if !closes {
            self.connection = Some((connection, Instant::now()));
        }
        Ok((status, body))
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let connection = TcpStream::connect_timeout(&address, ANSWER_PATIENCE)?;
    connection.set_nodelay(true)?;
    connection.set_read_timeout(Some(ANSWER_PATIENCE))?;
    Ok(connection)
}

/// Whether the server has not ended an idle connection: nothing, not even the end, can be read from it.
fn is_open(connection: &TcpStream) -> bool {
    let silent = |connection: &TcpStream| -> io::Result<bool> {
        connection.set_nonblocking(true)?;
        let peeked = connection.peek(&mut [0]);
        connection.set_nonblocking(false)?;
        Ok(peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock))
    };
    silent(connection).unwrap_or(false)
}

/// Status, body, and whether the server ends the connection after it. A body is framed by its length or by the end.
fn read_answer(connection: &mut TcpStream) -> io::Result<(u16, String, bool)> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut bytes = Vec::new();
    let mut more = |bytes: &mut Vec<u8>| -> io::Result<usize> {
        let mut chunk = [0; 16 * 1024];
        let count = connection.read(&mut chunk)?;
        bytes.extend_from_slice(&chunk[..count]);
        Ok(count)
    };
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if more(&mut bytes)? == 0 {
            return Err(invalid("the connection ended within an answer's head"));
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| invalid("no status"))?;
    let header = |name: &str| {
        let mut values = head.lines().filter_map(|line| line.split_once(':')).filter(|(found, _)| *found == name);
        values.next().map(|(_, value)| value.trim().to_owned())
    };
    let length: Option<usize> = header("content-length").and_then(|value| value.parse().ok());
    while length.is_none_or(|length| bytes.len() < head_end + length) {
        if more(&mut bytes)? == 0 {
            break;
        }
    }
    let body = &bytes[head_end..];
    if length.is_some_and(|length| body.len() != length) {
        return Err(invalid("the body is not as long as it was said to be"));
    }
    let closes = length.is_none() || header("connection").as_deref() == Some("close");
    Ok((status, String::from_utf8_lossy(body).into_owned(), closes))
}

#[test]
fn signatures_are_those_of_the_provider() {
    assert_eq!(sign("Xz4ZgayTr7rMgWQrH", 1_588_040_109), "a2dabb362a9b811c0e26953a6276a41c");
    assert_eq!(sign("testkey", 1_700_000_600), "a5ba09136801fd83c5375189bcfc3194");
}

/// A server that answers every request with `answer`, one connection at a time.
fn serve(answer: &'static str) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            thread::spawn(move || {
                let mut request = Vec::new();
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = connection.read(&mut chunk) {
                    request.extend_from_slice(&chunk[..count]);
                    if request.ends_with(b"}") {
                        request.clear();
                        connection.write_all(answer.as_bytes()).unwrap();
                    }
                }
            });
        }
    });
    address
}

fn load(address: SocketAddr) -> Load {
    Load {
        address,
        path: "/".to_owned(),
        key: "testkey".to_owned(),
        count: 200,
        rate: 2_000.0,
        streams: 10,
        connections: 4,
        closed_loop_per_stream: true,
        repeat_every: 0,
    }
}

#[test]
fn a_load_sends_every_callback_once_at_its_rate() {
    let answers = load(serve("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"code\":0}")).run();
    let files: HashSet<&str> = answers.iter().map(|answer| answer.file_id.as_str()).collect();
    let streams: HashSet<&str> = answers.iter().map(|answer| answer.stream_id.as_str()).collect();
    assert_eq!((answers.len(), files.len(), streams.len()), (200, 200, 10));
    assert!(answers.iter().all(|answer| answer.status == Some(200)), "{}", Statuses(&answers));
    assert!(answers.last().unwrap().sent_at >= Duration::from_millis(98), "sent faster than asked for");
}

#[test]
fn a_load_with_repeats_sends_some_callbacks_twice() {
    let load = Load { repeat_every: 10, ..load(serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) };
    let answers = load.run();
    let files: HashSet<&str> = answers.iter().map(|answer| answer.file_id.as_str()).collect();
    assert_eq!((answers.len(), files.len()), (220, 200));
}

#[test]
fn a_closed_loop_sends_nothing_of_a_stream_before_the_answer() {
    let answers = load(serve("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")).run();
    for (at, earlier) in answers.iter().enumerate() {
        let later = answers[at + 1..].iter().find(|later| later.stream_id == earlier.stream_id);
        assert!(later.is_none_or(|later| earlier.answered_at() <= later.sent_at), "{earlier:?} {later:?}");
    }
}

#[test]
fn a_load_tells_a_refusal_and_a_missing_answer_from_success() {
    let refused =
        load(serve("HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")).run();
    assert!(refused.iter().all(|answer| answer.status == Some(503)), "{}", Statuses(&refused));
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(load(nobody).run().iter().all(|answer| answer.status.is_none()));
}
