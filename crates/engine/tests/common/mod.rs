//! What the tests of this crate share: the golden models, and the backends to try them on.
#![allow(dead_code, reason = "each test file uses a part of this")]

pub(crate) mod folder;

use std::path::{Path, PathBuf};

use whit_base::reference::ReferenceBackend;
use whit_base::{Backend, DType};
use whit_cpu::{CpuBackend, CpuConfig, Level};
use whit_engine::{
    CacheType, Done, Engine, EngineError, EngineOptions, Event, Model, Overflow, Prompt, Request,
    SamplerConfig,
};
use whit_files::{Gguf, GgufWriter};

/// The models of `tests/golden` that generate, see its README.
pub(crate) fn golden() -> Vec<String> {
    folder::names(&golden_folder(), ".logits.bin")
}

pub(crate) fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A golden model and what `transformers` says of it.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Of one that was written for this test.
    _folder: Option<tempfile::TempDir>,
    pub(crate) n_vocab: usize,
    /// The longest context that the answer is for.
    ctx: Option<usize>,
    pub(crate) prompt: Vec<u32>,
    pub(crate) greedy: Vec<u32>,
    /// `(prompt, n_vocab)`.
    pub(crate) logits: Vec<f32>,
    /// Hidden states after the last norm, one per token of the prompt.
    pub(crate) states: Vec<Vec<f32>>,
}

impl Golden {
    pub(crate) fn load(name: &str) -> Golden {
        let folder = golden_folder();
        let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let ids = |key: &str| -> Vec<u32> {
            json[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
        };
        let floats = |what: &str| -> Vec<f32> {
            let bytes = std::fs::read(folder.join(format!("{name}.{what}.bin"))).unwrap();
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        };
        let (prompt, logits, states) = (ids("prompt"), floats("logits"), floats("states"));
        let width = states.len() / prompt.len();
        Golden {
            name: name.to_owned(),
            path: folder.join(format!("{name}.gguf")),
            _folder: None,
            n_vocab: json["n_vocab"].as_u64().unwrap() as usize,
            ctx: json["ctx"].as_u64().map(|n| n as usize),
            prompt,
            greedy: ids("greedy"),
            logits,
            states: states.chunks_exact(width).map(<[f32]>::to_vec).collect(),
        }
    }

    pub(crate) fn all() -> impl Iterator<Item = Golden> {
        golden().into_iter().map(|name| Golden::load(&name))
    }

    /// The same model as the folder that `transformers` saved.
    pub(crate) fn in_folder(self) -> Golden {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join(&self.name);
        folder::write(&self.name, self.path.parent().unwrap(), &path);
        Golden { path, _folder: Some(place), ..self }
    }

    /// Every model, as a GGUF file and as a folder.
    pub(crate) fn all_forms() -> impl Iterator<Item = Golden> {
        Golden::all().chain(Golden::all().map(Golden::in_folder))
    }

    /// What it is, for messages.
    pub(crate) fn form(&self) -> String {
        format!("{} ({})", self.name, if self._folder.is_some() { "folder" } else { "GGUF" })
    }

    pub(crate) fn engine(&self, backend: &dyn Backend, options: &EngineOptions) -> Engine {
        Engine::with_backend(Model::open(&self.path).unwrap(), backend, &self.options(options)).unwrap()
    }

    /// `options`, with no longer context than the answer is for.
    pub(crate) fn options(&self, options: &EngineOptions) -> EngineOptions {
        let mut options = options.clone();
        if let Some(ctx) = self.ctx {
            // Room for prefixes beside the sequences.
            (options.ctx, options.max_sequences) = (Some(ctx), options.max_sequences.max(4));
        }
        options
    }
}

/// Everything that a golden model must come out the same on.
pub(crate) fn backends() -> Vec<Box<dyn Backend>> {
    let mut backends: Vec<Box<dyn Backend>> = vec![Box::new(reference())];
    for level in Level::ALL.into_iter().filter(|level| level.is_supported()) {
        let config = CpuConfig { threads: Some(1), level: Some(level) };
        backends.push(Box::new(CpuBackend::new(config).unwrap()));
    }
    backends.push(Box::new(CpuBackend::new(CpuConfig { threads: Some(2), level: None }).unwrap()));
    backends
}

pub(crate) fn reference() -> ReferenceBackend {
    ReferenceBackend { quantize_activations: false }
}

pub(crate) fn exact() -> EngineOptions {
    EngineOptions { cache_type: CacheType::F32, ctx: Some(256), ..EngineOptions::default() }
}

pub(crate) fn greedy(prompt: &[u32], max_tokens: usize) -> Request {
    Request {
        sampling: SamplerConfig::greedy(),
        max_tokens: Some(max_tokens),
        overflow: Overflow::Error,
        ..Request::new(Prompt::Tokens(prompt.to_vec()))
    }
}

/// Runs a request alone to its end.
pub(crate) fn answer(engine: &mut Engine, request: Request) -> (Vec<u32>, Done) {
    let mut ids = Vec::new();
    for event in engine.generate(request).unwrap() {
        match event.unwrap() {
            Event::Token { id, .. } => ids.push(id),
            Event::Shifted { .. } | Event::Prompt(_) | Event::Embedding(_) => {}
            Event::Done(done) => return (ids, done),
        }
    }
    panic!("no Done");
}

/// A model file taken apart, to be put together otherwise.
pub(crate) struct Parts {
    pub(crate) writer: GgufWriter,
    /// Name, format, shape (outermost first), data.
    pub(crate) tensors: Vec<(String, DType, Vec<usize>, Vec<u8>)>,
}

impl Parts {
    pub(crate) fn of(golden: &str) -> Parts {
        let file = Gguf::open(golden_folder().join(format!("{golden}.gguf"))).unwrap();
        let mut writer = GgufWriter::new();
        file.metadata().iter().for_each(|(key, value)| writer.set(key, value));
        let tensors = file
            .tensors()
            .iter()
            .map(|t| (t.name.to_string(), t.dtype, t.shape.clone(), file.tensor_bytes(t).to_vec()))
            .collect();
        Parts { writer, tensors }
    }

    pub(crate) fn tensor(&mut self, name: &str) -> &mut (String, DType, Vec<usize>, Vec<u8>) {
        self.tensors.iter_mut().find(|tensor| tensor.0 == name).unwrap()
    }

    pub(crate) fn open(self) -> Result<Model, EngineError> {
        Model::from_gguf(self.gguf())
    }

    pub(crate) fn write(mut self, path: &Path) {
        for (name, dtype, shape, _) in &self.tensors {
            self.writer.declare(name, *dtype, shape);
        }
        let mut data = self.writer.create(path).unwrap();
        self.tensors.iter().for_each(|(name, .., bytes)| data.write(name, bytes).unwrap());
        data.finish().unwrap();
    }

    pub(crate) fn gguf(self) -> Gguf {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        self.write(&path);
        // The map outlives the name.
        Gguf::open(path).unwrap()
    }

    pub(crate) fn load(self) -> Result<Engine, EngineError> {
        Engine::with_backend(self.open()?, &reference(), &exact())
    }
}
