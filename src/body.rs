//! Bodies of requests: how they are read, and how long one may be.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use tokio::time::timeout;

use crate::body_budget::Reservation;
use crate::error::{Error, Result};
use crate::forwarded;
use crate::state::App;

/// Bytes of a body. No call needs more: the longest valid one is a login whose password has 1,024 characters,
/// each written as two `\u` escapes.
const LIMIT: usize = 16 * 1024;
/// Bytes that are read of a body over the limit, and for how long: a client that still sends may not see the
/// answer.
const DISCARD: usize = 64 * 1024;
const DISCARD_FOR: Duration = Duration::from_secs(1);

/// Begins to count what the body of a request holds, unless it has none, until the reservation is dropped.
pub(crate) fn reserve(request: &mut Request, app: &App) -> Option<Reservation> {
    if request.body().is_end_stream() {
        return None;
    }
    let reservation = app.bodies.reserve(forwarded::site(request, app));
    request.extensions_mut().insert(reservation.clone());
    Some(reservation)
}

/// Reads the body of a request. Its head is dropped before.
///
/// # Errors
/// 413 over the limit, 503 over the budget, and 400 if the body does not arrive whole.
pub(crate) async fn read(request: Request) -> Result<Vec<u8>> {
    let reservation = request.extensions().get::<Reservation>().cloned();
    let mut body = request.into_body();
    // Copied, since each frame keeps a buffer of the connection in memory, however little is in it.
    let mut read = Vec::new();
    if body.size_hint().lower() > DISCARD as u64 {
        return Err(Error::BodyTooLarge);
    }
    while let Some(data) = next(&mut body).await? {
        let length = read.len() + data.len();
        if length > LIMIT {
            drop(read);
            let _ = timeout(DISCARD_FOR, discard(&mut body, length)).await;
            return Err(Error::BodyTooLarge);
        }
        if length > read.capacity() {
            let capacity = length.max(2 * read.capacity()).min(LIMIT);
            if let Some(reservation) = &reservation {
                reservation.grow_to(capacity)?;
            }
            read.reserve_exact(capacity - read.len());
        }
        read.extend_from_slice(&data);
    }
    Ok(read)
}

/// The next bytes of a body; trailers have none.
async fn next(body: &mut Body) -> Result<Option<Bytes>> {
    match poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap_or_default())),
        Some(Err(_)) => Err(Error::Malformed("it did not arrive whole".to_owned())),
    }
}

async fn discard(body: &mut Body, mut length: usize) {
    while length <= DISCARD
        && let Ok(Some(data)) = next(body).await
    {
        length += data.len();
    }
}
