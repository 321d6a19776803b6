//! Arguments that several commands share, and what they come to.

use serde_json::{Map, Value};
use whit_cpu::LevelError;
use whit_engine::{CacheType, EngineOptions, Level, Speculation};

use crate::failure::Usage;

/// How the model is run.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Engine options")]
pub(crate) struct EngineArguments {
    /// Threads [default: the cores that this process may use]
    #[arg(long, short, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,

    /// CPU instructions to use: scalar, avx2, avx512 or neon [default: the best of this CPU] [env: WHIT_CPU_LEVEL]
    #[arg(long, value_name = "LEVEL")]
    cpu_level: Option<Level>,

    /// How cached keys and values are stored: f16, q8_0 (half of it), q4_0 (a quarter) or f32 [default: f16]
    #[arg(long, value_name = "TYPE")]
    pub(crate) cache_type: Option<CacheType>,
}

impl EngineArguments {
    /// The engine's options, with a context of `ctx` tokens.
    pub(crate) fn options(&self, ctx: Option<usize>) -> Result<EngineOptions, Usage> {
        Ok(EngineOptions {
            ctx,
            threads: self.threads,
            level: self.level()?,
            cache_type: self.cache_type.unwrap_or_default(),
            ..EngineOptions::default()
        })
    }

    /// The level that the flag asks for, or else the environment; a variable that is set to nothing asks for nothing.
    fn level(&self) -> Result<Option<Level>, Usage> {
        let variable = || std::env::var_os("WHIT_CPU_LEVEL").filter(|value| !value.is_empty());
        match (self.cpu_level, variable()) {
            (Some(level), _) => Ok(Some(level)),
            (None, Some(value)) => {
                let level = value.to_string_lossy().parse();
                level.map(Some).map_err(|error: LevelError| Usage(format!("WHIT_CPU_LEVEL: {error}")))
            }
            (None, None) => Ok(None),
        }
    }
}

/// A number of threads, out of an argument.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    let n: usize = text.parse().map_err(|_| "a whole number is needed".to_owned())?;
    if (1..=1024).contains(&n) { Ok(n) } else { Err("choose from 1 to 1024".to_owned()) }
}

/// How tokens are drafted.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Speculation options")]
pub(crate) struct SpeculationArguments {
    /// Draft tokens, to verify several in one step: from the text so far (lookup), by the draft model (draft), by whichever
    /// promises more (all), or not at all (off). Answers stay the same [default: all]
    #[arg(long, value_name = "HOW", value_parser = speculation)]
    speculate: Option<Speculation>,

    /// Most tokens drafted for one step, from 0 to 7 [default: as many as pay]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=7))]
    draft_max: Option<u8>,
}

impl SpeculationArguments {
    /// What they ask for; as far as they say nothing, what is `usual`.
    pub(crate) fn speculation(&self, usual: Speculation) -> Speculation {
        let asked = self.speculate.unwrap_or(usual);
        let most = self.draft_max.map_or(usize::MAX, usize::from);
        Speculation { max_tokens: asked.max_tokens.min(most), ..asked }
    }
}

fn speculation(text: &str) -> Result<Speculation, String> {
    text.parse().map_err(|names| format!("choose {names}"))
}

/// How tokens are chosen. Names, ranges and defaults are those of [`whit_engine::Parameters`].
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Sampling options", allow_negative_numbers = true)]
pub(crate) struct SamplingArguments {
    /// Higher is more varied; 0 always takes the likeliest token [default: 0.8]
    #[arg(long, value_name = "T")]
    temperature: Option<f64>,

    /// Choose among the K likeliest tokens; 0: among all [default: 40]
    #[arg(long, value_name = "K")]
    top_k: Option<u32>,

    /// Choose among the likeliest tokens that together reach this probability; 1: off [default: 0.9]
    #[arg(long, value_name = "P")]
    top_p: Option<f64>,

    /// Choose among tokens at least this fraction as likely as the likeliest; 0: off [default: 0]
    #[arg(long, value_name = "P")]
    min_p: Option<f64>,

    /// Choose among the tokens of most typical surprise that reach this probability; 1: off [default: 1]
    #[arg(long, value_name = "P")]
    typical_p: Option<f64>,

    /// Make tokens that were there lately less likely; 1: off [default: 1]
    #[arg(long, value_name = "X")]
    repeat_penalty: Option<f64>,

    /// How far the penalties look back; 0: not at all, -1: to the beginning [default: 64]
    #[arg(long, value_name = "N")]
    repeat_last_n: Option<i32>,

    /// Taken once from the logit of each token that was there lately [default: 0]
    #[arg(long, value_name = "X")]
    presence_penalty: Option<f64>,

    /// Taken from the logit of a token each time that it was there lately [default: 0]
    #[arg(long, value_name = "X")]
    frequency_penalty: Option<f64>,

    /// Add X to the logit of a token; -inf forbids it. May be given several times
    #[arg(long, value_name = "ID=X", value_parser = logit_bias)]
    pub(crate) logit_bias: Vec<(u32, f32)>,

    /// Where the random numbers start: the same seed gives the same text [default: new each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl SamplingArguments {
    /// Those that are given, by their names.
    pub(crate) fn parameters(&self) -> Map<String, Value> {
        let given = [
            ("temperature", self.temperature.map(Value::from)),
            ("top_k", self.top_k.map(Value::from)),
            ("top_p", self.top_p.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("typical_p", self.typical_p.map(Value::from)),
            ("repeat_penalty", self.repeat_penalty.map(Value::from)),
            ("repeat_last_n", self.repeat_last_n.map(Value::from)),
            ("presence_penalty", self.presence_penalty.map(Value::from)),
            ("frequency_penalty", self.frequency_penalty.map(Value::from)),
            ("seed", self.seed.map(Value::from)),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
    }
}

fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text.split_once('=').and_then(|(id, x)| Some((id.parse().ok()?, x.parse().ok()?)));
    parts.ok_or_else(|| "write a token id and a number: 42=-1.5".to_owned())
}
