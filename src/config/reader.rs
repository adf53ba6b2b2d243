//! Reads values out of the tree, and keeps count of everything that is wrong with them.
//!
//! No method stops at a fault: it notes it and gives nothing, and the caller goes on with the default, so that one
//! reading finds all faults. A key that has a fault of its own is left out of the checks between keys
//! ([`Reader::is_sound`]); its default would only produce faults that nobody wrote.

use std::collections::BTreeMap;

use super::fault::Fault;
use super::keys::{self, Suggestion};
use super::tree::{Entry, Node, Value};

/// A scalar as written.
pub(super) struct Scalar<'tree> {
    pub(super) text: &'tree str,
    /// Not quoted.
    pub(super) plain: bool,
}

/// What a scalar means, or a sentence on what it should have been. The sentence never quotes the scalar.
pub(super) type Meaning<T> = Result<T, String>;

/// A mapping whose keys are known.
pub(super) struct Section<'tree> {
    path: String,
    line: Option<u32>,
    /// The name under which the list of keys has it: with `[]` for an index.
    kind: &'static str,
    entries: Vec<(&'static str, &'tree Node)>,
}

impl<'tree> Section<'tree> {
    /// The value of `key`, if the file has it.
    pub(super) fn node(&self, key: &'static str) -> Option<&'tree Node> {
        debug_assert!(keys::declared(self.kind, key).is_some(), "{key} is declared in {}", self.kind);
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, node)| *node)
    }

    /// The dotted path of `key`.
    pub(super) fn path_of(&self, key: &str) -> String {
        keys::joined(&self.path, key)
    }
}

/// The faults found so far, and the line of each key seen.
#[derive(Default)]
pub(super) struct Reader {
    faults: Vec<Fault>,
    lines: BTreeMap<String, u32>,
}

impl Reader {
    pub(super) fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    /// Notes a fault of the key at `path`, on its own line if the file has it.
    pub(super) fn fault(&mut self, path: &str, sentence: impl Into<String>) {
        self.fault_at(path, self.line_of(path), sentence);
    }

    /// Notes a fault of `node` at `path`: on the line of its key, which may stand above it.
    fn fault_of(&mut self, node: &Node, path: &str, sentence: impl Into<String>) {
        self.fault_at(path, self.line_of(path).or(Some(node.line)), sentence);
    }

    fn fault_at(&mut self, path: &str, line: Option<u32>, sentence: impl Into<String>) {
        self.faults.push(Fault { path: path.to_owned(), line, sentence: sentence.into() });
    }

    /// The line on which the file has the key at `path`.
    pub(super) fn line_of(&self, path: &str) -> Option<u32> {
        self.lines.get(path).copied()
    }

    /// Whether neither the key at `path`, nor what it stands in, nor what stands in it has a fault.
    pub(super) fn is_sound(&self, path: &str) -> bool {
        !self.faults.iter().any(|fault| is_within(&fault.path, path) || is_within(path, &fault.path))
    }

