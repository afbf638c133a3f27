//! A cluster with a database behind it, and the ways in which stock clients reach that.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::cluster::Cluster;
use crate::postgres::Postgres;
use crate::process::Process;
use crate::run::{Done, run};

/// Auth, proxy and agent; PostgreSQL behind the agent, as `orders`; people in front.
pub struct DbSite {
    /// The cluster.
    pub cluster: Cluster,
    /// The database.
    pub pg: Postgres,
}

impl DbSite {
    /// Starts all of it.
    pub fn start() -> Self {
        Self::start_with(Postgres::section)
    }

    /// Starts all of it, with another section about databases in the agent's configuration.
    pub fn start_with(section: impl FnOnce(&Postgres) -> String) -> Self {
        let cluster = Cluster::without_agent();
        let pg = Postgres::start(&cluster);
        let section = section(&pg);
        Self { cluster, pg }.serving(&section)
    }

    /// Has an agent serve databases, in this section of its configuration.
    pub fn serving(mut self, section: &str) -> Self {
        let token = self.cluster.token("node,db");
        self.cluster.write_agent_config(&token, "", section);
        self.cluster.start_agent();
        self.cluster.wait_for_node("web-1");
        self
    }

    /// A user who is logged in, with the preset roles and these accounts of databases.
    pub fn add_user(&self, name: &str, accounts: &str) {
        self.add_user_with(name, "access,auditor", accounts, "shop");
    }

    /// The same with roles, accounts and databases.
    pub fn add_user_with(&self, name: &str, roles: &str, accounts: &str, names: &str) {
        fs::create_dir_all(self.home(name)).unwrap();
        let [roles, accounts, names] =
            [("roles", roles), ("db-users", accounts), ("db-names", names)]
                .map(|(flag, value)| format!("--{flag}={value}"));
        self.cluster.add_user(name, &[&roles, &accounts, &names]);
        self.cluster.login(name).ok();
    }

    /// A user's home directory.
    pub fn home(&self, user: &str) -> PathBuf {
        self.cluster.path("people").join(user)
    }

    /// `access`, with a home directory.
    pub fn access_command(&self, user: &str, args: &[&str]) -> Command {
        let mut command = self.cluster.access_command(user, args);
        command.env("HOME", self.home(user));
        command
    }

    /// The same to its end.
    pub fn access(&self, user: &str, args: &[&str]) -> Done {
        run(&mut self.access_command(user, args), "")
    }

    /// All ways to `orders`, each with a name.
    pub fn ways(&self, user: &str, account: &str) -> Vec<Way> {
        vec![
            self.connect(user, account),
            self.port(user, account, &[]),
            self.port(user, account, &["--tunnel"]),
            self.straight(user, account),
        ]
    }

    /// `psql` as `access db connect` runs it.
    pub fn connect(&self, user: &str, account: &str) -> Way {
        let account = format!("--db-user={account}");
        let command = self
            .access_command(user, &["db", "connect", &account, "--db-name=shop", "orders", "--"]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| shell(word.to_str().unwrap())).collect();
        self.way("access db connect", user, words.join(" "), None)
    }

    /// `psql` as `access proxy db` says it should be run, and that port.
    pub fn port(&self, user: &str, account: &str, more: &[&str]) -> Way {
        let account = format!("--db-user={account}");
        let mut args = vec!["proxy", "db", "orders", "--port=0", &account, "--db-name=shop"];
        args.extend(more);
        let port = Process::start("access proxy db", self.access_command(user, &args));
        let line = port.wait_for("how it is used", |line| {
            let line = line.trim();
            line.starts_with("psql ").then(|| line.to_owned())
        });
        let name = if more.is_empty() { "access proxy db" } else { "access proxy db --tunnel" };
        self.way(name, user, line, Some(port))
    }

    /// `psql` as `access db config` prints it, which leads straight to the proxy.
    pub fn straight(&self, user: &str, account: &str) -> Way {
        let account = format!("--db-user={account}");
        let args = ["db", "config", &account, "--db-name=shop", "orders"];
        let config = self.access(user, &args).ok().out;
        let line = config.lines().find(|line| line.starts_with("psql ")).unwrap().to_owned();
        assert!(line.contains("sslmode=verify-full") && line.contains(".db.example.com"), "{line}");
        self.way("straight", user, line, None)
    }

    fn way(&self, name: &'static str, user: &str, line: String, port: Option<Process>) -> Way {
        let env = vec![("HOME", self.home(user)), ("ACCESS_HOME", self.cluster.home(user))];
        Way { name, line, env, port }
    }
}

/// One way of running `psql`.
pub struct Way {
    /// What it is called.
    pub name: &'static str,
    /// What people type.
    pub line: String,
    env: Vec<(&'static str, PathBuf)>,
    /// The program that holds the port open.
    pub port: Option<Process>,
}

impl Way {
    /// The line as it is pasted into a shell, with more arguments of `psql`.
    pub fn psql(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {} \"$@\"", self.line), "sh", "-X"]).args(args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The same on a terminal of its own, with a person before it.
    pub fn psql_on_terminal(&self) -> Process {
        // Without `exec`, a shell that stays (dash, where SHELL is not set) takes the Ctrl-C as well.
        let line = format!("exec {} -X -P pager=off", self.line);
        let mut command = Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        Process::start(self.name, command)
    }

    /// One statement, to its end.
    pub fn query(&self, sql: &str) -> Done {
        run(&mut self.psql(&["-At", "-c", sql]), "")
    }

    /// The connection string of the line.
    pub fn conninfo(&self) -> &str {
        let rest = self.line.strip_prefix("psql \"").unwrap();
        rest.strip_suffix('"').unwrap()
    }
}

fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
