//! What a `StatefulSet` or a Job refers to, within its pod and around it: all that no schema and no API server looks at.

use std::path::{Path, PathBuf};
use std::time::Duration;

use recording_bridge::config::Config;
use serde_json::Value;

use super::overlay::{Overlay, bytes, list, name, selects, text};
use crate::support::command::run_arguments;

/// Secrets are not in the manifests; these are their members. `deploy/runbooks/install.md` makes them.
pub(super) const SECRETS: [(&str, &[&str]); 3] = [
    ("recording-bridge-keys", &["live", "spare"]),
    ("recording-bridge-kafka", &["password"]),
    ("recording-bridge-kafka-ca", &["ca.crt"]),
];
/// Between the end of the grace and the kill.
const MARGIN: Duration = Duration::from_secs(5);
/// Everything at its limit but `kafka.queue_bytes_max` and unfinished bodies (64 MiB): connections, messages that wait.
const OTHER_MEMORY: u64 = 432 << 20;
/// What file systems keep for themselves, of a hundred.
const FILE_SYSTEM_PERCENT: u64 = 5;

/// A workload, its pod and its only container.
pub(super) struct Workload<'a> {
    pub(super) object: &'a Value,
    pub(super) labels: &'a Value,
    pub(super) pod: &'a Value,
    pub(super) container: &'a Value,
    overlay: &'a Overlay,
}

/// The bridge: the `StatefulSet`.
pub(super) fn bridge(overlay: &Overlay) -> Workload<'_> {
    let mut sets = overlay.of_kind("StatefulSet");
    let set = sets.next().unwrap();
    assert!(sets.next().is_none(), "more than one StatefulSet");
    Workload::of(set, overlay)
}

/// Everything that runs.
pub(super) fn workloads(overlay: &Overlay) -> Vec<Workload<'_>> {
    let kinds = ["StatefulSet", "Job", "Deployment", "DaemonSet", "CronJob", "Pod"];
    let objects = overlay.all().iter().filter(|object| kinds.contains(&text(&object["kind"])));
    objects.map(|object| Workload::of(object, overlay)).collect()
}

impl<'a> Workload<'a> {
    fn of(object: &'a Value, overlay: &'a Overlay) -> Self {
        let template = &object["spec"]["template"];
        let containers = list(&template["spec"]["containers"]);
        assert_eq!(containers.len(), 1, "{}", name(object));
        let labels = &template["metadata"]["labels"];
        Self { object, labels, pod: &template["spec"], container: &containers[0], overlay }
    }

    fn arguments(&self) -> Vec<&str> {
        list(&self.container["args"]).iter().map(text).collect()
    }

    /// What follows `option` in the arguments.
    fn argument(&self, option: &str) -> Option<PathBuf> {
        let arguments = self.arguments();
        let at = arguments.iter().position(|argument| *argument == option)?;
        arguments.get(at + 1).map(PathBuf::from)
    }

    /// The number of the port of this name.
    pub(super) fn port(&self, name: &str) -> Option<u64> {
        let port = list(&self.container["ports"]).iter().find(|port| port["name"] == name);
        port.and_then(|port| port["containerPort"].as_u64())
    }

    /// The text of the configuration file that it is started with.
    pub(super) fn configuration(&self) -> Result<Config, String> {
        let path = self.argument("--config").ok_or("no --config")?;
        let (volume, inside) = self.file(&path).ok_or_else(|| format!("{} is not mounted", path.display()))?;
        let map = text(&volume["configMap"]["name"]);
        let map = self.overlay.find("ConfigMap", map).ok_or_else(|| format!("no ConfigMap {map}"))?;
        let found = map["data"][&inside].as_str().ok_or_else(|| format!("no {inside} in {}", name(map)))?;
        Config::parse(found, path.parent().unwrap()).map_err(|faults| format!("{faults:?}"))
    }

    /// The volume that a file is in, and its path in there.
    fn file(&self, path: &Path) -> Option<(&'a Value, String)> {
        let mount =
            list(&self.container["volumeMounts"]).iter().find(|mount| path.starts_with(text(&mount["mountPath"])));
        let mount = mount?;
        let volume = list(&self.pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"])?;
        let rest = path.strip_prefix(text(&mount["mountPath"])).unwrap();
        let inside = Path::new(text(&mount["subPath"])).join(rest);
        Some((volume, inside.to_str().unwrap().trim_end_matches('/').to_owned()))
    }

    /// The claim on whose volume a folder is, if it may be written to: by template, or by name.
    fn claim(&self, folder: &Path) -> Option<&'a Value> {
        let mount =
            list(&self.container["volumeMounts"]).iter().find(|mount| folder.starts_with(text(&mount["mountPath"])));
        let mount = mount.filter(|mount| mount["readOnly"] != true)?;
        let templates = list(&self.object["spec"]["volumeClaimTemplates"]);
        let volumes = list(&self.pod["volumes"]).iter().filter(|volume| volume["persistentVolumeClaim"].is_object());
        templates
            .iter()
            .find(|claim| claim["metadata"]["name"] == mount["name"])
            .or_else(|| volumes.into_iter().find(|volume| volume["name"] == mount["name"]))
    }

