//! Promise: the manifests go together with each other and with the bridge: the configuration in them is sound, probes
//! and services meet its ports, and the process is given the time that it takes to stop.

use std::fs;
use std::path::Path;
use std::time::Duration;

use recording_bridge::config::Config;
use serde_json::Value;

fn documents(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes").join(name);
    let text = fs::read_to_string(&path).unwrap();
    text.split("\n---\n").map(|document| serde_saphyr::from_str(document).unwrap()).collect()
}

fn config() -> Config {
    let map = &documents("config.yaml")[0];
    Config::parse(map["data"]["bridge.yaml"].as_str().unwrap(), Path::new("/etc/recording-bridge")).unwrap()
}

#[test]
fn the_process_is_given_the_time_that_it_takes_to_stop() {
    let seconds = documents("statefulset.yaml")[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone();
    let shutdown = config().shutdown;
    let needed = shutdown.drain_delay + shutdown.grace + Duration::from_secs(5);
    assert!(needed <= Duration::from_secs(seconds.as_u64().unwrap()), "{needed:?} of {seconds} s");
}

#[test]
fn ports_probes_labels_and_mounts_meet_what_they_mean() {
    let set = &documents("statefulset.yaml")[0];
    let pod = &set["spec"]["template"];
    let container = &pod["spec"]["containers"][0];
    let port = |name: &str| {
        let ports = container["ports"].as_array().unwrap();
        ports.iter().find(|port| port["name"] == name).map(|port| port["containerPort"].as_u64().unwrap())
    };
    let config = config();
    assert_eq!(port("callbacks"), Some(u64::from(config.http.listen.port())));
    assert_eq!(port("admin"), Some(u64::from(config.admin.listen.port())));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], "admin", "{probe}");
    }
    let labels = &pod["metadata"]["labels"];
    assert_eq!(&set["spec"]["selector"]["matchLabels"], labels);
    let [service, budget] = documents("services.yaml").try_into().unwrap();
    assert_eq!(&service["spec"]["selector"], labels);
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
    for target in service["spec"]["ports"].as_array().unwrap() {
        assert!(port(target["targetPort"].as_str().unwrap()).is_some(), "{target}");
    }
    // Every mount has its volume, and what the configuration names is mounted.
    let mounts = container["volumeMounts"].as_array().unwrap();
    let named = |list: &Value, at: fn(&Value) -> &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|entry| at(entry).as_str().unwrap().to_owned()).collect()
    };
    let mut volumes = named(&pod["spec"]["volumes"], |volume| &volume["name"]);
    volumes.extend(named(&set["spec"]["volumeClaimTemplates"], |claim| &claim["metadata"]["name"]));
    assert!(mounts.iter().all(|mount| volumes.iter().any(|volume| mount["name"] == volume.as_str())), "{mounts:?}");
    let mounted = |path: &Path| mounts.iter().any(|mount| path.starts_with(mount["mountPath"].as_str().unwrap()));
    assert!(mounted(&config.spool.directory));
    assert!(config.callback.keys.iter().all(|key| mounted(&key.file)));
    assert!(mounted(Path::new(container["args"][2].as_str().unwrap())));
}
