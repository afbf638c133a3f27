//! Our types as SQL's.

use std::error::Error as StdError;

use access_backend::{Error, Item, Key, Revision, UnixMillis, Value};
use bytes::{BufMut, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};

type Bad = Box<dyn StdError + Sync + Send>;

/// A moment as a `TIMESTAMPTZ`. What lies beyond the years that both databases know is `infinity`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment(pub(crate) UnixMillis);

/// Milliseconds between 1970 and 2000, where PostgreSQL begins to count.
const EPOCH: i64 = 946_684_800_000;
/// The years 1 to 9999.
const FIRST: i64 = -62_135_596_800_000;
const LAST: i64 = 253_402_300_799_999;

impl ToSql for Moment {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Bad> {
        out.put_i64(match self.0.0 {
            before if before < FIRST => i64::MIN,
            after if after > LAST => i64::MAX,
            millis => (millis - EPOCH) * 1000,
        });
        Ok(IsNull::No)
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Bad> {
        Ok(Self(UnixMillis(match i64::from_be_bytes(raw.try_into()?) {
            end @ (i64::MIN | i64::MAX) => end,
            micros => micros.div_euclid(1000).saturating_add(EPOCH),
        })))
    }
    accepts!(TIMESTAMPTZ);
}

/// A revision as a `UUID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uuid(pub(crate) Revision);

impl Uuid {
    /// One that was never there before.
    pub(crate) fn fresh() -> Self {
        Self(Revision::from_bits(rand::random()))
    }
}

impl ToSql for Uuid {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Bad> {
        out.put_u128(self.0.to_bits());
        Ok(IsNull::No)
    }
    accepts!(UUID);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Uuid {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Bad> {
        Ok(Self(Revision::from_bits(u128::from_be_bytes(raw.try_into()?))))
    }
    accepts!(UUID);
}

/// A row of `kv`: the key in column `first`, then value, expiry and revision.
pub(crate) fn item(row: &Row, first: usize) -> Result<Item, Error> {
    rest(row, first + 1, key(row, first)?)
}

/// A row of `kv` whose key is known: the value in column `first`, then expiry and revision.
pub(crate) fn rest(row: &Row, first: usize, key: Key) -> Result<Item, Error> {
    Ok(Item {
        key,
        value: Value::new(column::<&[u8]>(row, first)?.to_vec())?,
        expires: column::<Option<Moment>>(row, first + 1)?.map(|moment| moment.0),
        revision: column::<Uuid>(row, first + 2)?.0,
    })
}

/// The key in a column.
pub(crate) fn key(row: &Row, at: usize) -> Result<Key, Error> {
    std::str::from_utf8(column(row, at)?)
        .ok()
        .and_then(|path| Key::parse(path).ok())
        .ok_or_else(|| altered("a key in kv was not written by this store"))
}

/// A column of the type that the schema says.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Error> {
    row.try_get(at).map_err(|error| altered(&error.to_string()))
}

pub(crate) fn altered(what: &str) -> Error {
    Error::Setting {
        setting: "storage.conn_string",
        reason: format!(
            "the tables in the database are not as this program left them ({what}); restore them \
             from a backup, or name an empty database"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_come_back() {
        for (millis, back) in [
            (0, 0),
            (-1, -1),
            (1_700_000_000_123, 1_700_000_000_123),
            (FIRST, FIRST),
            (LAST, LAST),
            (LAST + 1, i64::MAX),
            (i64::MAX, i64::MAX),
            (i64::MIN, i64::MIN),
        ] {
            let mut raw = BytesMut::new();
            Moment(UnixMillis(millis)).to_sql(&Type::TIMESTAMPTZ, &mut raw).unwrap();
            let read = Moment::from_sql(&Type::TIMESTAMPTZ, &raw).unwrap();
            assert_eq!(read, Moment(UnixMillis(back)), "{millis}");
        }
    }
}
