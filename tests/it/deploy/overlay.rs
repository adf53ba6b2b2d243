//! What an overlay comes to, as kustomize renders it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::{env, fs};

use serde_json::Value;

/// The objects of a rendered overlay.
#[derive(Clone)]
pub(super) struct Overlay(Vec<Value>);

/// The folder of the rendered overlays. The script fetches kustomize if need be.
fn rendered() -> &'static Path {
    static FOLDER: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/manifests");
        let output = Command::new(run).arg("--render").output().map_err(|error| format!(".ci/manifests: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("this test reads what kustomize renders, and it rendered nothing\n{said}"));
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
    });
    FOLDER.as_deref().unwrap_or_else(|reason| panic!("{reason}"))
}

impl Overlay {
    pub(super) fn named(name: &str) -> Self {
        let text = fs::read_to_string(rendered().join(name).with_extension("yaml")).unwrap();
        let objects: Vec<Value> = text.split("\n---\n").map(|one| serde_saphyr::from_str(one).unwrap()).collect();
        assert!(objects.len() > 5, "{name} has {} objects", objects.len());
        Self(objects)
    }

    /// The names of all overlays.
    pub(super) fn names() -> Vec<String> {
        let entries = fs::read_dir(rendered()).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = entries.map(|path| path.file_stem().unwrap().display().to_string()).collect();
        names.sort();
        names
    }

    pub(super) fn all(&self) -> &[Value] {
        &self.0
    }

    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        self.0.iter().filter(move |object| object["kind"] == kind)
    }

    pub(super) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0.iter().find(|object| object["kind"] == kind && object["metadata"]["name"] == name)
    }

    /// The first one of this kind, to be changed.
    pub(super) fn first_mut(&mut self, kind: &str) -> &mut Value {
        self.0.iter_mut().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    }

    /// Takes out every object of this kind.
    pub(super) fn remove(&mut self, kind: &str) {
        self.0.retain(|object| object["kind"] != kind);
    }
}

/// The name of an object.
pub(super) fn name(object: &Value) -> &str {
    text(&object["metadata"]["name"])
}

/// A text, empty where there is none.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A list, empty where there is none.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whether labels carry everything that a selector asks for. An empty selector would select everything; none of ours is.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector.as_object();
    wanted.is_some_and(|wanted| !wanted.is_empty() && wanted.iter().all(|(key, value)| labels[key] == *value))
}

/// A quantity such as `5Gi` or `64k`, in bytes.
pub(super) fn bytes(quantity: &str) -> u64 {
    let digits = quantity.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let factor = match &quantity[digits.len()..] {
        "" => 1,
        "Ki" | "k" => 1 << 10,
        "Mi" | "m" => 1 << 20,
        "Gi" | "g" => 1 << 30,
        unit => panic!("{unit} of {quantity}"),
    };
    digits.parse::<u64>().unwrap() * factor
}
