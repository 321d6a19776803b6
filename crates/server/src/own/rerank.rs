//! `/api/rerank`, `/v1/rerank` and `/rerank`: documents in the order in which they fit a query. Shapes as of Jina, Cohere
//! and llama-server.
//!
//! The score is the cosine of the vectors that the model gives for the query and for the document. It is worth as much as
//! these vectors are: little, for a model that was not made for embeddings. Models with a head that ranks pairs of texts
//! are not supported yet.

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
    /// The cosine of its vector and the query's, from -1 to 1.
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
    let texts = std::iter::once(&request.query).chain(documents.iter().map(|document| &document.text));
    let inputs = texts.map(|text| Prompt::Text(text.clone())).collect();
    let made = embed::run(state, Job { truncate: true, ..Job::new(&request.model, inputs) }).await?;
    let mut results: Vec<Ranked> = documents
        .into_iter()
        .zip(&made.vectors[1..])
        .enumerate()
        .map(|(index, (document, vector))| Ranked {
            index,
            relevance_score: embed::cosine(&made.vectors[0], vector),
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
