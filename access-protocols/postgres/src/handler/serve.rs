//! One connection: who it is and what it wants, whether it may, the database, the session.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use access_core::audit::Text;
use access_core::audit::events::{
    DbSessionStart, DbSessionStartCode, DbTarget, Outcome, SessionContext,
};
use access_core::ids::TraceId;
use access_core::policy::{Action, Context, Target as Aim};
use access_core::protocol::Incoming;
use access_core::reach::BoxedStream;
use access_core::recording::{RecordingKind, RecordingMeta};
use access_core::role::CreateDbUserMode;
use access_core::wake::Bell;
use access_core::{Login, Permit, SessionId, VerifiedIdentity};
use bytes::BytesMut;
use tokio::io::AsyncWriteExt;

use super::Parts;
use super::account::{self, Made};
use super::journal::Journal;
use super::judge::Judge;
use super::relay::{Side, Timer, Way};
use super::session::Session;
use super::tape::Tape;
use super::target::{self, Comer, Target};
use super::wanted::{Refused, Wanted, denied, not_allowed};
use crate::database::Database;
use crate::machine::{Asked, Machine, Watch};
use crate::prelude::{Wish, take_leave, wish};
use crate::wire::{Failure, encode, sqlstate};

/// How long a client has to take the reason for which it gets no session.
const PARTING: Duration = Duration::from_secs(2);

/// What is known of a connection besides its bytes.
struct Caller {
    client_addr: Option<SocketAddr>,
    trace_id: TraceId,
    session: Option<u32>,
}

/// Serves a connection to its end.
pub(super) async fn serve(parts: &Arc<Parts>, connection: Incoming) {
    // The way to a session takes more memory than a session, and is given back before it begins.
    if let Some((session, account)) = Box::pin(admit(parts, connection)).await {
        session.run().await;
        if let Some(account) = account {
            Box::pin(account.release()).await;
        }
    }
}

/// From a connection to a session, if there is to be one; with the account that was made for it.
async fn admit(parts: &Arc<Parts>, connection: Incoming) -> Option<(Box<Session>, Option<Made>)> {
    let Incoming { mut stream, peer, resource, client_addr, trace_id, admission, session: number } =
        connection;
    let mut buf = BytesMut::new();
    let wish = tokio::time::timeout(parts.options.startup_deadline, wish(&mut stream, &mut buf));
    let asked = match wish.await {
        Ok(Ok(Ok(Wish::Session { startup, .. }))) => Asked::new(startup),
        Ok(Ok(Ok(Wish::Cancel(request)))) => {
            parts.cancel(&request, client_addr).await;
            return None;
        }
        Ok(Ok(Err(failure))) => Err(failure),
        Ok(Err(err)) => {
            tracing::debug!(%err, %trace_id, "a database client left before it asked for anything");
            return None;
        }
        Err(_) => {
            Err(Failure::fatal(sqlstate::PROTOCOL_VIOLATION, "no startup packet was sent in time"))
        }
    };
    let login = asked.as_ref().ok().map(|asked| asked.user.clone());
    let wanted = asked.and_then(|asked| Wanted::new(parts, peer.as_ref(), asked, &resource));
    let wanted = match wanted {
        Ok(wanted) => wanted,
        Err(failure) => {
            let refused = Refused {
                who: peer.as_ref().map(VerifiedIdentity::name),
                login: login.as_deref(),
                resource: &resource,
                client_addr,
            };
            parts.note_refused(&refused, &failure).await;
            refuse(stream, &failure).await;
            return None;
        }
    };
    drop(admission);
    let caller = Caller { client_addr, trace_id, session: number };
    match begin(parts, &wanted, &caller).await {
        Ok(begun) => Some(session(parts, stream, buf, &wanted, begun)),
        Err(failure) => {
            refuse(stream, &failure).await;
            None
        }
    }
}

