//! Watching: the store's own watch, without what the caller may not see.

use std::collections::HashSet;
use std::time::Duration;

use access_backend::{Key, Position, Watch, WatchEvent};
use access_client::proto;
use access_client::proto::watch_event::Event;
use access_client::types::DbDocument;
use access_core::HostId;
use access_core::gate::PolicySource;
use access_core::policy::{Action, ApiKind, Target, Verb};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::kinds::{KindEntry, Public};
use super::view::View;
use crate::caller::Call;
use crate::error::{Error, Result};
use crate::hosts::Serves;
use crate::service::AuthService;

/// How often a watch says that it is alive, and that its caller still may.
const HEARTBEAT: Duration = access_core::gate::SIGN_OF_LIFE;
/// How long a host that is shut out is told of what shuts it out.
const PARTING: Duration = Duration::from_millis(300);
/// Events that wait for a slow client. Beyond them the store's own watch falls behind, and resets.
const QUEUE: usize = 256;

/// What a client gets.
pub(crate) type Events = ReceiverStream<Result<proto::WatchEvent, Status>>;

impl AuthService {
    /// Starts a watch over kinds that the caller may list.
    pub(crate) async fn watch(&self, call: Call, request: proto::WatchRequest) -> Result<Events> {
        if request.kinds.is_empty() {
            return Err(Error::Invalid("name the kinds to watch".into()));
        }
        let mut kinds = Vec::new();
        for name in &request.kinds {
            let entry = KindEntry::find(name)?;
            if !kinds.contains(&entry) {
                let owner = self.lists_own(&call, entry.kind);
                self.authorize(&call, Verb::List, entry.kind, None, owner).await?;
                kinds.push(entry);
            }
        }
        let position = match request.position.as_slice() {
            [] => None,
            bytes => Some(read_position(bytes)?),
        };
        let watch = self.start(&kinds, position).await?;
        let (events, stream) = mpsc::channel(QUEUE);
        let view = View::of(&call, &self.inner.live.policy().snapshot());
        let own = match self.lists_own(&call, ApiKind::Db) {
            Some(host) if kinds.iter().any(|entry| entry.kind == ApiKind::Db) => {
                Some(Own { serves: self.serves(&host).await?, shown: HashSet::new() })
            }
            _ => None,
        };
        let watcher = Watcher { service: self.clone(), call, kinds, view, own, events };
        let watching = self.inner.watching.clone();
        self.inner.tasks.spawn(watching.run_until_cancelled_owned(watcher.run(watch, position)));
        Ok(ReceiverStream::new(stream))
    }

    /// The host that calls, if it may list of a kind what is its own and no more: databases that
    /// administrators registered and that it may serve.
    fn lists_own(&self, call: &Call, kind: ApiKind) -> Option<HostId> {
        let host = call.host().filter(|_| kind == ApiKind::Db)?;
        let all = self.would_allow(call, &Action::Api(Verb::List), &Target::api(kind));
        (!all).then(|| host.clone())
    }

    async fn start(&self, kinds: &[KindEntry], from: Option<Position>) -> Result<Watch> {
        let prefixes = kinds.iter().map(|kind| kind.prefix()).collect::<Result<Vec<_>>>()?;
        Ok(self.inner.storage.backend.watch(&prefixes, from).await?)
    }
}

fn read_position(bytes: &[u8]) -> Result<Position> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::Invalid("the position was not made by a watch".into()))
}

/// The client has gone away.
struct Gone;

struct Watcher {
    service: AuthService,
    call: Call,
    kinds: Vec<KindEntry>,
    view: View,
    own: Option<Own>,
    events: mpsc::Sender<Result<proto::WatchEvent, Status>>,
}

/// Of the kind `db`, a host is shown what it may serve, and what it was shown is taken back when it
/// may not any more.
struct Own {
    serves: Option<Serves>,
    shown: HashSet<String>,
}

impl Own {
    fn may(&self, public: &Public) -> bool {
        self.serves.as_ref().is_some_and(|serves| {
            DbDocument::from_json(&public.document.json).is_ok_and(|document| serves.may(&document))
        })
    }
}

impl Watcher {
    async fn run(mut self, mut watch: Watch, mut position: Option<Position>) {
        loop {
            match self.follow(watch, &mut position).await {
                Ok(()) | Err(Ended::Widened) => {}
                Err(Ended::Gone) => return,
                Err(Ended::Failed(err)) => {
                    let _ = self.events.send(Err(err.into())).await;
                    return;
                }
            }
            // Something may have been missed: the client forgets, and a snapshot follows.
            if self.send(Event::Reset(proto::Reset {})).await.is_err() {
                return;
            }
            position = None;
            watch = match self.service.start(&self.kinds, None).await {
                Ok(watch) => watch,
                Err(err) => {
                    let _ = self.events.send(Err(err.into())).await;
                    return;
                }
            };
        }
    }

