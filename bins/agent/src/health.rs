//! Whether the databases that this agent serves answer it: looked at again and again, and shown in
//! their documents.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_client::types::{DbDocument, Health, HealthStatus};
use access_core::{Clock, ResourceKind, ResourceName, ResourceRef, Timestamp};
use access_host::HostReach;
use access_postgres::{Databases, probe};
use rand::RngExt;
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often a database is looked at, within a sixth of it.
const PERIOD: Duration = Duration::from_secs(30);
/// How long a database may take to answer, once it is connected to.
const DEADLINE: Duration = Duration::from_secs(10);
/// The most that are looked at at once.
const AT_ONCE: usize = 32;
/// A verdict that stays the same is written again after this. Each writing is one of all that the
/// host serves.
const REPEAT: Duration = Duration::from_secs(300);

/// Has a document stand in the cluster.
type Advertise = dyn Fn(DbDocument) + Send + Sync;

/// The documents of the databases that this agent serves, with what was found of each. Clones
/// share them.
#[derive(Clone)]
pub(crate) struct Shown {
    documents: Arc<Mutex<BTreeMap<String, Shows>>>,
    advertise: Arc<Advertise>,
    /// Ticks when there is one more, one fewer, or another one.
    changes: Arc<watch::Sender<u64>>,
}

struct Shows {
    document: DbDocument,
    /// The tick with which it was shown last.
    shown: u64,
    /// When its health was last written.
    told: Option<Timestamp>,
    /// What the last session came to nothing for, until one is let in.
    amiss: Option<String>,
}

impl Shown {
    pub(crate) fn new(advertise: impl Fn(DbDocument) + Send + Sync + 'static) -> Self {
        let changes = Arc::new(watch::Sender::new(0));
        Self { documents: Arc::default(), advertise: Arc::new(advertise), changes }
    }

    /// Shows a database, or what is configured of it anew. Its health stays as it was found.
    pub(crate) fn show(&self, mut document: DbDocument) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let name = document.metadata.name.clone();
        let (mut told, mut amiss) = (None, None);
        if let Some(known) = documents.get(&name) {
            document.spec.health = known.document.spec.health.clone();
            told = document.spec.health.checked_at;
            amiss.clone_from(&known.amiss);
        }
        (self.advertise)(document.clone());
        let shown = self.changes.borrow().wrapping_add(1);
        documents.insert(name, Shows { document, shown, told, amiss });
        self.changes.send_replace(shown);
    }

    /// Shows a database no more.
    pub(crate) fn hide(&self, name: &str) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.remove(name);
        self.changes.send_modify(|tick| *tick = tick.wrapping_add(1));
    }

    /// What is shown, and with which tick it was shown last.
    fn all(&self) -> BTreeMap<String, u64> {
        let documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        documents.iter().map(|(name, entry)| (name.clone(), entry.shown)).collect()
    }

    /// A session came to nothing, for what no look finds.
    pub(crate) fn turned_away(&self, name: &str, why: &str, now: Timestamp) {
        self.note_amiss(name, Some(presentable(why)));
        self.found(name, healthy(now));
    }

    /// A session was let in.
    pub(crate) fn let_in(&self, name: &str, now: Timestamp) {
        if self.note_amiss(name, None) {
            self.found(name, healthy(now));
        }
    }

    /// Says whether something was amiss before.
    fn note_amiss(&self, name: &str, why: Option<String>) -> bool {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = documents.get_mut(name);
        entry.is_some_and(|entry| std::mem::replace(&mut entry.amiss, why).is_some())
    }

    /// Notes what was found, and shows it if it is news. What answers, and lets nobody in, is not
    /// well.
    fn found(&self, name: &str, mut health: Health) {
        let mut documents = self.documents.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = documents.get_mut(name) else { return };
        if let (HealthStatus::Healthy, Some(amiss)) = (health.status, &entry.amiss) {
            (health.status, health.message) = (HealthStatus::Unhealthy, amiss.clone());
        }
        let before = std::mem::replace(&mut entry.document.spec.health, health);
        let now = &entry.document.spec.health;
        let same = (before.status, &before.message) == (now.status, &now.message);
        if before.status != now.status {
            match now.status {
                HealthStatus::Healthy => info!(database = name, "the database answers"),
                _ => warn!(database = name, "the database is unhealthy: {}", now.message),
            }
        }
        let since = entry.told.zip(now.checked_at).map(|(told, now)| now.since(told));
        if !same || since.is_none_or(|since| since >= REPEAT) {
            entry.told = now.checked_at;
            (self.advertise)(entry.document.clone());
        }
    }
}

