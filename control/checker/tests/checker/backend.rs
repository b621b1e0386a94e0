//! A backend: takes connections, answers GET with a status that can be changed, and can be stopped.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::LONG;

pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

struct Shared {
    status: Mutex<String>,
    connections: AtomicUsize,
    stop: AtomicBool,
}

impl Backend {
    pub(crate) fn start() -> Self {
        Self::start_at(0)
    }

    pub(crate) fn start_at(port: u16) -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.set_reuse_address(true).expect("set");
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).expect("a port");
        listener.listen(1024).expect("listening");
        let listener: std::net::TcpListener = listener.into();
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            status: Mutex::new("200 OK".to_owned()),
            connections: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
        });
        let served = Arc::clone(&shared);
        let task = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if served.stop.load(SeqCst) {
                    return;
                }
                served.connections.fetch_add(1, SeqCst);
                if let Ok(stream) = stream {
                    answer(stream, &served.status.lock().expect("lock"));
                }
            }
        });
        Self { address, shared, task: Some(task) }
    }

    /// Answers with this status line from now on.
    pub(crate) fn becomes(&self, status: &str) {
        *self.shared.status.lock().expect("lock") = status.to_owned();
    }

    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    pub(crate) async fn until_connections(&self, count: usize) {
        let start = Instant::now();
        while self.connections() < count {
            assert!(start.elapsed() < LONG, "{} of {count} connections", self.connections());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Refuses connections from now on.
    pub(crate) fn stop(mut self) -> SocketAddr {
        self.end();
        self.address
    }

    fn end(&mut self) {
        if let Some(task) = self.task.take() {
            self.shared.stop.store(true, SeqCst);
            // Wakes it up.
            let _own = TcpStream::connect(self.address);
            task.join().expect("ended");
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.end();
    }
}

fn answer(mut stream: TcpStream, status: &str) {
    // A probe of TCP has reset the connection already, or says nothing.
    let _set = stream.set_read_timeout(Some(Duration::from_millis(20)));
    let mut head = [0; 1024];
    if stream.read(&mut head).is_ok_and(|read| read > 0) {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        let _gone = stream.write_all(answer.as_bytes());
    }
}
