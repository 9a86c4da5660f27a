//! Networks.

use super::*;

#[tokio::test]
async fn forty_networks_live_side_by_side() {
    let apps: Vec<TestApp> = futures_util::future::join_all((0..40).map(|_| TestApp::bare())).await;
    let made = apps.iter().map(|app| app.engine.ensure_network(app.id, app.subnet));
    for result in futures_util::future::join_all(made).await {
        result.unwrap();
    }
    for app in &apps {
        assert!(std::path::Path::new(&format!("/sys/class/net/paas{}", app.id.0)).exists());
    }
}

#[tokio::test]
async fn a_damaged_network_is_made_anew_and_a_vanished_one_too() {
    let app = TestApp::new().await;
    let name = format!("paas-{}", app.id.0);
    app.engine.docker.remove_network(&name).await.unwrap();
    let id = app.engine.start(&app.workload("sleep 1000")).await.unwrap();
    assert!(app.engine.inspect(&id).await.unwrap().running);

    let other = TestApp::bare().await;
    let engine = DockerEngine::connect(None).await.unwrap();
    engine.ensure_network(app.id, other.subnet).await.unwrap();
    let seen = engine.docker.inspect_network(&name, None).await.unwrap();
    assert_eq!(
        seen.ipam.unwrap().config.unwrap()[0].subnet.as_deref(),
        Some(other.subnet.to_string().as_str())
    );

    let taken = engine.ensure_network(other.id, other.subnet).await;
    assert!(matches!(taken, Err(EngineError::SubnetTaken { .. })), "{taken:?}");
    engine.remove_network(app.id).await.unwrap();
    engine.remove_network(app.id).await.unwrap();
}
