//! The conversations of the web chat, kept on the server: list and search, read, write, delete, export, import.
//!
//! Two pages may hold the same conversation. Each change makes a new revision, which is its entity tag; a write names the
//! revision that it changes (`If-Match`) or says that there is none yet (`If-None-Match: *`), and is refused with 412 when
//! that is no longer so. The page then reads what is there, brings the two together, and writes again.
//!
//! Whoever may change the server, by a key of scope `admin` or because no keys are set, has one set of conversations; each
//! key of scope `inference` has one of its own.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::body;
use crate::error::ApiError;
use crate::guard;
use crate::keep::{Keep, Limits, WhenFull};
use crate::openapi::Endpoint;
use crate::own::blocking;
use crate::state::AppState;
use wire::{Conversation, Export, KIND, Summary, VERSION, merge};

const LIMITS: Limits =
    Limits { n_documents: 5000, one: 8 << 20, total: 256 << 20, when_full: WhenFull::Refuse, durable: true };
const MAX_WORDS: usize = 16;

pub(crate) fn router() -> Router<AppState> {
    Router::new()
        .route("/api/conversations", get(list))
        .route("/api/conversations/export", get(export))
        .route("/api/conversations/import", post(import))
        .route("/api/conversations/{id}", get(read).put(write).delete(delete))
}

pub(crate) fn endpoints() -> Vec<Endpoint> {
    let id = || json!({"type": "string", "pattern": "^[a-z0-9_-]{8,80}$"});
    let one = |endpoint: Endpoint| endpoint.in_path("id", "Of the conversation.", id());
    vec![
        Endpoint::get("/api/conversations", "The conversations of the web chat")
            .in_query(
                "q",
                "Only those that hold all of these words, in the title, a message or an attached file.",
            )
            .gives::<List>("The last changed first.")
            .errors(&[400]),
        Endpoint::get("/api/conversations/export", "All conversations in one document")
            .gives::<Export>("For /api/conversations/import, of this server or another."),
        Endpoint::post("/api/conversations/import", "Take in an export")
            .takes::<Export>()
            .gives::<Imported>("Conversations that are there already are brought together with the copy."),
        one(Endpoint::get("/api/conversations/{id}", "A conversation"))
            .gives::<Conversation>("Its revision is in the header `ETag`.")
            .errors(&[404]),
        one(Endpoint::put("/api/conversations/{id}", "Write a conversation"))
            .in_header("If-Match", "The revision that is changed, as `ETag` gave it.")
            .in_header("If-None-Match", "`*` for a new conversation. One of the two headers must be there.")
            .takes::<Conversation>()
            .gives::<Written>("It is changed.")
            .gives_status(201, "It is new.")
            .errors(&[412]),
        one(Endpoint::delete("/api/conversations/{id}", "Delete a conversation"))
            .gives_status(204, "It is gone.")
            .errors(&[404]),
    ]
}

/// What is kept, by whom it belongs to. A set is opened when first asked for.
pub(crate) struct Conversations {
    folder: PathBuf,
    sets: Mutex<HashMap<String, Arc<Set>>>,
}

/// The conversations of one owner.
struct Set {
    keep: Keep,
    /// What the list shows. Its lock makes a check of a revision and the write that follows one.
    index: Mutex<BTreeMap<String, Summary>>,
}

/// As it lies on the disk.
#[derive(Serialize, Deserialize)]
struct Kept {
    revision: u64,
    #[serde(flatten)]
    conversation: Conversation,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    Nothing,
    Revision(u64),
}

impl Conversations {
    /// Below this folder, from now on.
    pub(crate) fn below(folder: PathBuf) -> Conversations {
        Conversations { folder, sets: Mutex::default() }
    }

    /// Blocks when it is the first time.
    fn of(&self, owner: &str) -> Arc<Set> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || Arc::new(Set::open(Keep::open(self.folder.join(owner), LIMITS)));
        Arc::clone(sets.entry(owner.to_owned()).or_insert_with(open))
    }
}

impl Set {
    fn open(keep: Keep) -> Set {
        let mut index = BTreeMap::new();
        for id in keep.ids() {
            // The log has said what cannot be read; the others are still good.
            if let Ok(Some(Kept { revision, conversation })) = keep.get(&id) {
                index.insert(id, conversation.summary(revision));
            }
        }
        Set { keep, index: Mutex::new(index) }
    }

