//! The one place that every call passes: what each needs, and whether the caller has it.

use access_core::gate::Denied;
use access_core::gate::PolicySource;
use access_core::policy::{
    Action, ApiKind, Context, Decision, Reason, Target, Verb, granted_accounts,
};
use access_core::role::AccountKind;
use access_core::{HostId, Resource, ResourceName, ResourceRef, VerifiedIdentity};
use tonic::Request;

use crate::caller::{Call, Caller, Peer};
use crate::error::{Error, Result};
use crate::limits::source_key;
use crate::service::AuthService;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Nothing: strangers call it, and are limited by their source.
    Nothing,
    /// Any certificate that is good.
    Identity,
    /// A user's certificate.
    User,
    /// A host's certificate.
    Host,
    /// What the policy says of a verb on a kind.
    Api(Verb, ApiKind),
    /// The same for hosts only: it is about what they did themselves.
    HostApi(Verb, ApiKind),
    /// What the policy says of a verb on the kind that the request names.
    Document(Verb),
}

macro_rules! methods {
    ($($name:ident = $path:literal: $need:expr,)*) => {
        /// Every method of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Method {
            $($name,)*
        }

        impl Method {
            /// Its name in the protocol definition.
            #[cfg(test)]
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $path)),*];

            /// What it needs.
            pub(crate) const fn need(self) -> Need {
                match self { $(Self::$name => $need,)* }
            }
        }
    };
}

methods! {
    Ping = "Entry.Ping": Need::Nothing,
    Login = "Entry.Login": Need::Nothing,
    RedeemInvite = "Entry.RedeemInvite": Need::Nothing,
    Join = "Entry.Join": Need::Nothing,
    WhoAmI = "Identity.WhoAmI": Need::Identity,
    RenewHost = "Identity.RenewHost": Need::Host,
    Logout = "Identity.Logout": Need::User,
    IssueDatabaseCertificate = "Identity.IssueDatabaseCertificate": Need::Host,
    Status = "Admin.Status": Need::Api(Verb::Read, ApiKind::ClusterConfig),
    CreateUser = "Admin.CreateUser": Need::Api(Verb::Create, ApiKind::User),
    ResetUser = "Admin.ResetUser": Need::Api(Verb::Update, ApiKind::User),
    CreateToken = "Admin.CreateToken": Need::Api(Verb::Create, ApiKind::Token),
    SignUser = "Admin.SignUser": Need::Api(Verb::Create, ApiKind::Certificate),
    SignHost = "Admin.SignHost": Need::Api(Verb::Create, ApiKind::Certificate),
    Get = "Resources.Get": Need::Document(Verb::Read),
    List = "Resources.List": Need::Document(Verb::List),
    Create = "Resources.Create": Need::Document(Verb::Create),
    Update = "Resources.Update": Need::Document(Verb::Update),
    // Both verbs of what it may turn out to be.
    Put = "Resources.Put": Need::Document(Verb::Update),
    Delete = "Resources.Delete": Need::Document(Verb::Delete),
    Watch = "Resources.Watch": Need::Document(Verb::List),
    Emit = "Audit.Emit": Need::HostApi(Verb::Use, ApiKind::Event),
    Search = "Audit.Search": Need::Api(Verb::List, ApiKind::Event),
    Upload = "Recordings.Upload": Need::HostApi(Verb::Create, ApiKind::Session),
    ListRecordings = "Recordings.List": Need::Api(Verb::List, ApiKind::Session),
    Download = "Recordings.Download": Need::Api(Verb::Read, ApiKind::Session),
}

impl AuthService {
    /// Who calls, once it is certain that they may call this method. For methods over documents,
    /// [`AuthService::authorize`] has to follow for each kind that the request names.
    pub(crate) async fn admit<T>(&self, method: Method, request: &Request<T>) -> Result<Call> {
        let peer = request
            .extensions()
            .get::<Peer>()
            .cloned()
            .ok_or_else(|| Error::Internal("a call came without its connection".into()))?;
        let now = self.now();
        let caller = peer
            .caller(self.inner.live.trust(), now)
            .map_err(|err| Error::Unauthenticated(format!("{err}: log in again")))?;
        let call = Call { caller, peer };
        self.limit(&call, method)?;
        self.inner.live.check_fresh()?;
        // Nobody but who can remove it; to be told the time is no access.
        if !matches!(call.caller, Caller::LocalAdmin) && method != Method::Ping {
            self.inner.live.check_locks()?;
        }
        match method.need() {
            Need::Nothing => {}
            Need::Identity => self.check_identity(self.known(&call)?, &call)?,
            Need::User => {
                let who = self.known(&call)?;
                self.check_identity(who, &call)?;
                if who.identity().subject.user().is_none() {
                    return Err(Error::Denied("this is for users, not for hosts".into()));
                }
            }
            Need::Host => {
                let who = self.known(&call)?;
                self.check_identity(who, &call)?;
                if who.host().is_none() {
                    return Err(Error::Denied("this is for hosts, not for users".into()));
                }
            }
            Need::Api(verb, kind) => {
                self.authorize(&call, verb, kind, None, None).await?;
            }
            Need::HostApi(verb, kind) => {
                if self.known(&call)?.host().is_none() {
                    return Err(Error::Denied("this is for hosts, not for users".into()));
                }
                self.authorize(&call, verb, kind, None, None).await?;
            }
            Need::Document(_) => match &call.caller {
                Caller::LocalAdmin => {}
                Caller::Stranger => return Err(stranger()),
                // Whoever is locked out is told so, and not shown an empty list.
                Caller::Verified(who) => self.check_identity(who, &call)?,
            },
        }
        Ok(call)
    }

