//! Promise: whoever reads events is told the unit and the meaning of every member, in the schemas and in
//! `docs/events.md` alike, and what a released schema promises is kept.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap())
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The schemas in a folder, by name.
fn schemas(folder: &str) -> Vec<(String, Value)> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.to_str().unwrap().ends_with(".schema.json")).collect();
    files.sort();
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().trim_end_matches(".schema.json").to_owned();
    files.iter().map(|path| (name(path), read(path))).collect()
}

fn members(schema: &Value) -> &Map<String, Value> {
    schema["properties"].as_object().expect("an object has members")
}

#[test]
fn every_member_has_a_description_a_unit_and_an_example_of_its_type() {
    let schemas = schemas("schema");
    assert!(schemas.len() >= 4);
    for (name, schema) in &schemas {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema", "{name}");
        assert_eq!(schema["$id"], json!(format!("urn:recording-bridge:{name}")));
        let required: Vec<&str> =
            schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert_eq!(required.len(), members(schema).len(), "{name}: every member is always present");
        for (member, described) in members(schema) {
            assert!(required.contains(&member.as_str()), "{name}: {member} is always present");
            let description = described["description"].as_str().unwrap_or_default();
            let told = description.rsplit_once(" Unit: ");
            assert!(told.is_some_and(|(meaning, unit)| meaning.len() > 10 && unit.ends_with('.')), "{name}: {member}");
            let validator = jsonschema::options().should_validate_formats(true).build(described).unwrap();
            let examples =
                described["examples"].as_array().unwrap_or_else(|| panic!("{name}: {member} has no example"));
            assert!(!examples.is_empty(), "{name}: {member}");
            for example in examples {
                assert!(validator.is_valid(example), "{name}: {member}: {example}");
            }
        }
    }
}

/// What the type of a member is called in the documentation.
fn type_of(described: &Value) -> String {
    let types = described["type"].as_array().cloned().unwrap_or_else(|| vec![described["type"].clone()]);
    let words = types.iter().map(|word| match word.as_str().unwrap() {
        "string" if described["format"] == "date-time" => "instant",
        "string" => "text",
        other => other,
    });
    words.collect::<Vec<_>>().join(" or ")
}

