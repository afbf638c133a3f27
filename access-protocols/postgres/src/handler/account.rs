//! Accounts that are made for sessions: who has which, and what becomes of them.
//!
//! ```text
//!  make ─► (admin user: activate, announce) ─► the session connects ─► settled ─► … ─► release
//!                                                     │ does not                          ▲
//!                                                     └──────── dropped ──────────────────┘
//! ```
//!
//! The session's end may be that of its permit, after which nobody signs a certificate for the
//! admin user any more. One is therefore held throughout the session, and renewed while the permit
//! is good.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use access_core::audit::Text;
use access_core::audit::events::{
    DbSessionPermissionsUpdate, DbSessionUserCreate, DbSessionUserCreateCode,
    DbSessionUserDeactivate, DbSessionUserDeactivateCode, Outcome,
};
use access_core::reach::Place;
use access_core::role::CreateDbUserMode;
use access_core::{Login, Permit, ResourceRef};
use tokio::task::AbortHandle;

use super::Parts;
use super::journal::Journal;
use super::target::{self, Comer, NotReady, Proof, Target};
use crate::database::{Database, TargetAuth};
use crate::users::{self, Account, Activated, Admin, Deactivated, UserError};
use crate::wire::{Failure, sqlstate};

/// How long before its end a certificate is replaced. One that is kept elsewhere until a minute
/// before its end has been replaced there by then.
const BEFORE_END: Duration = Duration::from_secs(50);
/// How long it takes until it is asked again for one that was not to be had.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// What must be left of a certificate that is to be shown.
const TO_CONNECT: Duration = Duration::from_secs(5);
/// How long it may take to disable an account.
const RELEASE_WITHIN: Duration = Duration::from_secs(30);
/// The most processes of sessions that have left that are remembered while others are on.
const MOST_LEFT: usize = 1000;
/// How long it may take to look after those that others have left.
const SWEEP_WITHIN: Duration = Duration::from_secs(60);

/// The accounts whose sessions are on here.
#[derive(Default)]
pub(super) struct Accounts {
    on: Mutex<HashMap<(ResourceRef, Login), On>>,
    swept: Mutex<HashSet<ResourceRef>>,
}

#[derive(Default)]
struct On {
    sessions: usize,
    /// One of those that have left had the account, so that the last has something to undo.
    owed: bool,
    /// The server's processes of those that have left. One that is busy may take its time to notice
    /// that nobody is there any more.
    left: Vec<u32>,
}

/// One session that has an account.
struct Held {
    accounts: Arc<Accounts>,
    key: (ResourceRef, Login),
}

impl Accounts {
    fn enter(self: &Arc<Self>, resource: &ResourceRef, user: &Login) -> Held {
        let key = (resource.clone(), user.clone());
        let mut on = self.on.lock().unwrap_or_else(PoisonError::into_inner);
        on.entry(key.clone()).or_default().sessions += 1;
        Held { accounts: Arc::clone(self), key }
    }

    /// Whether it is the first time that this database is looked after.
    fn is_first(&self, resource: &ResourceRef) -> bool {
        self.swept.lock().unwrap_or_else(PoisonError::into_inner).insert(resource.clone())
    }
}

impl Held {
    /// What there is to be undone, when nobody here needs the account any more: the processes of
    /// those who had it. `had` is whether this session may have had it.
    fn leave(self, had: bool, process: Option<u32>) -> Option<Vec<u32>> {
        let mut all = self.accounts.on.lock().unwrap_or_else(PoisonError::into_inner);
        let on = all.get_mut(&self.key)?;
        on.owed |= had;
        if on.left.len() < MOST_LEFT {
            on.left.extend(process);
        }
        on.sessions = on.sessions.saturating_sub(1);
        if on.sessions > 0 {
            return None;
        }
        all.remove(&self.key).filter(|on| on.owed).map(|on| on.left)
    }
}

/// An account that a session has. Dropping it gives it up, too.
pub(super) struct Made(Option<Inner>);

