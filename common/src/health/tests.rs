use super::*;
use std::net::TcpListener;
use std::thread;

fn args(ready: bool, milliseconds: u64) -> HealthArgs {
    HealthArgs { ready, timeout: PromDuration(Duration::from_millis(milliseconds)) }
}

/// A server of one connection: returns its address, and the request's first line when it has answered.
fn answers(answer: &'static str) -> (SocketAddr, thread::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned()
    });
    (address, served)
}

#[test]
fn the_first_line_of_a_success_is_said() {
    let (address, served) = answers("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
    assert_eq!(ask(&[address], &args(false, 30_000)).unwrap(), format!("http://{address}/healthz: ok"));
    assert_eq!(served.join().unwrap(), "GET /healthz HTTP/1.1");
}

#[test]
fn what_is_not_ready_says_why() {
    let (address, served) = answers("HTTP/1.1 503 Service Unavailable\r\n\r\nnot ready: starting\n");
    let unhealthy = ask(&[address], &args(true, 30_000)).unwrap_err();
    assert_eq!(unhealthy.to_string(), format!("http://{address}/readyz: 503: not ready: starting"));
    assert_eq!(served.join().unwrap(), "GET /readyz HTTP/1.1");
}

#[test]
fn a_server_that_asks_for_a_user_lives_and_is_not_known_to_be_ready() {
    const REFUSED: &str = "HTTP/1.1 401 Unauthorized\r\n\r\nUnauthorized\n";
    assert!(ask(&[answers(REFUSED).0], &args(false, 30_000)).unwrap().contains("asks for a user"));
    assert!(ask(&[answers(REFUSED).0], &args(true, 30_000)).unwrap_err().to_string().contains("cannot be read"));
}

#[test]
fn another_protocol_is_told_apart() {
    for answer in ["", "\u{15}\u{3}\u{3}", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 \r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
        let unhealthy = ask(&[answers(answer).0], &args(false, 30_000)).unwrap_err();
        assert!(unhealthy.is_other_protocol(), "{answer:?}: {unhealthy}");
    }
}

#[test]
fn nobody_is_said_and_the_next_address_is_tried() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let unhealthy = ask(&[nobody], &args(false, 30_000)).unwrap_err();
    assert_eq!(unhealthy.to_string(), format!("http://{nobody}/healthz: nobody listens there"));
    let (address, _) = answers("HTTP/1.1 200 OK\r\n\r\nok\n");
    assert!(ask(&[nobody, address], &args(false, 30_000)).is_ok());
}

#[test]
fn a_silent_server_is_late() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let unhealthy = ask(&[listener.local_addr().unwrap()], &args(false, 50)).unwrap_err();
    assert!(unhealthy.to_string().ends_with("no answer within 50ms"), "{unhealthy}");
    assert!(!unhealthy.is_other_protocol());
}

#[test]
fn every_interface_is_asked_for_on_the_loopback() {
    for (listens, asked) in
        [("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9"), ("10.1.2.3:9", "10.1.2.3:9"), ("[::1]:9", "[::1]:9")]
    {
        assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
    }
}
