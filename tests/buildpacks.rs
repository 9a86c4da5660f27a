//! An administrator's own buildpacks.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::process::Command;

#[test]
fn a_broken_one_keeps_the_server_from_starting_and_names_its_line() {
    let home = tempfile::tempdir().unwrap();
    let pack = home.path().join("buildpacks/perl");
    std::fs::create_dir_all(&pack).unwrap();
    std::fs::write(pack.join("buildpack.toml"), "key = \"perl\"\nname = \"Perl\"\ndetect = [app.pl]\n")
        .unwrap();
    let config = home.path().join("server.toml");
    let data = home.path().join("data");
    let text = format!("data_dir = {data:?}\nbuildpacks = {:?}\n", home.path().join("buildpacks"));
    std::fs::write(&config, text).unwrap();
    for extra in [&["--check-config"][..], &[]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
        let output = command.arg("serve").arg("--config").arg(&config).args(extra).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("perl/buildpack.toml line 3"), "{said}");
        assert!(!data.exists(), "nothing is begun");
    }
}
