//! Repositories whose every value is made for a shell, a template or a
//! Dockerfile: what is rendered has the instructions that our templates have,
//! and nothing of the repository in them but plain words and quoted JSON.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::DetectError;
use super::sketch::planned;
use crate::model::Dockerfile;

/// Words that mean something to one of those who read what we write.
const PIECES: [&str; 44] = [
    "\"",
    "'",
    "\n",
    "\r\n",
    "\\",
    "\\\n",
    "$(touch x)",
    "`id`",
    "${IFS}",
    ";",
    "&&",
    "|",
    ">",
    "<<EOF\n",
    "\nEOF\n",
    "\nRUN id\n",
    "\nFROM scratch\n",
    "# syntax=evil/frontend\n",
    "# escape=`\n",
    "--mount=type=ssh",
    "-o",
    "--",
    "{{ 7*7 }}",
    "{% raw %}",
    "{#",
    "]",
    "[\"",
    "%0a",
    "\0",
    "\u{2028}",
    "\u{85}",
    "é",
    "a",
    "web",
    "./cmd",
    "/",
    "..",
    "=",
    ":",
    "@",
    "*",
    "~",
    " ",
    "\t",
];

/// Marks what came from the repository.
const MARK: &str = "H0STILE";

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(PIECES.to_vec());
    prop::collection::vec(piece, 1..5).prop_map(|pieces| format!("{MARK}{}", pieces.concat()))
}

/// One instruction as Docker reads it: lines joined where they end in `\`,
/// comments and empty lines left out.
fn instructions(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.split('\n') {
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let (body, goes_on) = trimmed.strip_suffix('\\').map_or((trimmed, false), |body| (body, true));
        match found.last_mut().filter(|_| open) {
            Some(before) => before.push_str(body),
            None => found.push(body.to_owned()),
        }
        open = goes_on;
    }
    found
}

/// Without its last JSON array, if it ends in one that is read as such.
fn without_json(instruction: &str) -> &str {
    let begins = instruction.match_indices('[').map(|(at, _)| at);
    let array = |at: &usize| serde_json::from_str::<Vec<String>>(&instruction[*at..]).is_ok();
    begins.into_iter().find(array).map_or(instruction, |at| &instruction[..at])
}

