//! Machines that become part of the cluster: tokens, agents, proxies, bots.

use super::shared::{Actor, Outcome};
use crate::audit::{List, Text};
use crate::time::Timestamp;

events! {
    area "join";

    /// A join token was made.
    JoinTokenCreate = "join_token.create" {
        code "TJT00I";
        with actor: Actor;
        /// The token's name, masked when the name is the secret.
        name: Text<256>,
        /// What may join with it.
        roles: List,
        /// How it is used: `token`, …
        join_method: Text<64>,
        /// When it expires.
        expires: Option<Timestamp>,
    }

    /// A join token was deleted before it expired.
    JoinTokenDelete = "join_token.delete" {
        code "ACT00I";
        with actor: Actor;
        /// The token's name, masked when the name is the secret.
        name: Text<256>,
    }

    /// An agent or a proxy joined the cluster, or tried to.
    InstanceJoin = "instance.join" {
        codes InstanceJoinCode {
            /// It joined.
            Joined = "TJ002I",
            /// It did not.
            Failed = "TJ002E" (stranger),
            /// Its token was used as often as it may be.
            LimitReached = "TJ002L" (stranger),
        }
        with outcome: Outcome;
        /// The name under which it came.
        node_name: Text<256>,
        /// The id that it got.
        host_id: Option<Text<256>>,
        /// As what: `node`, `db`, `proxy`, …
        role: Text<64>,
        /// How: `token`, …
        method: Text<64>,
        /// The token's name, masked when the name is the secret.
        token_name: Option<Text<256>>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// A bot joined the cluster, or tried to.
    BotJoin = "bot.join" {
        codes BotJoinCode {
            /// It joined.
            Joined = "TJ001I",
            /// It did not.
            Failed = "TJ001E" (stranger),
            /// Its token was used as often as it may be.
            LimitReached = "TJ001L" (stranger),
        }
        with outcome: Outcome;
        /// The bot.
        bot_name: Text<256>,
        /// How: `token`, …
        method: Text<64>,
        /// The token's name, masked when the name is the secret.
        token_name: Option<Text<256>>,
        /// From which address.
        addr_remote as "addr.remote": Option<Text<256>>,
    }

    /// A bot was created.
    BotCreate = "bot.create" {
        code "TB001I";
        with actor: Actor;
        /// The bot.
        name: Text<256>,
    }

    /// A bot was changed.
    BotUpdate = "bot.update" {
        code "TB002I";
        with actor: Actor;
        /// The bot.
        name: Text<256>,
    }

    /// A bot was deleted.
    BotDelete = "bot.delete" {
        code "TB003I";
        with actor: Actor;
        /// The bot.
        name: Text<256>,
    }
}
