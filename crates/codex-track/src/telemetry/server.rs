//! Serves `GET /metrics` and `GET /healthz` to a scraper on this machine. The one place of the crate that has a socket; it is only listened to.
#![expect(clippy::disallowed_types, reason = "the exporter that clippy.toml names: it listens, and connects to nothing but itself to stop")]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use codex_core::{Clock, SystemClock};

use super::error::TelemetryError;
use super::exposition::Exposition;
use super::http::{self, MAX_HEAD_BYTES, Request, Status, Wanted};

/// What is read of a request behind what was understood, so that closing the connection does not take the answer from the reader.
const MAX_DRAINED_BYTES: usize = 64 << 10;

/// What a server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// The longest that one connection may take, from its start to its end.
    pub timeout: Duration,
    /// More connections at once are turned away.
    pub max_connections: usize,
    /// Whether a request may call this machine by any name, and not only by numbers or `localhost`.
    pub any_host: bool,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(5), max_connections: 8, any_host: false }
    }
}

/// A server in threads of its own, which stops when it is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    exposition: Arc<Exposition>,
    limits: ServerLimits,
    clock: SystemClock,
    is_stopping: AtomicBool,
    n_connections: AtomicUsize,
}

/// Whether an address is free, in words; it is given back at once.
pub(super) fn probe(address: SocketAddr) -> Result<String, TelemetryError> {
    let listener = TcpListener::bind(address).map_err(|source| TelemetryError::Listen { address, source })?;
    drop(listener);
    Ok(format!("`http://{address}/metrics`"))
}

