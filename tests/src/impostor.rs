//! A proxy that was altered: it stands between everybody and the real one, passes on what it
//! likes, and answers itself what it likes.

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::Acceptor;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key.
pub struct Mask {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Mask {
    /// Of a certificate, leaf first, and the key that is there.
    pub fn of(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Self {
        Self { chain, key }
    }

    /// A real host's, out of its data directory.
    pub fn of_host(data_dir: &Path) -> Self {
        Self::of_identity_file(&data_dir.join("host/identity"))
    }

    /// Out of an identity file.
    pub fn of_identity_file(path: &Path) -> Self {
        let text = fs::read(path).unwrap();
        Self {
            chain: CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap(),
            key: PrivateKeyDer::pem_slice_iter(&text).next().unwrap().unwrap(),
        }
    }

    /// Of an authority of its own making.
    pub fn forged(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        Self {
            chain: vec![made.cert.der().clone()],
            key: PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        }
    }

    /// The key and the chain, for a client.
    pub fn into_parts(self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        (self.chain, self.key)
    }

    /// What it takes to answer with it.
    pub fn server(self) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)
            .unwrap();
        config.alpn_protocols =
            ["h2", "http/1.1", "access-ssh", "access-tunnel"].map(|name| name.into()).to_vec();
        Arc::new(config)
    }
}

struct Answer {
    /// What the name that is asked for has to start with; any name when empty.
    prefix: String,
    server: Arc<ServerConfig>,
    text: String,
}

/// What the impostor came to know.
#[derive(Clone, Default)]
pub struct Spoils {
    /// Names that it answered for.
    pub asked: Vec<String>,
    /// Everything that clients told it within TLS that ended at it.
    pub heard: Vec<u8>,
    /// Clients that believed it.
    pub believed: usize,
}

/// The altered proxy. It listens until the process ends.
pub struct Impostor {
    /// Where.
    pub addr: String,
    spoils: Arc<Mutex<Spoils>>,
}

/// Puts one together.
pub struct ImpostorBuilder {
    upstream: String,
    answers: Vec<Answer>,
    /// Beginnings of names, and where TLS for them is led.
    elsewhere: Vec<(String, String)>,
    ssh: Option<String>,
}

impl Impostor {
    /// One that passes everything on, unaltered so far.
    pub fn before(upstream: &str) -> ImpostorBuilder {
        ImpostorBuilder {
            upstream: upstream.to_owned(),
            answers: Vec::new(),
            elsewhere: Vec::new(),
            ssh: None,
        }
    }

    /// What it came to know so far.
    pub fn spoils(&self) -> Spoils {
        self.spoils.lock().unwrap().clone()
    }

    /// What it knows once it was asked for a name.
    pub fn spoils_of(&self, name: &str) -> Spoils {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let spoils = self.spoils();
            if spoils.asked.iter().any(|asked| asked == name) {
                return spoils;
            }
            assert!(Instant::now() < deadline, "asked for {:?} only", spoils.asked);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl ImpostorBuilder {
    /// Answers TLS for names that start so, with this certificate.
    pub fn poses_as(self, prefix: &str, mask: Mask) -> Self {
        self.answers_as(prefix, mask, "")
    }

    /// The same, and says this to whoever believes it.
    pub fn answers_as(mut self, prefix: &str, mask: Mask, text: &str) -> Self {
        let answer = Answer { prefix: prefix.into(), server: mask.server(), text: text.to_owned() };
        self.answers.push(answer);
        self
    }

    /// Leads TLS for names that start so to another server, as it is.
    pub fn leads(mut self, prefix: &str, addr: &str) -> Self {
        self.elsewhere.push((prefix.to_owned(), addr.to_owned()));
        self
    }

    /// Leads SSH to another server than the real jump host.
    pub fn ssh_to(mut self, addr: &str) -> Self {
        self.ssh = Some(addr.to_owned());
        self
    }

    /// Starts it.
    pub fn start(self) -> Impostor {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let spoils = Arc::new(Mutex::new(Spoils::default()));
        let (builder, shared) = (Arc::new(self), Arc::clone(&spoils));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (builder, spoils) = (Arc::clone(&builder), Arc::clone(&shared));
                // What becomes of one connection is seen at its other end.
                std::thread::spawn(move || drop(builder.meet(client, &spoils)));
            }
        });
        Impostor { addr, spoils }
    }

    fn meet(&self, mut client: TcpStream, spoils: &Mutex<Spoils>) -> io::Result<()> {
        let mut first = [0];
        client.peek(&mut first)?;
        if first != [22] {
            return pass(client, &[], self.ssh.as_ref().unwrap_or(&self.upstream));
        }
        let mut hello = Vec::new();
        let mut acceptor = Acceptor::default();
        let name = loop {
            let mut chunk = [0; 4096];
            let n = client.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            hello.extend(&chunk[..n]);
            acceptor.read_tls(&mut Cursor::new(&chunk[..n]))?;
            if let Some(accepted) = acceptor.accept().map_err(|(err, _)| io::Error::other(err))? {
                break accepted.client_hello().server_name().unwrap_or_default().to_owned();
            }
        };
        if let Some((_, addr)) = self.elsewhere.iter().find(|(start, _)| name.starts_with(start)) {
            return pass(client, &hello, addr);
        }
        let Some(answer) = self.answers.iter().find(|one| name.starts_with(&one.prefix)) else {
            return pass(client, &hello, &self.upstream);
        };
        spoils.lock().unwrap().asked.push(name);
        let connection =
            rustls::ServerConnection::new(Arc::clone(&answer.server)).map_err(io::Error::other)?;
        let mut tls = rustls::StreamOwned::new(connection, Replay { read: hello, client });
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let mut heard = [0; 16 * 1024];
        // Before the first byte, a client of TLS 1.3 may still break off with an alert.
        let n = tls.read(&mut heard)?;
        if n == 0 {
            return Ok(());
        }
        {
            let mut spoils = spoils.lock().unwrap();
            spoils.believed += 1;
            spoils.heard.extend(&heard[..n]);
        }
        if !answer.text.is_empty() {
            let text = &answer.text;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
            tls.write_all(head.as_bytes())?;
            tls.write_all(text.as_bytes())?;
            tls.conn.send_close_notify();
            tls.flush()?;
        }
        while let Ok(n @ 1..) = tls.read(&mut heard) {
            spoils.lock().unwrap().heard.extend(&heard[..n]);
        }
        Ok(())
    }
}

/// A stream of which the beginning was read already.
struct Replay {
    read: Vec<u8>,
    client: TcpStream,
}

impl Read for Replay {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.read.is_empty() {
            return self.client.read(buf);
        }
        let n = self.read.len().min(buf.len());
        buf[..n].copy_from_slice(&self.read[..n]);
        self.read.drain(..n);
        Ok(n)
    }
}

impl Write for Replay {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.client.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.client.flush()
    }
}

fn pass(client: TcpStream, first: &[u8], to: &str) -> io::Result<()> {
    #[allow(clippy::disallowed_methods, reason = "a test stands in between here")]
    let mut upstream = TcpStream::connect(to)?;
    upstream.write_all(first)?;
    let (mut from_client, mut to_client) = (client.try_clone()?, client);
    let (mut from_upstream, mut to_upstream) = (upstream.try_clone()?, upstream);
    let up = std::thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_upstream);
        drop(to_upstream.shutdown(Shutdown::Write));
        copied
    });
    let copied = io::copy(&mut from_upstream, &mut to_client);
    drop(to_client.shutdown(Shutdown::Write));
    drop(up.join());
    copied.map(drop)
}
