//! The metadata of a GGUF file: an ordered map from key to value, with getters that say what is wrong.

use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use whit_base::Bytes;

use super::array::{Array, Floats, Integers, Strings};
use super::cursor::{Cursor, Flaw};
use super::value::{Value, ValueType};
use crate::FileError;

/// The longest key, by the specification.
pub(crate) const MAX_KEY: u64 = 65_535;

/// The most keys; files in use have below 100.
pub(crate) const MAX_KEYS: u64 = 1 << 16;

/// Metadata of a file, in the file's order. Strings and arrays stay in the file until asked for.
///
/// The getters come in two forms: `key(..)` fails when the key is absent, `opt_key(..)` gives `None`. Both fail when
/// the key is there and holds something else. Integer getters take any integer type whose value fits, since tools
/// differ in which they write.
#[derive(Clone, Debug)]
pub struct Metadata {
    path: Arc<Path>,
    bytes: Bytes,
    entries: Vec<(Arc<str>, Stored)>,
    index: HashMap<Arc<str>, usize>,
}

/// A value without its bytes: where in the file they are.
#[derive(Clone, Debug)]
enum Stored {
    Scalar(Value<'static>),
    Str(Range<usize>),
    Array(ValueType, usize, Range<usize>),
}

impl Metadata {
    /// Reads `n` keys and values at the cursor, which walks `bytes`.
    pub(super) fn read(
        path: &Arc<Path>,
        bytes: &Bytes,
        cursor: &mut Cursor<'_>,
        n: usize,
    ) -> Result<Metadata, FileError> {
        let mut metadata =
            Metadata { path: path.clone(), bytes: bytes.clone(), entries: Vec::new(), index: HashMap::new() };
        for i in 0..n {
            let offset = cursor.position();
            let key = cursor
                .name(MAX_KEY)
                .map_err(|flaw| flaw.at(path, format!("metadata key {} of {n}", i + 1)))?;
            let place = || format!("metadata key `{key}`");
            let kind = ValueType::read(cursor).map_err(|flaw| flaw.at(path, place()))?;
            let value = Value::read(cursor, kind).map_err(|flaw| flaw.at(path, place()))?;
            let end = cursor.position();
            let stored = match value {
                Value::U8(v) => Stored::Scalar(Value::U8(v)),
                Value::I8(v) => Stored::Scalar(Value::I8(v)),
                Value::U16(v) => Stored::Scalar(Value::U16(v)),
                Value::I16(v) => Stored::Scalar(Value::I16(v)),
                Value::U32(v) => Stored::Scalar(Value::U32(v)),
                Value::I32(v) => Stored::Scalar(Value::I32(v)),
                Value::F32(v) => Stored::Scalar(Value::F32(v)),
                Value::Bool(v) => Stored::Scalar(Value::Bool(v)),
                Value::U64(v) => Stored::Scalar(Value::U64(v)),
                Value::I64(v) => Stored::Scalar(Value::I64(v)),
                Value::F64(v) => Stored::Scalar(Value::F64(v)),
                // Strings and the items of arrays are the last bytes of their value.
                Value::Str(text) => Stored::Str(end - text.len()..end),
                Value::Array(array) => {
                    Stored::Array(array.item_type(), array.len(), end - array.data().len()..end)
                }
            };
            let key: Arc<str> = key.into();
            if metadata.index.insert(key.clone(), i).is_some() {
                let flaw = Flaw::bad(offset, "every key once", format!("`{key}` a second time"));
                return Err(flaw.at(path, place()));
            }
            metadata.entries.push((key, stored));
        }
        Ok(metadata)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn value(&self, stored: &Stored) -> Value<'_> {
        let data = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        match stored {
            Stored::Scalar(value) => *value,
            Stored::Str(range) => Value::Str(data(range)),
            Stored::Array(item, len, range) => Value::Array(Array::new(*item, *len, data(range))),
        }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Keys and values in the file's order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Value<'_>)> {
        self.entries.iter().map(|(key, stored)| (&**key, self.value(stored)))
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<Value<'_>> {
        let (_, stored) = self.entries.get(*self.index.get(key)?)?;
        Some(self.value(stored))
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(Value<'a>) -> Option<T>,
    ) -> Result<Option<T>, FileError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(value) => Ok(Some(value)),
            None => Err(FileError::WrongValue {
                path: self.path.to_path_buf(),
                key: key.to_owned(),
                expected,
                got: format!("{value} ({})", value.value_type()),
            }),
        }
    }

    /// The error for a key that is needed and absent, for callers with several keys to choose from.
    pub fn missing(&self, key: &str) -> FileError {
        FileError::MissingKey { path: self.path.to_path_buf(), key: key.to_owned() }
    }

    /// A string of valid UTF-8, or `None` when the key is absent.
    pub fn opt_str(&self, key: &str) -> Result<Option<&str>, FileError> {
        self.typed(key, "text in UTF-8", |v| v.as_str())
    }

