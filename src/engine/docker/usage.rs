//! What running containers take of memory and processors.

use super::{DockerEngine, call};
use crate::engine::{EngineError, Usage};
use bollard::models::ContainerStatsResponse;
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::StreamExt;

/// What the kernel could take back at once, in the second and the first version of its
/// control groups: not counted, as the engine's own tools do it.
const INACTIVE: [&str; 2] = ["inactive_file", "total_inactive_file"];

impl DockerEngine {
    /// What a container takes, over a second or two; `None` if it does not run.
    pub async fn usage(&self, container: &str) -> Result<Option<Usage>, EngineError> {
        // Without streaming the engine looks twice.
        let options = StatsOptionsBuilder::default().stream(false).build();
        let answers = self.docker.stats(container, Some(options)).boxed();
        let answer = async { answers.into_future().await.0.transpose() };
        let answer = call(|| format!("ask what {container} takes"), answer).await?;
        Ok(answer.as_ref().and_then(usage))
    }
}

fn usage(answer: &ContainerStatsResponse) -> Option<Usage> {
    let memory = answer.memory_stats.as_ref()?;
    let inactive = memory.stats.as_ref().and_then(|stats| INACTIVE.iter().find_map(|name| stats.get(*name)));
    let used = memory.usage?;
    let (now, before) = (answer.cpu_stats.as_ref()?, answer.precpu_stats.as_ref()?);
    let total = |stats: &bollard::models::ContainerCpuStats| stats.cpu_usage.as_ref()?.total_usage;
    let spent = total(now)?.saturating_sub(total(before)?);
    let passed = now.system_cpu_usage?.saturating_sub(before.system_cpu_usage.unwrap_or_default());
    let cpus = u128::from(now.online_cpus.unwrap_or(1).max(1));
    let nano_cpus = u128::from(spent) * cpus * 1_000_000_000 / u128::from(passed.max(1));
    Some(Usage {
        memory: used.saturating_sub(inactive.copied().unwrap_or_default()),
        nano_cpus: u64::try_from(nano_cpus).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn caches_are_no_memory_and_half_a_processor_is_half_of_one() {
        let answer = |more: &str| {
            let text = format!(
                r#"{{"memory_stats": {{"usage": 100, "stats": {{{more}}}}},
                "cpu_stats": {{"cpu_usage": {{"total_usage": 1500}}, "system_cpu_usage": 6000, "online_cpus": 2}},
                "precpu_stats": {{"cpu_usage": {{"total_usage": 1000}}, "system_cpu_usage": 4000}}}}"#
            );
            usage(&serde_json::from_str(&text).unwrap())
        };
        let half = |memory| Some(Usage { memory, nano_cpus: 500_000_000 });
        assert_eq!(answer(r#""inactive_file": 30"#), half(70));
        assert_eq!(answer(r#""total_inactive_file": 40"#), half(60));
        assert_eq!(answer(""), half(100));
        assert_eq!(usage(&serde_json::from_str(r#"{"memory_stats": {}}"#).unwrap()), None, "it has ended");
    }
}
