//! The compose file and the image, against the code and the manifests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use recording_bridge::config::Config;
use serde_json::Value;

use super::overlay::{Overlay, list, text};
use super::{root, workload};
use crate::support::command::run_arguments;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap()
}

/// Each mount of the bridge that is a file or folder of this project: what, and where it is seen.
fn binds(service: &Value) -> Vec<(PathBuf, PathBuf)> {
    let binds = list(&service["volumes"]).iter().filter(|volume| volume["type"] == "bind");
    binds.map(|bind| (text(&bind["source"]).into(), text(&bind["target"]).into())).collect()
}

fn compose_faults(compose: &Value, config_text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let service = &compose["services"]["bridge"];
    let command: Vec<&str> = list(&service["command"]).iter().map(text).collect();
    if run_arguments(&[&command[..], &["--help"]].concat()).code != Some(0) {
        faults.push(format!("the program does not know {command:?}"));
    }
    let binds = binds(service);
    let file = Path::new(command.last().unwrap());
    if !binds.iter().any(|(source, target)| target == file && source.ends_with("bridge.yaml")) {
        faults.push(format!("{} is not mounted", file.display()));
    }
    let config = match Config::parse(config_text, file.parent().unwrap()) {
        Ok(config) => config,
        Err(fault) => return vec![format!("configuration: {fault:?}")],
    };
    for key in &config.callback.keys {
        if !binds.iter().any(|(_, target)| key.file.parent() == Some(target)) {
            faults.push(format!("{} is not mounted", key.file.display()));
        }
    }
    let ports: Vec<&str> = list(&service["ports"]).iter().map(text).collect();
    for port in [config.http.listen.port(), config.admin.listen.port()] {
        if !ports.iter().any(|published| published.ends_with(&format!(":{port}"))) {
            faults.push(format!("port {port} is not published"));
        }
    }
    let spool = list(&service["volumes"]).iter().filter_map(Value::as_str).find_map(|volume| volume.split_once(':'));
    let kept = spool.is_some_and(|(volume, target)| {
        compose["volumes"].get(volume).is_some() && config.spool.directory.starts_with(target)
    });
    if !kept {
        faults.push("the spool goes with the container".to_owned());
    }
    let seconds = text(&service["stop_grace_period"]).trim_end_matches('s').parse().unwrap_or(10);
    let needed = config.shutdown.drain_delay + config.shutdown.grace + Duration::from_secs(5);
    if needed > Duration::from_secs(seconds) {
        faults.push(format!("stopping takes {needed:?}, and it is killed after {seconds} s"));
    }
    for (what, holds) in [
        ("its root file system can be written to", service["read_only"] == true),
        ("it keeps capabilities", service["cap_drop"][0] == "ALL"),
        ("it may gain privileges", service["security_opt"][0] == "no-new-privileges:true"),
    ] {
        if !holds {
            faults.push(what.to_owned());
        }
    }
    let kafka = &compose["services"]["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"];
    if *kafka != format!("PLAINTEXT://{}", config.kafka.brokers.join(",")) {
        faults.push(format!("Kafka is at {kafka}, the configuration says {:?}", config.kafka.brokers));
    }
    let creating = compose["services"]["topics"]["command"].to_string();
    for topic in [&config.kafka.topic, &config.kafka.dead_letter_topic] {
        if !creating.contains(&format!(" {topic}")) {
            faults.push(format!("nobody creates {topic}"));
        }
    }
    faults
}

