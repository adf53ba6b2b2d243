//! Promise: the manifests, the image and the compose file go together with each other and with the bridge.
//!
//! No other tool looks at this: schemas and API servers accept a selector that selects nothing. What they do look at,
//! `.ci/manifests` and `deploy/check-api-server` ask them.

mod compose;
mod documents;
mod overlay;
mod stopping;
mod surroundings;
mod workload;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use self::overlay::Overlay;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn everything_in_an_overlay_meets_what_it_means() {
    let names = Overlay::names();
    assert_eq!(names, ["development", "drain-orphan", "production"]);
    for name in names {
        let faults = surroundings::faults(&Overlay::named(&name));
        assert!(faults.is_empty(), "{name}: {faults:#?}");
    }
}

/// Mistakes: in which kind of object, where, what stands there then (JSON), and what is said of it. `@` is the container.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    ("StatefulSet", "/spec/selector/matchLabels/app.kubernetes.io~1component", r#""brigde""#, "its selector"),
    ("StatefulSet", "/spec/serviceName", r#""recording-bridge""#, "no headless service"),
    ("StatefulSet", "/spec/persistentVolumeClaimRetentionPolicy/whenScaled", r#""Delete""#, "volumes go with it"),
    ("StatefulSet", "/spec/volumeClaimTemplates/0/spec/resources/requests/storage", r#""18Gi""#, "may take"),
    ("StatefulSet", "/spec/volumeClaimTemplates/0/spec/accessModes/0", r#""ReadWriteMany""#, "the volume is"),
    ("StatefulSet", "/spec/volumeClaimTemplates/0/metadata/name", r#""spools""#, "no volume spool"),
    ("StatefulSet", "/spec/template/spec/terminationGracePeriodSeconds", "30", "killed after 30s"),
    ("StatefulSet", "/spec/template/spec/serviceAccountName", r#""default""#, "no ServiceAccount default"),
    ("StatefulSet", "/spec/template/spec/automountServiceAccountToken", "true", "token"),
    ("StatefulSet", "/spec/template/spec/securityContext/fsGroup", "2000", "does not get the volume"),
    ("StatefulSet", "/spec/template/spec/volumes/0/configMap/name", r#""recording-bridge""#, "no ConfigMap"),
    ("StatefulSet", "/spec/template/spec/volumes/1/secret/items/1/key", r#""sparse""#, "spare is in no volume"),
    ("StatefulSet", "/spec/template/spec/volumes/1/secret/secretName", r#""keys""#, "no known secret keys"),
    ("StatefulSet", "/spec/template/spec/volumes/2/projected/sources/1/secret/items/0/path", r#""ca.pem""#, "ca.crt"),
    (
        "StatefulSet",
        "/spec/template/spec/affinity/podAntiAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector/\
             matchLabels/app.kubernetes.io~1name",
        r#""bridge""#,
        "kept apart",
    ),
    ("StatefulSet", "@/ports/0/containerPort", "8081", "port callbacks"),
    ("StatefulSet", "@/ports/1/name", r#""metrics""#, "port admin"),
    ("StatefulSet", "@/livenessProbe/httpGet/path", r#""/ready""#, "livenessProbe asks"),
    ("StatefulSet", "@/readinessProbe/httpGet/port", r#""callbacks""#, "readinessProbe asks"),
    ("StatefulSet", "@/resources/limits/memory", r#""256Mi""#, "of memory"),
    ("StatefulSet", "@/args/1", r#""--confg""#, "does not know these arguments"),
    ("StatefulSet", "@/args/2", r#""/etc/recording-bridge/config.yaml""#, "is not mounted"),
    ("StatefulSet", "@/volumeMounts/0/subPath", r#""config.yaml""#, "no config.yaml in"),
    ("StatefulSet", "@/volumeMounts/3/mountPath", r#""/var/lib/bridge""#, "is on no claim"),
    ("StatefulSet", "@/volumeMounts/3/readOnly", "true", "is on no claim"),
    ("Job", "@/args/5", r#""/var/lib/recording-bridge""#, "the spool is elsewhere"),
    ("Job", "@/args/1", r#""drian""#, "does not know these arguments"),
    ("Job", "@/image", r#""recording-bridge:0.2.0""#, "not what the bridge runs"),
    ("Job", "/spec/template/spec/volumes/0/persistentVolumeClaim/claimName", r#""spool-2""#, "makes no claim"),
    (
        "Job",
        "/spec/template/metadata/labels/app.kubernetes.io~1component",
        r#""bridge""#,
        "selects recording-bridge-drain",
    ),
    ("Job", "/spec/template/metadata/labels/app.kubernetes.io~1name", r#""drain""#, "policy does not mean"),
    ("Service", "/spec/selector/app.kubernetes.io~1name", r#""bridge""#, "does not select recording-bridge"),
    ("Service", "/spec/ports/0/targetPort", r#""http""#, "leads to no port"),
    ("PodDisruptionBudget", "/spec/maxUnavailable", "0", "none may ever be drained"),
    ("PodDisruptionBudget", "/spec/minAvailable", "3", "none may ever be drained"),
    ("PodDisruptionBudget", "/spec/selector/matchLabels/app.kubernetes.io~1component", r#""x""#, "the budget counts"),
    ("NetworkPolicy", "/spec/ingress/0/ports/0/port", r#""http""#, "nobody may reach callbacks"),
    ("NetworkPolicy", "/spec/egress/1/ports/0/port", "9092", "does not lead to"),
    (
        "NetworkPolicy",
        "/spec/egress/1/to/0/namespaceSelector/matchLabels/kubernetes.io~1metadata.name",
        r#""strimzi""#,
        "does not lead to",
    ),
    ("NetworkPolicy", "/spec/egress/0/ports/0/port", "5353", "no names over UDP"),
    ("NetworkPolicy", "/spec/ingress/1/ports", "null", "every port"),
    ("Ingress", "/spec/rules/0/http/paths/0/path", r#""/callbacks""#, r#"leads to "Exact" "/callbacks""#),
    ("Ingress", "/spec/rules/0/http/paths/0/backend/service/port/name", r#""http""#, "leads to no service"),
    ("Ingress", "/spec/rules/0/host", r#""example.org""#, "no TLS for"),
    ("Ingress", "/metadata/annotations/nginx.ingress.kubernetes.io~1proxy-body-size", r#""32k""#, "shorter bodies"),
    ("Ingress", "/metadata/annotations/nginx.ingress.kubernetes.io~1proxy-read-timeout", r#""10""#, "waits 10 s"),
    ("ServiceMonitor", "/spec/selector/matchLabels/app.kubernetes.io~1component", r#""bridge""#, "the monitor asks"),
    ("ServiceMonitor", "/spec/selector/matchLabels/app.kubernetes.io~1name", r#""bridge""#, "scraped 0 times"),
    ("ServiceMonitor", "/spec/endpoints/0/port", r#""metrics""#, "the monitor asks"),
    ("KafkaTopic", "/spec/topicName", r#""recording""#, "the topics are"),
    ("KafkaTopic", "/spec/config/min.insync.replicas", "1", "does not keep the promise"),
    ("KafkaUser", "/metadata/name", r#""bridge""#, "is not who logs in"),
    ("KafkaUser", "/spec/authorization/acls/0/operations/0", r#""All""#, "rights on recordings"),
    ("ServiceAccount", "/metadata/name", r#""bridge""#, "no ServiceAccount"),
    ("ConfigMap", "/metadata/name", r#""bridge""#, "no ConfigMap"),
    ("ConfigMap", "/metadata/namespace", r#""default""#, "is not in recording-bridge"),
    ("Namespace", "/metadata/labels/pod-security.kubernetes.io~1enforce", r#""baseline""#, "does not enforce"),
];

#[test]
fn every_kind_of_mistake_is_found() {
    let whole = Overlay::named("drain-orphan");
    for (kind, place, wrong, said) in MISTAKES {
        let wrong: Value = serde_json::from_str(wrong).unwrap();
        let mut overlay = whole.clone();
        let place = place.replace('@', "/spec/template/spec/containers/0");
        let (parent, member) = place.rsplit_once('/').unwrap();
        let parent = overlay.first_mut(kind).pointer_mut(parent).unwrap_or_else(|| panic!("{kind} {place}"));
        match parent {
            Value::Array(list) => list[member.parse::<usize>().unwrap()] = wrong.clone(),
            parent => parent[member.replace("~1", "/")] = wrong.clone(),
        }
        let faults = surroundings::faults(&overlay);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{kind} {place} {wrong}: {faults:#?}");
    }
    for (kind, said) in [("NetworkPolicy", "no network policy"), ("PodDisruptionBudget", "0 budgets")] {
        let mut overlay = whole.clone();
        overlay.remove(kind);
        let faults = surroundings::faults(&overlay);
        assert!(faults.iter().any(|fault| fault.contains(said)), "without {kind}: {faults:#?}");
    }
}

#[test]
fn a_mistake_in_the_configuration_is_found() {
    for (right, wrong, said) in [
        ("keys/spare", "keys/sparse", "sparse is in no volume"),
        ("kafka/ca.crt", "kafka/ca.pem", "ca.pem is in no volume"),
        ("grace: 25s", "grace: 40s", "killed after 45s"),
        ("directory: /var/lib/recording-bridge/spool", "directory: /tmp/spool", "is on no claim"),
        ("topic: recordings\n", "topic: events\n", "the topics are"),
        ("username: recording-bridge-kafka", "username: bridge", "is not who logs in"),
        ("header_deadline: 14s", "listen: 0.0.0.0:9000", "port callbacks"),
        ("header_deadline: 14s", "path: /c/2c9e", "leads to"),
        ("header_deadline: 14s", "body_bytes_max: 128KiB", "shorter bodies"),
        ("shutdown:", "shutdwn:", "configuration"),
    ] {
        let mut overlay = Overlay::named("production");
        let data = &mut overlay.first_mut("ConfigMap")["data"]["bridge.yaml"];
        let text = data.as_str().unwrap().to_owned();
        assert!(text.contains(right), "{right}");
        *data = json!(text.replace(right, wrong));
        let faults = surroundings::faults(&overlay);
        assert!(faults.iter().any(|fault| fault.contains(said)), "{wrong}: {faults:#?}");
    }
}

#[test]
fn every_component_is_in_an_overlay() {
    let folder = root().join("deploy");
    let overlays: String = ["development", "production", "drain-orphan"]
        .map(|name| fs::read_to_string(folder.join("overlays").join(name).join("kustomization.yaml")).unwrap())
        .concat();
    for component in fs::read_dir(folder.join("components")).unwrap() {
        let name = component.unwrap().file_name().into_string().unwrap();
        assert!(overlays.contains(&format!("\n  - ../../components/{name}\n")), "{name}");
    }
}
