//! One bridge network per app, on subnets of our own range.

use super::{DockerEngine, call, isolation, or_missing};
use crate::engine::{EngineError, LABEL_APP};
use crate::model::AppId;
use bollard::models::{
    Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkDisconnectRequest, NetworkInspect,
};
use bollard::query_parameters::ListNetworksOptions;
use ipnet::Ipv4Net;
use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::PoisonError;

/// The bridge driver's option that fixes the interface's name.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";

/// Name of an app's network in the engine.
pub(super) fn network_name(app: AppId) -> String {
    format!("paas-{}", app.0)
}

/// Name of its interface on the host: fixed, so that firewall rules can name
/// it. The kernel allows 15 bytes; `paas` and 11 digits are what fits.
fn bridge_name(app: AppId) -> String {
    format!("paas{}", app.0)
}

impl DockerEngine {
    /// Makes sure that the app's network exists on this subnet, and makes it
    /// anew if it is damaged. Free when it is known.
    pub async fn ensure_network(&self, app: AppId, subnet: Ipv4Net) -> Result<(), EngineError> {
        if self.known_network(app) == Some(subnet) {
            return Ok(());
        }
        let _one_at_a_time = self.shared.network_locks.lock(app).await;
        if self.known_network(app) == Some(subnet) {
            return Ok(());
        }
        match self.inspect_network(app).await? {
            Some(network) if is_whole(&network, app, subnet) => {}
            Some(network) if !is_ours(&network, app) => {
                return Err(EngineError::Foreign { name: network_name(app) });
            }
            Some(network) => {
                self.tear_down(app, network).await?;
                self.create_network(app, subnet).await?;
            }
            None => self.create_network(app, subnet).await?,
        }
        self.networks().insert(app, subnet);
        Ok(())
    }

    /// Removes the app's network, with force from whoever is still on it. None is fine.
    pub async fn remove_network(&self, app: AppId) -> Result<(), EngineError> {
        let _one_at_a_time = self.shared.network_locks.lock(app).await;
        self.networks().remove(&app);
        match self.inspect_network(app).await? {
            Some(network) if is_ours(&network, app) => self.tear_down(app, network).await,
            Some(_) => Ok(()),
            None => {
                isolation::forget(&bridge_name(app)).await;
                Ok(())
            }
        }
    }

    /// The subnet of a network that is known to exist.
    fn known_network(&self, app: AppId) -> Option<Ipv4Net> {
        self.networks().get(&app).copied()
    }

    /// Forgets that the network exists; says on which subnet it was.
    pub(super) fn forget_network(&self, app: AppId) -> Option<Ipv4Net> {
        self.networks().remove(&app)
    }