    /// Follows one watch of the store until it resets.
    async fn follow(
        &mut self,
        mut watch: Watch,
        position: &mut Option<Position>,
    ) -> Result<(), Ended> {
        let mut policy = self.service.inner.live.policy().changes();
        let mut beat = tokio::time::interval(HEARTBEAT);
        let mut ready = false;
        loop {
            let event = tokio::select! {
                event = watch.next() => event,
                _ = beat.tick() => {
                    if let Err(ended) = self.check_caller() {
                        return self.part(watch, ended).await;
                    }
                    if ready && let Some(position) = position {
                        self.send_ready(*position).await?;
                    }
                    continue;
                }
                _ = policy.changed() => {
                    if let Err(ended) = self.check_caller() {
                        return self.part(watch, ended).await;
                    }
                    continue;
                }
                () = self.events.closed() => return Err(Ended::Gone),
            };
            match event.transpose().map_err(|err| Ended::Failed(err.into()))? {
                Some(WatchEvent::Put(item)) => self.put(&item).await?,
                Some(WatchEvent::Changed { item, position: at }) => {
                    self.put(&item).await?;
                    *position = Some(at);
                }
                Some(WatchEvent::Deleted { key, position: at }) => {
                    self.deleted(&key).await?;
                    *position = Some(at);
                }
                Some(WatchEvent::Ready(at)) => {
                    ready = true;
                    *position = Some(at);
                    self.send_ready(at).await?;
                }
                Some(WatchEvent::Reset) | None => return Ok(()),
            }
        }
    }

    /// Ends the watch of somebody who may not watch any more. A host is told of what comes
    /// meanwhile first: it has to know of the lock that shuts it out, to end the sessions that run
    /// through it.
    async fn part(&mut self, mut watch: Watch, ended: Ended) -> Result<(), Ended> {
        let until = tokio::time::Instant::now() + PARTING;
        while self.call.host().is_some()
            && let Ok(Some(Ok(event))) = tokio::time::timeout_at(until, watch.next()).await
        {
            match event {
                WatchEvent::Put(item) | WatchEvent::Changed { item, .. } => self.put(&item).await?,
                WatchEvent::Deleted { key, .. } => self.deleted(&key).await?,
                WatchEvent::Ready(_) => {}
                WatchEvent::Reset => break,
            }
        }
        Err(ended)
    }

    /// Whether the caller is still somebody, and still may list everything here.
    fn check_caller(&self) -> Result<(), Ended> {
        let service = &self.service;
        let denied = || Ended::Failed(Error::Denied("access was withdrawn".into()));
        let caller =
            self.call.peer.caller(service.inner.live.trust(), service.now()).map_err(|err| {
                Ended::Failed(Error::Unauthenticated(format!("{err}: log in again")))
            })?;
        let call = Call { caller, peer: self.call.peer.clone() };
        let action = Action::Api(Verb::List);
        let allowed = |entry: &KindEntry| {
            let owner = service.lists_own(&call, entry.kind);
            let target = Target::Api { kind: entry.kind, name: None, owner };
            service.would_allow(&call, &action, &target)
        };
        if self.kinds.iter().all(allowed) { Ok(()) } else { Err(denied()) }
    }

    async fn put(&mut self, item: &access_backend::Item) -> Result<(), Ended> {
        let Some(entry) = self.entry(&item.key) else { return Ok(()) };
        if self.call.host().is_some() && entry.is_authority_of_databases(&item.key) {
            return Ok(());
        }
        match self.service.inner.recent.public(entry, item, self.service.now()) {
            // Before the role is in force there, users come again with what it draws on.
            Ok(Some(public)) if entry.kind == ApiKind::Role && self.view.widen(&public) => {
                Err(Ended::Widened)
            }
            Ok(Some(public)) if entry.kind == ApiKind::Db && self.own.is_some() => {
                let may = self.own.as_ref().is_some_and(|own| own.may(&public));
                if !may {
                    return self.deleted(&item.key).await;
                }
                if let Some(own) = &mut self.own {
                    own.shown.insert(public.document.name.clone());
                }
                Ok(self.send(Event::Put(public.document)).await?)
            }
            Ok(Some(public)) => {
                let shown = self.view.show(public).map_err(Ended::Failed)?;
                Ok(self.send(Event::Put(shown.document)).await?)
            }
            Ok(None) => self.deleted(&item.key).await,
            Err(err) => Err(Ended::Failed(err)),
        }
    }

    async fn deleted(&mut self, key: &Key) -> Result<(), Ended> {
        let Some(entry) = self.entry(key) else { return Ok(()) };
        let name = entry.name_in(key);
        if entry.kind == ApiKind::Db
            && let Some(own) = &mut self.own
            && !own.shown.remove(&name)
        {
            return Ok(());
        }
        let kind = entry.kind.as_str().to_owned();
        Ok(self.send(Event::Deleted(proto::DocumentRef { kind, name })).await?)
    }

    fn entry(&self, key: &Key) -> Option<KindEntry> {
        KindEntry::of_key(key).filter(|entry| self.kinds.contains(entry))
    }

    async fn send_ready(&self, position: Position) -> Result<(), Gone> {
        let position = position.to_string().into_bytes();
        self.send(Event::Ready(proto::Ready { position })).await
    }

    async fn send(&self, event: Event) -> Result<(), Gone> {
        self.events.send(Ok(proto::WatchEvent { event: Some(event) })).await.map_err(|_| Gone)
    }
}

enum Ended {
    Gone,
    /// The client has to be told more of what it was told of.
    Widened,
    Failed(Error),
}

impl From<Gone> for Ended {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}