    /// The mapping at `path`, whose keys are those of `kind`; an empty one where the file has nothing.
    pub(super) fn section<'tree>(
        &mut self,
        node: Option<&'tree Node>,
        path: &str,
        kind: &'static str,
    ) -> Section<'tree> {
        let line = self.line_of(path);
        let mut section = Section { path: path.to_owned(), line, kind, entries: Vec::new() };
        for entry in self.map(node, path) {
            let Some(name) = keys::declared(kind, &entry.key) else {
                let hint = keys::suggestion(kind, &entry.key).map(|meant| match meant {
                    Suggestion::Here(key) => format!("; did you mean {}?", section.path_of(key)),
                    Suggestion::Elsewhere(path) => format!("; did you mean {path}?"),
                });
                let sentence = format!("is no key of this configuration{}", hint.unwrap_or_default());
                self.fault_at(&path_below(path, &entry.key), Some(entry.line), sentence);
                continue;
            };
            section.entries.push((name, &entry.node));
        }
        section
    }

    /// The entries of the mapping at `path`, each key once; none where the file has nothing.
    pub(super) fn map<'tree>(&mut self, node: Option<&'tree Node>, path: &str) -> Vec<&'tree Entry> {
        let Some(node) = node.filter(|node| self.is_plain(node, path)) else { return Vec::new() };
        let mut entries = Vec::new();
        match &node.value {
            Value::Map(all) => {
                for entry in all {
                    let inner = path_below(path, &entry.key);
                    if let Some(first) = self.line_of(&inner) {
                        let sentence = format!("stands here a second time; the first is on line {first}");
                        self.fault_at(&inner, Some(entry.line), sentence);
                    } else {
                        self.lines.insert(inner, entry.line);
                        entries.push(entry);
                    }
                }
            }
            Value::Nothing => {}
            Value::Scalar { .. } | Value::List(_) | Value::Alias => {
                self.fault_of(node, path, "must be a mapping: keys with their values");
            }
        }
        entries
    }

    /// What the scalar at `key` means; nothing if it is absent or wrong.
    pub(super) fn scalar<T>(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        meaning: impl FnOnce(&Scalar<'_>) -> Meaning<T>,
    ) -> Option<T> {
        let node = section.node(key)?;
        self.one(node, &section.path_of(key), meaning)
    }

    /// The elements of the list at `key` with their paths; nothing if it is absent or no list.
    pub(super) fn elements<'tree>(
        &mut self,
        section: &Section<'tree>,
        key: &'static str,
    ) -> Option<Vec<(String, &'tree Node)>> {
        let path = section.path_of(key);
        let node = section.node(key).filter(|node| self.is_plain(node, &path))?;
        let Value::List(nodes) = &node.value else {
            self.fault(&path, "must be a list, such as [one, two], or [] for none");
            return None;
        };
        let elements: Vec<_> =
            nodes.iter().enumerate().map(|(index, node)| (format!("{path}[{index}]"), node)).collect();
        for (path, node) in &elements {
            self.lines.insert(path.clone(), node.line);
        }
        Some(elements)
    }

    /// What the scalars of the list at `key` mean; nothing if it is absent or no list. Wrong elements are left out.
    pub(super) fn list<T>(
        &mut self,
        section: &Section<'_>,
        key: &'static str,
        meaning: impl Fn(&Scalar<'_>) -> Meaning<T>,
    ) -> Option<Vec<T>> {
        let elements = self.elements(section, key)?;
        Some(elements.into_iter().filter_map(|(path, node)| self.one(node, &path, &meaning)).collect())
    }

    /// Notes that `key` is absent, if it is.
    pub(super) fn require(&mut self, section: &Section<'_>, key: &'static str, advice: &str) {
        let path = section.path_of(key);
        // A section that is itself at fault has no keys that could be missing.
        if section.node(key).is_none() && !self.faults.iter().any(|fault| is_within(&section.path, &fault.path)) {
            self.fault_at(&path, section.line, format!("is missing: {advice}"));
        }
    }

    /// What the scalar `node` at `path` means.
    pub(super) fn one<T>(
        &mut self,
        node: &Node,
        path: &str,
        meaning: impl FnOnce(&Scalar<'_>) -> Meaning<T>,
    ) -> Option<T> {
        if !self.is_plain(node, path) {
            return None;
        }
        let sentence = match &node.value {
            Value::Scalar { text, plain } => match meaning(&Scalar { text, plain: *plain }) {
                Ok(value) => return Some(value),
                Err(sentence) => sentence,
            },
            Value::Nothing => "has no value".to_owned(),
            Value::List(_) | Value::Map(_) | Value::Alias => "must be a single value".to_owned(),
        };
        self.fault_of(node, path, sentence);
        None
    }

    /// Whether `node` is written out, without YAML's references and types.
    fn is_plain(&mut self, node: &Node, path: &str) -> bool {
        let sentence = match node {
            Node { value: Value::Alias, .. } => "is an alias; write the value itself",
            Node { marked: true, .. } => "carries an anchor or a tag; write the value alone",
            Node { .. } => return true,
        };
        self.fault_of(node, path, sentence);
        false
    }
}

/// Whether the key at `inner` is the one at `outer`, or stands somewhere in it.
fn is_within(inner: &str, outer: &str) -> bool {
    let rest = inner.strip_prefix(outer);
    outer.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path of `key`, known or not, in the mapping at `path`.
pub(super) fn path_below(path: &str, key: &str) -> String {
    keys::joined(path, &shown(key))
}

/// A key as it may stand in a path: what is no ordinary word is quoted and escaped, so that a fault is one line.
fn shown(key: &str) -> String {
    const LETTERS_MAX: usize = 64;
    let ordinary = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.');
    if key.is_empty() || !key.chars().all(ordinary) || key.len() > LETTERS_MAX {
        return format!("{:?}", key.chars().take(LETTERS_MAX).collect::<String>());
    }
    key.to_owned()
}
