//! What can go wrong, and how each API says it: its status, and the JSON shape that its clients parse.
//!
//! Messages for clients never hold a path of this machine; the log does.

use std::net::SocketAddr;
use std::path::PathBuf;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use whit_engine::EngineError;
use whit_hub::HubError;

use crate::config::ConfigError;
use crate::observe::Facts;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A setting that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be had.
    #[error(
        "cannot listen on {address}: {source}; choose another with --host, or stop the program that uses it"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The system's words.
        source: std::io::Error,
    },
    /// Another address than loopback, and nothing that keeps strangers out.
    #[error(
        "{address} can be reached from other machines, and no API key is set; give one with --api-key, or say \
         --allow-remote-without-key if something else guards the port"
    )]
    Unguarded {
        /// The address.
        address: SocketAddr,
    },
    /// A certificate or key that cannot be used.
    #[error("{}: {problem}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// A model that was named at the start.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A draft model that is not here.
    #[error(
        "`{draft}`, which is to draft for `{name}`, is neither a model that is here nor a file; pull it first (whit pull {draft})"
    )]
    NoDraft {
        /// The model that it is to draft for.
        name: String,
        /// How it was named.
        draft: String,
    },
    /// The runtime's threads could not be started.
    #[error("cannot start the server's threads: {0}")]
    Runtime(std::io::Error),
}

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error(
        "the prompt of {n_tokens} tokens is longer than the context of {n_ctx}; shorten it, ask for more (`num_ctx`, or \
         --ctx and --cache-tokens of the server), or ask for `overflow`: `drop_oldest` or `shift`"
    )]
    ContextLength { n_tokens: usize, n_ctx: usize },
    #[error("{0}")]
    Unauthorized(&'static str),
    #[error("{0}")]
    Forbidden(String),
    #[error("model '{0}' not found, try pulling it first")]
    ModelNotFound(String),
    #[error("{0}")]
    NotFound(String),
    /// What a request builds on is no longer so.
    #[error("{0}")]
    PreconditionFailed(String),
    /// Not in the state in which it is.
    #[error("{0}")]
    Conflict(String),
    #[error("method not allowed")]
    MethodNotAllowed,
    #[error("the request body is larger than {limit} bytes")]
    TooLarge { limit: usize },
    #[error("the request body did not arrive in time")]
    Timeout,
    /// Another server, from which something was to come; the text is what it said.
    #[error("{0}")]
    Upstream(String),
    #[error("server busy, please try again. maximum pending requests exceeded")]
    Busy,
    /// A model for which there was no room; the text says what is needed and what there is.
    #[error("{0}")]
    NoRoom(String),
    /// A model for which there never will be.
    #[error("{0}")]
    DoesNotFit(String),
    #[error("the server is shutting down")]
    ShuttingDown,
    #[error("the stream was ended because its reader did not keep up")]
    SlowReader,
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            ApiError::BadRequest(_) | ApiError::ContextLength { .. } => StatusCode::BAD_REQUEST,
            ApiError::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            ApiError::Forbidden(_) => StatusCode::FORBIDDEN,
            ApiError::ModelNotFound(_) | ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            ApiError::Conflict(_) => StatusCode::CONFLICT,
            ApiError::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::Timeout => StatusCode::REQUEST_TIMEOUT,
            ApiError::Upstream(_) => StatusCode::BAD_GATEWAY,
            ApiError::Busy | ApiError::NoRoom(_) | ApiError::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::DoesNotFit(_) | ApiError::SlowReader | ApiError::Internal(_) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }

    /// Seconds after which to try again.
    fn retry_after(&self) -> Option<&'static str> {
        match self {
            ApiError::Busy => Some("1"),
            ApiError::NoRoom(_) | ApiError::ShuttingDown => Some("5"),
            _ => None,
        }
    }

    /// A failure of ours: the log gets all of it, the client that it happened.
    pub(crate) fn internal(error: &dyn std::error::Error) -> ApiError {
        tracing::error!(%error, "a request failed");
        ApiError::Internal("an internal error; the server's log says more".to_owned())
    }

    /// Ollama's object, which is also a line of its streams.
    pub(crate) fn ollama_json(&self) -> Value {
        match self {
            ApiError::ContextLength { n_tokens, n_ctx } => {
                json!({"error": self.to_string(), "n_prompt_tokens": n_tokens, "n_ctx": n_ctx})
            }
            _ => json!({"error": self.to_string()}),
        }
    }

    /// OpenAI's object, which is also an event of its streams.
    pub(crate) fn openai_json(&self) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        let code = match self {
            ApiError::ModelNotFound(_) => json!("model_not_found"),
            ApiError::ContextLength { .. } => json!("context_length_exceeded"),
            ApiError::Unauthorized(_) => json!("invalid_api_key"),
            _ => Value::Null,
        };
        json!({"error": {"message": self.to_string(), "type": kind, "param": null, "code": code}})
    }

    /// Anthropic's object, which is also an event of its streams.
    pub(crate) fn anthropic_json(&self) -> Value {
        let kind = match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "api_error",
        };
        json!({"type": "error", "error": {"type": kind, "message": self.to_string()}})
    }

    /// The answer in Ollama's shape.
    pub(crate) fn ollama(&self) -> Response {
        self.response(self.ollama_json())
    }

    /// The answer in OpenAI's shape.
    pub(crate) fn openai(&self) -> Response {
        self.response(self.openai_json())
    }

    /// The answer in Anthropic's shape, with the id that the header has too.
    pub(crate) fn anthropic(&self) -> Response {
        let mut body = self.anthropic_json();
        body["request_id"] = Facts::current().id.as_str().into();
        self.response(body)
    }

    /// The answer in the shape of the API that `path` belongs to, for what is refused before an API sees it.
    pub(crate) fn for_path(&self, path: &str) -> Response {
        match ErrorShape::of(path) {
            ErrorShape::Anthropic => self.anthropic(),
            ErrorShape::OpenAi => self.openai(),
            ErrorShape::Ollama => self.ollama(),
        }
    }

    fn response(&self, body: Value) -> Response {
        let mut response = (self.status(), Json(body)).into_response();
        if let Some(seconds) = self.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(seconds));
        }
        response
    }
}