/// Tells the client why it gets no session.
async fn refuse(mut stream: BoxedStream, failure: &Failure) {
    tracing::debug!(%failure, "a database client gets no session");
    let told = async {
        stream.write_all(&encode::error_response(failure)).await?;
        stream.flush().await?;
        take_leave(&mut stream).await
    };
    let _ = tokio::time::timeout(PARTING, told).await;
}

/// A session that may be, with a database that is ready for it.
struct Begun {
    permit: Permit,
    target: Target,
    journal: Journal,
    user: Login,
    number: Option<u32>,
    tape: Tape,
    account: Option<Made>,
}

async fn begin(parts: &Arc<Parts>, wanted: &Wanted<'_>, caller: &Caller) -> Result<Begun, Failure> {
    let Wanted { who, asked, user, database, .. } = wanted;
    let action = Action::Database { user: user.clone(), database: asked.database.clone() };
    let aim = Aim::Resource(database.resource.clone());
    let context = Context {
        client_addr: caller.client_addr.map(|addr| addr.ip()),
        trace_id: Some(caller.trace_id.clone()),
    };
    let mut journal = journal(parts, wanted, caller);
    let permit = match parts.gate.authorize(who, action, aim, context).await {
        Ok(permit) => permit,
        Err(err) => {
            // The gate's own event does not say which database on the server was asked for.
            let why = Outcome::failed(&err);
            let event = start_event(&journal, asked, DbSessionStartCode::Denied, why, "off");
            journal.note(event).await;
            return Err(not_allowed(&err.public(), asked, &database.resource.id));
        }
    };
    journal.redacted = permit.grant().database.redact_parameters;
    match open(parts, &permit, database, asked, &mut journal).await {
        Ok((target, tape, account)) => {
            let (user, number) = (user.clone(), caller.session);
            Ok(Begun { permit, target, journal, user, number, tape, account })
        }
        Err((failure, why)) => {
            let event = start_event(&journal, asked, DbSessionStartCode::Denied, why, "off");
            journal.note(event).await;
            Err(failure)
        }
    }
}

/// Everything after the permit that can still go wrong, with what to tell the client, and the log.
async fn open(
    parts: &Arc<Parts>,
    permit: &Permit,
    database: &Arc<Database>,
    asked: &Asked,
    journal: &mut Journal,
) -> Result<(Target, Tape, Option<Made>), (Failure, Outcome)> {
    if asked.replication && !permit.grant().database.replication {
        let failure = denied("your roles do not permit this: replication")
            .hint("ask for a role with the option db_replication");
        return Err((failure, Outcome::failed("replication is not permitted")));
    }
    let made = match permit.grant().database.create_user {
        CreateDbUserMode::Off => None,
        _ => Some(account::make(parts, permit, database, journal).await?),
    };
    let connected = target::connect(parts, permit, database, Comer::Client(asked)).await;
    // When something goes wrong from here on, it is undone by being dropped.
    let key = connected.as_ref().ok().and_then(|target| target.welcome.key.as_ref());
    let (is_connected, process) = (connected.is_ok(), key.map(|(process, _)| *process));
    let account = match made {
        Some(made) => Some(made.settled(is_connected, process).await),
        None => None,
    };
    let target = connected.map_err(|err| (err.failure, Outcome::failed(err.why)))?;
    if let Some(place) = &target.stop.place {
        let mut db = DbTarget::clone(&journal.db);
        db.db_uri = Some(Text::of(place.address()));
        journal.db = db.into();
    }
    let meta = RecordingMeta::new(
        journal.session.sid.clone(),
        RecordingKind::Database,
        journal.session.user.clone(),
        database.resource.id.to_string(),
        parts.clock.now(),
    );
    let tape = Tape::start(
        parts.recorder.as_ref(),
        Arc::clone(&parts.clock),
        permit.grant().limits.record,
        meta,
        format!("{}=> ", asked.database),
    );
    let tape = tape.await.map_err(|err| {
        let text = "the session must be recorded, which is not possible";
        (Failure::fatal(sqlstate::IO_ERROR, text), Outcome::failed(err))
    })?;
    let event =
        start_event(journal, asked, DbSessionStartCode::Started, Outcome::succeeded(), tape.kept());
    journal.write(event).await.map_err(|err| {
        let text = "access cannot be granted: the audit log cannot be written";
        (Failure::fatal(sqlstate::IO_ERROR, text), Outcome::failed(err))
    })?;
    Ok((target, tape, account))
}

