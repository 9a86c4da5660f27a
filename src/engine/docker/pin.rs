//! Which image exactly: ids and digests, and names of ours for official images.

use super::{DockerEngine, call};
use crate::engine::{EngineError, Identity};
use crate::model::pin;
use bollard::models::ImageInspect;
use bollard::query_parameters::TagImageOptionsBuilder;
use tokio::sync::mpsc;

impl DockerEngine {
    /// The image of this name; `None` if there is none.
    pub async fn identity(&self, reference: &str) -> Result<Option<Identity>, EngineError> {
        let image = self.docker.inspect_image(reference);
        match call(|| format!("inspect image {reference}"), image).await {
            Ok(image) => Ok(Some(identity(reference, image))),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives a pulled image the name by which builds find exactly this one.
    pub async fn name_locally(&self, image: &str, digest: &str) -> Result<String, EngineError> {
        let local = pin::local_name(image, digest);
        self.tag(image, &local).await?;
        Ok(local)
    }

    pub(super) async fn tag(&self, image: &str, reference: &str) -> Result<(), EngineError> {
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = TagImageOptionsBuilder::default().repo(repository).tag(tag).build();
        call(|| format!("tag {image}"), self.docker.tag_image(image, Some(options))).await
    }

    /// Pulls an official image by its digest, though its tag has moved on, and
    /// gives it its name of ours.
    pub async fn pull_again(&self, image: &str, digest: &str) -> Result<(), EngineError> {
        // Nobody reads what the pull says.
        let (lines, _) = mpsc::channel(1);
        let tagged = image.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        let exact = format!("{}@{digest}", tagged.map_or(image, |(path, _)| path));
        self.pull(&exact, &lines).await?;
        self.tag(&exact, &pin::local_name(image, digest)).await
    }
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the crate of that type is no dependency of ours"
)]
fn identity(reference: &str, image: ImageInspect) -> Identity {
    let path = reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
    let path = path.map_or(reference, |(path, _)| path);
    // The engine leaves these words out.
    let path = path.strip_prefix("docker.io/").unwrap_or(path);
    let path = path.strip_prefix("library/").unwrap_or(path);
    let digests = image.repo_digests.unwrap_or_default();
    let of_it = digests.iter().find_map(|entry| {
        let (name, digest) = entry.split_once('@')?;
        (name == path).then(|| digest.to_owned())
    });
    Identity {
        id: image.id.unwrap_or_default(),
        digest: of_it,
        created: image.created.map_or(0, |at| at.unix_timestamp()),
    }
}
