//! Runs task sets on a model.

mod examples;
mod frame;
mod likelihood;
mod result;
mod samples;
#[cfg(test)]
mod tests;
mod writing;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use whit_engine::{CacheSize, Engine, EngineOptions, ModelInfo};

pub use frame::Framing;
pub use result::{DocumentScores, GroupResult, MetricResult, TaskResult};

use crate::tasks::{Check, Form, Question, Response, Sampling, Task};
use crate::{JudgeError, TaskData};
use examples::PythonRandom;
use frame::{Context, Frame};
use likelihood::Stem;
use samples::Samples;
use writing::Writing;

/// Sequences that run at the same time.
const SEQUENCES: usize = 32;
/// Tokens of questions that are scored together; the cache holds twice as many, so that contexts stay until their choices ran.
const GROUP_TOKENS: usize = 8192;
const GROUP_QUESTIONS: usize = 64;
/// A context that is taken when none is asked for, if the model was trained for as much.
const USUAL_CTX: usize = 8192;

/// How a task set is run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EvalOptions {
    /// Documents from the beginning, of every group (such as the subjects of MMLU). `None`: all.
    pub limit: Option<usize>,
    /// Examples before a question. `None`: as many as are usual for the task.
    pub examples: Option<usize>,
    /// How questions are put.
    pub framing: Framing,
    /// The folder of the log, by which a run that was killed goes on. `None`: nothing is written.
    pub samples: Option<PathBuf>,
    /// Tells the model from others in the log, such as by its file's name and size.
    pub model: String,
}

/// How far a task set is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvalProgress {
    /// Documents done, those of an earlier run included.
    pub n_done: usize,
    /// Documents in all.
    pub n_documents: usize,
    /// Time since the start.
    pub elapsed: Duration,
}

/// What an engine needs to run task sets well: many sequences at a time on one pool of cache, which keeps contexts that
/// several choices stand behind. `ctx` tokens, or what the model was trained for, at most 8192.
pub fn engine_options(options: EngineOptions, ctx: Option<usize>, info: &ModelInfo) -> EngineOptions {
    let ctx = ctx.unwrap_or(info.n_ctx_train.min(USUAL_CTX));
    let tokens = (2 * GROUP_TOKENS).max(2 * ctx);
    EngineOptions { ctx: Some(ctx), cache: CacheSize::Tokens(tokens), max_sequences: SEQUENCES, ..options }
}

/// A document that is to be asked.
struct Asked {
    /// A number of its content, by which runs are compared.
    id: u64,
    question: Question,
    contexts: Vec<Context>,
}

/// Runs `task` on `data`; `report` is called now and then.
///
/// # Errors
/// Documents that are none of the task, no examples where some are wanted, a model without a chat template where one is
/// wanted, what the system refuses, and failures of the engine.
pub fn evaluate(
    engine: &mut Engine,
    task: &Task,
    data: &TaskData,
    options: &EvalOptions,
    report: &mut dyn FnMut(EvalProgress),
) -> Result<TaskResult, JudgeError> {
    let start = Instant::now();
    let n_examples = options.examples.unwrap_or(task.usual_examples);
    let model = engine.model().clone();
    let asked =
        prepare(&Frame { model: &model, framing: &options.framing }, task, data, options, n_examples)?;
    let run = json!({
        "model": options.model,
        "task": task.name,
        "version": task.version,
        "examples": n_examples,
        "chat": options.framing.chat,
        "one_message": options.framing.one_message,
        "system": options.framing.system,
        "ctx": engine.n_ctx(),
    });
    let opened =
        options.samples.as_deref().map(|folder| Samples::open(folder, &task.name, &run)).transpose()?;
    let (mut log, known) = opened.map_or((None, Vec::new()), |(log, known)| (Some(log), known));
    // The log has documents in the order in which they are asked; of a longer run it may have more.
    let mut responses: Vec<Response> = Vec::with_capacity(asked.len());
    for (document, (id, response)) in asked.iter().zip(known) {
        if document.id != id {
            return Err(JudgeError::OtherRun { path: options.samples.clone().unwrap_or_default() });
        }
        responses.push(response);
    }
    let mut tell = |n_done: usize| {
        report(EvalProgress { n_done, n_documents: asked.len(), elapsed: start.elapsed() });
    };
    tell(responses.len());
    let frame = Frame { model: &model, framing: &options.framing };
    while responses.len() < asked.len() {
        let rest = &asked[responses.len()..];
        let group = match rest[0].question.form {
            Form::Write { .. } => write_group(engine, &frame, rest)?,
            _ => score_group(engine, &frame, rest)?,
        };
        for (document, response) in rest.iter().zip(group) {
            if let Some(log) = &mut log {
                log.add(document.id, &document.told(&frame), &response)?;
            }
            responses.push(response);
        }
        if let Some(log) = &mut log {
            log.flush()?;
        }
        tell(responses.len());
    }
    if let Some(folder) = &options.samples {
        write_programs(folder, task, &asked, &responses)?;
    }
    result::collect(task, n_examples, &options.framing, &asked, &responses, start.elapsed())
}

