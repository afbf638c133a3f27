//! Fields that several kinds share.

use crate::audit::{List, Shared, Text};
use crate::ids::{HostId, Login, SessionId, TraceId, UserName};

event_fields! {
    /// Who is in which session, on what, from where. A protocol makes it once and clones it into
    /// each of the session's events.
    ///
    /// ```
    /// use access_core::{HostId, Login, SessionId, UserName};
    /// use access_core::audit::events::{SessionContext, SessionStart};
    /// use access_core::audit::List;
    ///
    /// let context = SessionContext {
    ///     user: UserName::new("alice")?,
    ///     login: Some(Login::new("root")?),
    ///     sid: SessionId::from_random([7; 16]),
    ///     server_id: HostId::new("host-1")?,
    ///     server_hostname: Some("web-1".into()),
    ///     proto: "ssh".into(),
    ///     addr_remote: Some("203.0.113.7:40112".into()),
    ///     addr_local: None,
    ///     user_roles: List::from_iter(["access"]),
    ///     trace_id: None,
    /// };
    /// let start = SessionStart {
    ///     session: context.clone(),
    ///     interactive: true,
    ///     size: Some("80:25".into()),
    ///     initial_command: List::default(),
    ///     session_recording: Some("node".into()),
    /// };
    /// # let _: access_core::audit::Event = start.into();
    /// # Ok::<(), access_core::ids::IdError>(())
    /// ```
    SessionContext {
        /// The user.
        user: UserName,
        /// The account on the target.
        login: Option<Login>,
        /// The session's id; its recording has the same.
        sid: SessionId,
        /// The id of the agent that serves the target.
        server_id: HostId,
        /// The target's name.
        server_hostname: Option<Text<256>>,
        /// The protocol: `ssh`, `kube`, `db`, …
        proto: Text<64>,
        /// The client's address.
        addr_remote as "addr.remote": Option<Text<256>>,
        /// The address at which the client was served.
        addr_local as "addr.local": Option<Text<256>>,
        /// The user's roles.
        user_roles: List,
        /// Ties together what one connection caused on several machines.
        trace_id: Option<TraceId>,
    }

    /// Who changed something.
    ///
    /// ```
    /// use access_core::audit::events::Actor;
    /// let somebody = Actor::local();
    /// assert_eq!(somebody.user.as_str(), "local admin");
    /// ```
    Actor {
        /// The user, bot or machine that did it.
        user: Text<256>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// Whether something worked.
    ///
    /// ```
    /// use access_core::audit::events::Outcome;
    /// assert!(Outcome::succeeded().success);
    /// assert_eq!(Outcome::failed("no such user").error.unwrap().as_str(), "no such user");
    /// ```
    Outcome {
        /// Whether it worked.
        success: bool,
        /// Why it did not.
        error: Option<Text>,
    }
}

/// Who is in which session, made once and shared by all events of a session that has many.
pub type SharedSession = Shared<SessionContext>;

impl Actor {
    /// The admin on the Auth Service's own host, who needs no login there.
    pub fn local() -> Self {
        Self { user: "local admin".into(), addr_remote: None }
    }
}

impl Outcome {
    /// It worked.
    pub fn succeeded() -> Self {
        Self { success: true, error: None }
    }

    /// It did not, and why.
    pub fn failed(error: impl std::fmt::Display) -> Self {
        Self { success: false, error: Some(Text::of(error)) }
    }
}
