//! Reading tables of TOML key by key, so that every value has its line and
//! every key that nobody asked for is an error.

use toml::de::{DeTable, DeValue};

use super::FILE;
use crate::buildpack::error::{DetectError, Place};
use crate::buildpack::source::line_of;

/// A value, and the line where it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::buildpack) struct Given<T> {
    /// The value.
    pub value: T,
    /// Its line in paas.toml.
    pub line: usize,
}

impl<T> Given<T> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place::line(FILE, self.line)
    }
}

/// A table whose keys are taken one by one.
pub(super) struct Section<'t, 'd> {
    text: &'t str,
    table: &'t DeTable<'d>,
    known: Vec<&'static str>,
}

impl<'t, 'd> Section<'t, 'd> {
    pub fn of(text: &'t str, table: &'t DeTable<'d>) -> Self {
        Self { text, table, known: Vec::new() }
    }

    fn line(&self, at: usize) -> usize {
        line_of(&self.text.as_bytes()[..at.min(self.text.len())])
    }

    fn take(&mut self, key: &'static str) -> Option<Given<&'t DeValue<'d>>> {
        self.known.push(key);
        let (name, value) = self.table.iter().find(|(name, _)| name.get_ref() == key)?;
        Some(Given { value: value.get_ref(), line: self.line(name.span().start) })
    }

    /// A text.
    pub fn text(&mut self, key: &'static str) -> Result<Option<Given<String>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        string(key, found.value, found.line).map(|value| Some(Given { value, line: found.line }))
    }

    /// A list of texts.
    pub fn texts(&mut self, key: &'static str) -> Result<Option<Given<Vec<String>>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        let DeValue::Array(items) = found.value else {
            return Err(bad_value(found.line, key, found.value.type_str(), &["a list of texts"]));
        };
        let each = items.iter().map(|item| string(key, item.get_ref(), self.line(item.span().start)));
        Ok(Some(Given { value: each.collect::<Result<_, _>>()?, line: found.line }))
    }

    /// A number.
    pub fn number(&mut self, key: &'static str) -> Result<Option<Given<u16>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        let DeValue::Integer(number) = found.value else {
            return Err(bad_value(found.line, key, found.value.type_str(), &["a number"]));
        };
        match number.as_str().parse() {
            Ok(value) => Ok(Some(Given { value, line: found.line })),
            Err(_) => Err(bad_value(found.line, key, number.as_str(), &["a number below 65536"])),
        }
    }

    /// A number with or without a point, as it is written; a text will do, too.
    pub fn decimal(&mut self, key: &'static str) -> Result<Option<Given<String>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        let value = match found.value {
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::String(text) => text.to_string(),
            other => return Err(bad_value(found.line, key, other.type_str(), &["a number"])),
        };
        Ok(Some(Given { value, line: found.line }))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, key: &'static str) -> Result<Option<Given<bool>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        match found.value {
            DeValue::Boolean(value) => Ok(Some(Given { value: *value, line: found.line })),
            other => Err(bad_value(found.line, key, other.type_str(), &["true", "false"])),
        }
    }

    /// A table.
    pub fn table(&mut self, key: &'static str) -> Result<Option<Self>, DetectError> {
        Ok(self.table_at(key)?.map(|given| given.value))
    }

    /// A table, with the line where it begins.
    pub fn table_at(&mut self, key: &'static str) -> Result<Option<Given<Self>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(None) };
        match found.value {
            DeValue::Table(table) => Ok(Some(Given { value: Self::of(self.text, table), line: found.line })),
            other => Err(bad_value(found.line, key, other.type_str(), &["a table"])),
        }
    }

    /// An array of tables.
    pub fn tables(&mut self, key: &'static str) -> Result<Vec<Given<Self>>, DetectError> {
        let Some(found) = self.take(key) else { return Ok(Vec::new()) };
        let refused = |line, kind| bad_value(line, key, kind, &["a list of tables"]);
        let DeValue::Array(items) = found.value else {
            return Err(refused(found.line, found.value.type_str()));
        };
        let each = items.iter().map(|item| {
            let line = self.line(item.span().start);
            match item.get_ref() {
                DeValue::Table(table) => Ok(Given { value: Self::of(self.text, table), line }),
                other => Err(refused(line, other.type_str())),
            }
        });
        each.collect()
    }

    /// A table whose keys are the app's own; of tables.
    pub fn named_tables(&mut self, key: &'static str) -> Result<Vec<(Given<String>, Self)>, DetectError> {
        let Some(inner) = self.table(key)? else { return Ok(Vec::new()) };
        let each = inner.table.iter().map(|(name, value)| {
            let name = Given { value: name.get_ref().to_string(), line: inner.line(name.span().start) };
            match value.get_ref() {
                DeValue::Table(table) => Ok((name, Self::of(self.text, table))),
                other => Err(bad_value(name.line, &name.value, other.type_str(), &["a table"])),
            }
        });
        each.collect()
    }

    /// All keys of a table whose keys are the app's own, with their texts.
    pub fn entries(self) -> Result<Vec<(String, Given<String>)>, DetectError> {
        let each = self.table.iter().map(|(name, value)| {
            let line = self.line(name.span().start);
            let value = string(name.get_ref(), value.get_ref(), line)?;
            Ok((name.get_ref().to_string(), Given { value, line }))
        });
        each.collect()
    }

    /// The first key that nobody asked for is an error.
    pub fn finish(self) -> Result<(), DetectError> {
        match self.table.iter().find(|(name, _)| !self.known.iter().any(|known| name.get_ref() == known)) {
            None => Ok(()),
            Some((name, _)) => {
                let key = name.get_ref();
                let nearest = self.known.iter().min_by_key(|known| strsim::damerau_levenshtein(key, known));
                Err(DetectError::UnknownKey {
                    place: Place::line(FILE, self.line(name.span().start)),
                    key: key.to_string(),
                    nearest: nearest.map(|&text| text.to_owned()),
                })
            }
        }
    }
}

fn string(key: &str, value: &DeValue<'_>, line: usize) -> Result<String, DetectError> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        other => Err(bad_value(line, key, other.type_str(), &["a text in quotes"])),
    }
}

/// The refusal of a value.
pub(super) fn bad_value(line: usize, key: &str, value: &str, possible: &[&str]) -> DetectError {
    bad(&Place::line(FILE, line), key, value, possible)
}

/// The same for any file.
pub(super) fn bad(place: &Place, key: &str, value: &str, possible: &[&str]) -> DetectError {
    DetectError::BadValue {
        place: place.clone(),
        key: key.to_owned(),
        value: value.to_owned(),
        possible: possible.iter().map(|&text| text.to_owned()).collect(),
    }
}
