//! Pages of lists: bounded in number and in bytes.

use access_client::proto;

/// How many documents a page holds when nobody says.
const PAGE: usize = 200;
/// How many it holds at most.
const MAX_PAGE: usize = 1000;
/// The most bytes of documents on a page, well below what one message may have.
const MAX_BYTES: usize = 2 * 1024 * 1024;

/// A page that is being filled.
pub(crate) struct PageBuilder {
    documents: Vec<proto::Document>,
    bytes: usize,
    limit: usize,
}

impl PageBuilder {
    pub(crate) fn new(asked: u32) -> Self {
        let limit = match usize::try_from(asked).unwrap_or(MAX_PAGE) {
            0 => PAGE,
            asked => asked.min(MAX_PAGE),
        };
        Self { documents: Vec::new(), bytes: 0, limit }
    }

    /// Takes a document, or says that the page ended before it.
    pub(crate) fn offer(&mut self, document: proto::Document) -> bool {
        let size = document.json.len();
        let full = self.documents.len() >= self.limit
            || (!self.documents.is_empty() && self.bytes + size > MAX_BYTES);
        if !full {
            self.bytes += size;
            self.documents.push(document);
        }
        !full
    }

    /// The page, and the name of its last document when there is more.
    pub(crate) fn finish(self, more: bool) -> proto::ListResponse {
        let last = self.documents.last().map(|document| document.name.clone());
        let next_page_token = if more { last.unwrap_or_default() } else { String::new() };
        proto::ListResponse { documents: self.documents, next_page_token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(bytes: usize) -> proto::Document {
        proto::Document { name: "n".into(), json: vec![b' '; bytes], ..Default::default() }
    }

    #[test]
    fn pages_are_bounded_in_number_and_bytes() {
        let mut page = PageBuilder::new(2);
        assert!(page.offer(document(1)) && page.offer(document(1)) && !page.offer(document(1)));
        let mut page = PageBuilder::new(0);
        assert!(page.offer(document(MAX_BYTES + 1)), "one always fits");
        assert!(!page.offer(document(1)));
        let page = page.finish(true);
        assert_eq!((page.documents.len(), page.next_page_token.as_str()), (1, "n"));
    }
}