    fn index(&self) -> MutexGuard<'_, BTreeMap<String, Summary>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The list, the last changed first.
    fn list(&self) -> Vec<Summary> {
        let mut list: Vec<Summary> = self.index().values().cloned().collect();
        list.sort_by(|a, b| b.updated.cmp(&a.updated).then_with(|| a.id.cmp(&b.id)));
        list
    }

    fn search(&self, words: &[String]) -> Vec<Summary> {
        let found = |summary: Summary| {
            let kept: Kept = self.keep.get(&summary.id).ok()??;
            let snippet = kept.conversation.search(words)?;
            Some(Summary { snippet, ..summary })
        };
        self.list().into_iter().filter_map(found).collect()
    }

    fn read(&self, id: &str) -> Result<Kept, ApiError> {
        self.keep.get(id)?.ok_or_else(|| not_found(id))
    }

    /// The revision that it has now.
    fn write(&self, conversation: Conversation, expected: Expected) -> Result<u64, ApiError> {
        conversation.check()?;
        let mut index = self.index();
        let there = index.get(&conversation.id).map(|summary| summary.revision);
        match (expected, there) {
            (Expected::Nothing, None) => {}
            (Expected::Revision(expected), Some(revision)) if expected == revision => {}
            (_, there) => {
                let now =
                    there.map_or("there is none now".to_owned(), |revision| format!("it is {revision} now"));
                return Err(ApiError::PreconditionFailed(format!(
                    "conversation `{}` was changed meanwhile: {now}; read it again",
                    conversation.id
                )));
            }
        }
        self.put(&mut index, conversation)
    }

    /// How many of them brought something new.
    fn import(&self, brought: Vec<Conversation>) -> Result<usize, ApiError> {
        brought.iter().try_for_each(Conversation::check)?;
        let mut n_changed = 0;
        let mut index = self.index();
        for conversation in brought {
            let kept: Option<Kept> = self.keep.get(&conversation.id)?;
            let merged = match &kept {
                Some(kept) => merge(kept.conversation.clone(), conversation),
                None => conversation,
            };
            if kept.is_none_or(|kept| kept.conversation != merged) {
                self.put(&mut index, merged)?;
                n_changed += 1;
            }
        }
        Ok(n_changed)
    }

    fn put(
        &self,
        index: &mut BTreeMap<String, Summary>,
        conversation: Conversation,
    ) -> Result<u64, ApiError> {
        let before = index.get(&conversation.id).map_or(0, |summary| summary.revision);
        // By the clock, so that one that is deleted and made anew has no number of before.
        let revision = now().max(before + 1);
        let summary = conversation.summary(revision);
        let id = conversation.id.clone();
        self.keep.put(&id, &Kept { revision, conversation })?;
        index.insert(id, summary);
        Ok(revision)
    }

    fn delete(&self, id: &str) -> Result<(), ApiError> {
        let mut index = self.index();
        if !self.keep.delete(id)? {
            return Err(not_found(id));
        }
        index.remove(id);
        Ok(())
    }
}

fn not_found(id: &str) -> ApiError {
    ApiError::NotFound(format!("there is no conversation `{id}`"))
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Runs `work` with the caller's set, where it may block, and answers with what it gives.
async fn with_set<T: IntoResponse + Send + 'static>(
    state: AppState,
    headers: &HeaderMap,
    work: impl FnOnce(&Set) -> Result<T, ApiError> + Send + 'static,
) -> Response {
    let owner = guard::owner(&state.config, headers);
    let work = move || work(&state.conversations.of(&owner));
    blocking(work).await.map_err(|error| error.ollama()).into_response()
}

#[derive(Deserialize)]
struct ListQuery {
    /// Only conversations that hold all of these words, in whatever case: in the title, a message or an attached file.
    #[serde(default)]
    q: String,
}

/// The list of conversations, the last changed first.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationList)]
struct List {
    conversations: Vec<Summary>,
}

