//! Lock files that the real tools wrote, from `tests/apps`, and hostile ones.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{EntryKind, SourceEntry, SourceTree};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// A tree in memory.
#[derive(Default)]
struct Texts {
    entries: Vec<SourceEntry>,
    texts: BTreeMap<String, Vec<u8>>,
}

impl Texts {
    fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        files.iter().for_each(|(path, text)| tree.add(path, text.as_bytes().to_vec()));
        tree.sorted()
    }

    /// A case of `tests/apps`.
    fn case(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(name);
        let mut tree = Self::default();
        tree.folder(&root, "");
        assert!(!tree.entries.is_empty(), "{name} is empty");
        tree.sorted()
    }

    fn folder(&mut self, folder: &Path, prefix: &str) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{prefix}{}", entry.file_name().into_string().unwrap());
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.folder(&entry.path(), &format!("{path}/"));
            } else if kind.is_file() {
                self.add(&path, std::fs::read(entry.path()).unwrap());
            }
        }
    }

    fn add(&mut self, path: &str, bytes: Vec<u8>) {
        let kind = EntryKind::File { executable: false };
        self.entries.push(SourceEntry { path: path.to_owned(), kind, size: bytes.len() as u64 });
        self.texts.insert(path.to_owned(), bytes);
    }

    fn sorted(mut self) -> Self {
        self.entries.sort_by(|a, b| a.path.cmp(&b.path));
        self
    }
}

impl SourceTree for Texts {
    fn entries(&self) -> &[SourceEntry] {
        &self.entries
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        self.texts.get(path).filter(|bytes| bytes.len() as u64 <= limit).cloned()
    }
}

fn subject() -> Subject<'static> {
    Subject {
        app: "shop",
        release: 7,
        commit: "0123456789012345678901234567890123456789",
        image: "sha256:00",
        runtime: Some(("Python", "3.11")),
        bases: vec![
            Base { reference: "python:3.11-slim".to_owned(), public: true, runs: true },
            Base { reference: "paas/base-node:22-0f".to_owned(), public: false, runs: false },
        ],
        made: "2026-01-02T03:04:05Z",
        serial: [0xff; 16],
    }
}

/// Packages as lines: purl, what they are for, checksums; the first, and how many.
fn outline(tree: &Texts, everywhere: bool) -> String {
    let bill = read(tree, everywhere).unwrap();
    let line = |one: &Component| {
        let mut line = one.purl();
        if one.development {
            line.push_str(" (development)");
        }
        for hash in &one.hashes {
            line.push_str(&format!(" {} {}…", hash.kind, &hash.digits[..8]));
        }
        if !one.archives.is_empty() {
            let hashed = one.archives.iter().filter(|archive| archive.hash.is_some()).count();
            line.push_str(&format!(" {} archives, {hashed} with checksum", one.archives.len()));
        }
        for (what, value) in [("from", &one.repository), ("asked:", &one.asked)] {
            line.extend(value.iter().flat_map(|value| [" ", what, " ", value]));
        }
        line.extend(one.licences.iter().flat_map(|name| [" ", name]));
        line
    };
    let mut lines: Vec<String> = bill.components.iter().take(40).map(line).collect();
    let development = bill.components.iter().filter(|one| one.development).count();
    lines.push(format!("{} in all, {development} for development", bill.components.len()));
    lines.extend(bill.notes);
    lines.join("\n")
}

fn case(name: &str) -> String {
    outline(&Texts::case(name), false)
}

#[test]
fn locks_of_python() {
    let cases = [
        "python-uv-app",
        "python-uv-workspace",
        "python-poetry",
        "python-pdm",
        "python-pipenv",
        "python-flask",
    ];
    insta::assert_snapshot!(cases.map(|name| format!("{name}\n{}", case(name))).join("\n\n"));
    let loose = ["python-requirements-includes", "python-requirements-utf16", "refused-requirements-hash"];
    insta::assert_snapshot!("requirements", loose.map(|name| format!("{name}\n{}", case(name))).join("\n\n"));
}

#[test]
fn locks_of_node() {
    let cases = [
        "node-express-lock",
        "node-npm-workspaces",
        "node-file-dependency",
        "node-yarn-classic",
        "node-yarn-berry",
        "node-pnpm-workspace",
        "node-pnpm-hono-ts",
        "node-bun",
        "node-no-lock",
    ];
    insta::assert_snapshot!(cases.map(|name| format!("{name}\n{}", case(name))).join("\n\n"));
}

