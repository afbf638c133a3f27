//! The events of the store: rows, blocks of many, and searches in both.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::values::{BYTEA, BYTEAS, INT8, INT8S, TEXT, TEXTS, array, int, of_int};
use super::{Done, Shape};

/// The columns of a row that are no key, by their names.
type Columns = BTreeMap<&'static str, Option<Bytes>>;

#[derive(Clone, Debug, Default)]
pub(super) struct Events {
    /// By writer and number.
    rows: BTreeMap<(Bytes, i64), Columns>,
    /// By writer and last number.
    blocks: BTreeMap<(Bytes, i64), Columns>,
    writers: BTreeMap<Bytes, i64>,
}

pub(super) const SHAPES: &[Shape] = &[
    ("WITH e AS (INSERT INTO events", &[BYTEAS, INT8S, INT8S, TEXTS, TEXTS, BYTEAS], &[INT8]),
    (
        "WITH w AS (INSERT INTO event_writers",
        &[BYTEA, INT8, INT8, INT8S, INT8S, INT8S, INT8S, INT8S, TEXTS, TEXTS, BYTEAS],
        &[INT8],
    ),
    ("SELECT last_seq FROM event_writers", &[BYTEA], &[INT8]),
    ("DELETE FROM events", &[INT8, INT8], &[]),
    ("WITH d AS (DELETE FROM event_blocks", &[INT8, INT8], &[INT8]),
    ("SELECT writer, seq, time", &[], &[BYTEA, INT8, INT8, TEXT, TEXT, BYTEA]),
    ("SELECT writer, last_seq, body", &[], &[BYTEA, INT8, BYTEA, INT8]),
];

impl Events {
    /// Does what a statement says, if it is one on events.
    pub(super) fn apply(
        &mut self,
        text: &str,
        params: &[Option<Bytes>],
        written: &mut bool,
    ) -> Option<Done> {
        let starts = |start: &str| text.starts_with(start);
        let bytes = |at: usize| params[at].clone().unwrap();
        let one = |number: i64| (vec![vec![of_int(number)]], 0);
        if starts("SELECT writer, seq, time") {
            let columns = ["writer", "seq", "time", "name", "user", "json"];
            return Some((search(&self.rows, "seq", text, params, &columns), 0));
        }
        if starts("SELECT writer, last_seq, body") {
            let edge = if text.contains("body, last_time") { "last_time" } else { "first_time" };
            let columns = ["writer", "last_seq", "body", edge];
            return Some((search(&self.blocks, "last_seq", text, params, &columns), 0));
        }
        if starts("SELECT last_seq FROM event_writers") {
            let found = self.writers.get(&bytes(0)).map(|seq| vec![of_int(*seq)]);
            return Some((found.into_iter().collect(), 0));
        }
        *written |= SHAPES.iter().any(|(start, ..)| text.starts_with(start));
        if starts("WITH e AS (INSERT INTO events") {
            return Some(one(self.append(params)));
        }
        if starts("WITH w AS (INSERT INTO event_writers") {
            return Some(one(self.append_blocks(params)));
        }
        if starts("DELETE FROM events") {
            let gone = oldest(&self.rows, "time", params);
            gone.iter().for_each(|at| drop(self.rows.remove(at)));
            return Some((Vec::new(), gone.len() as u64));
        }
        if starts("WITH d AS (DELETE FROM event_blocks") {
            let gone = oldest(&self.blocks, "last_time", params);
            let gone = gone.iter().filter_map(|at| self.blocks.remove(at));
            return Some(one(gone.map(|block| int(block["count"].as_ref().unwrap())).sum()));
        }
        None
    }

    fn append(&mut self, params: &[Option<Bytes>]) -> i64 {
        let lists: Vec<_> = params.iter().map(|list| array(list.as_ref().unwrap())).collect();
        let mut count = 0;
        for at in 0..lists[0].len() {
            let (writer, seq) =
                (lists[0][at].clone().unwrap(), int(lists[1][at].as_ref().unwrap()));
            let blocks = self.blocks.range((writer.clone(), seq)..(writer.clone(), i64::MAX));
            let first = blocks.map(|(_, block)| int(block["first_seq"].as_ref().unwrap())).next();
            let place = (writer.clone(), seq);
            if first.is_some_and(|first| first <= seq) || self.rows.contains_key(&place) {
                continue;
            }
            let columns = ["time", "name", "user", "json"].into_iter().zip(&lists[2..]);
            self.rows.insert(place, columns.map(|(name, list)| (name, list[at].clone())).collect());
            let last = self.writers.entry(writer).or_insert(seq);
            *last = seq.max(*last);
            count += 1;
        }
        count
    }

    fn append_blocks(&mut self, params: &[Option<Bytes>]) -> i64 {
        let writer = params[0].clone().unwrap();
        let (highest, lowest) =
            (int(params[1].as_ref().unwrap()), int(params[2].as_ref().unwrap()));
        if self.writers.get(&writer).is_some_and(|last| *last >= lowest) {
            return 0;
        }
        self.writers.insert(writer.clone(), highest);
        let lists: Vec<_> = params[3..].iter().map(|list| array(list.as_ref().unwrap())).collect();
        let names =
            ["first_seq", "last_seq", "first_time", "last_time", "count", "names", "users", "body"];
        for at in 0..lists[0].len() {
            let columns =
                names.into_iter().zip(&lists).map(|(name, list)| (name, list[at].clone()));
            let last = int(lists[1][at].as_ref().unwrap());
            self.blocks.insert((writer.clone(), last), columns.collect());
        }
        lists[0].len() as i64
    }
}