impl Server {
    /// Listens at an address and serves from then on. The caller has checked whether it may be open to other machines.
    pub fn bind(address: SocketAddr, exposition: Arc<Exposition>, limits: ServerLimits) -> Result<Self, TelemetryError> {
        let listen = || {
            let listener = TcpListener::bind(address)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = listen().map_err(|source| TelemetryError::Listen { address, source })?;
        let shared = Arc::new(Shared {
            exposition,
            limits,
            clock: SystemClock::new(),
            is_stopping: AtomicBool::new(false),
            n_connections: AtomicUsize::new(0),
        });
        let for_thread = Arc::clone(&shared);
        let spawned = thread::Builder::new().name("prometheus".to_owned()).spawn(move || accept(&listener, &for_thread));
        let thread = spawned.map_err(|source| TelemetryError::Thread { address, source })?;
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens, with the port that the system chose where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Ordering::SeqCst);
        // An address for all interfaces is reached by that of the machine itself.
        let mut own = self.address;
        if own.ip().is_unspecified() {
            let loopback = if own.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
            own.set_ip(loopback);
        }
        // Waiting for a connection ends with a connection; where none can be made, the thread is left to the end of the process.
        if TcpStream::connect_timeout(&own, Duration::from_secs(1)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            drop(thread.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        // A connection that broke off before it began, or no file to be had for it: another may be, a little later.
        let Ok(stream) = stream else {
            thread::sleep(Duration::from_millis(20));
            continue;
        };
        if shared.n_connections.fetch_add(1, Ordering::SeqCst) >= shared.limits.max_connections {
            shared.n_connections.fetch_sub(1, Ordering::SeqCst);
            turn_away(stream);
            continue;
        }
        let for_thread = Arc::clone(shared);
        let work = move || {
            // A reader that goes away is no failure of the run.
            drop(serve(stream, &for_thread));
            for_thread.n_connections.fetch_sub(1, Ordering::SeqCst);
        };
        if thread::Builder::new().name("prometheus".to_owned()).spawn(work).is_err() {
            shared.n_connections.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn turn_away(mut stream: TcpStream) {
    let busy = Request { wanted: Wanted::Failure(Status::Busy), is_head: false };
    drop(stream.set_nonblocking(true).and_then(|()| stream.write_all(&http::answer(busy, ""))));
}

/// Answers one request.
fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let deadline = shared.clock.elapsed_seconds() + shared.limits.timeout.as_secs_f64();
    let left = || Duration::from_secs_f64((deadline - shared.clock.elapsed_seconds()).max(0.001));
    let request = read_request(&mut stream, shared, &left)?;
    let body = match request.wanted {
        Wanted::Metrics(format) => shared.exposition.text(format),
        Wanted::Health | Wanted::Failure(_) => String::new(),
    };
    let answer = http::answer(request, &body);
    let mut rest = answer.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left()))?;
        let n = stream.write(rest)?;
        if n == 0 || shared.clock.elapsed_seconds() > deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
        rest = &rest[n..];
    }
    stream.shutdown(Shutdown::Write)?;
    let mut drained = 0;
    let mut buffer = [0; 4096];
    while drained < MAX_DRAINED_BYTES && shared.clock.elapsed_seconds() < deadline {
        stream.set_read_timeout(Some(left()))?;
        match stream.read(&mut buffer)? {
            0 => break,
            n => drained += n,
        }
    }
    Ok(())
}

/// Reads the head of a request. Silence, haste and nonsense become a request for their status.
fn read_request(stream: &mut TcpStream, shared: &Shared, left: &dyn Fn() -> Duration) -> io::Result<Request> {
    let refused = |status| Request { wanted: Wanted::Failure(status), is_head: false };
    let mut head = Vec::new();
    let mut buffer = [0; 1024];
    let mut timeout = shared.limits.timeout;
    while !http::is_complete(&head) {
        if head.len() > MAX_HEAD_BYTES {
            return Ok(refused(Status::HeadTooLarge));
        }
        // What is left of the whole time, so that one byte now and then does not hold the connection.
        stream.set_read_timeout(Some(timeout))?;
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(refused(Status::BadRequest)),
            Ok(n) => head.extend_from_slice(&buffer[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(refused(Status::Timeout));
            }
            Err(error) => return Err(error),
        }
        timeout = left();
        if timeout <= Duration::from_millis(1) {
            return Ok(refused(Status::Timeout));
        }
    }
    Ok(http::parse(&head, shared.limits.any_host))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::MetricPoint;
    use codex_core::Stream;

    fn server(limits: ServerLimits) -> Server {
        let exposition = Exposition::new("run-1", Arc::new(SystemClock::new()));
        exposition.point(&MetricPoint { step: 3, split: "train", values: &[("loss", 2.5)], tokens: 96, epoch: 0.5 });
        Server::bind("127.0.0.1:0".parse().unwrap(), Arc::new(exposition), limits).unwrap()
    }

    /// Sends bytes, closes that side where asked, and returns all that comes back.
    fn exchange(server: &Server, bytes: &[u8], closes: bool) -> String {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        // The server may have answered and closed before everything is sent.
        drop(stream.write_all(bytes));
        if closes {
            drop(stream.shutdown(Shutdown::Write));
        }
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn metrics_and_health_are_served_until_the_server_is_dropped() {
        let server = server(ServerLimits::default());
        let text = exchange(&server, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", false);
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"), "{text}");
        assert!(text.contains("codex_train_tokens_total{run=\"run-1\"} 96"), "{text}");
        let open = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n";
        let text = exchange(&server, open, true);
        assert!(text.contains("Content-Type: application/openmetrics-text; version=1.0.0") && text.ends_with("# EOF\n"), "{text}");
        assert!(exchange(&server, b"GET /healthz HTTP/1.0\n\n", false).ends_with("\r\n\r\nok\n"));
        assert!(exchange(&server, b"GET / HTTP/1.1\r\n\r\n", false).starts_with("HTTP/1.1 404"));
        let address = server.address();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn silence_and_half_a_request_end_with_the_time_they_have() {
        let server = server(ServerLimits { timeout: Duration::from_millis(400), ..ServerLimits::default() });
        for half in [&b""[..], b"GET /metrics HTTP/1.1\r\nHost: loc"] {
            assert!(exchange(&server, half, false).starts_with("HTTP/1.1 408 "), "{half:?}");
        }
    }

    #[test]
    fn a_cut_or_endless_request_is_refused() {
        let server = server(ServerLimits::default());
        assert!(exchange(&server, b"GET /metr", true).starts_with("HTTP/1.1 400 "));
        let long = format!("GET /metrics HTTP/1.1\r\nx: {}", "y".repeat(MAX_HEAD_BYTES));
        assert!(exchange(&server, long.as_bytes(), false).starts_with("HTTP/1.1 431 "));
    }

    #[test]
    fn more_connections_than_allowed_are_turned_away() {
        let none = server(ServerLimits { max_connections: 0, ..ServerLimits::default() });
        assert!(exchange(&none, b"", false).starts_with("HTTP/1.1 503 "));
        let one = server(ServerLimits { max_connections: 1, ..ServerLimits::default() });
        let mut holding = TcpStream::connect(one.address()).unwrap();
        assert!(exchange(&one, b"", false).starts_with("HTTP/1.1 503 "));
        holding.write_all(b"GET /healthz HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        holding.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("ok\n"), "{answer}");
    }

    #[test]
    fn garbage_never_stops_the_server() {
        let server = server(ServerLimits::default());
        for idx in 0..60 {
            let mut stream = Stream::new(11, "garbage", idx);
            let n = stream.below(9000) as usize;
            let mut bytes: Vec<u8> = (0..n).map(|_| stream.below(256) as u8).collect();
            if idx % 3 == 0 {
                bytes.splice(0..0, b"GET /metrics HTTP/1.1\r\n".iter().copied());
            }
            let answer = exchange(&server, &bytes, true);
            // A reset may take an answer away; what comes is one.
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 503"), "{idx}: {answer}");
        }
        assert!(exchange(&server, b"GET /healthz HTTP/1.1\r\n\r\n", true).ends_with("ok\n"));
    }

    #[test]
    fn a_taken_address_is_an_error_with_the_address() {
        let server = server(ServerLimits::default());
        let exposition = Arc::new(Exposition::new("x", Arc::new(SystemClock::new())));
        let error = Server::bind(server.address(), exposition, ServerLimits::default()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen at `{}`: ", server.address())), "{error}");
        assert!(probe(server.address()).is_err() && probe("127.0.0.1:0".parse().unwrap()).is_ok());
    }
}