/// The JSON that an error is told in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorShape {
    Ollama,
    OpenAi,
    Anthropic,
}

impl ErrorShape {
    /// What clients of `path` expect.
    pub(crate) fn of(path: &str) -> ErrorShape {
        if path.starts_with("/v1/messages") {
            ErrorShape::Anthropic
        } else if path.starts_with("/v1/") || path == "/infill" {
            ErrorShape::OpenAi
        } else {
            ErrorShape::Ollama
        }
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        match error {
            EngineError::PromptTooLong { n_tokens, n_ctx, .. } => ApiError::ContextLength { n_tokens, n_ctx },
            EngineError::EmptyPrompt
            | EngineError::NoEmbeddings
            | EngineError::NoGeneration
            | EngineError::OnlyRanks
            | EngineError::DoesNotRank
            | EngineError::ParameterType { .. }
            | EngineError::TokenOutOfRange { .. }
            | EngineError::Setting { .. }
            | EngineError::Text(_) => ApiError::BadRequest(error.to_string()),
            // Everything else that sampling says is of settings and grammars.
            EngineError::Sample(
                inner @ (whit_sample::SampleError::NotANumber { .. }
                | whit_sample::SampleError::LogitCount { .. }
                | whit_sample::SampleError::MaskLength { .. }
                | whit_sample::SampleError::Vocabulary { .. }),
            ) => ApiError::internal(&inner),
            EngineError::Sample(inner) => ApiError::from(inner),
            EngineError::QueueFull { .. } => ApiError::Busy,
            EngineError::Stopped => ApiError::NoRoom(error.to_string()),
            EngineError::OutOfPages => ApiError::NoRoom(error.to_string()),
            error => ApiError::internal(&error),
        }
    }
}

impl From<HubError> for ApiError {
    fn from(error: HubError) -> ApiError {
        match error {
            HubError::UnknownModel { name, .. } | HubError::NotStored { name } => {
                ApiError::ModelNotFound(name)
            }
            HubError::NotOurs { name, .. } => {
                ApiError::BadRequest(format!("`{name}` is kept by another program; remove it there"))
            }
            HubError::BadReference { .. } => ApiError::BadRequest("invalid model name".to_owned()),
            error => ApiError::internal(&error),
        }
    }
}

impl From<whit_sample::SampleError> for ApiError {
    fn from(error: whit_sample::SampleError) -> ApiError {
        ApiError::BadRequest(error.to_string())
    }
}

impl From<whit_text::TextError> for ApiError {
    fn from(error: whit_text::TextError) -> ApiError {
        ApiError::from(EngineError::from(error))
    }
}

impl From<PathRejection> for ApiError {
    /// A part of the path that is no UTF-8.
    fn from(error: PathRejection) -> ApiError {
        ApiError::BadRequest(error.body_text())
    }
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> ApiError {
        ApiError::BadRequest(error.to_string())
    }
}