/// Looks after databases.
pub(crate) struct Watch {
    pub(crate) shown: Shown,
    pub(crate) databases: Databases,
    pub(crate) reach: HostReach,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Watch {
    /// Looks until `stop`, at once for the first time at each that is shown, or shown anew.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let (this, room) = (Arc::new(self), Arc::new(Semaphore::new(AT_ONCE)));
        let mut changes = this.shown.changes.subscribe();
        let mut watches = JoinSet::new();
        let mut watched: BTreeMap<String, (u64, AbortHandle)> = BTreeMap::new();
        loop {
            changes.mark_unchanged();
            let shown = this.shown.all();
            watched.retain(|name, (tick, task)| {
                let same = shown.get(name) == Some(tick);
                if !same {
                    task.abort();
                }
                same
            });
            for (name, tick) in shown {
                if let Entry::Vacant(free) = watched.entry(name)
                    && let Ok(resource) = ResourceName::new(free.key())
                {
                    let id = ResourceRef { kind: ResourceKind::Database, name: resource };
                    let look = Arc::clone(&this).keep_looking(id, Arc::clone(&room));
                    free.insert((tick, watches.spawn(look)));
                }
            }
            tokio::select! {
                // The sender lives in what `this` holds.
                _ = changes.changed() => {}
                Some(_) = watches.join_next() => {}
                () = stop.cancelled() => break,
            }
        }
        watches.shutdown().await;
    }

    async fn keep_looking(self: Arc<Self>, id: ResourceRef, room: Arc<Semaphore>) {
        loop {
            let Ok(place) = room.acquire().await else { return };
            let health = self.look(&id).await;
            drop(place);
            self.shown.found(id.name.as_str(), health);
            let off = rand::rng().random_range(-1.0..1.0) / 6.0;
            tokio::time::sleep(PERIOD.mul_f64(1.0 + off)).await;
        }
    }

    /// A database is healthy when one of its addresses is: sessions try them in turn.
    async fn look(&self, id: &ResourceRef) -> Health {
        let looked = self.look_at_addresses(id).await;
        let (status, message) = match looked {
            Ok(()) => (HealthStatus::Healthy, String::new()),
            Err(why) => (HealthStatus::Unhealthy, presentable(&why)),
        };
        Health { status, message, checked_at: Some(self.clock.now()) }
    }

    async fn look_at_addresses(&self, id: &ResourceRef) -> Result<(), String> {
        let database = self.databases.get(id).ok_or("it is not served any more")?;
        let mut wrong = Vec::new();
        for address in self.reach.probes(id) {
            let why = match address.connect().await {
                Err(err) => err.to_string(),
                Ok(stream) => {
                    match probe(stream, address.host(), database.tls.as_ref(), DEADLINE).await {
                        Ok(()) => return Ok(()),
                        Err(err) => err.to_string(),
                    }
                }
            };
            wrong.push(format!("{address}: {why}"));
        }
        Err(wrong.join("; "))
    }
}

const fn healthy(now: Timestamp) -> Health {
    Health { status: HealthStatus::Healthy, message: String::new(), checked_at: Some(now) }
}

/// A message as a document takes it: short, and without what could steer a terminal.
fn presentable(why: &str) -> String {
    let mut text: String =
        why.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    text.truncate(text.floor_char_boundary(Health::MAX_MESSAGE));
    text
}

#[cfg(test)]
mod tests {
    use access_client::types::{DbProtocol, DbSpec};
    use access_core::time::ManualClock;
    use access_core::{HostId, Resource};
    use access_postgres::{Database, DatabaseProtocol, TargetAuth};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn document() -> DbDocument {
        let host = HostId::new("h-1").unwrap();
        DbDocument::new("roach", DbSpec::new(DbProtocol::Cockroachdb, "127.0.0.1:1", host))
    }

    fn shown() -> (Shown, Arc<Mutex<Vec<DbDocument>>>) {
        let told = Arc::new(Mutex::new(Vec::new()));
        let note = Arc::clone(&told);
        (Shown::new(move |document| note.lock().unwrap().push(document)), told)
    }

    #[test]
    fn news_is_told_at_once_and_what_stays_the_same_once_in_a_while() {
        let (shown, told) = shown();
        shown.show(document());
        let find = |status, message: &str, at| {
            let checked_at = Some(Timestamp::from_secs(at));
            shown.found("roach", Health { status, message: message.into(), checked_at });
            let told = told.lock().unwrap();
            (told.len(), told.last().unwrap().spec.health.status)
        };
        assert_eq!(find(HealthStatus::Healthy, "", 1000), (2, HealthStatus::Healthy));
        assert_eq!(find(HealthStatus::Healthy, "", 1030), (2, HealthStatus::Healthy));
        assert_eq!(find(HealthStatus::Unhealthy, "a", 1060), (3, HealthStatus::Unhealthy));
        assert_eq!(find(HealthStatus::Unhealthy, "b", 1090), (4, HealthStatus::Unhealthy));
        assert_eq!(find(HealthStatus::Unhealthy, "b", 1389), (4, HealthStatus::Unhealthy));
        assert_eq!(find(HealthStatus::Unhealthy, "b", 1390), (5, HealthStatus::Unhealthy));
        // New labels do not make it unknown.
        let mut relabelled = document();
        relabelled.metadata.labels.insert("env".into(), "prod".into());
        shown.show(relabelled);
        assert_eq!(find(HealthStatus::Healthy, "", 1400), (7, HealthStatus::Healthy));
        let told = told.lock().unwrap();
        assert_eq!(told[5].spec.health.message, "b");
        assert_eq!(told[6].metadata.labels["env"], "prod");
        shown.found("another", Health::default());
    }

