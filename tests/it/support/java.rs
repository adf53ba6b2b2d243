//! Java, and the jars of Apache Kafka that `tests/run --fetch-kafka` keeps in `tests/.cache`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

/// Small heaps, and the quick start of a short life rather than the throughput of a long one.
const JAVA_OPTIONS: [&str; 4] = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"];

/// The folder of the broker's jars, fetched if need be.
pub(crate) fn jars() -> &'static Path {
    static JARS: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/run");
        let output = Command::new(run).arg("--fetch-kafka").output().map_err(|error| format!("tests/run: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("this test runs against a real Apache Kafka, and there is none\n{said}"));
        }
        Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
    });
    JARS.as_deref().unwrap_or_else(|reason| panic!("{reason}"))
}

pub(super) fn java_command(jars: &Path, arguments: &[&str]) -> Vec<String> {
    let classpath = format!("{}/*", jars.display());
    let words = ["java"].into_iter().chain(JAVA_OPTIONS).chain(["-cp", &classpath]);
    words.chain(arguments.iter().copied()).map(str::to_owned).collect()
}

pub(super) fn java(jars: &Path, arguments: &[&str]) -> Command {
    let line = java_command(jars, arguments);
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    command
}

/// Runs one of the programs in `tests/kafka` that stand on the JDK alone.
pub(super) fn run_java(source: &str, arguments: &[&str]) {
    let options = ["--add-exports", "java.base/sun.security.tools.keytool=ALL-UNNAMED"];
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(source);
    // The jars are not used, but whoever fetches them has a JDK, or says how to get one.
    let output = java(jars(), &options).arg(source).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
