//! Streams of answers: made by a task, bounded, and ended with the term.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use access::StreamPlace;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// A stream of answers.
pub(crate) type Reply<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Where a task puts answers; fails once the caller is gone.
pub(crate) type Answers<T> = mpsc::Sender<Result<T, Status>>;

/// A stream fed by a task through a queue of `queue` answers. The task should end when sending
/// fails, or when [`mpsc::Sender::closed`] does.
pub(crate) fn fed<T, F>(queue: usize, task: impl FnOnce(Answers<T>) -> F) -> Reply<T>
where
    T: Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(queue);
    tokio::spawn(task(sender));
    Box::pin(ReceiverStream::new(receiver))
}

/// A stream that takes one of the controller's places, and ends with `over`'s status.
pub(crate) fn served<T: Send + 'static>(
    inner: Reply<T>,
    over: impl Future<Output = Status> + Send + 'static,
    place: StreamPlace,
) -> Reply<T> {
    Box::pin(Served { inner: Some(inner), over: Box::pin(over), _place: place })
}

struct Served<T> {
    inner: Option<Reply<T>>,
    over: Pin<Box<dyn Future<Output = Status> + Send>>,
    _place: StreamPlace,
}

impl<T> Stream for Served<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else { return Poll::Ready(None) };
        if let Poll::Ready(status) = this.over.as_mut().poll(context) {
            this.inner = None;
            return Poll::Ready(Some(Err(status)));
        }
        let polled = inner.as_mut().poll_next(context);
        if let Poll::Ready(None | Some(Err(_))) = &polled {
            // After an error nothing follows.
            this.inner = None;
        }
        polled
    }
}