    /// Everything that does not go together.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = self.volume_faults();
        faults.extend(self.pod_faults());
        match self.configuration() {
            Ok(config) => faults.extend(self.configuration_faults(&config)),
            Err(fault) => faults.push(format!("configuration: {fault}")),
        }
        let known = run_arguments(&[&self.arguments()[..], &["--help"]].concat());
        if known.code != Some(0) {
            faults.push(format!("the program does not know these arguments: {}", known.stderr));
        }
        let who = name(self.object);
        faults.into_iter().map(|fault| format!("{who}: {fault}")).collect()
    }

    fn volume_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let named = |list: &[Value]| -> Vec<String> { list.iter().map(|one| text(&one["name"]).to_owned()).collect() };
        let mut volumes = named(list(&self.pod["volumes"]));
        volumes.extend(list(&self.object["spec"]["volumeClaimTemplates"]).iter().map(|claim| name(claim).to_owned()));
        let mounts = named(list(&self.container["volumeMounts"]));
        faults.extend(mounts.iter().filter(|mount| !volumes.contains(mount)).map(|mount| format!("no volume {mount}")));
        faults.extend(
            volumes.iter().filter(|volume| !mounts.contains(volume)).map(|one| format!("{one} is not mounted")),
        );
        for volume in list(&self.pod["volumes"]) {
            for (source, members) in sources(volume) {
                let held: Vec<&str> = match self.overlay.find("ConfigMap", source) {
                    Some(map) => map["data"].as_object().unwrap().keys().map(String::as_str).collect(),
                    None => {
                        SECRETS.iter().find(|(secret, _)| *secret == source).map_or(vec![], |(_, keys)| keys.to_vec())
                    }
                };
                if held.is_empty() {
                    faults.push(format!("there is no ConfigMap and no known secret {source}"));
                }
                faults.extend(
                    members.iter().filter(|key| !held.contains(key)).map(|key| format!("no {key} in {source}")),
                );
            }
            if let Some(claim) = volume["persistentVolumeClaim"]["claimName"].as_str() {
                faults.extend(self.orphan_faults(claim));
            }
        }
        faults
    }

    /// A claim by name must be one that the `StatefulSet` makes.
    fn orphan_faults(&self, claim: &str) -> Option<String> {
        let set = bridge(self.overlay).object;
        let made = list(&set["spec"]["volumeClaimTemplates"]).iter().any(|template| {
            let number = claim.strip_prefix(&format!("{}-{}-", name(template), name(set)));
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        });
        (!made).then(|| format!("{} makes no claim {claim}", name(set)))
    }

    fn pod_faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let spec = &self.object["spec"];
        if spec["selector"].is_object() && !selects(&spec["selector"]["matchLabels"], self.labels) {
            faults.push("its selector does not select its pods".to_owned());
        }
        let terms = &self.pod["affinity"]["podAntiAffinity"];
        let required = list(&terms["requiredDuringSchedulingIgnoredDuringExecution"]).iter();
        let preferred = list(&terms["preferredDuringSchedulingIgnoredDuringExecution"]).iter();
        let spread = list(&self.pod["topologySpreadConstraints"]).iter();
        for term in required.chain(preferred.map(|term| &term["podAffinityTerm"])).chain(spread) {
            if !selects(&term["labelSelector"]["matchLabels"], self.labels) {
                faults.push(format!("{} is kept apart from other pods than its own", text(&term["topologyKey"])));
            }
        }
        let account = text(&self.pod["serviceAccountName"]);
        if self.overlay.find("ServiceAccount", account).is_none() {
            faults.push(format!("no ServiceAccount {account}"));
        }
        for (probe, path) in [("startupProbe", "/live"), ("livenessProbe", "/live"), ("readinessProbe", "/ready")] {
            let asks = &self.container[probe]["httpGet"];
            if self.container["ports"].is_array() && (asks["port"] != "admin" || asks["path"] != path) {
                faults.push(format!("{probe} asks {asks} and not admin for {path}"));
            }
        }
        let container = &self.container["securityContext"];
        for (what, holds) in [
            ("the token of its account is mounted", self.pod["automountServiceAccountToken"] == false),
            ("its root file system can be written to", container["readOnlyRootFilesystem"] == true),
            ("it may gain privileges", container["allowPrivilegeEscalation"] == false),
            ("it keeps capabilities", container["capabilities"]["drop"][0] == "ALL"),
            ("its user is no number", self.pod["securityContext"]["runAsUser"].is_u64()),
            ("its group does not get the volume", {
                let context = &self.pod["securityContext"];
                context["fsGroup"].is_u64() && context["fsGroup"] == context["runAsGroup"]
            }),
        ] {
            if !holds {
                faults.push(what.to_owned());
            }
        }
        let bridges = bridge(self.overlay);
        if self.container["image"] != bridges.container["image"] {
            faults.push(format!("it runs {} and not what the bridge runs", self.container["image"]));
        }
        if self.pod["securityContext"]["runAsUser"] != bridges.pod["securityContext"]["runAsUser"] {
            faults.push("it is another user than the bridge, and cannot read the spool".to_owned());
        }
        faults
    }

    fn configuration_faults(&self, config: &Config) -> Vec<String> {
        let mut faults = Vec::new();
        if self.container["ports"].is_array() {
            for (port, meant) in [("callbacks", config.http.listen.port()), ("admin", config.admin.listen.port())] {
                if self.port(port) != Some(u64::from(meant)) {
                    faults.push(format!("port {port} is {:?}, the configuration says {meant}", self.port(port)));
                }
            }
        }
        let tls = config.kafka.tls.iter().flat_map(|tls| [&tls.ca_file, &tls.certificate_file, &tls.key_file]);
        let mut files: Vec<&Path> = tls.flatten().map(PathBuf::as_path).collect();
        files.extend(config.kafka.sasl.iter().map(|sasl| sasl.password_file.as_path()));
        files.extend(config.callback.keys.iter().map(|key| key.file.as_path()));
        for file in files {
            let held = self.file(file).is_some_and(|(volume, inside)| {
                sources(volume).iter().any(|(_, members)| members.contains(&inside.as_str()))
            });
            if !held {
                faults.push(format!("{} is in no volume", file.display()));
            }
        }
        let directory = self.argument("--dir").unwrap_or_else(|| config.spool.directory.clone());
        if directory != config.spool.directory {
            faults.push(format!("it is to drain {}, and the spool is elsewhere", directory.display()));
        }
        let Some(claim) = self.claim(&directory) else {
            faults.push(format!("the spool in {} is on no claim", directory.display()));
            return faults;
        };
        if let Some(storage) = claim["spec"]["resources"]["requests"]["storage"].as_str() {
            let spool = &config.spool;
            // Other events only take what all these leave.
            let others = config.kafka.other_events_topic.as_ref().map_or(0, |_| spool.other_events_bytes_max);
            let needed = spool.bytes_max + spool.dead_letter_bytes_max + spool.disk_free_min + others;
            if needed > bytes(storage) / 100 * (100 - FILE_SYSTEM_PERCENT) {
                faults.push(format!("the spool may take {needed} bytes of a volume of {storage}"));
            }
            if claim["spec"]["accessModes"] != serde_json::json!(["ReadWriteOncePod"]) {
                faults.push(format!("the volume is {}", claim["spec"]["accessModes"]));
            }
            let kept = &self.object["spec"]["persistentVolumeClaimRetentionPolicy"];
            if kept["whenDeleted"] != "Retain" || kept["whenScaled"] != "Retain" {
                faults.push("its volumes go with it".to_owned());
            }
        }
        let seconds = Duration::from_secs(self.pod["terminationGracePeriodSeconds"].as_u64().unwrap_or(30));
        let needed = config.shutdown.drain_delay + config.shutdown.grace + MARGIN;
        if needed > seconds {
            faults.push(format!("stopping takes up to {needed:?}, and it is killed after {seconds:?}"));
        }
        let memory = bytes(text(&self.container["resources"]["limits"]["memory"]));
        let needed = u64::try_from(config.kafka.queue_bytes_max).unwrap() + (64 << 20) + OTHER_MEMORY;
        if needed > memory {
            faults.push(format!("it may take {needed} bytes of memory and gets {memory}"));
        }
        faults
    }
}

/// The `ConfigMaps` and secrets in a volume, and which members of each, by the name of the file that they become.
fn sources(volume: &Value) -> Vec<(&str, Vec<&str>)> {
    let mut found = Vec::new();
    let projected = list(&volume["projected"]["sources"]).iter();
    for source in projected.chain([volume]) {
        for (kind, naming) in [("configMap", "name"), ("secret", "name"), ("secret", "secretName")] {
            if let Some(name) = source[kind][naming].as_str() {
                let items = list(&source[kind]["items"]).iter();
                // Files are named like the members: a reader of the configuration should find them in the secret.
                found.push((
                    name,
                    items.filter(|item| item["key"] == item["path"]).map(|item| text(&item["key"])).collect(),
                ));
            }
        }
    }
    found
}
