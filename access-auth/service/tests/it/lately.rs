//! Lists over a store whose nearest copy is behind: who asks for what was, and who for what is.

use std::sync::Arc;

use access_auth::{AuthService, Storage};
use access_backend::{
    Backend, Batch, Capabilities, Cursor, Error, Health, Item, Key, KeyRange, Memory, NewItem,
    Page, Position, Prefix, Revision, UnixMillis, Watch,
};
use access_client::{AuthClient, proto};
use access_core::Timestamp;
use access_core::time::ManualClock;
use async_trait::async_trait;

use super::cluster::{START, options, store};

/// A store with a copy that has nothing yet.
#[derive(Debug)]
struct Behind(Arc<Memory>);

#[async_trait]
impl Backend for Behind {
    async fn get(&self, key: &Key) -> Result<Option<Item>, Error> {
        self.0.get(key).await
    }
    async fn range(
        &self,
        range: &KeyRange,
        limit: usize,
        after: Option<&Cursor>,
    ) -> Result<Page, Error> {
        self.0.range(range, limit, after).await
    }
    async fn range_lately(
        &self,
        _: &KeyRange,
        _: usize,
        _: Option<&Cursor>,
    ) -> Result<Page, Error> {
        Ok(Page::default())
    }
    async fn create(&self, item: NewItem) -> Result<Revision, Error> {
        self.0.create(item).await
    }
    async fn put(&self, item: NewItem) -> Result<Revision, Error> {
        self.0.put(item).await
    }
    async fn update(&self, item: NewItem, expected: Revision) -> Result<Revision, Error> {
        self.0.update(item, expected).await
    }
    async fn delete(&self, key: &Key) -> Result<(), Error> {
        self.0.delete(key).await
    }
    async fn delete_if(&self, key: &Key, expected: Revision) -> Result<(), Error> {
        self.0.delete_if(key, expected).await
    }
    async fn delete_range(&self, range: &KeyRange) -> Result<u64, Error> {
        self.0.delete_range(range).await
    }
    async fn keep_alive(
        &self,
        key: &Key,
        expected: Option<Revision>,
        expires: UnixMillis,
    ) -> Result<Revision, Error> {
        self.0.keep_alive(key, expected, expires).await
    }
    async fn batch(&self, batch: Batch) -> Result<Revision, Error> {
        self.0.batch(batch).await
    }
    async fn watch(&self, prefixes: &[Prefix], from: Option<Position>) -> Result<Watch, Error> {
        self.0.watch(prefixes, from).await
    }
    async fn sweep(&self, limit: usize) -> Result<usize, Error> {
        self.0.sweep(limit).await
    }
    fn capabilities(&self) -> Capabilities {
        self.0.capabilities()
    }
    async fn health(&self) -> Result<Health, Error> {
        self.0.health().await
    }
    async fn close(&self) -> Result<(), Error> {
        self.0.close().await
    }
}

async fn names(client: &AuthClient, kind: &str, lately: bool) -> Vec<String> {
    let request = proto::ListRequest { kind: kind.into(), lately, ..Default::default() };
    let answer = client.resources().list(request).await.unwrap().into_inner();
    answer.documents.into_iter().map(|document| document.name).collect()
}

#[tokio::test]
async fn a_list_is_of_now_unless_the_caller_takes_an_older_one() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(START)));
    let dir = tempfile::tempdir().unwrap();
    let memory = store(&clock);
    let storage = Storage { backend: Arc::new(Behind(memory.clone())), events: memory };
    let auth = AuthService::open(storage, options(&dir, &clock)).await.unwrap();
    let admin = AuthClient::over_stream(auth.local_pipe());
    let json = br#"{"kind":"role","version":"v1","metadata":{"name":"dev"},"spec":{}}"#.to_vec();
    admin.resources().create(proto::WriteRequest { json, force: false }).await.unwrap();
    assert!(names(&admin, "role", false).await.contains(&"dev".to_owned()));
    assert_eq!(names(&admin, "role", true).await, Vec::<String>::new());
    auth.close().await;
}