async fn list(
    State(state): State<AppState>,
    headers: HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Response {
    with_set(state, &headers, move |set| {
        let Query(query) = query.map_err(|error| ApiError::BadRequest(error.body_text()))?;
        let words: Vec<String> = query.q.split_whitespace().take(MAX_WORDS).map(str::to_lowercase).collect();
        let conversations = if words.is_empty() { set.list() } else { set.search(&words) };
        Ok(Json(List { conversations }))
    })
    .await
}

async fn read(State(state): State<AppState>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_set(state, &headers, move |set| {
        let kept = set.read(&id)?;
        Ok(([(ETAG, etag(kept.revision))], Json(kept.conversation)))
    })
    .await
}

/// What a write made.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationWritten)]
struct Written {
    /// The new revision.
    revision: u64,
}

async fn write(
    State(state): State<AppState>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let expected = expected(&headers);
    with_set(state, &headers, move |set| {
        let expected = expected?;
        let conversation: Conversation = body::parse(&body)?;
        if conversation.id != id {
            return Err(ApiError::BadRequest(format!(
                "the conversation says that it is `{}`",
                conversation.id
            )));
        }
        let revision = set.write(conversation, expected)?;
        let status = if expected == Expected::Nothing { StatusCode::CREATED } else { StatusCode::OK };
        Ok((status, [(ETAG, etag(revision))], Json(Written { revision })))
    })
    .await
}

async fn delete(State(state): State<AppState>, headers: HeaderMap, Path(id): Path<String>) -> Response {
    with_set(state, &headers, move |set| set.delete(&id).map(|()| StatusCode::NO_CONTENT)).await
}

/// All conversations as one document, one after the other, so that they are never in memory together.
async fn export(State(state): State<AppState>, headers: HeaderMap) -> Response {
    let owner = guard::owner(&state.config, &headers);
    let set = match blocking(move || Ok(state.conversations.of(&owner))).await {
        Ok(set) => set,
        Err(error) => return error.ollama(),
    };
    let head = format!("{{\"kind\":\"{KIND}\",\"version\":{VERSION},\"conversations\":[");
    let documents = stream::iter(set.list()).filter_map(move |summary| {
        let set = Arc::clone(&set);
        async move {
            // One that was deleted since the list was made is no error.
            let kept = blocking(move || set.read(&summary.id)).await.ok()?;
            serde_json::to_string(&kept.conversation).ok()
        }
    });
    let separated =
        documents.enumerate().map(|(n, document)| if n == 0 { document } else { format!(",\n{document}") });
    let text = stream::iter([head]).chain(separated).chain(stream::iter(["]}\n".to_owned()]));
    let body = Body::from_stream(text.map(Ok::<_, std::convert::Infallible>));
    let headers = [
        (CONTENT_TYPE, "application/json"),
        (CONTENT_DISPOSITION, "attachment; filename=\"whit-conversations.json\""),
    ];
    (headers, body).into_response()
}

/// What an import did.
#[derive(Serialize, ToSchema)]
#[schema(as = ConversationImported)]
struct Imported {
    /// Conversations that were new, or brought something new to one that was there.
    imported: usize,
    /// Those that held nothing new.
    unchanged: usize,
}

/// Takes in an export. A conversation that is there already is brought together with the other copy of it.
async fn import(State(state): State<AppState>, headers: HeaderMap, body: Bytes) -> Response {
    with_set(state, &headers, move |set| {
        let Export { kind, version, conversations } = body::parse(&body)?;
        if kind != KIND || version != VERSION {
            return Err(ApiError::BadRequest(format!(
                "this is no export of conversations in version {VERSION}: `kind` is `{kind}`, `version` {version}"
            )));
        }
        let n_brought = conversations.len();
        let imported = set.import(conversations)?;
        Ok(Json(Imported { imported, unchanged: n_brought - imported }))
    })
    .await
}

fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

/// What the headers of a write expect.
fn expected(headers: &HeaderMap) -> Result<Expected, ApiError> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let expected = match (text(IF_MATCH), text(IF_NONE_MATCH)) {
        (Some(tag), None) => tag
            .strip_prefix('"')
            .and_then(|tag| tag.strip_suffix('"'))
            .and_then(|tag| tag.parse().ok())
            .map(Expected::Revision),
        (None, Some("*")) => Some(Expected::Nothing),
        _ => None,
    };
    expected.ok_or_else(|| {
        ApiError::BadRequest(
            "say what you change: `If-Match: \"REVISION\"`, or `If-None-Match: *` for a new conversation"
                .to_owned(),
        )
    })
}
