//! Users: their logins, their accounts, their passwords and devices.

use super::shared::{Actor, Outcome};
use crate::audit::{List, Text};
use crate::time::Timestamp;

events! {
    area "user";

    /// A user logged in, or somebody tried to.
    UserLogin = "user.login" {
        codes UserLoginCode {
            /// With a password.
            Local = "T1000I",
            /// With a password, and it failed.
            LocalFailed = "T1000W" (stranger),
            /// Through an identity provider.
            Sso = "T1001I",
            /// Through an identity provider, and it failed.
            SsoFailed = "T1001W" (stranger),
        }
        with outcome: Outcome;
        /// The name that was given; nobody need have it.
        user: Text<256>,
        /// How: `local`, `oidc`, `saml`, `github`.
        method: Text<64>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// A user ended all logins made until now: their certificates are void.
    UserLogout = "user.logout" {
        code "ACU00I";
        /// The user.
        user: Text<256>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// A user was created.
    UserCreate = "user.create" {
        code "T1002I";
        with actor: Actor;
        /// The new user.
        name: Text<256>,
        /// The roles.
        roles: List,
        /// Where the user comes from: `local`, or a connector.
        connector: Text<256>,
        /// When the account expires.
        expires: Option<Timestamp>,
    }

    /// A user was changed.
    UserUpdate = "user.update" {
        code "T1003I";
        with actor: Actor;
        /// The user.
        name: Text<256>,
        /// The roles, after the change.
        roles: List,
        /// Where the user comes from: `local`, or a connector.
        connector: Text<256>,
        /// When the account expires.
        expires: Option<Timestamp>,
    }

    /// A user was deleted.
    UserDelete = "user.delete" {
        code "T1004I";
        with actor: Actor;
        /// The user.
        name: Text<256>,
    }

    /// A user set a password: with an invitation, a reset, or by the old one.
    UserPasswordChange = "user.password_change" {
        code "T1005I";
        /// The user.
        user: Text<256>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// An invitation or a link to reset a password was made.
    ResetPasswordTokenCreate = "reset_password_token.create" {
        code "T6000I";
        with actor: Actor;
        /// For which user.
        name: Text<256>,
        /// How long it can be used, such as `8h0m0s`.
        ttl: Text<64>,
        /// When it expires.
        expires: Timestamp,
    }

    /// A user added a second factor.
    MfaAdd = "mfa.add" {
        code "T1006I";
        /// The user.
        user: Text<256>,
        /// The device's name.
        mfa_device_name: Text<256>,
        /// The device's id.
        mfa_device_uuid: Text<256>,
        /// What it is: `TOTP`, `WebAuthn`.
        mfa_device_type: Text<64>,
    }

    /// A user removed a second factor.
    MfaDelete = "mfa.delete" {
        code "T1007I";
        /// The user.
        user: Text<256>,
        /// The device's name.
        mfa_device_name: Text<256>,
        /// The device's id.
        mfa_device_uuid: Text<256>,
        /// What it is: `TOTP`, `WebAuthn`.
        mfa_device_type: Text<64>,
    }
}