#[test]
fn locks_of_go_ruby_and_php() {
    let cases = ["go-dependency", "go-vendored", "go-work", "ruby-sinatra", "ruby-vendored-gem"];
    insta::assert_snapshot!(cases.map(|name| format!("{name}\n{}", case(name))).join("\n\n"));
}

/// Older formats, as their tools wrote them.
#[test]
fn older_locks() {
    let npm = r#"{"name": "x", "lockfileVersion": 1, "requires": true, "dependencies": {
        "a": {"version": "1.0.0", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=", "requires": {"b": "^2"},
              "dependencies": {"b": {"version": "2.0.0", "dev": true}}},
        "fork": {"version": "git+ssh://git@github.com/o/fork.git#abc", "from": "fork@github:o/fork"},
        "alias": {"version": "npm:real@3.0.0"}, "own": {"version": "file:own"}}}"#;
    let pnpm = "lockfileVersion: 5.4\n\nspecifiers:\n  is-odd: ^3.0.1\n\npackages:\n\n  /is-odd/3.0.1:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dev: true\n\n  /@a/b/1.0.0_c@2.0.0:\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dev: false\n\n  file:local:\n    resolution: {directory: local, type: directory}\n    name: local\n";
    let six = "lockfileVersion: '6.0'\n\npackages:\n\n  /@a/b@1.0.0(c@2.0.0):\n    resolution: {integrity: sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk=}\n    dev: false\n";
    let poetry = "[[package]]\nname = \"flask\"\nversion = \"2.0\"\ncategory = \"main\"\noptional = false\n\n[[package]]\nname = \"pytest\"\nversion = \"7.0\"\ncategory = \"dev\"\noptional = false\n\n[metadata.files]\nflask = [{file = \"flask-2.0.tar.gz\", hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}]\n";
    let untold = "[[package]]\nname = \"flask\"\nversion = \"2.0\"\noptional = false\n\n[package.dependencies]\nClick = \">=8\"\n\n[[package]]\nname = \"click\"\nversion = \"8.0\"\noptional = false\n\n[[package]]\nname = \"pytest\"\nversion = \"7.0\"\noptional = false\n";
    let project = "[tool.poetry.dependencies]\npython = \"^3.11\"\nFlask = \"^2\"\n";
    let gems = "GIT\n  remote: https://user:pass@github.com/o/gem.git\n  revision: abc\n  specs:\n    forked (1.0)\n      rack\n\nPATH\n  remote: engines/own\n  specs:\n    own (0.1)\n\nGEM\n  remote: https://rubygems.org/\n  specs:\n    nokogiri (1.15.4-x86_64-linux)\n    rack (3.0.0)\n\nCHECKSUMS\n  forked (1.0)\n  nokogiri (1.15.4-x86_64-linux) sha256=0000000000000000000000000000000000000000000000000000000000000000\n\nBUNDLED WITH\n   2.5.0\n";
    let composer = r#"{"packages": [{"name": "monolog/monolog", "version": "3.5.0", "license": ["MIT"],
        "source": {"type": "git", "url": "https://github.com/Seldaek/monolog.git", "reference": "c9"},
        "dist": {"type": "zip", "url": "https://api.github.com/repos/Seldaek/monolog/zipball/c9", "shasum": ""}}],
        "packages-dev": [{"name": "phpunit/phpunit", "version": "10.0.0", "license": ["BSD-3-Clause"]}]}"#;
    let module = "module x\n\ngo 1.15\n\nrequire (\n\ta.b/c v1.0.0\n\td v2.0.0+incompatible // indirect\n)\n\nreplace d => ./d\n";
    let sums =
        "a.b/c v1.0.0 h1:x=\na.b/c v1.0.0/go.mod h1:x=\ne.f/g v0.1.0 h1:y=\ne.f/g v0.2.0/go.mod h1:z=\n";
    let pinned = "-c constraints.txt\nflask\nlib @ git+https://t0ken@github.com/o/lib.git@main\n";
    let cases: Vec<Vec<(&str, &str)>> = vec![
        vec![("package-lock.json", npm)],
        vec![("pnpm-lock.yaml", pnpm)],
        vec![("pnpm-lock.yaml", six)],
        vec![("poetry.lock", poetry)],
        vec![("poetry.lock", untold), ("pyproject.toml", project)],
        vec![("Gemfile.lock", gems)],
        vec![("composer.lock", composer)],
        vec![("go.mod", module), ("go.sum", sums)],
        vec![("requirements.txt", pinned), ("constraints.txt", "Flask==3.0.0\nother==1\n")],
    ];
    let all: Vec<String> = cases.iter().map(|files| outline(&Texts::of(files), false)).collect();
    assert!(!all.join("").contains("pass") && !all.join("").contains("t0ken"));
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn a_second_language_and_a_dockerfiles_folders_count() {
    let requirements = ("requirements.txt", "flask==3.0.0\n");
    let page = ("package.json", r#"{"dependencies": {"vite": "^7"}}"#);
    let below = ("frontend/package.json", r#"{"dependencies": {"react": "^19"}}"#);
    let foreign = ("node_modules/x/package.json", r#"{"dependencies": {"y": "1"}}"#);
    let tree = Texts::of(&[below, foreign, page, requirements]);
    let purls = |everywhere| -> Vec<String> {
        read(&tree, everywhere).unwrap().components.iter().map(Component::purl).collect()
    };
    assert_eq!(purls(false), ["pkg:pypi/flask@3.0.0", "pkg:npm/vite"]);
    assert_eq!(purls(true), ["pkg:pypi/flask@3.0.0", "pkg:npm/react", "pkg:npm/vite"]);
}

#[test]
fn the_document() {
    let tree = Texts::of(&[
        ("Gemfile.lock", "GEM\n  specs:\n    rack (3.0.0)\n"),
        (
            "requirements.txt",
            "flask>=3\nsix==1.17.0 --hash=sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
        ),
        (
            "package-lock.json",
            r#"{"packages": {"node_modules/@a/b": {"version": "1.0.0", "dev": true, "license": "MIT",
            "resolved": "https://registry.npmjs.org/@a/b/-/b-1.0.0.tgz", "integrity": "sha1-2jmj7l5rSw0yVb/vlWAYkK/YBwk="}}}"#,
        ),
    ]);
    let bill = read(&tree, false).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&document(&subject(), &bill)).unwrap());
    let rows = table(&subject(), &bill);
    insta::assert_snapshot!("table", rows.iter().map(|row| row.join(" | ")).collect::<Vec<_>>().join("\n"));
}

