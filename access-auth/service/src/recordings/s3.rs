//! Recordings in S3, or in what speaks its language.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::TokioExecutor;
use object_store::aws::AmazonS3Builder;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, ObjectStore};

use crate::error::{Error, Result};

/// How long the head of an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// The store that a URL names: `s3://BUCKET/PREFIX`. What is not in it comes from the environment:
/// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT`, and so on.
pub(super) fn open(url: &str) -> Result<Arc<dyn ObjectStore>> {
    open_with(AmazonS3Builder::from_env(), url)
}

fn open_with(builder: AmazonS3Builder, url: &str) -> Result<Arc<dyn ObjectStore>> {
    let wrong = |err: object_store::Error| Error::Setup(format!("recordings at {url}: {err}"));
    let rest = url.strip_prefix("s3://").unwrap_or_default();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(Error::Setup(format!("recordings at {url}: write s3://BUCKET/PREFIX")));
    }
    let store =
        builder.with_bucket_name(bucket).with_http_connector(Connector).build().map_err(wrong)?;
    Ok(match prefix.trim_matches('/') {
        "" => Arc::new(store),
        prefix => Arc::new(PrefixStore::new(store, prefix)),
    })
}

/// Makes clients over rustls with ring, trusting what this machine trusts.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let failed = |source: std::io::Error| object_store::Error::Generic {
            store: "S3",
            source: Box::new(source),
        };
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        // Plain HTTP only where the endpoint is set to it.
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(failed)?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(HttpClient::new(Service(client)))
    }
}

#[derive(Debug)]
struct Service(Client<HttpsConnector<Tcp>, HttpRequestBody>);

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER, self.0.request(request))
            .await
            .map_err(|err| HttpError::new(HttpErrorKind::Timeout, err))?
            .map_err(|err| {
                let kind = if err.is_connect() {
                    HttpErrorKind::Connect
                } else {
                    HttpErrorKind::Interrupted
                };
                HttpError::new(kind, err)
            })?;
        let (head, body) = answer.into_parts();
        let body = body.map_err(|err| HttpError::new(HttpErrorKind::Interrupted, err));
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{Method, Request, Response};
    use http_body_util::Full;
    use hyper::body::Incoming;
    use hyper_util::rt::TokioIo;
    use object_store::{ObjectStoreExt, PutPayload};
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    /// As much of S3 as an upload in parts and a download take.
    #[derive(Default)]
    struct Fake {
        parts: Mutex<BTreeMap<String, Bytes>>,
        object: Mutex<Option<(String, Bytes)>>,
    }

    impl Fake {
        async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
            let signed = request.headers().contains_key("authorization");
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let query = uri.query().unwrap_or_default().to_owned();
            let mut answer = Response::builder().header("etag", "\"e\"");
            let text = match method {
                _ if !signed => {
                    answer = answer.status(403);
                    Bytes::new()
                }
                Method::POST if query.contains("uploads") => {
                    "<InitiateMultipartUploadResult><UploadId>u</UploadId>\
                     </InitiateMultipartUploadResult>"
                        .into()
                }
                Method::PUT => {
                    self.parts.lock().unwrap().insert(query, body);
                    Bytes::new()
                }
                Method::POST => {
                    let parts = std::mem::take(&mut *self.parts.lock().unwrap());
                    let whole = parts.into_values().flatten().collect::<Bytes>();
                    *self.object.lock().unwrap() = Some((uri.path().to_owned(), whole));
                    "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"
                        .into()
                }
                _ => match &*self.object.lock().unwrap() {
                    Some((path, bytes)) if path == uri.path() => {
                        answer = answer.header("last-modified", "Fri, 02 Jan 2026 03:04:05 GMT");
                        bytes.clone()
                    }
                    _ => {
                        answer = answer.status(404);
                        Bytes::new()
                    }
                },
            };
            answer.body(Full::new(text)).unwrap()
        }
    }

    async fn serve() -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let fake = Arc::new(Fake::default());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let fake = Arc::clone(&fake);
                tokio::spawn(async move {
                    let service = hyper::service::service_fn(move |request| {
                        let fake = Arc::clone(&fake);
                        async move { Ok::<_, std::convert::Infallible>(fake.answer(request).await) }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        format!("http://{address}")
    }

    #[tokio::test]
    async fn a_recording_goes_to_a_bucket_and_comes_back() {
        let builder = AmazonS3Builder::new()
            .with_endpoint(serve().await)
            .with_allow_http(true)
            .with_region("eu-central-1")
            .with_access_key_id("id")
            .with_secret_access_key("secret");
        let store = open_with(builder, "s3://bucket/some/prefix/").unwrap();
        let path = "s-1.rec".into();
        let mut upload = store.put_multipart(&path).await.unwrap();
        for part in ["one ", "two"] {
            upload.put_part(PutPayload::from(part.as_bytes().to_vec())).await.unwrap();
        }
        upload.complete().await.unwrap();
        let back = store.get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(back, "one two");
        assert!(store.get(&"s-2.rec".into()).await.is_err());
    }

    #[test]
    fn urls_name_a_bucket() {
        for url in ["s3://", "s3:///prefix"] {
            assert!(matches!(open(url), Err(Error::Setup(_))), "{url}");
        }
    }
}