#[test]
fn the_compose_file_goes_together_with_the_code() {
    let (compose, config) = (read("deploy/compose.yaml"), read("deploy/compose/bridge.yaml"));
    let judge = |compose: &str, config: &str| compose_faults(&serde_saphyr::from_str(compose).unwrap(), config);
    assert_eq!(judge(&compose, &config), Vec::<String>::new());
    for (right, wrong, said) in [
        ("\"8080:8080\"", "\"8080:8081\"", "port 8080 is not published"),
        ("stop_grace_period: 45s", "stop_grace_period: 30s", "killed after 30 s"),
        ("target: /etc/recording-bridge/bridge.yaml", "target: /etc/bridge.yaml", "is not mounted"),
        ("target: /etc/recording-bridge/keys", "target: /etc/keys", "keys/live is not mounted"),
        ("spool:/var/lib/recording-bridge", "spool:/var/lib/bridge", "goes with the container"),
        ("PLAINTEXT://kafka:9092", "PLAINTEXT://localhost:9092", "the configuration says"),
        ("in recordings recordings.dead-letter", "in recordings", "nobody creates recordings.dead-letter"),
        ("command: [serve", "command: [server", "does not know"),
        ("read_only: true\n    cap_drop", "read_only: false\n    cap_drop", "can be written to"),
    ] {
        assert!(compose.contains(right), "{right}");
        let faults = judge(&compose.replace(right, wrong), &config);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{wrong}: {faults:#?}");
    }
    let faults = judge(&compose, &config.replace("kafka:\n", "shutdown: {grace: 60s}\nkafka:\n"));
    assert!(faults[0].contains("killed after 45 s"), "{faults:?}");
}

#[test]
fn what_the_compose_file_mounts_exists_and_prometheus_finds_the_bridge() {
    let compose = yaml("deploy/compose.yaml");
    for (name, service) in compose["services"].as_object().unwrap() {
        for (source, _) in binds(service) {
            // The folder of secrets is made by hand, as the head of the file says.
            let made = source.ends_with("compose/secrets");
            assert!(made || root().join("deploy").join(&source).exists(), "{name}: {}", source.display());
        }
    }
    let config = Config::parse(&read("deploy/compose/bridge.yaml"), Path::new("/")).unwrap();
    let scraped = &yaml("deploy/compose/prometheus.yaml")["scrape_configs"][0];
    assert_eq!(scraped["static_configs"][0]["targets"][0], format!("bridge:{}", config.admin.listen.port()));
    let prometheus = &yaml("deploy/compose/grafana/datasources/prometheus.yaml")["datasources"][0]["url"];
    assert_eq!(prometheus, "http://prometheus:9090");
}

/// The value of an instruction of the last stage of the Dockerfile.
fn instruction<'a>(dockerfile: &'a str, name: &str) -> &'a str {
    let stage = dockerfile.rsplit_once("\nFROM ").unwrap().1;
    stage.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn the_image_is_what_the_manifests_start() {
    let dockerfile = read("deploy/Dockerfile");
    let overlay = Overlay::named("production");
    let bridge = workload::bridge(&overlay);
    let user = &bridge.pod["securityContext"];
    assert_eq!(instruction(&dockerfile, "USER"), format!("{}:{}", user["runAsUser"], user["runAsGroup"]));
    let command: Value = serde_json::from_str(instruction(&dockerfile, "CMD")).unwrap();
    assert_eq!(command, bridge.container["args"]);
    assert_eq!(instruction(&dockerfile, "ENTRYPOINT"), "[\"/usr/local/bin/recording-bridge\"]");
    let ports = ["callbacks", "admin"].map(|port| bridge.port(port).unwrap().to_string());
    assert_eq!(instruction(&dockerfile, "EXPOSE"), ports.join(" "));
    // The signal that the bridge takes for a request to stop, and Kubernetes sends by itself.
    assert_eq!(instruction(&dockerfile, "STOPSIGNAL"), "SIGTERM");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(instruction(&dockerfile, "ARG"), format!("VERSION={version}"));
    assert_eq!(bridge.container["image"], format!("recording-bridge:{version}"));
    let compose = &yaml("deploy/compose.yaml")["services"]["bridge"];
    assert_eq!(compose["image"], bridge.container["image"]);
    assert_eq!(compose["user"], instruction(&dockerfile, "USER"));
    assert_eq!(compose["command"], command);
    // As old as the project says that it may be.
    assert!(dockerfile.contains("\nARG RUST_BASE=rust:1."), "the Rust of the image");
}

#[test]
fn the_context_of_the_image_holds_all_that_it_copies() {
    let ignored = read(".dockerignore");
    for line in read("deploy/Dockerfile").lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from")) {
        let words: Vec<&str> = line.split(' ').skip(1).collect();
        for source in &words[..words.len() - 1] {
            assert!(root().join(source).exists(), "{source}");
            let let_in = ignored.lines().any(|kept| kept.trim_end_matches('/') == format!("!{source}"));
            assert!(let_in, "{source} is kept out by .dockerignore");
        }
    }
}

/// The layers of the dependencies are built of an empty crate. Cargo refuses one that lacks a file of its manifest.
#[test]
fn the_empty_crate_of_the_image_has_every_file_that_its_manifest_names() {
    let (dockerfile, manifest) = (read("deploy/Dockerfile"), read("Cargo.toml"));
    let stubs: Vec<&str> = dockerfile.lines().filter(|line| line.contains("| tee src/main.rs ")).collect();
    assert_eq!(stubs.len(), 2, "of the binary, and of the bill of materials");
    let benches: Vec<&str> =
        manifest.split("[[bench]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(benches.len() > 1, "{benches:?}");
    for bench in benches {
        for stub in &stubs {
            assert!(stub.contains(&format!(" benches/{bench}/main.rs")), "{bench}: {stub}");
        }
    }
    let examples = manifest.split("[[example]]\n").skip(1);
    let examples = examples.map(|rest| rest.split("\npath = \"").nth(1).and_then(|path| path.split('"').next()));
    for example in examples {
        let example = example.expect("an example names its file");
        for stub in &stubs {
            assert!(stub.contains(&format!(" {example}")), "{example}: {stub}");
        }
    }
}
