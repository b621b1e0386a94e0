//! What a call returned, as HTTP: a JSON object, or a stream of them.
//!
//! A stream is newline-delimited JSON, one message a line, or server-sent events where the client
//! accepts `text/event-stream`. While nothing happens an empty line (or comment) is sent now and
//! then, so that a client that has gone is noticed and its place given back. A stream that fails
//! ends with `{"error": {code, status, message}}`; one that simply ends has ended well.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, Interval, interval_at};
use tokio_stream::Stream;
use tonic::Status;

use crate::problem::{self, Problem};

/// How long a stream is silent.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Newline-delimited JSON.
pub(crate) const LINES: &str = "application/x-ndjson";
/// Server-sent events.
pub(crate) const EVENTS: &str = "text/event-stream";

/// How a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// [`LINES`].
    Lines,
    /// [`EVENTS`].
    Events,
}

impl Framing {
    /// What the client asks for.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let accepts = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let events = accepts.flat_map(|value| value.split(',')).any(|media| {
            media.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case(EVENTS))
        });
        if events { Self::Events } else { Self::Lines }
    }

    fn media(self) -> &'static str {
        match self {
            Self::Lines => LINES,
            Self::Events => EVENTS,
        }
    }

    fn message(self, json: &str) -> Bytes {
        match self {
            Self::Lines => format!("{json}\n").into(),
            Self::Events => format!("data: {json}\n\n").into(),
        }
    }

    fn error(self, status: &Status) -> Bytes {
        let json = json!({ "error": problem::body(status) });
        match self {
            Self::Lines => format!("{json}\n").into(),
            Self::Events => format!("event: error\ndata: {json}\n\n").into(),
        }
    }

    fn silence(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Lines => b"\n",
            Self::Events => b":\n\n",
        })
    }
}

/// One message.
pub(crate) fn one(message: &impl Serialize) -> Result<Response, Problem> {
    Ok(response("application/json", Body::from(text(message)?)))
}

/// Messages as they come, until the stream or the client ends.
pub(crate) fn many<T, M>(messages: T, framing: Framing) -> Response
where
    T: Stream<Item = Result<M, Status>> + Send + 'static,
    M: Serialize + 'static,
{
    let silence = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let written = Written { messages: Some(Box::pin(messages)), silence, framing };
    response(framing.media(), Body::from_stream(written))
}

/// Messages as bytes.
struct Written<T> {
    /// None after its end.
    messages: Option<Pin<Box<T>>>,
    silence: Interval,
    framing: Framing,
}

impl<T, M> Stream for Written<T>
where
    T: Stream<Item = Result<M, Status>>,
    M: Serialize,
{
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let framing = self.framing;
        let Some(messages) = &mut self.messages else {
            return Poll::Ready(None);
        };
        let Poll::Ready(next) = messages.as_mut().poll_next(cx) else {
            ready!(self.silence.poll_tick(cx));
            return Poll::Ready(Some(Ok(framing.silence())));
        };
        self.silence.reset();
        let bytes = match next.map(|message| message.and_then(|message| text(&message))) {
            Some(Ok(json)) => Some(framing.message(&json)),
            Some(Err(status)) => {
                self.messages = None;
                Some(framing.error(&status))
            }
            None => {
                self.messages = None;
                None
            }
        };
        Poll::Ready(bytes.map(Ok))
    }
}

fn response(media: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn text(message: &impl Serialize) -> Result<String, Status> {
    serde_json::to_string(message)
        .map_err(|error| Status::internal(format!("the answer is no JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    async fn written(
        messages: impl Stream<Item = Result<u32, Status>> + Send + 'static,
        framing: Framing,
        pieces: usize,
    ) -> String {
        let body = many(messages, framing).into_body().into_data_stream();
        let pieces: Vec<_> = body.take(pieces).map(|piece| piece.unwrap()).collect().await;
        String::from_utf8(pieces.concat()).unwrap()
    }

    #[tokio::test]
    async fn messages_are_framed_and_an_error_is_the_last_one() {
        let messages =
            || tokio_stream::iter([Ok(1), Ok(2), Err(Status::unavailable("gone")), Ok(3)]);
        let error = r#"{"error":{"code":14,"message":"gone","status":"UNAVAILABLE"}}"#;
        let lines = written(messages(), Framing::Lines, 9).await;
        assert_eq!(lines, format!("1\n2\n{error}\n"));
        let events = written(messages(), Framing::Events, 9).await;
        assert_eq!(events, format!("data: 1\n\ndata: 2\n\nevent: error\ndata: {error}\n\n"));
        assert_eq!(written(tokio_stream::empty(), Framing::Lines, 9).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_broken_now_and_then() {
        let (framing, start) = (Framing::Lines, Instant::now());
        assert_eq!(written(tokio_stream::pending(), framing, 3).await, "\n\n\n");
        assert_eq!(start.elapsed().as_secs(), 45);
        assert_eq!(written(tokio_stream::pending(), Framing::Events, 1).await, ":\n\n");
    }

    #[test]
    fn the_client_says_which_framing() {
        for (accept, expected) in [
            ("text/event-stream", Framing::Events),
            ("application/json, text/Event-Stream;q=0.9", Framing::Events),
            ("*/*", Framing::Lines),
            ("", Framing::Lines),
        ] {
            let headers = [(ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            assert_eq!(Framing::accepted(&headers), expected, "{accept}");
        }
        assert_eq!(Framing::accepted(&HeaderMap::new()), Framing::Lines);
    }
}
