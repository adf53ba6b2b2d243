//! What stands around the bridge and means it: services, budget, network policy, ingress, monitoring, topics and user.

use recording_bridge::config::Config;
use serde_json::Value;

use super::overlay::{Overlay, bytes, list, name, selects, text};
use super::workload::{Workload, bridge, workloads};

/// The longest message of the bridge, in bytes.
const MESSAGE_BYTES_MAX: u64 = 1_000_000;
/// After which the sender gives up, in seconds.
const SENDER_PATIENCE: u64 = 20;

/// Everything in an overlay that does not go together.
pub(super) fn faults(overlay: &Overlay) -> Vec<String> {
    let mut faults: Vec<String> = workloads(overlay).iter().flat_map(Workload::faults).collect();
    let bridge = bridge(overlay);
    faults.extend(namespace_faults(overlay));
    faults.extend(service_faults(overlay, &bridge));
    faults.extend(budget_faults(overlay, &bridge));
    faults.extend(monitoring_faults(overlay, &bridge));
    if let Ok(config) = bridge.configuration() {
        faults.extend(policy_faults(overlay, &bridge, &config));
        faults.extend(ingress_faults(overlay, &config));
        faults.extend(kafka_faults(overlay, &config));
    }
    faults
}

fn namespace_faults(overlay: &Overlay) -> Vec<String> {
    let mut faults = Vec::new();
    let namespace = overlay.of_kind("Namespace").next().map_or("", name);
    let mut seen = std::collections::BTreeSet::new();
    for object in overlay.all() {
        let what = format!("{} {}", text(&object["kind"]), name(object));
        if object["kind"] != "Namespace" && object["metadata"]["namespace"] != namespace {
            faults.push(format!("{what} is not in {namespace}"));
        }
        if !seen.insert(what.clone()) {
            faults.push(format!("{what} is there twice"));
        }
    }
    let enforced = overlay
        .of_kind("Namespace")
        .all(|namespace| namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted");
    if !enforced {
        faults.push("the namespace does not enforce restricted".to_owned());
    }
    faults
}

fn service_faults(overlay: &Overlay, bridge: &Workload<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    for service in overlay.of_kind("Service") {
        for workload in workloads(overlay) {
            let selected = selects(&service["spec"]["selector"], workload.labels);
            if selected != (name(workload.object) == name(bridge.object)) {
                let does = if selected { "selects" } else { "does not select" };
                faults.push(format!("service {} {does} {}", name(service), name(workload.object)));
            }
        }
        for port in list(&service["spec"]["ports"]) {
            if bridge.port(text(&port["targetPort"])).is_none() {
                faults.push(format!("service {} leads to no port {}", name(service), port["targetPort"]));
            }
        }
    }
    let governing = overlay.find("Service", text(&bridge.object["spec"]["serviceName"]));
    if governing.is_none_or(|service| service["spec"]["clusterIP"] != "None") {
        faults.push(format!("no headless service {}", bridge.object["spec"]["serviceName"]));
    }
    faults
}

fn budget_faults(overlay: &Overlay, bridge: &Workload<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let replicas = bridge.object["spec"]["replicas"].as_u64().unwrap();
    let mut budgets = 0;
    for budget in overlay.of_kind("PodDisruptionBudget") {
        budgets += 1;
        let spec = &budget["spec"];
        for workload in workloads(overlay) {
            let is_bridge = name(workload.object) == name(bridge.object);
            if selects(&spec["selector"]["matchLabels"], workload.labels) != is_bridge {
                faults.push(format!("the budget counts others than the bridge, or not it: {}", name(workload.object)));
            }
        }
        let at_least = spec["minAvailable"].as_u64().unwrap_or(0);
        if spec["maxUnavailable"] == 0 || at_least >= replicas || spec["minAvailable"].is_string() {
            faults.push(format!("of {replicas} replicas none may ever be drained: {spec}"));
        }
    }
    if budgets != 1 {
        faults.push(format!("{budgets} budgets"));
    }
    faults
}

fn policy_faults(overlay: &Overlay, bridge: &Workload<'_>, config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    let mut policies = overlay.of_kind("NetworkPolicy");
    let Some(policy) = policies.next() else { return vec!["no network policy".to_owned()] };
    let spec = &policy["spec"];
    for workload in workloads(overlay) {
        if !selects(&spec["podSelector"]["matchLabels"], workload.labels) {
            faults.push(format!("the network policy does not mean {}", name(workload.object)));
        }
    }
    if spec["policyTypes"] != serde_json::json!(["Ingress", "Egress"]) {
        faults.push("the network policy leaves a direction open".to_owned());
    }
    let ports = |rules: &Value| -> Vec<Value> {
        list(rules).iter().flat_map(|rule| list(&rule["ports"])).map(|port| port["port"].clone()).collect()
    };
    let opened = ports(&spec["ingress"]);
    for port in ["callbacks", "admin"] {
        if !opened.iter().any(|opened| opened == port) {
            faults.push(format!("nobody may reach {port}"));
        }
    }
    for port in opened {
        if bridge.port(text(&port)).is_none() {
            faults.push(format!("the network policy opens {port}, which is no port"));
        }
    }
    if list(&spec["ingress"]).iter().chain(list(&spec["egress"])).any(|rule| rule["ports"].is_null()) {
        faults.push("the network policy opens every port to somebody".to_owned());
    }
    for broker in &config.kafka.brokers {
        let (host, port) = broker.rsplit_once(':').unwrap();
        let namespace = host.split('.').nth(1);
        let reached = list(&spec["egress"]).iter().any(|rule| {
            let there = list(&rule["to"]).iter().any(|to| {
                let named = &to["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
                to["ipBlock"].is_object() || namespace.is_some_and(|namespace| named == namespace)
            });
            there && list(&rule["ports"]).iter().any(|opened| opened["port"].as_u64() == port.parse().ok())
        });
        if !reached {
            faults.push(format!("the network policy does not lead to {broker}"));
        }
    }
    for protocol in ["UDP", "TCP"] {
        let asked =
            |rule: &Value| list(&rule["ports"]).iter().any(|port| port["port"] == 53 && port["protocol"] == protocol);
        if !list(&spec["egress"]).iter().any(asked) {
            faults.push(format!("no names over {protocol}"));
        }
    }
    faults
}

fn ingress_faults(overlay: &Overlay, config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    for ingress in overlay.of_kind("Ingress") {
        let annotation =
            |name: &str| text(&ingress["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{name}")]);
        if bytes(annotation("proxy-body-size")) < u64::try_from(config.http.body_bytes_max).unwrap() {
            faults.push("the ingress takes shorter bodies than the bridge".to_owned());
        }
        let patience = annotation("proxy-read-timeout").parse::<u64>().unwrap_or(0);
        if patience <= config.http.request_deadline.as_secs() || patience > SENDER_PATIENCE {
            faults.push(format!("the ingress waits {patience} s for an answer"));
        }
        let hosts: Vec<&Value> = list(&ingress["spec"]["tls"]).iter().flat_map(|tls| list(&tls["hosts"])).collect();
        for rule in list(&ingress["spec"]["rules"]) {
            if !hosts.contains(&&rule["host"]) {
                faults.push(format!("no TLS for {}", rule["host"]));
            }
            for path in list(&rule["http"]["paths"]) {
                if path["path"] != config.http.path.as_str() || path["pathType"] != "Exact" {
                    faults.push(format!("the ingress leads to {} {}", path["pathType"], path["path"]));
                }
                let backend = &path["backend"]["service"];
                let port = overlay.find("Service", text(&backend["name"])).is_some_and(|service| {
                    list(&service["spec"]["ports"])
                        .iter()
                        .any(|port| port["name"] == backend["port"]["name"] && port["targetPort"] == "callbacks")
                });
                if !port {
                    faults.push(format!("the ingress leads to no service: {backend}"));
                }
            }
        }
    }
    faults
}

/// Each replica is scraped in one way: by a `ServiceMonitor`, or by annotations.
fn monitoring_faults(overlay: &Overlay, bridge: &Workload<'_>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut ways = 0;
    for monitor in overlay.of_kind("ServiceMonitor") {
        let selector = &monitor["spec"]["selector"]["matchLabels"];
        let services: Vec<&Value> =
            overlay.of_kind("Service").filter(|service| selects(selector, &service["metadata"]["labels"])).collect();
        ways += services.len();
        for (service, endpoint) in services
            .iter()
            .flat_map(|service| list(&monitor["spec"]["endpoints"]).iter().map(move |endpoint| (*service, endpoint)))
        {
            let port = list(&service["spec"]["ports"]).iter().find(|port| port["name"] == endpoint["port"]);
            if port.is_none_or(|port| port["targetPort"] != "admin") || endpoint["path"] != "/metrics" {
                faults.push(format!("the monitor asks {endpoint} of {}", name(service)));
            }
        }
    }
    let annotations = &bridge.object["spec"]["template"]["metadata"]["annotations"];
    if annotations["prometheus.io/scrape"] == "true" {
        ways += 1;
        let port = text(&annotations["prometheus.io/port"]).parse().ok();
        if port != bridge.port("admin") || annotations["prometheus.io/path"] != "/metrics" {
            faults.push(format!("the annotations lead elsewhere: {annotations}"));
        }
    }
    if ways != 1 {
        faults.push(format!("each replica is scraped {ways} times"));
    }
    faults
}

fn kafka_faults(overlay: &Overlay, config: &Config) -> Vec<String> {
    let mut faults = Vec::new();
    let topics = [config.kafka.topic.as_str(), &config.kafka.dead_letter_topic];
    let mut made: Vec<&str> = Vec::new();
    for topic in overlay.of_kind("KafkaTopic") {
        let spec = &topic["spec"];
        made.push(text(&spec["topicName"]));
        let limits = &spec["config"];
        if spec["replicas"] != 3
            || limits["min.insync.replicas"] != 2
            || limits["unclean.leader.election.enable"] != false
            || limits["max.message.bytes"].as_u64().is_none_or(|bytes| bytes < MESSAGE_BYTES_MAX)
        {
            faults.push(format!("topic {} does not keep the promise: {spec}", name(topic)));
        }
    }
    if !made.is_empty() && made != topics {
        faults.push(format!("the topics are {made:?}, the configuration says {topics:?}"));
    }
    for user in overlay.of_kind("KafkaUser") {
        let Some(sasl) = &config.kafka.sasl else {
            faults.push("the configuration does not log in".to_owned());
            continue;
        };
        if sasl.username != name(user) || user["spec"]["authentication"]["type"] != "scram-sha-512" {
            faults.push(format!("{} is not who logs in", name(user)));
        }
        let rights = list(&user["spec"]["authorization"]["acls"]);
        for topic in topics {
            let right = rights.iter().find(|right| right["resource"]["name"] == topic);
            let operations: Vec<&str> =
                right.map_or(vec![], |right| list(&right["operations"]).iter().map(text).collect());
            if operations != ["Write", "Describe", "DescribeConfigs"] || rights.len() != topics.len() {
                faults.push(format!("rights on {topic}: {operations:?}"));
            }
        }
    }
    faults
}
