//! The document as text: read with the place of every error, written in one form.

use std::fmt::{self, Write};

use serde::Serialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny};

use super::check::RuleFault;
use super::document::{Rule, RuleDocument, RuleGuard, Unchecked};
use crate::api::values::{Manner, Mode, read};

/// Why a document was refused, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RuleFileError {
    /// The file, where there is one.
    pub(crate) file: Option<String>,
    /// The line, from 1.
    pub(crate) line: usize,
    /// The column, from 1: characters in TOML, bytes in JSON.
    pub(crate) column: usize,
    /// The expectation, and what was found.
    pub(crate) message: String,
}

impl fmt::Display for RuleFileError {
    /// As compilers write it: "rules.toml:12:9: expected …, found …".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, message } = self;
        match file {
            Some(file) => write!(f, "{file}:{line}:{column}: {message}"),
            None => write!(f, "line {line}, column {column}: {message}"),
        }
    }
}

impl std::error::Error for RuleFileError {}

impl RuleDocument {
    /// Reads a rules file; `file` is its name for the message.
    pub(crate) fn from_toml(text: &str, file: &str) -> Result<Self, RuleFileError> {
        let parsed = toml::Deserializer::parse(text).and_then(read::<Unchecked, _>);
        let document = Self::from(parsed.map_err(|error| in_toml(&error, text, file))?);
        document.check().map_err(|fault| fault.in_toml(text, file))?;
        Ok(document)
    }

    /// Reads the body of a request.
    pub(crate) fn from_json(bytes: &[u8]) -> Result<Self, RuleFileError> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let parsed = read::<Unchecked, _>(&mut deserializer).and_then(|parsed| deserializer.end().map(|()| parsed));
        let document = Self::from(parsed.map_err(|error| in_json(&error))?);
        document.check().map_err(|fault| fault.in_json(bytes))?;
        if document.rules.is_empty() && !names_rules(bytes) {
            let message = "expected a list of rules, \"rule\"; an empty list takes all rules away".to_owned();
            return Err(RuleFileError { file: None, line: 1, column: 1, message });
        }
        Ok(document)
    }

    /// The document as a rules file: each table with a line for each field that is there.
    pub(crate) fn to_toml(&self) -> String {
        let mut text = String::new();
        if let Some(RuleGuard { closes_per_second, percent_per_minute, protect_ports }) = &self.guard {
            text.push_str("[guard]\n");
            write_field(&mut text, "closes_per_second", closes_per_second.as_ref());
            write_field(&mut text, "percent_per_minute", percent_per_minute.as_ref());
            write_field(&mut text, "protect_ports", protect_ports.as_ref());
        }
        for rule in &self.rules {
            let Rule { name, matching, mode, keepalive, user_timeout, lifetime, close, grace, enforce, protect, track } =
                rule;
            text.push_str(if text.is_empty() { "[[rule]]\n" } else { "\n[[rule]]\n" });
            write_field(&mut text, "name", Some(name));
            write_field(&mut text, "match", Some(matching).filter(|matching| !matching.is_empty()));
            write_field(&mut text, "mode", Some(mode).filter(|mode| **mode != Mode::default()));
            write_field(&mut text, "keepalive", keepalive.as_ref());
            write_field(&mut text, "user_timeout", user_timeout.as_ref());
            write_field(&mut text, "lifetime", lifetime.as_ref());
            write_field(&mut text, "close", Some(close).filter(|close| **close != Manner::default()));
            write_field(&mut text, "grace", grace.as_ref());
            write_field(&mut text, "enforce", Some(enforce).filter(|enforce| !**enforce));
            write_field(&mut text, "protect", Some(protect).filter(|protect| **protect));
            write_field(&mut text, "track", Some(track).filter(|track| !**track));
        }
        text
    }

    /// The document as JSON in one line, without the fields that are absent.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, integers and tables with string keys are JSON")
    }
}

