//! What a task set came to.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Asked, Framing};
use crate::JudgeError;
use crate::tasks::{Aggregation, Metric, Response, Score, Task};

/// The result of a task set.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskResult {
    /// The task's name.
    pub task: String,
    /// The version of its definition.
    pub version: String,
    /// Examples before each question.
    pub n_examples: usize,
    /// How questions were put.
    pub framing: Framing,
    /// Over all documents.
    pub metrics: Vec<MetricResult>,
    /// Over those of each group, such as a subject, where there are groups.
    pub groups: Vec<GroupResult>,
    /// Each document.
    pub documents: Vec<DocumentScores>,
    /// How long it took.
    pub elapsed: Duration,
}

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricResult {
    /// What it measures.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its standard error, where that is known.
    pub error: Option<f64>,
    /// Whether more is better.
    pub higher_is_better: bool,
}

/// The numbers of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupResult {
    /// Its name.
    pub name: String,
    /// Documents.
    pub n_documents: usize,
    /// Over these.
    pub metrics: Vec<MetricResult>,
}

/// The values of a document.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentScores {
    /// A number of its content.
    pub id: u64,
    /// In the order of the metrics.
    pub scores: Vec<f64>,
}

pub(super) fn collect(
    task: &Task,
    n_examples: usize,
    framing: &Framing,
    asked: &[Asked],
    responses: &[Response],
    elapsed: Duration,
) -> Result<TaskResult, JudgeError> {
    let mut all = Vec::with_capacity(asked.len());
    let mut groups: BTreeMap<&str, Vec<Vec<Score>>> = BTreeMap::new();
    let mut documents = Vec::new();
    for (index, (document, response)) in asked.iter().zip(responses).enumerate() {
        let scores = task
            .score(&document.question.form, response)
            .map_err(|problem| JudgeError::BadDocument { task: task.name.to_string(), index, problem })?;
        documents.push(DocumentScores {
            id: document.id,
            scores: scores.iter().map(|score| score.value).collect(),
        });
        if let Some(group) = &document.question.group {
            groups.entry(group).or_default().push(scores.clone());
        }
        all.push(scores);
    }
    let group = |(name, scores): (&str, Vec<Vec<Score>>)| GroupResult {
        name: name.to_owned(),
        n_documents: scores.len(),
        metrics: aggregate(task.metrics, &scores),
    };
    Ok(TaskResult {
        task: task.name.to_string(),
        version: task.version.to_owned(),
        n_examples,
        framing: framing.clone(),
        metrics: aggregate(task.metrics, &all),
        groups: groups.into_iter().map(group).collect(),
        documents,
        elapsed,
    })
}

fn aggregate(metrics: &[Metric], scores: &[Vec<Score>]) -> Vec<MetricResult> {
    let one = |(index, metric): (usize, &Metric)| {
        let values: Vec<Score> = scores.iter().map(|document| document[index]).collect();
        let n = values.len() as f64;
        let mean = values.iter().map(|score| score.value).sum::<f64>() / n;
        let squares: f64 = values.iter().map(|score| (score.value - mean).powi(2)).sum();
        let error = (values.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
        let (value, error) = match metric.aggregation {
            Aggregation::Mean => (mean, error),
            Aggregation::MeanOfParts => {
                let parts: f64 = values.iter().map(|score| score.parts).sum();
                (values.iter().map(|score| score.value * score.parts).sum::<f64>() / parts, None)
            }
            // To first order, which a bootstrap approaches.
            Aggregation::Perplexity => ((-mean).exp(), error.map(|error| (-mean).exp() * error)),
        };
        MetricResult {
            name: metric.name.to_owned(),
            value,
            error,
            higher_is_better: metric.higher_is_better(),
        }
    };
    metrics.iter().enumerate().map(one).collect()
}

impl TaskResult {
    /// As JSON, from which [`TaskResult::from_json`] reads it again.
    pub fn to_json(&self) -> Value {
        let metrics = |metrics: &[MetricResult]| -> Value {
            let one = |metric: &MetricResult| {
                let value = json!({
                    "value": metric.value,
                    "error": metric.error,
                    "higher_is_better": metric.higher_is_better,
                });
                (metric.name.clone(), value)
            };
            metrics.iter().map(one).collect::<Map<String, Value>>().into()
        };
        let groups: Map<String, Value> = self
            .groups
            .iter()
            .map(|group| {
                let value = json!({ "documents": group.n_documents, "metrics": metrics(&group.metrics) });
                (group.name.clone(), value)
            })
            .collect();
        let documents: Vec<Value> =
            self.documents.iter().map(|one| json!([format!("{:016x}", one.id), one.scores])).collect();
        json!({
            "task": self.task,
            "version": self.version,
            "examples": self.n_examples,
            "chat": self.framing.chat,
            "one_message": self.framing.one_message,
            "system": self.framing.system,
            "metrics": metrics(&self.metrics),
            "groups": groups,
            "seconds": self.elapsed.as_secs_f64(),
            "documents": documents,
        })
    }

    /// Reads what [`TaskResult::to_json`] wrote; `None` where it is something else.
    pub fn from_json(json: &Value) -> Option<TaskResult> {
        let metrics = |json: &Value| -> Option<Vec<MetricResult>> {
            let one = |(name, metric): (&String, &Value)| {
                Some(MetricResult {
                    name: name.clone(),
                    value: metric["value"].as_f64()?,
                    error: metric["error"].as_f64(),
                    higher_is_better: metric["higher_is_better"].as_bool()?,
                })
            };
            json.as_object()?.iter().map(one).collect()
        };
        let group = |(name, group): (&String, &Value)| {
            Some(GroupResult {
                name: name.clone(),
                n_documents: usize::try_from(group["documents"].as_u64()?).ok()?,
                metrics: metrics(&group["metrics"])?,
            })
        };
        let document = |one: &Value| {
            Some(DocumentScores {
                id: u64::from_str_radix(one[0].as_str()?, 16).ok()?,
                scores: one[1].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?,
            })
        };
        let read = TaskResult {
            task: json["task"].as_str()?.to_owned(),
            version: json["version"].as_str()?.to_owned(),
            n_examples: usize::try_from(json["examples"].as_u64()?).ok()?,
            framing: Framing {
                chat: json["chat"].as_bool()?,
                one_message: json["one_message"].as_bool()?,
                system: json["system"].as_str().map(str::to_owned),
            },
            metrics: metrics(&json["metrics"])?,
            groups: json["groups"].as_object()?.iter().map(group).collect::<Option<_>>()?,
            documents: json["documents"].as_array()?.iter().map(document).collect::<Option<_>>()?,
            elapsed: Duration::try_from_secs_f64(json["seconds"].as_f64()?).ok()?,
        };
        let whole = read.documents.iter().all(|document| document.scores.len() == read.metrics.len());
        whole.then_some(read)
    }
}
