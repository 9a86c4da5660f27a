//! Firewall rules that keep apps from the host, from each other and from the cloud's
//! metadata service.
//!
//! Docker lets a container reach every port that the host listens on through
//! its bridge's gateway address. All our bridges are named `paas…`, so a rule
//! for that prefix covers every app, those of a server that is down too; the
//! rules therefore stay when a server ends. BuildKit runs builds on the engine's
//! default bridge, whose name the engine tells.
//!
//! What is forwarded is judged in the table `mangle`, which the engine leaves alone.
//! Its own rules between networks do not suffice: whenever a network is made it takes
//! the jump to them out of `filter` and puts it in again, and at that moment one app
//! reached another. <https://docs.docker.com/engine/network/packet-filtering-firewalls/>

use crate::spawn;

/// All our bridges. <https://man7.org/linux/man-pages/man8/iptables.8.html> (`-i`)
const BRIDGES: &str = "paas+";

/// What cloud providers answer credentials on.
const METADATA: &str = "169.254.169.254/32";

/// Where new connections to an app's network are judged: an exception for each
/// network's own, and no way in from anywhere else.
const CHAIN: &str = "PAAS-APPS";

/// Puts the rules in force that are missing; why not, if that fails.
///
/// `builds` is the bridge that builds run on, with whether its rules are wanted.
/// Whoever starts containers by hand shares it with them, and may rely on the
/// host's ports; what leads to credentials is nobody's.
pub(super) async fn isolate(
    public_ports: &[u16],
    builds: Option<(String, bool)>,
    networks: &[String],
) -> Result<(), String> {
    close(networks).await?;
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
        rule.ensure("-I").await?;
    }
    Ok(())
}

/// Closes our networks to everybody but those on the same one.
async fn close(networks: &[String]) -> Result<(), String> {
    // That it is there already is told as an error; if it can't be, the next rule says why.
    let _ = iptables("mangle", "-N", CHAIN, &[]).await;
    let rules = iptables("mangle", "-S", CHAIN, &[]).await?;
    for gone in excepted(&rules).filter(|bridge| !is_interface(bridge)) {
        forget(gone).await;
    }
    for bridge in networks {
        among_themselves(bridge).ensure("-I").await?;
    }
    Rule::new("mangle", CHAIN, "-j DROP").ensure("-A").await?;
    Rule::new("mangle", "FORWARD", &format!("-o {BRIDGES} -m conntrack --ctstate NEW -j {CHAIN}"))
        .ensure("-I")
        .await
}

/// Lets an app's processes reach each other, where the host's bridges ask the firewall
/// about that too (`net.bridge.bridge-nf-call-iptables`).
pub(super) async fn open_within(bridge: &str) -> Result<(), String> {
    among_themselves(bridge).ensure("-I").await
}

/// Takes that back, for a network that is no more.
pub(super) async fn forget(bridge: &str) {
    while among_themselves(bridge).apply("-D").await.is_ok() {}
}

/// Networks with an exception, of what `iptables -S` prints.
fn excepted(rules: &str) -> impl Iterator<Item = &str> {
    rules.lines().filter_map(|rule| rule.split(' ').skip_while(|word| *word != "-i").nth(1))
}

/// Whether the host has it. A network that was removed behind our back has none.
fn is_interface(name: &str) -> bool {
    std::path::Path::new("/sys/class/net").join(name).exists()
}

/// One rule, with the table and the chain that it belongs to.
struct Rule {
    table: &'static str,
    chain: &'static str,
    words: Vec<String>,
}

impl Rule {
    fn new(table: &'static str, chain: &'static str, text: &str) -> Self {
        Self { table, chain, words: text.split(' ').map(str::to_owned).collect() }
    }

    /// Puts it first (`-I`) or last (`-A`), unless it is there.
    async fn ensure(&self, how: &str) -> Result<(), String> {
        if self.apply("-C").await.is_ok() {
            return Ok(());
        }
        self.apply(how).await
    }

    async fn apply(&self, action: &str) -> Result<(), String> {
        let words: Vec<&str> = self.words.iter().map(String::as_str).collect();
        iptables(self.table, action, self.chain, &words).await.map(drop)
    }
}

fn metadata(bridge: &str) -> Rule {
    Rule::new("mangle", "FORWARD", &format!("-i {bridge} -d {METADATA} -j DROP"))
}

fn among_themselves(bridge: &str) -> Rule {
    Rule::new("mangle", CHAIN, &format!("-i {bridge} -o {bridge} -j RETURN"))
}

/// No new connections to the host, but for the proxy's public ports.
fn host(bridge: &str, public_ports: &[u16]) -> Vec<Rule> {
    let none = format!("-i {bridge} -m conntrack --ctstate NEW -j DROP");
    let mut rules = vec![Rule::new("filter", "INPUT", &none)];
    for port in public_ports {
        rules.push(Rule::new("filter", "INPUT", &format!("-i {bridge} -p tcp --dport {port} -j ACCEPT")));
    }
    rules
}

async fn iptables(table: &str, action: &str, chain: &str, rule: &[&str]) -> Result<String, String> {
    let command = spawn::iptables(table, action, chain, rule).output().await;
    let output = command.map_err(|error| format!("iptables: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
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
            rules.map(|rule| format!("{} {} {}", rule.table, rule.chain, rule.words.join(" "))).collect();
        insta::assert_snapshot!(text.join("\n"), @r"
        mangle FORWARD -i paas+ -d 169.254.169.254/32 -j DROP
        filter INPUT -i paas+ -m conntrack --ctstate NEW -j DROP
        filter INPUT -i paas+ -p tcp --dport 80 -j ACCEPT
        filter INPUT -i paas+ -p tcp --dport 443 -j ACCEPT
        ");
        assert_eq!(host(BRIDGES, &[]).len(), 1);
    }

    #[test]
    fn exceptions_are_read_from_what_iptables_prints() {
        let rules =
            "-N PAAS-APPS\n-A PAAS-APPS -i paas700001 -o paas700001 -j RETURN\n-A PAAS-APPS -j DROP\n";
        assert_eq!(excepted(rules).collect::<Vec<_>>(), ["paas700001"]);
    }
}
