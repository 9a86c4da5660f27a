//! What is in the engine, by its own command line and not by our code.

use super::run::{Finished, run};
use std::process::Command;

/// `docker ARGS`.
pub fn docker(args: &[&str]) -> Finished {
    let mut command = Command::new("docker");
    command.args(args);
    run(command, b"")
}

fn listing(args: &[&str]) -> Vec<String> {
    docker(args).ok().out().lines().map(str::to_owned).collect()
}

/// Names of the app's containers, running or not.
pub fn containers_of(app: &str) -> Vec<String> {
    let label = format!("label=paas.name={app}");
    listing(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"])
}

/// The app's images whose tag fits a pattern.
pub fn images_of(app: &str, tag: &str) -> Vec<String> {
    let reference = format!("reference=paas/{app}:{tag}");
    listing(&["images", "--filter", &reference, "--format", "{{.Repository}}:{{.Tag}}"])
}

/// Containers, networks and images of the app.
pub fn objects_of(app: &str) -> Vec<String> {
    let label = format!("label=paas.name={app}");
    let by_name = format!("reference=paas/{app}");
    [
        containers_of(app),
        listing(&["ps", "-a", "--filter", &format!("name=^paas-{app}-"), "--format", "{{.Names}}"]),
        listing(&["network", "ls", "--filter", &label, "--format", "network {{.Name}}"]),
        listing(&["images", "--filter", &by_name, "--format", "image {{.Repository}}:{{.Tag}}"]),
    ]
    .concat()
}