/// Reads all documents and puts the questions, with examples chosen in the order of the documents.
fn prepare(
    frame: &Frame<'_>,
    task: &Task,
    data: &TaskData,
    options: &EvalOptions,
    n_examples: usize,
) -> Result<Vec<Asked>, JudgeError> {
    let read = |documents: &[Value]| -> Result<Vec<Question>, JudgeError> {
        let bad = |index: usize, problem: String| JudgeError::BadDocument {
            task: task.name.to_string(),
            index,
            problem,
        };
        documents
            .iter()
            .enumerate()
            .map(|(index, one)| (task.read)(one).map_err(|why| bad(index, why)))
            .collect()
    };
    let examples = if n_examples > 0 { read(&data.examples)? } else { Vec::new() };
    let mut random = PythonRandom::new(examples::SEED);
    let mut n_of_group = std::collections::HashMap::new();
    let mut asked = Vec::new();
    for (document, question) in data.documents.iter().zip(read(&data.documents)?) {
        let n = n_of_group.entry(question.group.clone()).or_insert(0usize);
        *n += 1;
        if options.limit.is_some_and(|limit| *n > limit) {
            continue;
        }
        let chosen = choose(task, data, (document, &question), &examples, n_examples, &mut random);
        let chosen = chosen.ok_or_else(|| JudgeError::TooFewExamples {
            task: task.name.to_string(),
            wanted: n_examples,
            split: task.splits.examples,
        })?;
        let texts: Vec<&str> = match &question.form {
            Form::Fill { contexts, .. } => contexts.iter().map(String::as_str).collect(),
            Form::Choose { context, .. } | Form::Continue { context, .. } | Form::Write { context, .. } => {
                vec![context]
            }
        };
        let contexts =
            texts.into_iter().map(|text| frame.context(question.description.as_deref(), &chosen, text));
        let contexts = contexts.collect::<Result<_, _>>()?;
        asked.push(Asked { id: id_of(document), question, contexts });
    }
    if asked.is_empty() { Err(JudgeError::NoDocuments { task: task.name.to_string() }) } else { Ok(asked) }
}

/// The examples of a document, as questions and answers; `None` where there are too few.
fn choose(
    task: &Task,
    data: &TaskData,
    (document, question): (&Value, &Question),
    examples: &[Question],
    n: usize,
    random: &mut PythonRandom,
) -> Option<Vec<(String, String)>> {
    if n == 0 {
        return Some(Vec::new());
    }
    let chosen: Vec<&Question> = match task.sampling {
        Sampling::First => examples.iter().filter(|one| one.group == question.group).take(n).collect(),
        Sampling::Random if n <= examples.len() => {
            random.sample(examples.len(), n).into_iter().map(|index| &examples[index]).collect()
        }
        Sampling::RandomButItself if n < examples.len() => {
            let is_other = |index: &usize| data.examples.get(*index) != Some(document);
            let mut chosen = random.sample(examples.len(), n + 1);
            chosen.retain(is_other);
            if chosen.len() < n {
                // It was there more than once: anew, from all others.
                let others: Vec<usize> = (0..examples.len()).filter(is_other).collect();
                if others.len() < n {
                    return None;
                }
                chosen = random.sample(others.len(), n).into_iter().map(|index| others[index]).collect();
            }
            chosen.into_iter().take(n).map(|index| &examples[index]).collect()
        }
        Sampling::Random | Sampling::RandomButItself => return None,
    };
    (chosen.len() == n).then(|| chosen.into_iter().map(frame::example).collect())
}

