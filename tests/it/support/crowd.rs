//! A crowd of idle connections, held open by another process: descriptors are limited by process.

use std::io::{BufRead, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// $1: its limit of open files; then what `perl` takes. A hard limit below it is said, and nothing is opened.
const LIMITED: &str = r#"
ulimit -n "$1" || { echo "this machine allows only $(ulimit -Hn) open files, and $1 are needed" >&2; exit 1; }
shift
exec perl -e "$@"
"#;

/// ARGV: address and port to connect to, how many connections, first and last address to connect from in 127.0.0.0/24.
/// Every fourth sends half a head. It says `open` when all are, and stays until its standard input ends.
const CROWD: &str = r#"
use strict; use Socket;
$| = 1;
my ($to, $port, $count, $first, $last) = @ARGV;
my @open;
for my $number (0 .. $count - 1) {
    socket(my $socket, PF_INET, SOCK_STREAM, 0) or die "socket $number: $!";
    my $from = "127.0.0." . ($first + $number % ($last - $first + 1));
    bind($socket, pack_sockaddr_in(0, inet_aton($from))) or die "bind to $from: $!";
    connect($socket, pack_sockaddr_in($port, inet_aton($to))) or die "connect $number: $!";
    syswrite($socket, "POST /callbacks/recording HTTP/1.1\r\nHost: bri") if $number % 4 == 3;
    push @open, $socket;
}
print "open\n";
<STDIN>;
"#;

/// See the module. Dropping it closes every connection.
pub(crate) struct Crowd {
    child: Child,
}

impl Crowd {
    /// Begins to open `count` connections to `address`, from 127.0.0.`first` to 127.0.0.`last`.
    pub(crate) fn start(address: SocketAddr, count: u32, first: u8, last: u8) -> Self {
        // The process inherits whatever libraries of the tests leave open.
        let numbers = [count * 2, u32::from(address.port()), count, u32::from(first), u32::from(last)];
        let [files, port, count, first, last] = numbers.map(|number| number.to_string());
        let child = Command::new("sh")
            .args(["-c", LIMITED, "crowd", &files, CROWD, &address.ip().to_string(), &port, &count, &first, &last])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child }
    }

    /// Waits until every connection has been opened; some may have been closed again by then.
    pub(crate) fn await_open(&mut self) {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        if line != "open\n" {
            let mut said = String::new();
            self.child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
            panic!("a crowd could not be opened: {said}");
        }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
