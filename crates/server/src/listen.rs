//! The server itself: its threads, its socket, its connections, and its end.
//!
//! HTTP/1.1 only, which is what the clients of these APIs speak on a plain port. Connections are served by hyper directly,
//! for the sake of its limits on time and size of headers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use whit_hub::Store;

use crate::config::ServerConfig;
use crate::error::{ApiError, ServerError};
use crate::library::Library;
use crate::state::{AppState, Stopping};
use crate::{anthropic, guard, ollama, openai, own, ui};

/// A client must have sent its headers by then; also the life of an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(60);
const HEADER_BYTES: usize = 64 << 10;
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
    /// An address that cannot be had, or that is open to strangers without a key.
    pub fn start(mut config: ServerConfig, store: Store) -> Result<Server, ServerError> {
        if guard::is_remote(config.address) && config.keys.is_empty() && !config.allow_remote_without_key {
            return Err(ServerError::Unguarded { address: config.address });
        }
        let library = Library::open(store, std::mem::take(&mut config.files))?;
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
        let state = AppState::new(config, library);
        let accepting = runtime.spawn(accept(listener, state.clone()));
        Ok(Server { address, state, runtime: Some(runtime), accepting: Some(accepting) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
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
async fn accept(listener: TcpListener, state: AppState) {
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
        let service = TowerToHyperService::new(app.clone());
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended early");
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

fn router(state: AppState) -> Router {
    Router::new()
        .merge(ollama::router())
        .merge(openai::router())
        .merge(anthropic::router())
        .merge(own::router())
        .merge(ui::router())
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

/// Counts and logs. Never what a prompt says.
async fn observe(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    state.metrics.request(&route, status);
    tracing::info!(%method, route, status, ms = began.elapsed().as_millis() as u64, "request");
    response
}
