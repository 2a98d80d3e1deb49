//! One bounded GET or POST to a broker's admin HTTP: what the commands about brokers need.
//!
//! Invariants: an answer takes bounded time and bounded memory, whatever the other side does.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use model::limits;
use tokio::net::TcpStream;

/// Status and body of `path` at `address` (`host:port`); an error is one line.
pub async fn get(address: &str, path: &str) -> Result<(u16, Bytes), String> {
    get_within(Duration::from_millis(limits::DEV_POLL_MS_MAX), address, path).await
}

/// The same with another limit.
pub async fn get_within(
    limit: Duration,
    address: &str,
    path: &str,
) -> Result<(u16, Bytes), String> {
    within(limit, Method::GET, address, path).await
}

/// The same for an order, which may take as long as admin HTTP gives it.
pub async fn post(address: &str, path: &str) -> Result<(u16, Bytes), String> {
    within(POST_MAX, Method::POST, address, path).await
}

const POST_MAX: Duration = Duration::from_secs(20);

async fn within(
    limit: Duration,
    method: Method,
    address: &str,
    path: &str,
) -> Result<(u16, Bytes), String> {
    match tokio::time::timeout(limit, exchange(method, address, path)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} ms", limit.as_millis())),
    }
}

async fn exchange(method: Method, address: &str, path: &str) -> Result<(u16, Bytes), String> {
    let stream = TcpStream::connect(address).await.map_err(|e| crate::error::plain(&e))?;
    // Not by a name, which the broker may not know as its own.
    let host = stream.peer_addr().map_err(|e| crate::error::plain(&e))?.to_string();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, host)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    // Dropping either half ends the exchange, so nothing outlives the time-out.
    let ask = async move {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), limits::DEV_ANSWER_BYTES_MAX);
        let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok((status, bytes))
    };
    let drive = async { connection.await.map_err(|error| error.to_string()) };
    tokio::pin!(ask);
    tokio::select! {
        answer = &mut ask => answer,
        driven = drive => match driven {
            Ok(()) => ask.await,
            Err(error) => Err(error),
        },
    }
}
