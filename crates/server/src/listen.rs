//! The server itself: its threads, its socket, its connections, and its end.
//!
//! HTTP/1.1 only, which is what the clients of these APIs speak on a plain port. Connections are served by hyper directly,
//! for the sake of its limits on time and size of headers.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsAcceptor;
use whit_hub::Store;

use crate::config::ServerConfig;
use crate::error::{ApiError, ServerError};
use crate::library::Library;
use crate::observe::observe;
use crate::stall::Taken;
use crate::state::{AppState, Stopping};
use crate::{anthropic, conversations, guard, ollama, openai, openapi, own, tls, ui};

/// A client must have sent its headers by then; also the life of an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(60);
const HEADER_BYTES: usize = 64 << 10;
/// A client must have agreed on keys by then.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Threads that move bytes; the engine has its own.
const IO_THREADS: usize = 2;
/// What is left of the streams has this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(2);

/// A running server. Dropping it stops it at once; [`stop`](Self::stop) lets answers finish.
pub struct Server {
    address: SocketAddr,
    state: AppState,
    runtime: Option<Runtime>,
    accepting: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Listens on the address of `config`, and answers from then on, on threads of its own.
    ///
    /// # Errors
    /// An address that cannot be had, or that is open to strangers without a key; a certificate that cannot be used.
    pub fn start(mut config: ServerConfig, store: Store) -> Result<Server, ServerError> {
        if guard::is_remote(config.address) && config.keys.is_empty() && !config.allow_remote_without_key {
            return Err(ServerError::Unguarded { address: config.address });
        }
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let folder = store.home().join("server");
        let library = Library::open(store, std::mem::take(&mut config.files))?;
        let drafts = library.drafts(&config.drafts)?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(IO_THREADS)
            .thread_name("http")
            .enable_all()
            .build()
            .map_err(ServerError::Runtime)?;
        let listener = runtime
            .block_on(TcpListener::bind(config.address))
            .map_err(|source| ServerError::Bind { address: config.address, source })?;
        let address = listener.local_addr().unwrap_or(config.address);
        let state = AppState::new(config, library, drafts, &folder);
        runtime.spawn(openai::run_batches(state.clone()));
        let accepting = runtime.spawn(accept(listener, tls, state.clone()));
        Ok(Server { address, state, runtime: Some(runtime), accepting: Some(accepting) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is called, e.g. `http://127.0.0.1:11434`.
    pub fn url(&self) -> String {
        let scheme = if self.state.config.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Waits for Ctrl-C or a termination signal, and stops.
    pub fn run_until_signal(self) {
        if let Some(runtime) = &self.runtime {
            runtime.block_on(signal());
        }
        tracing::info!("stopping");
        self.stop();
    }

    /// Takes no more connections, lets running answers finish within the grace time, ends the others with a word.
    pub fn stop(mut self) {
        self.end(self.state.config.grace);
    }

    fn end(&mut self, grace: Duration) {
        let (Some(runtime), Some(accepting)) = (self.runtime.take(), self.accepting.take()) else { return };
        self.state.stopping.send_replace(Stopping::Draining);
        runtime.block_on(async {
            let mut accepting = accepting;
            if tokio::time::timeout(grace, &mut accepting).await.is_err() {
                self.state.stopping.send_replace(Stopping::Now);
                self.state.manager.close();
                let _ = tokio::time::timeout(GOODBYE, accepting).await;
            }
        });
        self.state.stopping.send_replace(Stopping::Now);
        self.state.manager.shutdown();
        runtime.shutdown_timeout(GOODBYE);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
                return;
            }
            Err(error) => tracing::warn!(%error, "termination signals cannot be handled"),
        }
    }
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::warn!(%error, "Ctrl-C cannot be handled");
        std::future::pending::<()>().await;
    }
}

/// Accepts until told to stop, then waits for the connections to end.
async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: AppState) {
    let app = router(state.clone());
    let graceful = GracefulShutdown::new();
    let mut stopping = state.stopping.subscribe();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(HEADER_BYTES);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping >= Stopping::Draining) => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file handles, most likely; those in use will come back.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Tokens are small, and each is wanted at once.
        let _ = stream.set_nodelay(true);
        let stream = Taken::new(stream, state.config.stall);
        let connection = Connection {
            http: http.clone(),
            app: app.clone(),
            watcher: graceful.watcher(),
            tls: tls.clone(),
            patience: state.config.stall,
        };
        tokio::spawn(connection.serve(stream));
    }
    drop(listener);
    graceful.shutdown().await;
}

/// What it takes to serve a connection.
struct Connection {
    http: http1::Builder,
    app: Router,
    watcher: Watcher,
    tls: Option<TlsAcceptor>,
    patience: Duration,
}

impl Connection {
    async fn serve(self, stream: Taken<TcpStream>) {
        let Some(tls) = &self.tls else { return self.serve_plain(stream).await };
        match tokio::time::timeout(self.patience.min(HANDSHAKE_TIME), tls.accept(stream)).await {
            Ok(Ok(stream)) => self.serve_plain(stream).await,
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn serve_plain(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let service = TowerToHyperService::new(self.app);
        let connection = self.http.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// All routes; what is not the page's is described in `/openapi.json`.
pub(crate) fn routes() -> Router<AppState> {
    Router::new()
        .merge(ollama::router())
        .merge(openai::router())
        .merge(anthropic::router())
        .merge(own::router())
        .merge(conversations::router())
        .merge(openapi::router())
        .merge(ui::router())
}

fn router(state: AppState) -> Router {
    routes()
        .fallback(|request: Request| async move {
            let path = request.uri().path();
            ApiError::NotFound(format!("there is nothing at {path}")).for_path(path)
        })
        .method_not_allowed_fallback(|request: Request| async move {
            ApiError::MethodNotAllowed.for_path(request.uri().path())
        })
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), guard::check))
        .layer(middleware::from_fn_with_state(state.clone(), observe))
        .with_state(state)
}