    #[test]
    fn what_answers_and_lets_nobody_in_is_unhealthy_until_it_does() {
        let (shown, told) = shown();
        shown.show(document());
        let at = Timestamp::from_secs;
        let last = || {
            let health = told.lock().unwrap().last().unwrap().spec.health.clone();
            (health.status, health.message)
        };
        let well = (HealthStatus::Healthy, String::new());
        shown.found("roach", healthy(at(1000)));
        shown.let_in("roach", at(1001));
        assert_eq!((last(), told.lock().unwrap().len()), (well.clone(), 2), "no news");
        shown.turned_away("roach", "it takes no certificate\n", at(1002));
        let amiss = "it takes no certificate\u{fffd}".to_owned();
        assert_eq!(last(), (HealthStatus::Unhealthy, amiss.clone()));
        // A look finds nothing, and new labels change nothing.
        shown.found("roach", healthy(at(1030)));
        shown.show(document());
        shown.found("roach", healthy(at(1060)));
        assert_eq!(last(), (HealthStatus::Unhealthy, amiss));
        // What a look finds is said before that.
        let down = Health {
            status: HealthStatus::Unhealthy,
            message: "down".into(),
            checked_at: Some(at(1090)),
        };
        shown.found("roach", down);
        assert_eq!(last().1, "down");
        shown.let_in("roach", at(1100));
        assert_eq!(last(), well);
        shown.turned_away("another", "nobody shows it", at(1101));
    }

    #[tokio::test]
    async fn what_is_shown_is_looked_at_for_as_long_as_it_is_shown() {
        let (shown, told) = shown();
        let watch = Watch {
            shown: shown.clone(),
            databases: Databases::default(),
            reach: HostReach::builder().build().unwrap(),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1000))),
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(watch.run(stop.clone()));
        let found = async |looks: usize| {
            let looked = || {
                let told = told.lock().unwrap();
                told.iter().filter(|one| one.spec.health.checked_at.is_some()).count()
            };
            tokio::time::timeout(Duration::from_secs(20), async {
                while looked() < looks {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap();
        };
        shown.show(document());
        found(1).await;
        // Shown anew it is looked at anew, at once; hidden and shown it is another one.
        shown.hide("roach");
        assert!(shown.all().is_empty());
        shown.show(document());
        found(2).await;
        let last = told.lock().unwrap().last().unwrap().spec.health.clone();
        assert!(last.message.contains("not served any more"), "{last:?}");
        stop.cancel();
        running.await.unwrap();
    }

    #[test]
    fn a_message_is_what_a_document_takes() {
        let text = presentable(&format!("\x1b[2J{}", "é".repeat(600)));
        assert!(text.starts_with("\u{fffd}[2Jé") && text.len() <= Health::MAX_MESSAGE);
        let mut document = document();
        document.spec.health.message = text;
        access_client::types::Served::check(&document.spec).unwrap();
    }

    #[tokio::test]
    async fn one_address_that_answers_is_enough() {
        let (shown, told) = shown();
        shown.show(document());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (reach, id) = (HostReach::builder().build().unwrap(), "db/roach".parse().unwrap());
        let good = listener.local_addr().unwrap().to_string();
        reach.set_route(&id, ["127.0.0.1:1".to_owned(), good]).unwrap();
        let database = Database {
            resource: Resource::new(id.clone(), [].into(), HostId::new("h-1").unwrap()),
            protocol: DatabaseProtocol::CockroachDb,
            tls: None,
            auth: TargetAuth::Nothing,
            admin_database: None,
        };
        let watch = Watch {
            shown,
            databases: Databases::new([database]),
            reach: reach.clone(),
            clock: Arc::new(ManualClock::at(Timestamp::from_secs(1000))),
        };
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let watching = tokio::spawn(watch.run(stopped));
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = [0; 8];
        stream.read_exact(&mut asked).await.unwrap();
        assert_eq!(asked, [0, 0, 0, 8, 4, 210, 22, 47]);
        stream.write_all(b"N").await.unwrap();
        assert_eq!(stream.read(&mut asked).await.unwrap(), 0, "nothing more is said");
        let end = tokio::time::Instant::now() + Duration::from_secs(10);
        while told.lock().unwrap().len() < 2 {
            assert!(tokio::time::Instant::now() < end, "nobody was told");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let health = told.lock().unwrap()[1].spec.health.clone();
        assert_eq!((health.status, health.message.as_str()), (HealthStatus::Healthy, ""));
        stop.cancel();
        watching.await.unwrap();
    }
}