struct Inner {
    parts: Arc<Parts>,
    permit: Permit,
    database: Arc<Database>,
    journal: Journal,
    admin: Login,
    user: Login,
    held: Held,
    /// It may be that the account was made or enabled.
    had: bool,
    drop: bool,
    place: Option<Arc<dyn Place>>,
    proof: Arc<Mutex<Proof>>,
    renewal: Option<AbortHandle>,
    /// The server's process of the session.
    process: Option<u32>,
}

/// An account that is there, for a session that is about to connect.
pub(super) struct Beginning {
    made: Made,
    connection: Admin,
}

/// Has the account of a permit's session be there.
pub(super) async fn make(
    parts: &Arc<Parts>,
    permit: &Permit,
    database: &Arc<Database>,
    journal: &Journal,
) -> Result<Beginning, (Failure, Outcome)> {
    let own = permit.who().name();
    let refused = |text: String| {
        let failure = Failure::fatal(sqlstate::INVALID_AUTHORIZATION, text.clone());
        (failure, Outcome::failed(text))
    };
    let user = permit.action().login().filter(|user| user.as_str() == own).ok_or_else(|| {
        refused(format!("your account on this database is made for you: connect as {own}"))
    })?;
    let admin = database.resource.admin_user.as_ref().ok_or_else(|| {
        refused("accounts cannot be made on this database: it has no admin user".into())
    })?;
    let grant = &permit.grant().database;
    let made = attempt(parts, permit, database, journal, admin, user);
    let (beginning, activated) = match made.await {
        Ok(done) => done,
        Err((failure, why)) => {
            let event = DbSessionUserCreate {
                code: DbSessionUserCreateCode::Failed,
                session: journal.session.clone(),
                db: journal.db.clone(),
                outcome: Outcome::failed(&why),
                username: user.as_str().into(),
                roles: grant.roles.iter().map(String::as_str).collect(),
            };
            journal.note(event).await;
            return Err((failure, Outcome::failed(why)));
        }
    };
    // What cannot be told is undone, by dropping it.
    tell(journal, user, grant.roles.iter().map(String::as_str), activated).await.map_err(
        |err| {
            let text = "access cannot be granted: the audit log cannot be written";
            (Failure::fatal(sqlstate::IO_ERROR, text), Outcome::failed(err))
        },
    )?;
    Ok(beginning)
}

async fn tell<'a>(
    journal: &Journal,
    user: &Login,
    roles: impl Iterator<Item = &'a str> + Clone,
    activated: Activated,
) -> Result<(), access_core::audit::AuditError> {
    let (session, db) = (journal.session.clone(), journal.db.clone());
    if activated.made {
        let event = DbSessionUserCreate {
            code: DbSessionUserCreateCode::Created,
            session: session.clone(),
            db: db.clone(),
            outcome: Outcome::succeeded(),
            username: user.as_str().into(),
            roles: roles.clone().collect(),
        };
        journal.write(event).await?;
    }
    if activated.granted {
        let roles = roles.collect();
        journal.write(DbSessionPermissionsUpdate { session, db, roles }).await?;
    }
    Ok(())
}