impl Asked {
    /// The texts that are scored, and behind which context each stands.
    fn endings(&self, frame: &Frame<'_>) -> Vec<(usize, String)> {
        let before = frame.before_choice();
        match &self.question.form {
            Form::Choose { choices, .. } => {
                choices.iter().map(|choice| (0, format!("{before}{choice}"))).collect()
            }
            Form::Fill { contexts, ending, .. } => {
                (0..contexts.len()).map(|context| (context, format!("{before}{ending}"))).collect()
            }
            Form::Continue { ending, .. } => vec![(0, ending.clone())],
            Form::Write { .. } => Vec::new(),
        }
    }

    /// For the log.
    fn told(&self, frame: &Frame<'_>) -> Value {
        let contexts: Vec<String> = self.contexts.iter().map(Context::text).collect();
        let endings: Vec<String> = self.endings(frame).into_iter().map(|(_, ending)| ending).collect();
        json!({ "contexts": contexts, "endings": endings })
    }

    /// As tokens: the contexts that differ, with what is scored behind each, in the order of the endings.
    fn stems(&self, frame: &Frame<'_>) -> Result<Vec<Stem>, JudgeError> {
        let mut stems: Vec<Stem> = Vec::new();
        for (context, ending) in self.endings(frame) {
            let (context, ending) = frame.pair(&self.contexts[context], &ending)?;
            match stems.last_mut().filter(|stem| stem.context == context) {
                Some(stem) => stem.endings.push(ending),
                None => stems.push(Stem { context, endings: vec![ending] }),
            }
        }
        Ok(stems)
    }
}

/// Scores as many documents as go well together.
fn score_group(engine: &mut Engine, frame: &Frame<'_>, rest: &[Asked]) -> Result<Vec<Response>, JudgeError> {
    let (mut stems, mut n_stems, mut n_tokens) = (Vec::new(), Vec::new(), 0);
    for document in rest.iter().take(GROUP_QUESTIONS) {
        let own = document.stems(frame)?;
        n_tokens += own.iter().map(Stem::n_tokens).sum::<usize>();
        if n_tokens > GROUP_TOKENS && !n_stems.is_empty() {
            break;
        }
        n_stems.push(own.len());
        stems.extend(own);
    }
    let mut scores = likelihood::score(engine, &stems)?.into_iter();
    let response = |n: usize| Response::Scores(scores.by_ref().take(n).flatten().collect());
    Ok(n_stems.into_iter().map(response).collect())
}

/// Lets the model write answers for as many documents as run at the same time, twice, so that a short answer makes room for the next.
fn write_group(engine: &mut Engine, frame: &Frame<'_>, rest: &[Asked]) -> Result<Vec<Response>, JudgeError> {
    let group = &rest[..rest.len().min(2 * engine.max_sequences())];
    let mut tasks = Vec::new();
    for document in group {
        if let (Form::Write { stop, max_tokens, .. }, Some(context)) =
            (&document.question.form, document.contexts.first())
        {
            tasks.push(Writing {
                prompt: frame.tokens(context)?,
                stop: stop.clone(),
                max_tokens: *max_tokens,
            });
        }
    }
    let texts = writing::write(engine, tasks)?;
    Ok(texts.into_iter().map(Response::Text).collect())
}

fn write_programs(
    folder: &Path,
    task: &Task,
    asked: &[Asked],
    responses: &[Response],
) -> Result<(), JudgeError> {
    let program = |(document, response): (&Asked, &Response)| match (&document.question.form, response) {
        (Form::Write { check: Check::Program { id }, .. }, Response::Text(text)) => {
            Some((id.clone(), text.clone()))
        }
        _ => None,
    };
    let programs: Vec<(String, String)> = asked.iter().zip(responses).filter_map(program).collect();
    if programs.is_empty() {
        return Ok(());
    }
    samples::write_programs(&folder.join(format!("{}.completions.jsonl", task.name)), &programs)
}

/// FNV-1a of a document as JSON.
fn id_of(document: &Value) -> u64 {
    let text = document.to_string();
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
