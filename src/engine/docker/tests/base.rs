//! Base images.

use super::*;

#[tokio::test]
async fn a_base_is_built_once_with_its_parents_and_files() {
    let app = TestApp::new().await;
    let reference = |name: &str| format!("paas/{}:{name}", app.name);
    let parent = BaseImage {
        name: reference("parent"),
        reference: reference("parent"),
        anew: false,
        recipe: Recipe::Build {
            dockerfile: format!("FROM {}\nRUN echo parent of {}\n", app.image(), app.name),
            files: BTreeMap::new(),
            parents: Vec::new(),
        },
    };
    let base = BaseImage {
        name: reference("base"),
        reference: reference("base"),
        anew: false,
        recipe: Recipe::Build {
            dockerfile: format!(
                "FROM {}\nARG WHO\nCOPY etc/greeting /\nRUN echo $WHO: $(cat /greeting)\n",
                parent.reference
            ),
            files: BTreeMap::from([("etc/greeting".to_owned(), b"hello".to_vec())]),
            parents: vec![parent],
        },
    };
    let settings = BuildSettings {
        args: BTreeMap::from([("WHO".to_owned(), app.name.to_string())]),
        timeout: Duration::from_secs(60),
        ..BuildSettings::default()
    };
    let ensure = || async {
        let (sender, receiver) = mpsc::channel(16);
        let here = std::path::Path::new("/nonexistent");
        let (result, lines) =
            tokio::join!(app.engine.ensure_base(&base, &settings, here, sender), drain(receiver));
        result.unwrap();
        lines
    };
    let (first, second) = tokio::join!(ensure(), ensure());
    let lines = [first, second].concat();
    let said = |text: &str| lines.iter().filter(|line| line.as_str() == text).count();
    assert_eq!(
        (said(&format!("parent of {}", app.name)), said(&format!("{}: hello", app.name))),
        (1, 1),
        "{lines:?}"
    );
    assert!(app.engine.has_image(&base.reference).await.unwrap());
    assert!(ensure().await.is_empty());
}

#[tokio::test]
async fn without_a_registry_the_source_is_debian_and_a_pull_is_refused_in_words() {
    let app = TestApp::bare().await;
    let debian = ImageSourceChoice::Only(ImageSource::Debian);
    assert_eq!(app.engine.probe_source(debian).await, ImageSource::Debian);
    let asked = Instant::now();
    app.engine.probe_source(ImageSourceChoice::Auto).await;
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());

    // No registry on earth listens on port 1 of this machine.
    let name = "localhost:1/no/such:image".to_owned();
    let base = BaseImage { reference: name.clone(), name, anew: false, recipe: Recipe::Pull };
    let (sender, _receiver) = mpsc::channel(16);
    let here = std::path::Path::new("/nonexistent");
    let result = app.engine.ensure_base(&base, &BuildSettings::default(), here, sender).await;
    let problem = Problem::from(&result.unwrap_err());
    assert_eq!(problem.title, "The base image localhost:1/no/such:image could not be pulled");
}
