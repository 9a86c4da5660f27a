//! Firewall rules that keep apps from the host and the cloud's metadata service.
//!
//! Docker lets a container reach every port that the host listens on through
//! its bridge's gateway address. All our bridges are named `paas…`, so a rule
//! for that prefix covers every app, those of a server that is down too; the
//! rules therefore stay when a server ends.

use crate::spawn;

/// All our bridges. <https://man7.org/linux/man-pages/man8/iptables.8.html> (`-i`)
const BRIDGES: &str = "paas+";

/// What cloud providers answer credentials on.
const METADATA: &str = "169.254.169.254/32";

/// Puts the rules in force that are missing; why not, if that fails.
///
/// `public_port` is the proxy's, if it listens on a public address: apps may
/// reach each other by their public names.
pub async fn isolate(public_port: Option<u16>) -> Result<(), String> {
    for (chain, rule) in rules(public_port) {
        let words: Vec<&str> = rule.iter().map(String::as_str).collect();
        if iptables("-C", chain, &words).await.is_err() {
            iptables("-I", chain, &words).await?;
        }
    }
    Ok(())
}

/// Chain and words of each rule; each is inserted before the one above it.
fn rules(public_port: Option<u16>) -> Vec<(&'static str, Vec<String>)> {
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut rules = vec![
        ("DOCKER-USER", words(&format!("-i {BRIDGES} -d {METADATA} -j DROP"))),
        ("INPUT", words(&format!("-i {BRIDGES} -m conntrack --ctstate NEW -j DROP"))),
    ];
    if let Some(port) = public_port {
        rules.push(("INPUT", words(&format!("-i {BRIDGES} -p tcp --dport {port} -j ACCEPT"))));
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
        let text: Vec<String> =
            rules(Some(80)).iter().map(|(chain, words)| format!("{chain} {}", words.join(" "))).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        DOCKER-USER -i paas+ -d 169.254.169.254/32 -j DROP
        INPUT -i paas+ -m conntrack --ctstate NEW -j DROP
        INPUT -i paas+ -p tcp --dport 80 -j ACCEPT
        ");
        assert_eq!(rules(None).len(), 2);
    }
}
