//! One number of a model: what `config.json` calls it, and what GGUF does. A table of these reads both ways.

use whit_files::GgufWriter;

use super::settings::Settings;
use crate::ModelError;

/// A number under its two names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    /// In `config.json`.
    pub(super) field: &'static str,
    /// In GGUF, behind the name of the architecture.
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    absent: Absent,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Count,
    Number,
    Flag,
}

/// What it is where `config.json` does not say.
#[derive(Clone, Copy, Debug)]
enum Absent {
    /// It has to.
    Refused,
    /// Then no key is written.
    Left,
    Count(u32),
    Number(f32),
    /// The same as another field.
    As(&'static str),
}

/// A count that must be there.
pub(super) const fn count(field: &'static str, key: &'static str) -> Field {
    Field { field, key, kind: Kind::Count, absent: Absent::Refused }
}

/// A number that must be there.
pub(super) const fn number(field: &'static str, key: &'static str) -> Field {
    Field { field, key, kind: Kind::Number, absent: Absent::Refused }
}

/// A flag that need not be there.
pub(super) const fn flag(field: &'static str, key: &'static str) -> Field {
    Field { field, key, kind: Kind::Flag, absent: Absent::Left }
}

impl Field {
    pub(super) const fn or_count(self, value: u32) -> Field {
        Field { absent: Absent::Count(value), ..self }
    }

    pub(super) const fn or_number(self, value: f32) -> Field {
        Field { absent: Absent::Number(value), ..self }
    }

    pub(super) const fn or_as(self, field: &'static str) -> Field {
        Field { absent: Absent::As(field), ..self }
    }

    pub(super) const fn or_left(self) -> Field {
        Field { absent: Absent::Left, ..self }
    }

    /// The value as a count, default included.
    pub(super) fn count(&self, settings: &Settings) -> Result<Option<u32>, ModelError> {
        if let Some(value) = settings.opt_count(self.field)? {
            return Ok(Some(value));
        }
        match self.absent {
            Absent::Count(value) => Ok(Some(value)),
            Absent::As(field) => settings.count(field).map(Some),
            Absent::Refused => Err(settings.missing(self.field)),
            Absent::Left | Absent::Number(_) => Ok(None),
        }
    }

    /// Sets the key to what `config.json` says.
    pub(super) fn translate(
        &self,
        settings: &Settings,
        architecture: &str,
        out: &mut GgufWriter,
    ) -> Result<(), ModelError> {
        let key = format!("{architecture}.{}", self.key);
        match self.kind {
            Kind::Count => {
                if let Some(value) = self.count(settings)? {
                    out.set(&key, value);
                }
            }
            Kind::Flag => {
                if let Some(value) = settings.opt_bool(self.field)? {
                    out.set(&key, value);
                }
            }
            Kind::Number => match (settings.opt_number(self.field)?, self.absent) {
                (Some(value), _) => out.set(&key, value as f32),
                (None, Absent::Number(value)) => out.set(&key, value),
                (None, Absent::Refused) => return Err(settings.missing(self.field)),
                (None, _) => {}
            },
        }
        Ok(())
    }
}
