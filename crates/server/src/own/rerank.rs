//! `/api/rerank`, `/v1/rerank` and `/rerank`: documents in the order in which they fit a query. Shapes as of Jina, Cohere
//! and llama-server.
//!
//! A model with a head that ranks reads the query with each document; its score comes as a number from 0 to 1 (the logistic
//! function of what the head says). Of other models it is the cosine of the vectors that they give for the query and for the
//! document: worth as much as these vectors are, little for a model that was not made for embeddings.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{MatchedPath, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use whit_engine::Prompt;

use crate::body;
use crate::embed::{self, Job};
use crate::error::ApiError;
use crate::own::blocking;
use crate::state::AppState;

#[derive(Deserialize, ToSchema)]
#[schema(as = RerankRequest)]
pub(super) struct Request {
    /// The name of a model that is here.
    model: String,
    query: String,
    documents: Vec<Document>,
    /// How many of the best to tell of. Default: all.
    top_n: Option<usize>,
    /// Give the documents back beside their scores.
    #[schema(default = false)]
    return_documents: Option<bool>,
}

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RerankDocument)]
enum Document {
    Text(String),
    Object(Text),
}

#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[schema(as = RerankText)]
struct Text {
    text: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Ranking {
    /// As the request named it.
    model: String,
    /// `list`.
    object: &'static str,
    /// The best first.
    results: Vec<Ranked>,
    usage: RankingUsage,
}

#[derive(Serialize, ToSchema)]
struct Ranked {
    /// Which of the documents.
    index: usize,
    /// From 0 to 1, of a model that ranks; of others the cosine of its vector and the query's, from -1 to 1.
    relevance_score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Text>,
}

#[derive(Serialize, ToSchema)]
struct RankingUsage {
    prompt_tokens: usize,
    total_tokens: usize,
}

pub(super) async fn rerank(State(state): State<AppState>, path: MatchedPath, body: Bytes) -> Response {
    match rank(&state, &body).await {
        Ok(ranking) => Json(ranking).into_response(),
        Err(error) => error.for_path(path.as_str()),
    }
}

async fn rank(state: &AppState, body: &Bytes) -> Result<Ranking, ApiError> {
    let request: Request = body::parse(body)?;
    let documents: Vec<Text> = request
        .documents
        .into_iter()
        .map(|document| match document {
            Document::Text(text) | Document::Object(Text { text }) => Text { text },
        })
        .collect();
    let entry = state.library.find(&request.model)?;
    let library = state.clone();
    let ranks = blocking(move || Ok(library.library.facts(&entry)?.info.ranks)).await?;
    let texts = documents.iter().map(|document| Prompt::Text(document.text.clone()));
    let (inputs, query) = if ranks {
        (texts.collect(), Some(request.query))
    } else {
        (std::iter::once(Prompt::Text(request.query)).chain(texts).collect(), None)
    };
    let made = embed::run(state, Job { truncate: true, query, ..Job::new(&request.model, inputs) }).await?;
    let scores: Vec<f64> = if ranks {
        made.vectors
            .iter()
            .map(|score| logistic(f64::from(score.first().copied().unwrap_or_default())))
            .collect()
    } else {
        made.vectors[1..].iter().map(|vector| embed::cosine(&made.vectors[0], vector)).collect()
    };
    let mut results: Vec<Ranked> = documents
        .into_iter()
        .zip(scores)
        .enumerate()
        .map(|(index, (document, relevance_score))| Ranked {
            index,
            relevance_score,
            document: (request.return_documents == Some(true)).then_some(document),
        })
        .collect();
    results.sort_by(|a, b| b.relevance_score.total_cmp(&a.relevance_score));
    results.truncate(request.top_n.unwrap_or(usize::MAX));
    Ok(Ranking {
        model: request.model,
        object: "list",
        results,
        usage: RankingUsage { prompt_tokens: made.n_tokens, total_tokens: made.n_tokens },
    })
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