    /// An integer from 0 to 2^32-1, or `None` when the key is absent.
    pub fn opt_u32(&self, key: &str) -> Result<Option<u32>, FileError> {
        self.typed(key, "an integer from 0 to 4294967295", |v| v.as_integer()?.try_into().ok())
    }

    /// An integer from 0 to 2^64-1, or `None` when the key is absent.
    pub fn opt_u64(&self, key: &str) -> Result<Option<u64>, FileError> {
        self.typed(key, "an integer from 0 up", |v| v.as_integer()?.try_into().ok())
    }

    /// A count: an integer that fits `u32`, as a `usize`, or `None` when the key is absent. No count in a model is
    /// larger, and sums and products of two cannot overflow 64 bits.
    pub fn opt_usize(&self, key: &str) -> Result<Option<usize>, FileError> {
        Ok(self.opt_u32(key)?.map(|v| v as usize))
    }

    /// A 32-bit signed integer, or `None` when the key is absent.
    pub fn opt_i32(&self, key: &str) -> Result<Option<i32>, FileError> {
        self.typed(key, "a 32-bit integer", |v| v.as_integer()?.try_into().ok())
    }

    /// A float of either type, or `None` when the key is absent. It may be infinite or not a number.
    pub fn opt_f32(&self, key: &str) -> Result<Option<f32>, FileError> {
        self.typed(key, "a float", |v| v.as_f32())
    }

    /// A bool, or `None` when the key is absent.
    pub fn opt_bool(&self, key: &str) -> Result<Option<bool>, FileError> {
        self.typed(key, "a bool", |v| match v {
            Value::Bool(v) => Some(v),
            _ => None,
        })
    }

    /// An array of any items, or `None` when the key is absent.
    pub fn opt_array(&self, key: &str) -> Result<Option<Array<'_>>, FileError> {
        self.typed(key, "an array", |v| match v {
            Value::Array(v) => Some(v),
            _ => None,
        })
    }

    /// The strings of an array, or `None` when the key is absent.
    pub fn opt_strings(&self, key: &str) -> Result<Option<Strings<'_>>, FileError> {
        self.typed(key, "an array of strings", |v| match v {
            Value::Array(v) => v.strings(),
            _ => None,
        })
    }

    /// The integers of an array, or `None` when the key is absent.
    pub fn opt_integers(&self, key: &str) -> Result<Option<Integers<'_>>, FileError> {
        self.typed(key, "an array of integers", |v| match v {
            Value::Array(v) => v.integers(),
            _ => None,
        })
    }

    /// The floats of an array, or `None` when the key is absent.
    pub fn opt_floats(&self, key: &str) -> Result<Option<Floats<'_>>, FileError> {
        self.typed(key, "an array of floats", |v| match v {
            Value::Array(v) => v.floats(),
            _ => None,
        })
    }

    /// A string of valid UTF-8.
    pub fn str(&self, key: &str) -> Result<&str, FileError> {
        self.opt_str(key)?.ok_or_else(|| self.missing(key))
    }

    /// An integer from 0 to 2^32-1.
    pub fn u32(&self, key: &str) -> Result<u32, FileError> {
        self.opt_u32(key)?.ok_or_else(|| self.missing(key))
    }

    /// An integer from 0 to 2^64-1.
    pub fn u64(&self, key: &str) -> Result<u64, FileError> {
        self.opt_u64(key)?.ok_or_else(|| self.missing(key))
    }

    /// A count, see [`Metadata::opt_usize`].
    pub fn usize(&self, key: &str) -> Result<usize, FileError> {
        self.opt_usize(key)?.ok_or_else(|| self.missing(key))
    }

    /// A 32-bit signed integer.
    pub fn i32(&self, key: &str) -> Result<i32, FileError> {
        self.opt_i32(key)?.ok_or_else(|| self.missing(key))
    }

    /// A float of either type.
    pub fn f32(&self, key: &str) -> Result<f32, FileError> {
        self.opt_f32(key)?.ok_or_else(|| self.missing(key))
    }

    /// A bool.
    pub fn bool(&self, key: &str) -> Result<bool, FileError> {
        self.opt_bool(key)?.ok_or_else(|| self.missing(key))
    }

    /// An array of any items.
    pub fn array(&self, key: &str) -> Result<Array<'_>, FileError> {
        self.opt_array(key)?.ok_or_else(|| self.missing(key))
    }

    /// The strings of an array.
    pub fn strings(&self, key: &str) -> Result<Strings<'_>, FileError> {
        self.opt_strings(key)?.ok_or_else(|| self.missing(key))
    }

    /// The integers of an array.
    pub fn integers(&self, key: &str) -> Result<Integers<'_>, FileError> {
        self.opt_integers(key)?.ok_or_else(|| self.missing(key))
    }

    /// The floats of an array.
    pub fn floats(&self, key: &str) -> Result<Floats<'_>, FileError> {
        self.opt_floats(key)?.ok_or_else(|| self.missing(key))
    }
}
