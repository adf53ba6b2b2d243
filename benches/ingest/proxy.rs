//! A network of known length: connections through it take a while in each direction, and lose nothing.
//!
//! It takes the place of `tc netem`, which needs a module of the kernel and the right to change the network.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Passes connections on from `here` to `there`, each way in `delay`, as long as the process lives.
pub(crate) fn start(here: SocketAddr, there: SocketAddr, delay: Duration) {
    let listener = TcpListener::bind(here).unwrap();
    thread::spawn(move || {
        for near in listener.incoming() {
            let near = near.unwrap();
            let Ok(far) = TcpStream::connect(there) else { continue };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            pass_on(near.try_clone().unwrap(), far.try_clone().unwrap(), delay);
            pass_on(far, near, delay);
        }
    });
}

fn pass_on(mut from: TcpStream, to: TcpStream, delay: Duration) {
    let (queue, queued) = channel();
    thread::spawn(move || write(&queued, to));
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if queue.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                return;
            }
        }
    });
}

fn write(queued: &Receiver<(Instant, Vec<u8>)>, mut to: TcpStream) {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap();
    for (due, bytes) in queued {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if to.write_all(&bytes).is_err() {
            return;
        }
    }
    // The other end may be gone already.
    to.shutdown(Shutdown::Write).ok();
}
