//! `paas check`, as people run it in their app's folder, without a server.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::process::Command;

/// Whether these files are in order, and what is said of them.
fn checked(files: &[(&str, &str)]) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
    let output = command.arg("check").arg(folder.path()).output().unwrap();
    let text = [output.stderr, output.stdout].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn files_in_order_are_named() {
    let (good, said) = checked(&[
        ("Procfile", "web: python main.py\nworker: python work.py\n"),
        ("paas.toml", "[processes.worker]\nstop_timeout = \"90s\"\n[deploy]\nwatch = \"5m\"\n"),
        ("app.json", "{\"formation\": {\"web\": {\"quantity\": 2}}}"),
        ("main.py", ""),
        ("work.py", ""),
    ]);
    assert!(good, "{said}");
    for file in ["Procfile", "paas.toml", "app.json"] {
        assert!(said.contains(file), "{said}");
    }
    let (good, said) = checked(&[("main.py", "")]);
    assert!(good && said.contains("none is needed"), "{said}");
}

/// All of it in one run, each with its file and line.
#[test]
fn what_is_wrong_is_named_with_its_file_and_line() {
    let (good, said) = checked(&[
        ("Procfile", "web: python main.py\nworker python work.py\n"),
        ("paas.toml", "[deploy]\nwatch = \"5m\"\nwatsh = \"5m\"\n"),
        ("app.json", "{\n  \"formation\": {\"web\": {\"quantity\": \"two\"}}\n}\n"),
        ("main.py", ""),
    ]);
    assert!(!good, "{said}");
    for place in ["Procfile line 2", "paas.toml line 3", "app.json line 2"] {
        assert!(said.contains(place), "nothing of {place} in:\n{said}");
    }
}

#[test]
fn a_folder_that_is_not_there_is_said_to_be_so() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paas"));
    let output = command.args(["check", "/nowhere/at/all"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("cannot read /nowhere/at/all"));
}