    /// Has the gate decide over a verb on a kind of document, or on one document.
    pub(crate) async fn authorize(
        &self,
        call: &Call,
        verb: Verb,
        kind: ApiKind,
        name: Option<&str>,
        owner: Option<HostId>,
    ) -> Result<()> {
        let who = match &call.caller {
            Caller::LocalAdmin => return Ok(()),
            Caller::Stranger => return Err(stranger()),
            Caller::Verified(who) => who,
        };
        let target = Target::Api { kind, name: name.map(str::to_owned), owner };
        self.inner
            .gate
            .authorize(who, Action::Api(verb), target, context(call))
            .await
            .map(drop)
            .map_err(refusal)
    }

    /// Whether a decision would be a yes, without a record of it: for choosing what to show.
    pub(crate) fn would_allow(&self, call: &Call, action: &Action, target: &Target) -> bool {
        match &call.caller {
            Caller::LocalAdmin => true,
            Caller::Stranger => false,
            Caller::Verified(who) => {
                let policy = self.inner.live.policy();
                let now = self.now();
                let decision = policy.decide(who, action, target, &context(call), now);
                who.validity().check(now).is_ok() && matches!(decision, Decision::Allow(_))
            }
        }
    }

    fn known<'a>(&self, call: &'a Call) -> Result<&'a VerifiedIdentity> {
        match &call.caller {
            Caller::Verified(who) => Ok(who),
            Caller::Stranger => Err(stranger()),
            Caller::LocalAdmin => {
                Err(Error::Invalid("the local administrator has no identity of their own".into()))
            }
        }
    }

    /// Whether a certificate is still good for anything: locks, the address, what is void.
    fn check_identity(&self, who: &VerifiedIdentity, call: &Call) -> Result<()> {
        let now = self.now();
        let snapshot = self.inner.live.policy().snapshot();
        let context = context(call);
        if let Some(pin) = &who.identity().source_pin
            && !context.client_addr.is_some_and(|address| pin.contains(address))
        {
            return Err(Error::Denied(Reason::SourcePin(context.client_addr).public()));
        }
        let checked = match who.host() {
            Some(_) => self.check_host(who, &context),
            // What accounts a user has somewhere fails when their certificate is good for nothing.
            None => {
                let nowhere = Resource::new(
                    ResourceRef::node(ResourceName::new("nowhere")?),
                    Default::default(),
                    HostId::new("nobody")?,
                );
                granted_accounts(&snapshot, who, AccountKind::Login, &nowhere, now).map(drop)
            }
        };
        checked.map_err(|reason| refusal(Denied::Policy(reason)))
    }

    /// Whether a host's certificate is still good for anything. Every host may read the cluster's
    /// settings: what stops that stops the host.
    pub(crate) fn check_host(
        &self,
        who: &VerifiedIdentity,
        context: &Context,
    ) -> std::result::Result<(), Reason> {
        let snapshot = self.inner.live.policy().snapshot();
        let (action, target) = (Action::Api(Verb::Read), Target::api(ApiKind::ClusterConfig));
        match access_core::policy::decide(&snapshot, who, &action, &target, context, self.now()) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) => Err(reason),
        }
    }

    fn limit(&self, call: &Call, method: Method) -> Result<()> {
        let now = self.now();
        match &call.caller {
            Caller::LocalAdmin => Ok(()),
            Caller::Verified(who) if method.need() != Need::Nothing => {
                self.inner.calls.take(&Identified::of(who), now)
            }
            Caller::Verified(_) | Caller::Stranger => {
                if let Some(visit) = call.peer.visit() {
                    visit.take_entry(now)?;
                }
                let of_source = match method {
                    Method::Ping => &self.inner.pings,
                    _ => &self.inner.entry,
                };
                of_source.take(&source_key(call.peer.ip()), now)
            }
        }
    }
}

/// Whom calls are counted for: a host shares nothing with a user of the same name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identified {
    is_host: bool,
    name: String,
}

impl Identified {
    fn of(who: &VerifiedIdentity) -> Self {
        Self { is_host: who.host().is_some(), name: who.name().to_owned() }
    }
}

/// The circumstances of a call.
pub(crate) fn context(call: &Call) -> Context {
    Context { client_addr: call.peer.ip(), trace_id: None }
}

fn stranger() -> Error {
    Error::Unauthenticated("this needs a certificate of the cluster: log in".into())
}

fn refusal(denied: Denied) -> Error {
    let public = denied.public();
    match denied {
        Denied::Certificate(_) | Denied::Policy(Reason::UnknownUser | Reason::Void { .. }) => {
            Error::Unauthenticated(public)
        }
        Denied::Audit(err) => err.into(),
        Denied::TooManyConnections { .. } => Error::Limited(public),
        _ => Error::Denied(public),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Every method of the protocol's definition.
    fn defined() -> BTreeSet<String> {
        let text = include_str!("../../client/proto/access/v1/access.proto");
        let mut service = String::new();
        let mut found = BTreeSet::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("service") => service = words.next().unwrap().to_owned(),
                Some("rpc") => {
                    let name = words.next().unwrap().split('(').next().unwrap();
                    found.insert(format!("{service}.{name}"));
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn every_method_says_what_it_needs() {
        let listed: BTreeSet<String> =
            Method::ALL.iter().map(|(_, path)| (*path).to_owned()).collect();
        assert_eq!(listed, defined());
    }

    #[test]
    fn only_the_entry_is_open_to_strangers() {
        for (method, path) in Method::ALL {
            assert_eq!(method.need() == Need::Nothing, path.starts_with("Entry."), "{path}");
        }
    }
}