fn journal(parts: &Parts, wanted: &Wanted<'_>, caller: &Caller) -> Journal {
    let Wanted { who, name, asked, user, database } = wanted;
    let session = SessionContext {
        user: name.clone(),
        login: Some(user.clone()),
        sid: SessionId::from_random(rand::random()),
        server_id: database.resource.host.clone(),
        server_hostname: Some(database.resource.id.name.as_str().into()),
        proto: "db".into(),
        addr_remote: caller.client_addr.map(Text::of),
        addr_local: None,
        user_roles: who.identity().roles.iter().map(|role| role.as_str()).collect(),
        trace_id: Some(caller.trace_id.clone()),
    };
    let db = DbTarget {
        db_service: database.resource.id.name.as_str().into(),
        db_protocol: database.protocol.as_str().into(),
        db_uri: None,
        db_name: Some(asked.database.as_str().into()),
        db_user: Some(asked.user.as_str().into()),
    };
    Journal {
        audit: Arc::clone(&parts.audit),
        session: session.into(),
        db: db.into(),
        redacted: true,
        deadline: parts.options.audit_deadline,
    }
}

fn start_event(
    journal: &Journal,
    asked: &Asked,
    code: DbSessionStartCode,
    outcome: Outcome,
    kept: &'static str,
) -> DbSessionStart {
    DbSessionStart {
        code,
        session: journal.session.clone(),
        db: journal.db.clone(),
        outcome,
        application_name: asked.application().map(Into::into),
        replication: asked.replication.then_some(true),
        session_recording: Some(kept.into()),
    }
}

/// The session itself. What the client is told first says that it is authenticated, and which
/// key cancels its queries.
fn session(
    parts: &Parts,
    stream: BoxedStream,
    buf: BytesMut,
    wanted: &Wanted<'_>,
    begun: Begun,
) -> (Box<Session>, Option<Made>) {
    let Wanted { asked, database, .. } = wanted;
    let Begun { permit, target, journal, user, number, tape, account } = begun;
    let Target { stream: server, rest, welcome, stop } = target;
    let cancellable =
        parts.registry.enter(number, asked.secret_len(), stop.clone(), journal.clone());
    let mut first = BytesMut::with_capacity(1024);
    asked.negotiation(&mut first);
    encode::authentication_ok(&mut first);
    first.extend_from_slice(&welcome.messages);
    if welcome.key.is_some() {
        encode::key_data(&mut first, cancellable.number, cancellable.secret());
    }
    encode::ready_for_query(&mut first, welcome.status);
    let grant = &permit.grant().database;
    let watch =
        Watch { read_only: grant.read_only, redact: grant.redact_parameters, columns: tape.runs() };
    let mut session = Box::new(Session {
        client: Side::new(stream),
        server: Side::new(server),
        machine: Machine::new(watch),
        up: Way::new(buf),
        down: Way::new(rest),
        notes: Vec::new(),
        whole: true,
        hurried: false,
        journal,
        judge: Judge {
            gate: Arc::clone(&parts.gate),
            permit: permit.clone(),
            user,
            database: asked.database.as_str().into(),
            last: None,
            careful: false,
        },
        tape,
        clock: Arc::clone(&parts.clock),
        ended: Box::pin(permit.ended()),
        end_bell: Bell::new(),
        timer: Timer::new(),
        cancellable,
        stop,
        started: parts.clock.now(),
        left: parts.left.clone(),
        over: false,
    });
    session.down.out.push(first.freeze());
    tracing::debug!(resource = %database.resource.id, "a database session begins");
    (session, account)
}