/// The section of the documentation that tells of a schema.
fn section(name: &str, schema: &Value, order: &str) -> String {
    let mut names: Vec<&String> = members(schema).keys().collect();
    names.sort_by_key(|member| order.find(&format!("\n    \"{member}\": {{")).unwrap());
    let rows = names.iter().map(|member| {
        let described = &schema["properties"][member.as_str()];
        let (meaning, unit) = described["description"].as_str().unwrap().rsplit_once(" Unit: ").unwrap();
        format!("| `{member}` | {} | {} | {meaning} |\n", type_of(described), unit.trim_end_matches('.'))
    });
    let what = schema["description"].as_str().unwrap();
    format!(
        "## {name}\n\n{what}\n\n| member | type | unit | meaning |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

#[test]
fn the_documentation_of_events_says_what_the_schemas_say() {
    let path = root().join("docs/events.md");
    let text = fs::read_to_string(&path).unwrap();
    let sections = schemas("schema").into_iter().map(|(name, schema)| {
        let order = fs::read_to_string(root().join(format!("schema/{name}.schema.json"))).unwrap();
        section(&name, &schema, &order)
    });
    let sections = sections.collect::<Vec<_>>().join("\n");
    let place = text.find("## dead-letter.v1").unwrap_or(text.len());
    let (by_hand, tables) = text.split_at(place);
    if std::env::var_os("RECORDING_BRIDGE_BLESS").is_some() {
        fs::write(&path, format!("{by_hand}{sections}")).unwrap();
        return;
    }
    assert_eq!(tables, sections, "RECORDING_BRIDGE_BLESS=1 writes these tables anew");
}

/// What in `new` breaks what `released` promises to whoever reads events.
fn breaks(released: &Value, new: &Value) -> Vec<String> {
    /// What may not change at all: readers may have built upon the narrower and upon the wider.
    const FIXED: [&str; 12] = [
        "type",
        "const",
        "format",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "maxProperties",
        "additionalProperties",
        "anyOf",
        "items",
    ];
    let mut faults = Vec::new();
    let bare = |value: &Value| {
        let mut value = value.clone();
        for word in ["description", "examples"] {
            value.as_object_mut().map(|members| members.remove(word));
        }
        value
    };
    for word in ["$schema", "$id", "type", "anyOf", "additionalProperties", "propertyNames"] {
        if released.get(word) != new.get(word) {
            faults.push(format!("{word} has changed"));
        }
    }
    for required in released["required"].as_array().unwrap() {
        if !new["required"].as_array().unwrap().contains(required) {
            faults.push(format!("{required} may be absent"));
        }
    }
    for (name, old) in members(released) {
        let Some(described) = members(new).get(name) else {
            faults.push(format!("{name} is gone"));
            continue;
        };
        for word in FIXED {
            if old.get(word).map(bare) != described.get(word).map(bare) {
                faults.push(format!("{word} of {name} has changed"));
            }
        }
        let enumerated = |schema: &Value| schema.get("enum").map(|values| values.as_array().unwrap().clone());
        match (enumerated(old), enumerated(described)) {
            (Some(old), Some(new)) if old.iter().all(|value| new.contains(value)) => {}
            (None, None) => {}
            _ => faults.push(format!("enum of {name} has shrunk")),
        }
        let unit =
            |schema: &Value| schema["description"].as_str().unwrap().rsplit_once(" Unit: ").unwrap().1.to_owned();
        if unit(old) != unit(described) {
            faults.push(format!("the unit of {name} has changed"));
        }
    }
    faults
}

#[test]
fn what_a_released_schema_promises_is_kept() {
    let (released, new) = (schemas("schema/released"), schemas("schema"));
    for (name, released) in &released {
        let new = new.iter().find(|(other, _)| other == name).unwrap_or_else(|| panic!("{name} is gone"));
        assert_eq!(breaks(released, &new.1), Vec::<String>::new(), "{name}");
    }
    assert!(released.len() >= 4, "nothing is promised");
}

/// The test above can fail: each of these would break somebody.
#[test]
fn every_kind_of_breaking_change_is_seen_and_an_addition_is_none() {
    let (_, released) = schemas("schema/released").into_iter().find(|(name, _)| name == "recording-event.v1").unwrap();
    let (_, letter) = schemas("schema/released").into_iter().find(|(name, _)| name == "dead-letter.v1").unwrap();
    let changed = |schema: &Value, pointer: &str, value: Value| {
        let mut changed = schema.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        breaks(schema, &changed)
    };
    for (pointer, value) in [
        ("/properties/file_id/type", json!("string")),
        ("/properties/stream_id/type", json!(["string", "null"])),
        ("/properties/schema/const", json!("recording-event.v2")),
        ("/properties/duration_seconds/maximum", json!(1)),
        ("/properties/recording_ended_at/format", json!("date")),
        ("/properties/event_id/pattern", json!(".")),
        ("/properties/other/additionalProperties/type", json!("string")),
        ("/properties/bitrate_kbps/description", json!("Bit rate. Unit: bit/s.")),
        ("/required", json!(["schema"])),
        ("/anyOf", json!([])),
    ] {
        assert!(!changed(&released, pointer, value).is_empty(), "{pointer}");
    }
    assert!(!changed(&letter, "/properties/reason/enum", json!(["other"])).is_empty());
    let mut gone = released.clone();
    gone["properties"].as_object_mut().unwrap().remove("task_id");
    assert!(!breaks(&released, &gone).is_empty());
    let mut added = released.clone();
    added["properties"]["language"] = json!({ "description": "New. Unit: none.", "type": "string" });
    added["required"].as_array_mut().unwrap().push(json!("language"));
    added["properties"]["task_id"]["description"] = json!("In other words. Unit: none.");
    assert_eq!(breaks(&released, &added), Vec::<String>::new());
}
