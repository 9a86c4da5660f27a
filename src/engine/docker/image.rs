//! Images: whether they are there, and away with them.

use super::{DockerEngine, call, or_missing};
use crate::engine::{AppImage, EngineError, LABEL_APP};
use crate::model::{AppId, AppName, ImageSource};
use crate::settings::ImageSourceChoice;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use std::collections::HashMap;
use std::time::Duration;

/// A tiny image that every registry mirror has.
const PROBE: &str = "docker.io/library/hello-world:latest";

/// Longest wait for a registry.
const PROBE_LIMIT: Duration = Duration::from_secs(3);

impl DockerEngine {
    /// The source of base images to use: `Auto` asks the registry for one tiny
    /// image, for at most three seconds.
    pub async fn probe_source(&self, choice: ImageSourceChoice) -> ImageSource {
        if let ImageSourceChoice::Only(source) = choice {
            return source;
        }
        let probe = self.docker.inspect_registry_image(PROBE, None);
        match tokio::time::timeout(PROBE_LIMIT, probe).await {
            Ok(Ok(_)) => ImageSource::Registry,
            _ => ImageSource::Debian,
        }
    }

    /// Whether the engine has this image.
    pub async fn has_image(&self, reference: &str) -> Result<bool, EngineError> {
        let image = self.docker.inspect_image(reference);
        match call(|| format!("inspect image {reference}"), image).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes one reference, and the image with its last one. None is fine.
    pub async fn remove_image(&self, reference: &str) -> Result<(), EngineError> {
        let options = RemoveImageOptionsBuilder::default().build();
        let removal = self.docker.remove_image(reference, Some(options), None);
        or_missing(call(|| format!("remove image {reference}"), removal).await.map(|_| ()))
    }

    /// All images of an app, `paas/<app>:…`, sorted by reference. Another server's
    /// app of the same name has another number.
    pub async fn app_images(&self, app: AppId, name: &AppName) -> Result<Vec<AppImage>, EngineError> {
        let (repository, label) = (format!("paas/{name}"), format!("{LABEL_APP}={}", app.0));
        let filters =
            HashMap::from([("reference", vec![repository.as_str()]), ("label", vec![label.as_str()])]);
        let options = ListImagesOptionsBuilder::default().filters(&filters).build();
        let images = call(|| "list images".to_owned(), self.docker.list_images(Some(options))).await?;
        let mut found: Vec<AppImage> = images
            .into_iter()
            .flat_map(|image| {
                let (id, size) = (image.id, image.size);
                image.repo_tags.into_iter().map(move |reference| AppImage { reference, id: id.clone(), size })
            })
            .filter(|image| image.reference.split_once(':').is_some_and(|(name, _)| name == repository))
            .collect();
        found.sort_by(|a, b| a.reference.cmp(&b.reference));
        Ok(found)
    }
}
