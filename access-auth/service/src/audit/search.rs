//! Searching the audit log.

use access_backend::{EventCursor, EventOrder, EventQuery};
use access_client::proto;
use access_core::Timestamp;

use crate::error::{Error, Result};
use crate::service::AuthService;
use crate::store::millis;

/// The most bytes of events that one answer holds.
const PAGE_BYTES: usize = 2 * 1024 * 1024;
/// How many events an answer holds when nobody says.
const PAGE: usize = 200;
/// The longest text that is searched for, in bytes.
const MAX_QUERY: usize = 1024;

impl AuthService {
    /// A page of events.
    pub(crate) async fn search_events(
        &self,
        request: proto::SearchRequest,
    ) -> Result<proto::SearchResponse> {
        let moment = |millis_since: i64| {
            (millis_since > 0).then(|| millis(Timestamp::from_millis(millis_since)))
        };
        let after: Option<EventCursor> =
            match request.page_token.as_str() {
                "" => None,
                token => Some(token.parse().map_err(|_| {
                    Error::Invalid("the page token was not made by a search".into())
                })?),
            };
        let query = EventQuery {
            from: moment(request.from),
            to: moment(request.to),
            names: request.types,
            user: (!request.user.is_empty()).then_some(request.user),
            order: if request.newest_first {
                EventOrder::NewestFirst
            } else {
                EventOrder::OldestFirst
            },
            limit: usize::try_from(request.page_size).ok().filter(|size| *size > 0).unwrap_or(PAGE),
            after,
        };
        if request.query.len() > MAX_QUERY {
            return Err(Error::Invalid(format!("query: {MAX_QUERY} bytes at most")));
        }
        let wanted = (!request.query.is_empty()).then(|| folded(&request.query)).transpose()?;
        let page = self.inner.storage.events.search(&query).await?;
        let mut next = page.next.map(String::from).unwrap_or_default();
        let mut events = Vec::with_capacity(page.events.len());
        let mut bytes = 0;
        let mut last = None;
        for event in page.events {
            if !wanted.as_deref().is_none_or(|wanted| holds(&event.json, wanted)) {
                last = Some(event.cursor());
                continue;
            }
            bytes += event.json.len();
            if bytes > PAGE_BYTES && !events.is_empty() {
                next = last.map(String::from).unwrap_or_default();
                break;
            }
            last = Some(event.cursor());
            events.push(event.json.to_vec());
        }
        Ok(proto::SearchResponse { events, next_page_token: next })
    }
}

/// A text as it stands in the JSON of an event, without regard to case.
fn folded(text: &str) -> Result<String> {
    let json = serde_json::to_string(text).map_err(|err| Error::Internal(err.to_string()))?;
    let text = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(&json);
    Ok(text.to_lowercase())
}

fn holds(json: &[u8], folded: &str) -> bool {
    String::from_utf8_lossy(json).to_lowercase().contains(folded)
}