/// The first so many that end before a moment.
fn oldest(
    table: &BTreeMap<(Bytes, i64), Columns>,
    column: &str,
    params: &[Option<Bytes>],
) -> Vec<(Bytes, i64)> {
    let (before, limit) = (int(params[0].as_ref().unwrap()), int(params[1].as_ref().unwrap()));
    let time = |row: &Columns| int(row[column].as_ref().unwrap());
    let mut found: Vec<_> = table.iter().filter(|(_, row)| time(row) < before).collect();
    found.sort_by_key(|(at, row)| (time(row), (*at).clone()));
    found.into_iter().take(limit as usize).map(|(at, _)| at.clone()).collect()
}

/// A value that is compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Field {
    Null,
    Int(i64),
    Raw(Bytes),
}

/// A row with its key.
struct Found<'a> {
    writer: &'a Bytes,
    seq: i64,
    columns: &'a Columns,
}

impl Found<'_> {
    fn raw(&self, name: &str, number: &str) -> Option<Bytes> {
        match name {
            "writer" => Some(self.writer.clone()),
            name if name == number => of_int(self.seq),
            name => self.columns[name].clone(),
        }
    }

    fn field(&self, name: &str, number: &str) -> Field {
        let name = name.trim_matches('"');
        match self.raw(name, number) {
            None => Field::Null,
            Some(raw) if name.ends_with("time") || name.ends_with("seq") => Field::Int(int(&raw)),
            Some(raw) => Field::Raw(raw),
        }
    }
}

/// Reads the conditions, the order and the bound of a search, and follows them.
fn search(
    table: &BTreeMap<(Bytes, i64), Columns>,
    number: &str,
    text: &str,
    params: &[Option<Bytes>],
    columns: &[&str],
) -> Vec<Vec<Option<Bytes>>> {
    let (_, rest) = text.split_once(" WHERE true").unwrap();
    let (conditions, rest) = rest.split_once(" ORDER BY ").unwrap();
    let (order, limit) = rest.split_once(" LIMIT ").unwrap();
    let limit = match limit.strip_prefix('$') {
        Some(_) => int(&param(limit, params)) as usize,
        None => limit.parse().unwrap(),
    };
    let rows = table.iter().map(|((writer, seq), columns)| Found { writer, seq: *seq, columns });
    let conditions: Vec<&str> = conditions.split(" AND ").filter(|part| !part.is_empty()).collect();
    let mut rows: Vec<_> =
        rows.filter(|row| conditions.iter().all(|part| holds(row, number, part, params))).collect();
    let by: Vec<&str> = order.split(", ").map(|part| part.split(' ').next().unwrap()).collect();
    rows.sort_by_key(|row| by.iter().map(|name| row.field(name, number)).collect::<Vec<_>>());
    if order.contains("DESC") {
        rows.reverse();
    }
    let shown = rows.iter().take(limit);
    shown.map(|row| columns.iter().map(|name| row.raw(name, number)).collect()).collect()
}

fn holds(row: &Found<'_>, number: &str, condition: &str, params: &[Option<Bytes>]) -> bool {
    let contains = |list: &Option<Bytes>, part: &Bytes| {
        let list = list.as_ref().unwrap();
        list.is_empty() || list.windows(part.len()).any(|window| window == &part[..])
    };
    if let Some(rest) = condition.strip_prefix("(users = '' OR strpos(users, ") {
        return contains(&row.columns["users"], &param(rest, params));
    }
    if condition.starts_with("(names = ''") {
        let (_, list) = condition.split_once("unnest(").unwrap();
        let names = array(&param(list, params));
        return names.iter().flatten().any(|name| contains(&row.columns["names"], name));
    }
    if let Some(list) = condition.strip_prefix("name = ANY (") {
        return array(&param(list, params)).contains(&row.columns["name"]);
    }
    let (left, op, right) = match condition.strip_prefix('(') {
        Some(rest) => {
            let (left, rest) = rest.split_once(") ").unwrap();
            let (op, right) = rest.split_once(" (").unwrap();
            (left, op, right.trim_end_matches(')'))
        }
        None => {
            let mut words = condition.split(' ');
            (words.next().unwrap(), words.next().unwrap(), words.next().unwrap())
        }
    };
    let left: Vec<_> = left.split(", ").map(|name| row.field(name, number)).collect();
    let right = right.split(", ").zip(&left).map(|(place, like)| match like {
        Field::Int(_) => Field::Int(int(&param(place, params))),
        _ => Field::Raw(param(place, params)),
    });
    let right: Vec<_> = right.collect();
    match op {
        "=" => left == right,
        "<" => left < right,
        "<=" => left <= right,
        ">" => left > right,
        ">=" => left >= right,
        other => panic!("the stand-in does not know {other}"),
    }
}

/// The value in the place with which a text begins.
fn param(text: &str, params: &[Option<Bytes>]) -> Bytes {
    let digits: String = text[1..].chars().take_while(char::is_ascii_digit).collect();
    params[digits.parse::<usize>().unwrap() - 1].clone().unwrap()
}
