//! Requests that ask PostgreSQL the same at the same time: one statement answers all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sqlx::PgConnection;
use tokio::sync::mpsc::Sender;
use tokio::sync::oneshot;

use crate::batch;
use crate::error::{Error, Result};
use crate::metrics::Panics;
use crate::store::reserve::{Reserve, Reserved};
use crate::supervise::Task;
use crate::telemetry::RequestContext;

/// When a statement is taken for one that hangs, so that those who come after it need not wait for it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where a kind of question is answered.
#[derive(Debug)]
pub(super) struct Questions<Q, A>(Sender<Question<Q, A>>);

/// What one request asks.
struct Question<Q, A> {
    text: Q,
    asker: oneshot::Sender<std::result::Result<A, Arc<sqlx::Error>>>,
    request: RequestContext,
}

/// The answers to questions, in their order.
pub(super) type Answers<'c, A> = Pin<Box<dyn Future<Output = sqlx::Result<Vec<A>>> + Send + 'c>>;

impl<Q: Send + Sync + 'static, A: Send + 'static> Questions<Q, A> {
    /// Questions that one statement each answers, so many at a time, by tasks of the runtime at hand.
    pub(super) fn new<F>(task: (Task, &Panics), reserve: &Reserve, at_once: usize, find: F) -> Self
    where
        F: for<'c> Fn(&'c mut PgConnection, &'c [Q]) -> Answers<'c, A>
            + Copy
            + Send
            + Sync
            + 'static,
    {
        let reserve = reserve.clone();
        let take = move || {
            let reserve = reserve.clone();
            async move { reserve.take().await }
        };
        let answer = move |connection, questions| answer(connection, questions, find);
        Self(batch::start(task, take, at_once, PATIENCE, answer))
    }

    /// The answer to a question. The statement begins after this is called.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn ask(&self, text: Q) -> Result<A> {
        let (asker, answer) = oneshot::channel();
        let question = Question { text, asker, request: RequestContext::current() };
        self.0.send(question).await.map_err(|_| Error::internal("nobody answers"))?;
        Ok(answer.await.map_err(Error::internal)??)
    }
}

async fn answer<Q, A, F>(
    connection: sqlx::Result<Reserved>,
    questions: Vec<Question<Q, A>>,
    find: F,
) where
    F: for<'c> Fn(&'c mut PgConnection, &'c [Q]) -> Answers<'c, A> + Copy,
{
    // Who asked may be gone by now.
    let questions: Vec<_> =
        questions.into_iter().filter(|question| !question.asker.is_closed()).collect();
    // What is done for several is a part of one.
    let Some(request) = questions.first().map(|question| question.request.clone()) else {
        drop(connection.map(Reserved::give_back));
        return;
    };
    let (texts, askers): (Vec<_>, Vec<_>) =
        questions.into_iter().map(|question| (question.text, question.asker)).unzip();
    let found = async {
        connection?.run(async |connection: &mut PgConnection| find(connection, &texts).await).await
    };
    match request.run(found).await {
        Ok(found) => askers.into_iter().zip(found).for_each(|(asker, found)| {
            let _ = asker.send(Ok(found));
        }),
        Err(error) => {
            let error = Arc::new(error);
            askers.into_iter().for_each(|asker| {
                let _ = asker.send(Err(Arc::clone(&error)));
            });
        }
    }
}
