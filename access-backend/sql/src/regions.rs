//! The regions of a CockroachDB database.

use std::time::Duration;

use access_backend::Error;
use tokio::time::Instant;

use crate::pool::{Dialer, Pool};
use crate::statements::cockroachdb::regions as text;
use crate::{ConnString, Engine, schema};

/// How long to wait for the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a database outlives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survive {
    /// The loss of a zone; writes wait for the primary region alone.
    Zone,
    /// The loss of a region, of at least three; each write waits for a second one.
    Region,
}

/// Over which regions a database is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regions {
    /// Where what has to be decided is decided: next to most of the Auth processes.
    pub primary: String,
    /// The others.
    pub others: Vec<String>,
    /// Which of them becomes the primary one when that is lost.
    pub secondary: Option<String>,
    /// What is outlived.
    pub survive: Survive,
}

impl Regions {
    /// Checks that they go together.
    ///
    /// # Errors
    /// [`Error::Invalid`].
    pub fn check(&self) -> Result<(), Error> {
        let refused = |reason: String| Err(Error::Invalid { what: "regions", reason });
        let mut all: Vec<&str> = self.all().collect();
        let bad = |name: &&&str| name.is_empty() || name.len() > 63 || name.contains('\0');
        if let Some(bad) = all.iter().find(bad) {
            return refused(format!("{bad:?} cannot be the name of a region"));
        }
        all.sort_unstable();
        if let Some([twice, _]) = all.windows(2).find(|pair| pair.first() == pair.last()) {
            return refused(format!("{twice} is named twice"));
        }
        if let Some(secondary) = &self.secondary {
            if *secondary == self.primary {
                return refused("the secondary region is another one than the primary".into());
            }
            if !self.others.contains(secondary) {
                return refused(format!(
                    "the secondary region {secondary} has to be one of the regions"
                ));
            }
        }
        if self.survive == Survive::Region && all.len() < 3 {
            return refused(format!(
                "to survive the loss of a region takes three regions, not {}",
                all.len()
            ));
        }
        Ok(())
    }

    /// The statements, in order. They can be repeated.
    pub fn statements(&self, database: &str) -> Vec<String> {
        let database = identifier(database);
        let of = |text: &str, region: &str| {
            // The region last: what stands in a name is looked at no further.
            let (before, after) = text.split_once("{database}").unwrap_or((text, ""));
            let after = after.replace("{region}", &identifier(region));
            format!("{before}{database}{after}")
        };
        let mut all = vec![of(text::PRIMARY, &self.primary)];
        all.extend(self.others.iter().map(|region| of(text::ADD, region)));
        all.extend(self.secondary.iter().map(|region| of(text::SECONDARY, region)));
        all.push(match self.survive {
            Survive::Zone => of(text::SURVIVE_ZONE, ""),
            Survive::Region => of(text::SURVIVE_REGION, ""),
        });
        all
    }

    /// Has the database be spread so; `told` hears of each statement once it is done. The nodes of the cluster have to
    /// have been started with these regions in their `--locality`, and the user has to own the database.
    ///
    /// # Errors
    /// [`Error::Setting`] where the database is not CockroachDB, where the cluster does not have all of the regions, and
    /// with whatever the database refuses.
    pub async fn apply(&self, conn: &ConnString, mut told: impl FnMut(&str)) -> Result<(), Error> {
        self.check()?;
        let pool = Pool::new(Dialer::new(Engine::CockroachDb, conn.clone()), PATIENCE)?;
        let session = pool.get(Instant::now() + PATIENCE).await?;
        let refused = |reason| Error::Setting { setting: "storage.conn_string", reason };
        let run = async |text: &str| {
            let answer = session.client.simple_query(text).await;
            answer.map_err(|error| match error.as_db_error() {
                Some(said) => refused(format!("{conn} refuses {text}: {}", said.message())),
                None => pool.judge(&error).into_error(),
            })
        };
        let there = schema::rows(&run(text::OF_CLUSTER).await?);
        let there: Vec<String> = there.into_iter().flatten().collect();
        if let Some(missing) = self.all().find(|name| !there.iter().any(|known| known == name)) {
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            return Err(refused(format!(
                "the cluster of {conn} has no region {missing}; it has {there}: nodes are started \
                 with --locality=region=NAME"
            )));
        }
        for text in self.statements(conn.database()) {
            run(&text).await?;
            told(&text);
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.primary.as_str()).chain(self.others.iter().map(String::as_str))
    }
}

/// A name as SQL takes it whatever is in it.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regions() -> Regions {
        Regions {
            primary: "us-east1".into(),
            others: vec!["us-west1".into(), "europe-west1".into()],
            secondary: Some("us-west1".into()),
            survive: Survive::Region,
        }
    }

    #[test]
    fn names_are_identifiers() {
        let mut regions = regions();
        regions.others[1] = "a\"; DROP DATABASE x; --".into();
        regions.check().unwrap();
        assert_eq!(
            regions.statements("access-{region}"),
            [
                r#"ALTER DATABASE "access-{region}" SET PRIMARY REGION "us-east1""#,
                r#"ALTER DATABASE "access-{region}" ADD REGION IF NOT EXISTS "us-west1""#,
                r#"ALTER DATABASE "access-{region}" ADD REGION IF NOT EXISTS "a""; DROP DATABASE x; --""#,
                r#"ALTER DATABASE "access-{region}" SET SECONDARY REGION "us-west1""#,
                r#"ALTER DATABASE "access-{region}" SURVIVE REGION FAILURE"#,
            ]
        );
    }

    #[test]
    fn what_does_not_go_together_is_told() {
        let told = |regions: Regions| regions.check().unwrap_err().to_string();
        let few = Regions { others: vec!["us-west1".into()], ..regions() };
        assert!(told(few.clone()).contains("takes three regions, not 2"));
        Regions { survive: Survive::Zone, ..few }.check().unwrap();
        let same = Regions { secondary: Some("us-east1".into()), ..regions() };
        assert!(told(same).contains("another one than the primary"));
        let strange = Regions { secondary: Some("mars".into()), ..regions() };
        assert!(told(strange).contains("has to be one of the regions"));
        let mut twice = regions();
        twice.others.push("us-east1".into());
        assert!(told(twice).contains("us-east1 is named twice"));
        assert!(
            told(Regions { primary: String::new(), ..regions() }).contains("cannot be the name")
        );
    }
}