/// What CycloneDX 1.5's schema requires of what we write.
fn check_shape(document: &Value) {
    assert_eq!(document["bomFormat"], "CycloneDX");
    assert_eq!(document["specVersion"], "1.5");
    let serial = document["serialNumber"].as_str().unwrap().strip_prefix("urn:uuid:").unwrap();
    let lengths: Vec<usize> = serial.split('-').map(str::len).collect();
    assert_eq!(lengths, [8, 4, 4, 4, 12]);
    assert!(serial.chars().all(|c| c == '-' || c.is_ascii_hexdigit() && !c.is_ascii_uppercase()));
    let types = ["application", "library", "container", "platform"];
    let mut references = BTreeSet::new();
    let components = document["components"].as_array().unwrap();
    for one in components.iter().chain([&document["metadata"]["component"]]) {
        assert!(types.contains(&one["type"].as_str().unwrap()));
        assert!(!one["name"].as_str().unwrap().is_empty());
        assert!(references.insert(one["bom-ref"].as_str().unwrap()), "twice: {one}");
        assert!(one.get("scope").is_none_or(|scope| scope == "required" || scope == "optional"));
        let listed =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let places = listed(one, "externalReferences");
        let hashes = places.iter().flat_map(|place| listed(place, "hashes")).chain(listed(one, "hashes"));
        for hash in hashes {
            let length = match hash["alg"].as_str().unwrap() {
                "MD5" => 32,
                "SHA-1" => 40,
                "SHA-256" => 64,
                "SHA-384" => 96,
                "SHA-512" => 128,
                other => panic!("{other}"),
            };
            assert_eq!(hash["content"].as_str().unwrap().len(), length);
        }
        for place in places {
            assert!(["vcs", "distribution"].contains(&place["type"].as_str().unwrap()));
            let url = place["url"].as_str().unwrap();
            assert!(url.bytes().all(|c| c.is_ascii_graphic() && !b"<>\"{}|\\^`".contains(&c)), "{url}");
        }
    }
}

