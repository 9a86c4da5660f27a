//! Firewall rules that keep apps from the host and the cloud's metadata service.
//!
//! Docker lets a container reach every port that the host listens on through
//! its bridge's gateway address. All our bridges are named `paas…`, so a rule
//! for that prefix covers every app, those of a server that is down too; the
//! rules therefore stay when a server ends. BuildKit runs builds on the engine's
//! default bridge, whose name the engine tells.

use crate::spawn;

/// All our bridges. <https://man7.org/linux/man-pages/man8/iptables.8.html> (`-i`)
const BRIDGES: &str = "paas+";

/// What cloud providers answer credentials on.
const METADATA: &str = "169.254.169.254/32";

/// Puts the rules in force that are missing; why not, if that fails.
///
/// `builds` is the bridge that builds run on, with whether its rules are wanted.
/// Whoever starts containers by hand shares it with them, and may rely on the
/// host's ports; what leads to credentials is nobody's.
pub async fn isolate(public_ports: &[u16], builds: Option<(String, bool)>) -> Result<(), String> {
    let mut wanted = vec![metadata(BRIDGES)];
    wanted.extend(host(BRIDGES, public_ports));
    if let Some((bridge, isolated)) = &builds {
        wanted.push(metadata(bridge));
        if *isolated {
            wanted.extend(host(bridge, public_ports));
        } else {
            for rule in host(bridge, public_ports) {
                while rule.apply("-D").await.is_ok() {}
            }
        }
    }
    for rule in wanted {
        if rule.apply("-C").await.is_err() {
            rule.apply("-I").await?;
        }
    }
    Ok(())
}

/// One rule; each is inserted before the ones that are there.
struct Rule {
    chain: &'static str,
    words: Vec<String>,
}

impl Rule {
    fn new(chain: &'static str, text: &str) -> Self {
        Self { chain, words: text.split(' ').map(str::to_owned).collect() }
    }

    async fn apply(&self, action: &str) -> Result<(), String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        iptables(action, self.chain, &words).await
    }
}

fn metadata(bridge: &str) -> Rule {
    Rule::new("DOCKER-USER", &format!("-i {bridge} -d {METADATA} -j DROP"))
}

/// No new connections to the host, but for the proxy's public ports.
fn host(bridge: &str, public_ports: &[u16]) -> Vec<Rule> {
    let mut rules = vec![Rule::new("INPUT", &format!("-i {bridge} -m conntrack --ctstate NEW -j DROP"))];
    for port in public_ports {
        rules.push(Rule::new("INPUT", &format!("-i {bridge} -p tcp --dport {port} -j ACCEPT")));
    }
    rules
}

async fn iptables(action: &str, chain: &str, rule: &[&str]) -> Result<(), String> {
    let output =
        spawn::iptables(action, chain, rule).output().await.map_err(|error| format!("iptables: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(said.lines().next().unwrap_or("iptables failed").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_may_reach_the_public_proxy_and_nothing_else_of_the_host() {
        let rules = [metadata(BRIDGES)].into_iter().chain(host(BRIDGES, &[80, 443]));
        let text: Vec<String> =
            rules.map(|rule| format!("{} {}", rule.chain, rule.words.join(" "))).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        DOCKER-USER -i paas+ -d 169.254.169.254/32 -j DROP
        INPUT -i paas+ -m conntrack --ctstate NEW -j DROP
        INPUT -i paas+ -p tcp --dport 80 -j ACCEPT
        INPUT -i paas+ -p tcp --dport 443 -j ACCEPT
        ");
        assert_eq!(host(BRIDGES, &[]).len(), 1);
    }
}
