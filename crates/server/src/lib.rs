//! Whit: the server. The APIs that clients of Ollama, OpenAI and Anthropic speak, on one port, over one engine a model.
//!
//! ```no_run
//! # fn main() -> Result<(), whit_server::ServerError> {
//! use whit_hub::{Config, Store};
//! use whit_server::{Server, ServerConfig};
//!
//! let store = Store::open(Config::new("/var/lib/whit"));
//! let server = Server::start(ServerConfig::default(), store)?;
//! println!("http://{}", server.address());
//! server.run_until_signal();
//! # Ok(())
//! # }
//! ```
//!
//! A request passes the guards (`guard`), is read by its API (`ollama`, `openai`, `anthropic`), becomes a job
//! (`generate`) on a model that the manager holds loaded (`manager`), and streams back. Only this crate knows wire shapes.
#![forbid(unsafe_code)]

mod anthropic;
mod body;
mod clock;
mod config;
mod conversations;
mod embed;
mod error;
mod generate;
mod guard;
mod keep;
mod library;
mod listen;
mod manager;
mod metrics;
mod observe;
mod ollama;
mod openai;
mod openapi;
mod own;
mod prompt;
mod stall;
mod state;
mod tls;
mod ui;

pub use config::{ApiKey, ConfigError, KeepAlive, OverflowPolicy, Scope, ServerConfig};
pub use error::ServerError;
pub use listen::Server;
pub use tls::TlsFiles;
