//! Reading lock files: bounded, as text, with the line of whatever is wrong.

use super::SbomError;
use crate::model::SourceTree;
use crate::model::source::utf16;
use serde::de::{DeserializeOwned, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Largest file that is read: twice what the largest monorepos have.
const LIMIT: u64 = 8 << 20;

/// The same for TOML, whose parser keeps all of it: what detection reads, too.
const TOML_LIMIT: usize = 4 << 20;

/// The files of an app, below one folder.
#[derive(Clone, Copy)]
pub(super) struct Files<'a> {
    /// The tree.
    pub tree: &'a dyn SourceTree,
    /// The folder, with a slash at the end; empty for the root.
    pub folder: &'a str,
}

impl Files<'_> {
    /// The path in the tree.
    pub fn path(&self, name: &str) -> String {
        format!("{}{name}", self.folder)
    }

    /// Whether a regular file is there.
    pub fn has(&self, name: &str) -> bool {
        self.tree.has_file(&self.path(name))
    }

    /// The text of a file; `None` if there is none.
    pub fn text(&self, name: &str) -> Result<Option<String>, SbomError> {
        let file = self.path(name);
        if !self.tree.has_file(&file) {
            return Ok(None);
        }
        let Some(bytes) = self.tree.read(&file, LIMIT) else {
            return Err(SbomError::TooLarge { file, limit: LIMIT });
        };
        if let Some(text) = utf16(&bytes) {
            return Ok(Some(text));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let reason = "a byte here belongs to no character".to_owned();
            SbomError::Malformed { file, line: line_of(valid), format: "UTF-8 text", reason }
        })?;
        Ok(Some(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)))
    }

    /// JSON; what `T` does not name is passed over.
    pub fn json<T: DeserializeOwned>(&self, name: &str, text: &str) -> Result<T, SbomError> {
        serde_json::from_str(text).map_err(|error| SbomError::Malformed {
            file: self.path(name),
            line: error.line(),
            format: "JSON",
            reason: short(&error.to_string()),
        })
    }

    /// TOML, likewise.
    pub fn toml<T: DeserializeOwned>(&self, name: &str, text: &str) -> Result<T, SbomError> {
        if text.len() > TOML_LIMIT {
            return Err(SbomError::TooLarge { file: self.path(name), limit: TOML_LIMIT as u64 });
        }
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            SbomError::Malformed {
                file: self.path(name),
                line: before.map_or(0, |before| line_of(before.as_bytes())),
                format: "TOML",
                reason: short(error.message()),
            }
        })
    }
}

fn line_of(before: &[u8]) -> usize {
    before.split(|byte| *byte == b'\n').count()
}

/// A parser's words on one line, without what it quotes at length.
fn short(text: &str) -> String {
    super::component::plain(text.split(" at line ").next().unwrap_or(text)).chars().take(120).collect()
}

/// A text where there is one; anything else is passed over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Loose(pub Option<String>);

impl<'de> serde::Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Loose;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("anything")
            }
            fn visit_str<E>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose(Some(text.to_owned())))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Loose, E> {
                Ok(Loose(None))
            }
            fn visit_i64<E>(self, _: i64) -> Result<Loose, E> {
                Ok(Loose(None))
            }
            fn visit_u64<E>(self, _: u64) -> Result<Loose, E> {
                Ok(Loose(None))
            }
            fn visit_f64<E>(self, _: f64) -> Result<Loose, E> {
                Ok(Loose(None))
            }
            fn visit_unit<E>(self) -> Result<Loose, E> {
                Ok(Loose(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Loose, A::Error> {
                while items.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Loose(None))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The keys of a table where there is one; what stands under them is passed over.
#[derive(Debug, Default)]
pub(super) struct Keys(pub Vec<String>);

impl<'de> serde::Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Table;
        impl<'de> Visitor<'de> for Table {
            type Value = Keys;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a table or a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Keys::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, _)) = items.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_any(Table)
    }
}