/// True for a body that says anything about rules: `{}`, sent by mistake, must not take them all away.
fn names_rules(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Value>(bytes).is_ok_and(|body| body.get("rule").is_some())
}

fn write_field(text: &mut String, field: &str, value: Option<&impl Serialize>) {
    if let Some(value) = value {
        write!(text, "{field} = ").expect("writing to a string cannot fail");
        value.serialize(toml::ser::ValueSerializer::new(text)).expect("every field is a TOML value");
        text.push('\n');
    }
}

impl RuleFault {
    /// The fault with its place in the rules file that it was found in.
    pub(crate) fn in_toml(&self, text: &str, file: &str) -> RuleFileError {
        let placed = toml::Deserializer::parse(text).and_then(|deserializer| self.raise(deserializer));
        match placed {
            Err(error) => in_toml(&error, text, file),
            Ok(()) => RuleFileError { file: Some(file.to_owned()), line: 1, column: 1, message: self.to_string() },
        }
    }

    /// The fault with its place in the body that it was found in.
    pub(crate) fn in_json(&self, bytes: &[u8]) -> RuleFileError {
        match self.raise(&mut serde_json::Deserializer::from_slice(bytes)) {
            Err(error) => in_json(&error),
            Ok(()) => RuleFileError { file: None, line: 1, column: 1, message: self.to_string() },
        }
    }

    /// Reads the document again up to the field at fault and fails there, since only a parser at work knows where it
    /// is.
    fn raise<'de, D: Deserializer<'de>>(&self, deserializer: D) -> Result<(), D::Error> {
        let mut path = vec![FieldStep::Key("rule"), FieldStep::Index(self.index)];
        path.extend(self.field.split('.').map(FieldStep::Key));
        let message = self.to_string();
        FailAt { path: &path, message: &message }.deserialize(deserializer)
    }
}

#[derive(Clone, Copy)]
enum FieldStep<'a> {
    Key(&'a str),
    Index(usize),
}

/// Deserializes nothing, and fails at the end of `path`; where the path leaves the document, at the last table in it.
#[derive(Clone, Copy)]
struct FailAt<'a> {
    path: &'a [FieldStep<'a>],
    message: &'a str,
}

impl<'a> FailAt<'a> {
    fn next(self) -> Option<(FieldStep<'a>, Self)> {
        self.path.split_first().map(|(step, path)| (*step, Self { path, ..self }))
    }
}

impl<'de> DeserializeSeed<'de> for FailAt<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.path.is_empty() {
            return Err(de::Error::custom(self.message));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for FailAt<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the document that was read before")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match self.next() {
                Some((FieldStep::Key(step), rest)) if step == key => return map.next_value_seed(rest),
                _ => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Err(de::Error::custom(self.message))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if let Some((FieldStep::Index(index), rest)) = self.next() {
            for _ in 0..index {
                list.next_element::<IgnoredAny>()?;
            }
            if let Some(()) = list.next_element_seed(rest)? {
                return Ok(());
            }
        }
        Err(de::Error::custom(self.message))
    }
}

/// The field as which a TOML date shows itself where a table is read.
const DATE_FIELD: &str = "unknown field `$__toml_private_datetime`";

/// An error of the parser with its place in the file.
pub(crate) fn in_toml(error: &toml::de::Error, text: &str, file: &str) -> RuleFileError {
    let start = error.span().map_or(0, |span| text.floor_char_boundary(span.start));
    let before = &text[..start];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    RuleFileError {
        file: Some(file.to_owned()),
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
        message: error.message().replace(DATE_FIELD, "found a date or a time"),
    }
}

fn in_json(error: &serde_json::Error) -> RuleFileError {
    let (line, column) = (error.line(), error.column());
    let mut message = error.to_string();
    let place = format!(" at line {line} column {column}");
    if message.ends_with(&place) {
        message.truncate(message.len() - place.len());
    }
    // The parser counts an error before the first byte of a line to its column 0.
    RuleFileError { file: None, line, column: column.max(1), message }
}

#[cfg(test)]
mod tests;