/// Every app of the tests has a document of the right shape.
#[test]
fn every_app_has_a_document() {
    let apps = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps");
    let mut checked = 0;
    for entry in std::fs::read_dir(apps).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        let name = entry.file_name().into_string().unwrap();
        match read(&Texts::case(&name), true) {
            Ok(bill) => check_shape(&document(&subject(), &bill)),
            Err(SbomError::Malformed { line, .. }) => {
                assert!(line > 0 && name.starts_with("refused-"), "{name}");
            }
            Err(other) => panic!("{name}: {other}"),
        }
        checked += 1;
    }
    assert!(checked > 100);
}

#[test]
fn broken_locks_name_their_line() {
    let deep = format!("{{\"packages\":\n{}", "{\"a\":".repeat(10_000));
    let brackets = format!("{{\"packages\": {{\"node_modules/a\":\n{{\"license\": {}", "[".repeat(100_000));
    let nested = format!("a = 1\nb = {}", "[".repeat(100_000));
    let cases: [(&str, &str); 12] = [
        ("package-lock.json", "{\n  \"packages\": {\n<<<<<<< HEAD\n"),
        ("package-lock.json", "{\"packages\": {\"node_modules/a\": {\n\"dev\": \"yes\"}}}"),
        ("package-lock.json", &deep),
        ("package-lock.json", &brackets),
        ("uv.lock", "version = 1\n[[package]]\nname = 3\n"),
        ("uv.lock", &nested),
        ("poetry.lock", "[[package]]\nversion = \"1\"\n"),
        ("Pipfile.lock", "{\n\"default\": 3}"),
        ("pnpm-lock.yaml", "packages:\n  a@1:\n\tb: 1\n"),
        ("yarn.lock", "# yarn lockfile v1\n\na@1:\n  version\n"),
        ("Gemfile.lock", "GEM\n  specs:\n<<<<<<< HEAD\n"),
        ("go.mod", "module x\nrequire (\n\ta\n)\n"),
    ];
    let said =
        cases.map(|(file, text)| read(&Texts::of(&[(file, text)]), false).unwrap_err().problem().to_string());
    insta::assert_snapshot!(said.join("\n\n"));
    let large = " ".repeat(9 << 20);
    let error = read(&Texts::of(&[("composer.lock", &large)]), false).unwrap_err();
    assert!(matches!(error, SbomError::TooLarge { .. }));
    let many: String = (0..60_000).map(|n| format!("p{n}==1\n")).collect();
    let error = read(&Texts::of(&[("requirements.txt", &many)]), false).unwrap_err();
    assert!(matches!(error, SbomError::TooMany { .. }));
}

/// Names of a stranger's become neither control characters nor other fields.
#[test]
fn hostile_names_stay_names() {
    let lock = r#"{"packages": {"node_modules/\u001b[31m\"},\"x\u009b": {"version": "1\n2",
        "resolved": "https://a/\u202eb", "integrity": "sha512-%%", "license": {"type": "MIT"}},
        "node_modules/": {"version": "1"}}}"#;
    let bill = read(&Texts::of(&[("package-lock.json", lock)]), false).unwrap();
    assert_eq!(bill.components.len(), 1);
    assert_eq!(bill.components[0].name, "[31m\"},\"x");
    assert_eq!(bill.components[0].version.as_deref(), Some("12"));
    assert_eq!(bill.components[0].archives, []);
    check_shape(&document(&subject(), &bill));
}

/// Edges without a version lead to every version of a name, and each is followed once.
#[test]
fn many_versions_of_a_name_do_not_multiply() {
    let package = |n| format!("[[package]]\nname = 'a'\nversion = '{n}'\ndependencies = [{{name = 'a'}}]\n");
    let root = "[[package]]\nname = 'app'\nsource = {virtual = '.'}\ndependencies = [{name = 'a'}]\n";
    let lock = format!("{root}{}", (0..20_000).map(package).collect::<String>());
    let bill = read(&Texts::of(&[("uv.lock", &lock)]), false).unwrap();
    assert_eq!(bill.components.iter().filter(|one| !one.development).count(), 20_000);
}
