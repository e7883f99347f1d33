//! A PromQL source of generated series: range and instant queries in, JSON out.

use std::fmt::Write as _;
use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use cloudpulse_common::query::Labels;

/// Returns the labels of a series, the metric name included.
pub(super) fn labels(number: usize) -> Labels {
    let pairs = [("__name__", "generated".to_owned()), ("instance", format!("node-{number:05}:9100"))];
    pairs.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Returns the value of a series at a time in Unix seconds: a day with its own height, shape and noise.
pub(super) fn value(number: usize, time: i64) -> f64 {
    let own = uniform(number as u64);
    let day = (time as f64 / 86_400.0 + own) * std::f64::consts::TAU;
    let wave = day.sin() + 0.3 * own * (2.0 * day).sin();
    let slot = (time / super::STEP) as u64;
    let noise = uniform(slot.wrapping_mul(0x9e37_79b9).wrapping_add(number as u64 * 7_919)) - 0.5;
    let slow = uniform((slot / 6).wrapping_mul(0x85eb_ca6b).wrapping_add(number as u64 * 104_729)) - 0.5;
    (100.0 * (0.5 + own) * (2.0 + wave + 0.3 * noise + 0.3 * slow) * 1000.0).round() / 1000.0
}

/// A number in [0, 1) from another, by the finaliser of MurmurHash3.
fn uniform(seed: u64) -> f64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^= x >> 33;
    (x >> 11) as f64 / (1_u64 << 53) as f64
}

/// Serves `size` series on a free port of 127.0.0.1.
pub(super) async fn serve(size: usize) -> anyhow::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router =
        Router::new().route("/api/v1/query", post(instant)).route("/api/v1/query_range", post(range)).with_state(size);
    let server = tokio::spawn(async move {
        // Ends with the benchmark.
        let _ = axum::serve(listener, router).await;
    });
    Ok((address, server))
}

async fn instant(State(size): State<usize>, body: String) -> Response {
    let time = field(&body, "time");
    let one = |out: &mut String, number| {
        let _ = write!(out, "\"value\":[{time},\"{}\"]", value(number, time));
    };
    answer("vector", size, one)
}

async fn range(State(size): State<usize>, body: String) -> Response {
    let (start, end, step) = (field(&body, "start"), field(&body, "end"), field(&body, "step").max(1));
    let many = |out: &mut String, number| {
        out.push_str("\"values\":[");
        for time in (start..=end).step_by(step as usize) {
            let comma = if time == start { "" } else { "," };
            let _ = write!(out, "{comma}[{time},\"{}\"]", value(number, time));
        }
        out.push(']');
    };
    answer("matrix", size, many)
}

fn field(body: &str, name: &str) -> i64 {
    let pair = body.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    pair.and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(0.0) as i64
}

fn answer(kind: &str, size: usize, write: impl Fn(&mut String, usize)) -> Response {
    let mut out = format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"{kind}\",\"result\":[");
    for number in 0..size {
        let comma = if number == 0 { "" } else { "," };
        let _ =
            write!(out, "{comma}{{\"metric\":{{\"__name__\":\"generated\",\"instance\":\"node-{number:05}:9100\"}},");
        write(&mut out, number);
        out.push('}');
    }
    out.push_str("]}}");
    ([(header::CONTENT_TYPE, "application/json")], out).into_response()
}