/// The same, with what is for the log when it does not come about.
async fn attempt(
    parts: &Arc<Parts>,
    permit: &Permit,
    database: &Arc<Database>,
    journal: &Journal,
    admin: &Login,
    user: &Login,
) -> Result<(Beginning, Activated), (Failure, String)> {
    let account = Account::new(user.as_str(), admin.as_str(), database.protocol)
        .map_err(|err| (err.failure(), err.to_string()))?;
    let proof = Proof::of(parts, permit, database, Comer::Admin(admin)).await;
    let proof = Arc::new(Mutex::new(proof.map_err(|err| no_admin(admin, err))?));
    let connected = target::connect(parts, permit, database, Comer::Admin(admin)).await;
    let Target { stream, rest, stop, .. } = connected.map_err(|err| no_admin(admin, err))?;
    let mut connection = Admin::new(stream, rest);
    let grant = &permit.grant().database;
    let held = parts.accounts.enter(&database.resource.id, user);
    let mut inner = Inner {
        parts: Arc::clone(parts),
        permit: permit.clone(),
        database: Arc::clone(database),
        journal: journal.clone(),
        admin: admin.clone(),
        user: user.clone(),
        held,
        had: true,
        drop: grant.create_user == CreateDbUserMode::BestEffortDrop,
        place: stop.place,
        proof,
        renewal: None,
        process: None,
    };
    inner.renew();
    // From here on it may have come about, and is undone by being dropped.
    let mut made = Made(Some(inner));
    let activated = users::activate(&mut connection, &account, &grant.roles);
    let activated = match tokio::time::timeout(parts.options.connect_deadline, activated).await {
        Ok(Err(err)) => {
            if let Some(inner) = &mut made.0 {
                inner.had = matches!(err, UserError::Io(_) | UserError::Wire(_));
            }
            Err(err)
        }
        Ok(done) => done,
        Err(_) => Err(UserError::Locked(user.as_str().to_owned())),
    };
    let activated = activated.map_err(|err| (err.failure(), err.to_string()))?;
    Ok((Beginning { made, connection }, activated))
}

fn no_admin(admin: &Login, err: NotReady) -> (Failure, String) {
    let NotReady { mut failure, why, .. } = err;
    failure.message = format!(
        "your account on this database cannot be made: its admin user {admin} cannot log in: {}",
        failure.message
    );
    (failure, format!("the admin user {admin} cannot log in: {why}"))
}

impl Beginning {
    /// The session is connected, or came to nothing.
    pub(super) async fn settled(self, connected: bool, process: Option<u32>) -> Made {
        let Self { mut made, mut connection } = self;
        let Some(inner) = &mut made.0 else { return made };
        inner.process = process;
        let Ok(account) = inner.account() else { return made };
        // Before the session begins: its end must not be taken for another's beginning.
        if let Err(err) = users::settle(&mut connection, &account).await {
            tracing::debug!(%err, "the admin user's connection broke off");
            return made;
        }
        let first = inner.parts.accounts.is_first(&inner.database.resource.id);
        if connected && first {
            let sweep = Sweep {
                journal: inner.journal.clone(),
                admin: inner.admin.clone(),
                user: inner.user.clone(),
                database: Arc::clone(&inner.database),
            };
            tokio::spawn(async move {
                if tokio::time::timeout(SWEEP_WITHIN, sweep.run(connection)).await.is_err() {
                    tracing::warn!("looking after abandoned accounts takes too long");
                }
            });
        } else {
            tokio::spawn(connection.close());
        }
        made
    }
}

impl Made {
    /// Gives the account up: when nobody has it any more, it is disabled or dropped.
    pub(super) async fn release(mut self) {
        if let Some(inner) = self.0.take() {
            // It goes on when nobody waits for it any more.
            let done = inner.parts.left.clone().spawn(inner.release());
            drop(done.await);
        }
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            inner.parts.left.clone().spawn_on(inner.release(), &runtime);
        }
    }
}