    fn networks(&self) -> std::sync::MutexGuard<'_, HashMap<AppId, Ipv4Net>> {
        self.shared.networks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The interface of the engine's default network, on which builds run; none if
    /// the engine was started without.
    pub async fn default_bridge(&self) -> Result<Option<String>, EngineError> {
        match call(|| "inspect network bridge".to_owned(), self.docker.inspect_network("bridge", None)).await
        {
            Ok(network) => Ok(network.options.and_then(|mut options| options.remove(BRIDGE_NAME))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The interfaces of all apps' networks, those of other servers on this engine too.
    pub(super) async fn bridges(&self) -> Result<Vec<String>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![LABEL_APP.to_owned()])]);
        let options = ListNetworksOptions { filters: Some(filters) };
        let networks = call(|| "list networks".to_owned(), self.docker.list_networks(Some(options))).await?;
        let bridge = |network: Network| network.options.and_then(|mut all| all.remove(BRIDGE_NAME));
        Ok(networks.into_iter().filter_map(bridge).collect())
    }

    async fn inspect_network(&self, app: AppId) -> Result<Option<NetworkInspect>, EngineError> {
        let name = network_name(app);
        match call(|| format!("inspect network {name}"), self.docker.inspect_network(&name, None)).await {
            Ok(network) => Ok(Some(network)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn create_network(&self, app: AppId, subnet: Ipv4Net) -> Result<(), EngineError> {
        let name = network_name(app);
        match call(|| format!("create network {name}"), self.docker.create_network(wanted(app, subnet))).await
        {
            Ok(_) => {
                // If it fails, that is said where the other rules are set; every minute.
                let _ = isolation::open_within(&bridge_name(app)).await;
                Ok(())
            }
            Err(EngineError::Api { source, .. }) if source.message.contains("overlap") => {
                Err(EngineError::SubnetTaken { app, subnet, source })
            }
            Err(error) => Err(error),
        }
    }

    async fn tear_down(&self, app: AppId, network: NetworkInspect) -> Result<(), EngineError> {
        let id = network.id.unwrap_or_else(|| network_name(app));
        for container in network.containers.unwrap_or_default().into_keys() {
            let request = NetworkDisconnectRequest { container, force: Some(true) };
            let leave = self.docker.disconnect_network(&id, request);
            or_missing(call(|| format!("clear network {id}"), leave).await)?;
        }
        or_missing(call(|| format!("remove network {id}"), self.docker.remove_network(&id)).await)?;
        isolation::forget(&bridge_name(app)).await;
        Ok(())
    }
}

/// The network as it has to be. The gateway is the subnet's first address.
fn wanted(app: AppId, subnet: Ipv4Net) -> NetworkCreateRequest {
    let pool = IpamConfig {
        subnet: Some(subnet.trunc().to_string()),
        gateway: subnet.hosts().next().map(|gateway| gateway.to_string()),
        ..Default::default()
    };
    NetworkCreateRequest {
        name: network_name(app),
        driver: Some("bridge".to_owned()),
        ipam: Some(Ipam { config: Some(vec![pool]), ..Default::default() }),
        options: Some(HashMap::from([(BRIDGE_NAME.to_owned(), bridge_name(app))])),
        labels: Some(HashMap::from([(LABEL_APP.to_owned(), app.0.to_string())])),
        ..Default::default()
    }
}

fn is_ours(network: &NetworkInspect, app: AppId) -> bool {
    network.labels.as_ref().and_then(|labels| labels.get(LABEL_APP)) == Some(&app.0.to_string())
}

/// Whether a network is what we would make.
fn is_whole(network: &NetworkInspect, app: AppId, subnet: Ipv4Net) -> bool {
    let pools = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or_default();
    let on_subnet = pools.iter().any(|pool| pool.subnet.as_deref() == Some(&subnet.trunc().to_string()));
    let bridge = network.options.as_ref().and_then(|options| options.get(BRIDGE_NAME));
    is_ours(network, app) && on_subnet && bridge == Some(&bridge_name(app))
}

/// Networks that the host has routes to, the default route left out.
pub fn host_routes() -> Vec<Ipv4Net> {
    routes(&std::fs::read_to_string("/proc/net/route").unwrap_or_default())
}

/// Whether nothing of `subnet` is in `routes`.
pub fn is_free(subnet: Ipv4Net, routes: &[Ipv4Net]) -> bool {
    !routes.iter().any(|route| route.contains(&subnet.network()) || subnet.contains(&route.network()))
}

/// Reads the form of `/proc/net/route`: hexadecimal words in the host's order.
fn routes(table: &str) -> Vec<Ipv4Net> {
    let address =
        |text: &str| u32::from_str_radix(text, 16).ok().map(|word| Ipv4Addr::from(word.to_ne_bytes()));
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let network = Ipv4Net::with_netmask(address(fields.get(1)?)?, address(fields.get(7)?)?).ok()?;
            (network.prefix_len() > 0).then_some(network)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_subnet_on_a_route_is_not_free() {
        let table = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
            eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n\
            docker0 000011AC 00000000 0001 0 0 0 0000FFFF 0 0 0\n\
            br 40000B0A 00000000 0001 0 0 0 C0FFFFFF 0 0 0\n";
        let routes = routes(table);
        assert_eq!(
            routes.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["172.17.0.0/16", "10.11.0.64/26"]
        );
        let free = |text: &str| is_free(text.parse().unwrap(), &routes);
        assert!(free("10.11.0.0/26") && free("10.11.0.128/26") && free("172.18.0.0/26"));
        assert!(!free("10.11.0.64/26") && !free("10.11.0.0/24") && !free("172.17.5.0/26"));
    }

    #[test]
    fn the_gateway_is_the_first_address_and_the_bridge_has_a_fixed_name() {
        let network = wanted(AppId(7), "10.11.0.64/26".parse().unwrap());
        assert_eq!(network.name, "paas-7");
        assert_eq!(network.ipam.unwrap().config.unwrap()[0].gateway.as_deref(), Some("10.11.0.65"));
        assert_eq!(network.options.unwrap()[BRIDGE_NAME], "paas7");
    }
}