/// Without what a secret of a valid name makes: its mount and its variable.
fn without_secrets(instruction: &str) -> String {
    const MOUNT: &str = "--mount=type=secret,id=";
    let mut text = instruction.to_owned();
    while let Some((_, rest)) = text.split_once(MOUNT) {
        let name = rest.split(' ').next().unwrap().to_owned();
        assert!(name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'), "{name:?}");
        let variable = format!("export {name}=\"$(cat /run/secrets/{name})\" && ");
        text = text.replacen(&format!("{MOUNT}{name}"), "", 1).replacen(&variable, "", 1);
    }
    text
}

/// What must hold of every Dockerfile that we write.
fn expect_ours(text: &str) {
    const KEYWORDS: [&str; 11] =
        ["FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "CMD", "STOPSIGNAL", "EXPOSE", "ENTRYPOINT"];
    let all = instructions(text);
    assert!(all[0].starts_with("FROM "), "{text}");
    assert!(!text.contains('\r') && !text.contains('\0'), "{text:?}");
    assert!(all.iter().filter(|line| line.starts_with("CMD ")).count() <= 1, "{text}");
    for instruction in &all {
        let (keyword, _) = instruction.split_once(' ').unwrap();
        assert!(KEYWORDS.contains(&keyword), "{instruction}\n{text}");
        assert!(!instruction.contains("<<"), "a heredoc: {instruction}");
        let outside = without_secrets(without_json(instruction));
        for word in outside.split_whitespace().filter(|word| word.contains(MARK)) {
            let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/=+:,@".contains(&c);
            assert!(word.bytes().all(plain), "{word:?} in {instruction}");
            assert!(!word.starts_with('-'), "an option: {word:?} in {instruction}");
        }
        if keyword == "FROM" {
            assert!(!instruction.contains(MARK), "{instruction}");
        }
    }
}

/// A TOML string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap().replace("\\u2028", "\u{2028}")
}

/// Trees in which `h` stands wherever a value can.
#[allow(clippy::too_many_lines, reason = "a list")]
fn trees(h: &str) -> Vec<Vec<(String, String)>> {
    let file = |path: &str, text: String| (path.to_owned(), text);
    let q = quoted(h);
    let python = format!("{h} = Flask(__name__)\napp = Flask({q})\n");
    let django = |settings: String| {
        vec![
            file("requirements.txt", "Django\n".to_owned()),
            file("manage.py", format!("os.environ.setdefault('DJANGO_SETTINGS_MODULE', {q})\n")),
            file("site/wsgi.py", format!("os.environ.setdefault('DJANGO_SETTINGS_MODULE', '{h}')\n")),
            file("site/settings.py", settings),
        ]
    };
    let build =
        |line: String| vec![file("main.py", String::new()), file("paas.toml", format!("[build]\n{line}\n"))];
    let go = |module: String| vec![file("go.mod", module), file("main.go", "package main\n".to_owned())];
    let mut all = vec![
        vec![file("requirements.txt", format!("flask\n-r {h}\n{h}==1\n")), file("app.py", python.clone())],
        vec![file("requirements.txt", "flask\n".to_owned()), file(&format!("{h}/app.py"), python.clone())],
        vec![file("requirements.txt", "flask\n".to_owned()), file(&format!("src/{h}.py"), python)],
        vec![file(&format!("{h}requirements.txt"), "flask\n".to_owned()), file("app.py", String::new())],
        vec![
            file("requirements.txt", format!("-r {h}.txt\n")),
            file(&format!("{h}.txt"), String::new()),
            file("app.py", String::new()),
        ],
        django(format!("WSGI_APPLICATION = {q}\nSTATIC_ROOT = {q}\nASGI_APPLICATION = '{h}.x'\n")),
        vec![file(
            "pyproject.toml",
            format!(
                "[project]\nname = {q}\nversion = {q}\nrequires-python = {q}\ndependencies = [{q}]\n[project.scripts]\n{q} = {q}\n[build-system]\nrequires = [{q}]\n"
            ),
        )],
        vec![file(
            "pyproject.toml",
            format!(
                "[project]\nname = {q}\n[project.scripts]\n{q} = {q}\n[build-system]\nrequires = []\n[tool.hatch.build]\n"
            ),
        )],
        vec![
            file(
                "pyproject.toml",
                format!("[tool.poetry]\nname = {q}\n[tool.poetry.dependencies]\n{q} = {q}\n"),
            ),
            file("main.py", String::new()),
        ],
        vec![
            file("pyproject.toml", "[project]\nname = 'x'\n".to_owned()),
            file(
                "poetry.lock",
                format!("[[package]]\nname = {q}\nversion = {q}\nfiles = [{{file = {q}, hash = {q}}}]\n"),
            ),
            file("main.py", String::new()),
        ],
        vec![
            file("Pipfile", format!("[packages]\n{q} = {q}\n[requires]\npython_version = {q}\n")),
            file("main.py", String::new()),
        ],
        vec![file(".python-version", h.to_owned()), file("main.py", String::new())],
        vec![
            file("Procfile", format!("web: {}\n", h.replace(['\n', '\0'], " "))),
            file("main.py", String::new()),
        ],
        vec![
            file("Procfile", format!("web: gunicorn {}\nrelease: {h}\n", h.replace(['\n', '\0'], " "))),
            file("main.py", String::new()),
        ],
        vec![file("Aptfile", format!("curl\n{h}\n")), file("main.py", String::new())],
        go(format!("module {h}\n\ngo 1.22\n")),
        go(format!("module example.com/{h}\n// +heroku install {h} ./{h}\n// +heroku goVersion {h}\n")),
        go(format!("module x\n\ngo {h}\ntoolchain {h}\n")),
        vec![
            file("go.mod", "module x\n".to_owned()),
            file(&format!("cmd/{h}/main.go"), "package main\n".to_owned()),
        ],
        vec![
            file("go.work", format!("use {h}\nuse ./a\n")),
            file("a/go.mod", format!("module {h}\n")),
            file("a/main.go", "package main\n".to_owned()),
        ],
        vec![
            file("Gemfile", format!("ruby {q}\n")),
            file(
                "Gemfile.lock",
                format!(
                    "GEM\n  specs:\n    {h} (1)\n    execjs (1)\n\nRUBY VERSION\n   ruby {h}\n\nBUNDLED WITH\n   {h}\n"
                ),
            ),
            file("config.ru", String::new()),
        ],
        vec![file(".ruby-version", h.to_owned()), file("config.ru", String::new())],
        vec![
            file(
                "package.json",
                format!(
                    "{{\"name\": {q}, \"main\": {q}, \"scripts\": {{\"start\": {q}, \"build\": {q}}}, \"engines\": {{\"node\": {q}}}, \"workspaces\": [{q}], \"packageManager\": {q}}}"
                ),
            ),
            file("server.js", String::new()),
        ],
        vec![
            file(
                "package.json",
                format!(
                    "{{\"main\": {q}, \"scripts\": {{\"build\": {q}}}, \"workspaces\": [{q}], \"dependencies\": {{{q}: {q}, \"a\": \"file:{}\"}}}}",
                    h.replace(['"', '\\', '\n', '\r', '\0', '\t'], "")
                ),
            ),
            file("server.js", String::new()),
        ],
        vec![
            file(
                "package.json",
                format!("{{\"scripts\": {{\"build\": {q}}}, \"engines\": {{\"node\": {q}}}}}"),
            ),
            file("requirements.txt", String::new()),
            file("main.py", String::new()),
        ],
        vec![
            file("Staticfile", format!("root: {h}\npushstate: {h}\n")),
            file("index.html", String::new()),
            file(&format!("{h}/index.html"), String::new()),
        ],
        vec![
            file("index.html", String::new()),
            file(
                "paas.toml",
                format!("[static]\nroot = {q}\nfallback = {q}\n[static.headers.{q}]\n{q} = {q}\n"),
            ),
        ],
        vec![
            file("composer.json", format!("{{\"require\": {{\"php\": {q}, {q}: {q}}}}}")),
            file("index.php", String::new()),
        ],
    ];
    for key in ["builder", "root", "dockerfile", "version", "installer", "install", "build", "start"] {
        all.push(build(format!("{key} = {q}")));
    }
    for key in ["apt", "packages", "secrets"] {
        all.push(build(format!("{key} = [{q}]")));
    }
    for table in ["env", "args"] {
        all.push(build(format!("[build.{table}]\n{q} = 'x'\nA = {q}")));
    }
    all
}

fn check(h: &str) {
    for tree in trees(h) {
        let files: Vec<(&str, &str)> =
            tree.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        match planned(&files) {
            Ok(plan) => match plan.dockerfile {
                Dockerfile::Generated(text) => expect_ours(&text),
                Dockerfile::Own(_) | Dockerfile::Rewritten { .. } => {}
            },
            // A value that reached a template and was stopped there only.
            Err(error @ DetectError::Broken { .. }) => panic!("{error}: {files:?}"),
            Err(_) => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn no_value_of_a_repository_becomes_an_instruction(h in hostile()) {
        check(&h);
    }
}

#[test]
fn each_piece_alone_becomes_no_instruction() {
    for piece in PIECES {
        for h in [
            piece.to_owned(),
            format!("{piece}{MARK}"),
            format!("{MARK}{piece}"),
            format!("x{piece}{MARK}{piece}"),
        ] {
            check(&h);
        }
    }
}

/// How long detection takes for a tree.
fn time(files: &[(String, String)]) -> Duration {
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    let start = Instant::now();
    let _ = planned(&files);
    start.elapsed()
}

/// Trees that are slow where something is looked for again and again.
fn crowded_trees() -> Vec<(&'static str, Vec<(String, String)>)> {
    let mega = 4 << 20;
    let file = |path: String, text: String| (path, text);
    let many = |count: usize, name: &dyn Fn(usize) -> String| {
        (0..count).map(|n| file(name(n), String::new())).collect::<Vec<_>>()
    };
    vec![
        ("patterns for everything, beside a Dockerfile", {
            let mut files = many(20_000, &|n| format!("a/a/a/a/a/a/a/a/f{n}"));
            files.push(file("Dockerfile.dockerignore".to_owned(), "**/*a*a*a*a*b/**/*a*b\n".repeat(10_000)));
            files.push(file("Dockerfile".to_owned(), "FROM scratch\n".to_owned()));
            files
        }),
        ("a command of a million words", {
            let start = format!("{{\"scripts\":{{\"start\":\"npm {}\"}}}}", "a ".repeat(mega / 3));
            vec![file("package.json".to_owned(), start), file("index.js".to_owned(), String::new())]
        }),
        ("a list of a million packages", {
            let list = "\"a1\", ".repeat(mega / 2);
            let text = format!("[build]\napt = [{list}]\n{} = 1\n", "k".repeat(mega));
            vec![file("paas.toml".to_owned(), text), file("main.py".to_owned(), String::new())]
        }),
        ("a lock of bun with everything", {
            let all = (0..100_000).map(|n| format!("\"p{n}\": \"1.{n}.0\""));
            let all = all.collect::<Vec<_>>().join(",\n");
            let manifest = format!("{{\"dependencies\": {{{all}}}}}");
            vec![
                file("package.json".to_owned(), manifest),
                file("bun.lock".to_owned(), format!("{{{}}}", all.replace("\"p99999\"", "\"q\""))),
                file("index.js".to_owned(), String::new()),
            ]
        }),
    ]
}

/// Trees within the bounds of a push, each made to be slow to look at.
fn slow_trees() -> Vec<(&'static str, Vec<(String, String)>)> {
    let file = |path: String, text: String| (path, text);
    let many = |count: usize, name: &dyn Fn(usize) -> String| {
        (0..count).map(|n| file(name(n), "package main\n".to_owned())).collect::<Vec<_>>()
    };
    let go = |mut files: Vec<(String, String)>| {
        files.push(file("go.mod".to_owned(), "module x\n".to_owned()));
        files
    };
    let mega = 4 << 20;
    let flask = ("requirements.txt".to_owned(), "flask\n".to_owned());
    vec![
        (
            "folders of modules",
            go(many(20_000, &|n| format!("m{n}/go.mod"))
                .into_iter()
                .chain(many(20_000, &|n| format!("m{n}/main.go")))
                .collect()),
        ),
        ("a workspace of everything", {
            let mut files = many(20_000, &|n| format!("m{n}/go.mod"));
            files.push(file("go.work".to_owned(), (0..20_000).map(|n| format!("use ./m{n}\n")).collect()));
            files
        }),
        (
            "functions without an end",
            vec![flask.clone(), file("app.py".to_owned(), "def create_app(".repeat(mega / 15))],
        ),
        ("large sources", {
            let mut files: Vec<_> =
                (0..300).map(|n| file(format!("m{n}.py"), "x = 1\n".repeat(mega / 60))).collect();
            files.push(flask.clone());
            files
        }),
        ("requirements that include each other", {
            let all: String = (0..5_000).map(|n| format!("-r r{n}.txt\n")).collect();
            let mut files: Vec<_> = (0..5_000).map(|n| file(format!("r{n}.txt"), all.clone())).collect();
            files.push(file("requirements.txt".to_owned(), all));
            files
        }),
        ("patterns for everything", {
            let mut files = many(20_000, &|n| format!("a/a/a/a/a/a/a/a/f{n}"));
            files.push(file(".dockerignore".to_owned(), "**/*a*a*a*a*b/**/*a*b\n".repeat(10_000)));
            files.push(file("main.py".to_owned(), String::new()));
            files
        }),
        ("deep JSON", vec![file("package.json".to_owned(), "[".repeat(mega))]),
        ("deep TOML", vec![file("pyproject.toml".to_owned(), format!("a = {}", "[".repeat(mega - 10)))]),
        (
            "deep tables",
            vec![file("paas.toml".to_owned(), format!("{} = 1", vec!["a"; 1_000_000].join(".")))],
        ),
        (
            "deep app.json",
            vec![
                file("app.json".to_owned(), "{\"a\":".repeat(500_000)),
                file("main.py".to_owned(), String::new()),
            ],
        ),
        (
            "a long version",
            vec![
                file(".python-version".to_owned(), ">=3,".repeat(500_000)),
                file("main.py".to_owned(), String::new()),
            ],
        ),
        (
            "a long range",
            vec![
                file(
                    "package.json".to_owned(),
                    format!("{{\"engines\": {{\"node\": \"{}\"}}}}", ">=1 ||".repeat(500_000)),
                ),
                file("index.js".to_owned(), String::new()),
            ],
        ),
    ]
}

/// Generous: this is a debug build on a busy machine; quadratic is minutes.
#[test]
fn trees_made_to_be_slow_are_answered() {
    for (name, files) in slow_trees().into_iter().chain(crowded_trees()) {
        let took = time(&files);
        eprintln!("{name}: {took:?}");
        assert!(took < Duration::from_secs(40), "{name}: {took:?}");
    }
}
