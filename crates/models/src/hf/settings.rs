//! Typed reading of `config.json`. A field that is `null` is absent, as `transformers` has it.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::ModelError;

/// The fields of a JSON file.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Settings {
    pub(super) fn new(path: &Path, fields: Map<String, Value>) -> Settings {
        Settings { path: path.to_owned(), fields }
    }

    /// The folder that the file lies in.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }

    /// All of them.
    pub(super) fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    /// The object in a field.
    pub(super) fn object(&self, name: &str) -> Result<Option<Settings>, ModelError> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(fields)) => {
                Ok(Some(Settings { path: self.path.clone(), fields: fields.clone() }))
            }
            Some(other) => Err(self.bad(name, other, "an object")),
        }
    }

    /// The names of the fields.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// These fields, and those of `inner` in place of the ones that it has.
    pub(super) fn with(mut self, inner: Settings) -> Settings {
        self.fields.extend(inner.fields);
        self
    }

    /// No fields, of the same file.
    pub(super) fn empty(&self) -> Settings {
        Settings { path: self.path.clone(), fields: Map::new() }
    }

    /// The error for a model that would need what is not there.
    pub(super) fn unsupported(&self, feature: &str) -> ModelError {
        let problem = format!("this model uses {feature}, which is not supported");
        ModelError::Folder { path: self.path.clone(), problem }
    }

    pub(super) fn bad(&self, name: &str, got: &Value, expected: impl Into<String>) -> ModelError {
        let mut got = got.to_string();
        got.truncate(got.char_indices().nth(80).map_or(got.len(), |(at, _)| at));
        ModelError::BadSetting {
            path: self.path.clone(),
            field: name.to_owned(),
            got,
            expected: expected.into(),
        }
    }

    pub(super) fn missing(&self, name: &str) -> ModelError {
        let (path, field) = (self.path.clone(), name.to_owned());
        ModelError::BadSetting { path, field, got: "missing".to_owned(), expected: "there".to_owned() }
    }

    fn typed<'a, T>(
        &'a self,
        name: &str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ModelError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        convert(value).map(Some).ok_or_else(|| self.bad(name, value, expected))
    }

    pub(super) fn opt_str(&self, name: &str) -> Result<Option<&str>, ModelError> {
        self.typed(name, "text", Value::as_str)
    }

    pub(super) fn opt_bool(&self, name: &str) -> Result<Option<bool>, ModelError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    /// A whole number from 0 up that fits 32 bits.
    pub(super) fn opt_count(&self, name: &str) -> Result<Option<u32>, ModelError> {
        self.typed(name, "a whole number from 0 up", |value| value.as_u64()?.try_into().ok())
    }

    /// A finite number.
    pub(super) fn opt_number(&self, name: &str) -> Result<Option<f64>, ModelError> {
        self.typed(name, "a number", |value| value.as_f64().filter(|value| value.is_finite()))
    }

    pub(super) fn opt_numbers(&self, name: &str) -> Result<Option<Vec<f32>>, ModelError> {
        let number = |value: &Value| value.as_f64().map(|value| value as f32);
        self.typed(name, "a list of numbers", |value| value.as_array()?.iter().map(number).collect())
    }

    pub(super) fn opt_texts(&self, name: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.typed(name, "a list of texts", |value| value.as_array()?.iter().map(Value::as_str).collect())
    }

    /// The texts in an object, in the order of their keys.
    pub(super) fn opt_labels(&self, name: &str) -> Result<Option<Vec<&str>>, ModelError> {
        self.typed(name, "an object of texts", |value| {
            let mut labels: Vec<_> = value.as_object()?.iter().collect();
            labels.sort_by_key(|(key, _)| key.as_str());
            labels.into_iter().map(|(_, label)| label.as_str()).collect()
        })
    }

    /// One token id, several, or none.
    pub(super) fn ids(&self, name: &str) -> Result<Vec<u32>, ModelError> {
        let id = |value: &Value| value.as_u64()?.try_into().ok();
        let ids = self.typed(name, "a token id, or a list of such", |value| match value {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default())
    }

    pub(super) fn count(&self, name: &str) -> Result<u32, ModelError> {
        self.opt_count(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn number(&self, name: &str) -> Result<f64, ModelError> {
        self.opt_number(name)?.ok_or_else(|| self.missing(name))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}