impl Inner {
    fn account(&self) -> Result<Account<'_>, UserError> {
        Account::new(self.user.as_str(), self.admin.as_str(), self.database.protocol)
    }

    /// Keeps the certificate of the admin user good while the permit is.
    fn renew(&mut self) {
        if !matches!(self.database.auth, TargetAuth::Certificate) {
            return;
        }
        let Some(source) = self.parts.credentials.clone() else { return };
        let (clock, permit) = (Arc::clone(&self.parts.clock), self.permit.clone());
        let proof = Arc::clone(&self.proof);
        let renewal = tokio::spawn(async move {
            loop {
                let left = lock(&proof)
                    .certificate
                    .as_ref()
                    .map(|held| held.not_after.since(clock.now()).saturating_sub(BEFORE_END));
                let Some(left) = left else { return };
                tokio::time::sleep(left.max(AFTER_FAILURE)).await;
                match source.admin_certificate(&permit).await {
                    Ok(certificate) => lock(&proof).certificate = Some(certificate),
                    Err(err) => {
                        tracing::debug!(%err, "an admin user's certificate was not renewed")
                    }
                }
            }
        });
        self.renewal = Some(renewal.abort_handle());
    }

    async fn release(self) {
        if let Some(renewal) = &self.renewal {
            renewal.abort();
        }
        let (journal, name, delete) = (self.journal.clone(), self.user.clone(), self.drop);
        let done = tokio::time::timeout(RELEASE_WITHIN, self.undo()).await;
        let done = done.unwrap_or_else(|_| Err("the database did not answer in time".into()));
        if let Err(why) = &done {
            tracing::warn!(account = %name, why, "an account was not disabled");
        }
        note(&journal, name.as_str(), delete, done).await;
    }

    async fn undo(self) -> Result<Deactivated, String> {
        let Self { parts, permit, database, admin, user, held, had, .. } = self;
        let Self { drop, place, proof, process, .. } = self;
        let Some(processes) = held.leave(had, process) else { return Ok(Deactivated::Left) };
        let mut proof = lock(&proof).clone();
        if let (Some(held), Some(source)) = (&proof.certificate, &parts.credentials)
            && held.not_after < parts.clock.now().plus(TO_CONNECT)
        {
            let certificate = source.admin_certificate(&permit).await;
            proof.certificate = Some(certificate.map_err(|err| err.to_string())?);
        }
        let target = match place {
            Some(place) => target::return_to(place, &database, &admin, &proof).await,
            None => target::connect(&parts, &permit, &database, Comer::Admin(&admin)).await,
        };
        let Target { stream, rest, .. } = target.map_err(|err| err.why)?;
        let mut connection = Admin::new(stream, rest);
        let account = Account::new(user.as_str(), admin.as_str(), database.protocol)
            .map_err(|err| err.to_string())?;
        let done = users::deactivate(&mut connection, &account, &processes, drop).await;
        connection.close().await;
        done.map_err(|err| err.to_string())
    }
}

/// Tells what became of an account whose last session has ended.
async fn note(journal: &Journal, name: &str, delete: bool, done: Result<Deactivated, String>) {
    let (outcome, deleted) = match done {
        Ok(Deactivated::Left) => return,
        Ok(done) => (Outcome::succeeded(), Some(done == Deactivated::Dropped)),
        Err(why) => (Outcome::failed(why), None),
    };
    let code = match deleted {
        Some(_) => DbSessionUserDeactivateCode::Deactivated,
        None => DbSessionUserDeactivateCode::Failed,
    };
    let event = DbSessionUserDeactivate {
        code,
        session: journal.session.clone(),
        db: journal.db.clone(),
        outcome,
        username: Text::of(name),
        delete,
        deleted,
    };
    journal.note(event).await;
}

/// Looks after the accounts that agents have left which were killed.
struct Sweep {
    journal: Journal,
    admin: Login,
    user: Login,
    database: Arc<Database>,
}

impl Sweep {
    async fn run(self, mut connection: Admin) {
        let Self { journal, admin, user, database } = self;
        let (admin, protocol) = (admin.as_str(), database.protocol);
        let Ok(own) = Account::new(user.as_str(), admin, protocol) else { return };
        let found = users::abandoned(&mut connection, &own).await;
        let found = found.unwrap_or_else(|err| {
            tracing::warn!(%err, "abandoned accounts could not be looked for");
            Vec::new()
        });
        for name in found {
            let Ok(abandoned) = Account::new(&name, admin, protocol) else { continue };
            let done = users::deactivate(&mut connection, &abandoned, &[], false).await;
            let broken = matches!(done, Err(UserError::Io(_) | UserError::Wire(_)));
            note(&journal, &name, false, done.map_err(|err| err.to_string())).await;
            if broken {
                return;
            }
        }
        connection.close().await;
    }
}

fn lock(proof: &Mutex<Proof>) -> std::sync::MutexGuard<'_, Proof> {
    proof.lock().unwrap_or_else(PoisonError::into_inner)
}
