//! The controller's life in the election: campaign, lead, lose, and again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use registry::{
    Campaign, Candidate, Election, Error, EtcdStore, Leadership, Lost, RedbStore, Registry,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::clock::Clock;
use crate::desk::Running;
use crate::events::{Events, event};
use crate::http::Metrics;
use crate::office::{Office, Standing};
use crate::picture::Picture;
use crate::plan::Turns;
use crate::settings::{Settings, Store};
use crate::snapshots::{Board, Press};

/// How long one campaign waits before it is looked who leads.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts at a store that does not answer: half of it to all of it.
const RETRY: Duration = Duration::from_millis(500);
/// How long the first snapshots of a term may take.
const FIRST_SNAPSHOTS: Duration = Duration::from_secs(30);

/// A store, by both its sides.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) election: Arc<dyn Election>,
}

/// What outlives terms.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) settings: Arc<Settings>,
    /// The URL under which clients reach this controller.
    pub(crate) address: String,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) standing: watch::Sender<Standing>,
}

/// Opens the store of the settings.
///
/// # Errors
/// As the store's own opening.
pub(crate) async fn open(store: &Store) -> Result<Stores, Error> {
    Ok(match store {
        Store::Embedded(settings) => {
            let store = Arc::new(RedbStore::open(settings.clone()).await?);
            Stores { registry: Arc::clone(&store) as Arc<dyn Registry>, election: store }
        }
        Store::Etcd(settings) => {
            let store = Arc::new(EtcdStore::connect(settings.clone()).await?);
            Stores { registry: Arc::clone(&store) as Arc<dyn Registry>, election: store }
        }
    })
}

impl Life {
    /// Stands for election for ever; ends, having resigned, after `stop` turns true.
    pub(crate) async fn live(self, stores: Stores, mut stop: watch::Receiver<bool>) {
        let candidate = Candidate { id: self.settings.name.clone(), address: self.address.clone() };
        loop {
            let campaign = tokio::select! {
                campaign = stores.election.campaign(candidate.clone(), PATIENCE) => campaign,
                () = told(&mut stop) => break,
            };
            match campaign {
                Ok(Campaign::Elected(leadership)) => {
                    self.lead(&stores, leadership, &mut stop).await;
                }
                Ok(Campaign::Following(leader)) => {
                    self.follow(Some(leader.address), "this controller does not lead");
                    continue;
                }
                Err(error @ Error::StoreReplaced) => {
                    let why = format!("{error}: restart this controller to accept what is there");
                    self.follow(None, &why);
                }
                Err(error) => self.follow(None, &format!("nobody is elected: {error}")),
            }
            if *stop.borrow() || stop.has_changed().is_err() {
                break;
            }
            let pause = RETRY.mul_f64(0.5 + 0.5 * fastrand::f64());
            tokio::select! {
                () = sleep(pause) => {}
                () = told(&mut stop) => break,
            }
        }
        self.follow(None, "this controller is shutting down");
    }

    /// One term.
    async fn lead(
        &self,
        stores: &Stores,
        leadership: Leadership,
        stop: &mut watch::Receiver<bool>,
    ) {
        let epoch = leadership.fence().epoch();
        let rows = match stores.registry.snapshot().await {
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "elected, but the registry cannot be read");
                self.follow(None, &format!("the registry cannot be read: {error}"));
                leadership.resign().await;
                return;
            }
        };
        let Some(board) = Board::new(rows.store_id.to_string(), epoch) else {
            self.follow(None, &format!("the registry's epoch, {epoch}, is too great for versions"));
            leadership.resign().await;
            return;
        };
        let board = Arc::new(board);
        let press = Press::new(Arc::clone(&board), Arc::clone(&self.metrics));
        let mut exhausted = press.exhausted();
        let pools: Vec<String> = rows.pools.keys().cloned().collect();
        let (events, metrics) = (self.events.clone(), Arc::clone(&self.metrics));
        let timings = self.settings.fleet;
        let picture = Picture::new(rows, timings, events, metrics, self.clock.now());
        let (running, desk) = Running::new(
            picture,
            Arc::clone(&stores.registry),
            leadership.fence().clone(),
            press,
            self.clock,
            self.settings.store.timeout(),
        );
        let lost = leadership.lost();
        let ending = ending(lost.clone(), stop, &mut exhausted);
        tokio::pin!(ending);
        // Nobody is served before all pools are on the board: a node that is told "that is all"
        // drops the pools that it was not sent.
        if let Err(why) = before(board.filled(&pools), FIRST_SNAPSHOTS, ending.as_mut()).await {
            tracing::error!(epoch, why, "elected, and over before anybody was served");
            self.follow(None, &why);
            leadership.resign().await;
            return;
        }
        let office = Office {
            desk,
            board,
            events: self.events.clone(),
            plans: Turns::new(),
            settings: Arc::clone(&self.settings),
            epoch,
        };
        self.metrics.term_began();
        let text = format!("{} leads, term {epoch}", self.settings.name);
        tracing::info!(epoch, "leads");
        self.events.publish(event("leader", "", "", text));
        self.standing.send_replace(Standing::Leading(Arc::new(office)));
        let (ended, last_write) = running.run(ending).await;
        tracing::info!(epoch, ended, "leads no more");
        self.events.publish(event("leader_lost", "", "", format!("term {epoch}: {ended}")));
        self.follow(None, &ended);
        // While the term's fence stands, and no longer than the registry's bound.
        last_write.await;
        leadership.resign().await;
    }

    pub(crate) fn follow(&self, leader: Option<String>, why: &str) {
        // One's own address, left from a term that is over, would send callers in circles.
        let leader = leader.filter(|leader| *leader != self.address);
        self.standing.send_if_modified(|standing| {
            let same = matches!(
                standing,
                Standing::Following { leader: have, why: reason }
                    if *have == leader && reason == why
            );
            if !same {
                *standing = Standing::Following { leader, why: why.to_owned() };
            }
            !same
        });
    }
}

/// Ends when a term has to, and says why.
async fn ending(
    mut lost: Lost,
    stop: &mut watch::Receiver<bool>,
    exhausted: &mut watch::Receiver<bool>,
) -> String {
    let why = tokio::select! {
        () = lost.wait() => "this controller lost its leadership",
        () = told(stop) => "this controller is shutting down",
        Ok(_) = exhausted.wait_for(|exhausted| *exhausted) => "versions are used up",
    };
    why.to_owned()
}

/// Waits for the first snapshots, but no longer than `patience`, and not beyond the term.
///
/// # Errors
/// Why it was not to be.
async fn before(
    filled: impl Future<Output = ()>,
    patience: Duration,
    ending: impl Future<Output = String>,
) -> Result<(), String> {
    tokio::select! {
        filled = timeout(patience, filled) => {
            filled.map_err(|_| format!("the first snapshots took more than {patience:?}"))
        }
        why = ending => Err(why),
    }
}

/// Ends when `stop` is true, or nobody can say so any more.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

#[cfg(test)]
mod tests;
