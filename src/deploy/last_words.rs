//! What a process that ended said of the reason, among all that it printed.

/// Where the app stands in its image.
const ROOT: &str = "/app/";

/// Folders of what is not the app's own.
const OTHERS: [&str; 3] = ["site-packages/", "node_modules/", "/.venv/"];

/// The reason that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// `app.py line 4: KeyError: 'DATABASE_URL'`
    pub text: String,
    /// What would mend it, if that can be told.
    pub next: Option<String>,
}

/// The error that ended a process of Python, Node or Ruby; the last that names a
/// file of the app, else the last.
pub(super) fn reason(lines: &[String]) -> Option<Reason> {
    let found = (0..lines.len()).filter_map(|at| {
        let (place, error) = error(lines, at)?;
        Some((place, error.to_owned()))
    });
    let found: Vec<(Option<String>, String)> = found.collect();
    let (place, error) = found.iter().rfind(|(place, _)| place.is_some()).or_else(|| found.last())?;
    let next = next(error, lines);
    let text = place.iter().map(|place| format!("{place}: ")).collect::<String>() + error;
    Some(Reason { text, next })
}

/// What is worth showing: not the frames of others' code.
pub(super) fn without_frames(lines: &[String]) -> Vec<&String> {
    let mut kept = Vec::with_capacity(lines.len());
    let mut skipped = None;
    for line in lines {
        let depth = line.len() - line.trim_start().len();
        if skipped.is_some_and(|frame| depth > frame && !line.trim().is_empty()) {
            continue;
        }
        let text = line.trim_start();
        let python = text.strip_prefix("File \"").is_some_and(|path| {
            path.starts_with('<') || path.starts_with("/usr/lib/python") || path.starts_with("/opt/venv/")
        });
        let node = text.starts_with("at ") && text.contains("node:internal");
        skipped = python.then_some(depth);
        if !python && !node {
            kept.push(line);
        }
    }
    kept
}

/// An error that this line tells, and where in the app it came up.
fn error(lines: &[String], at: usize) -> Option<(Option<String>, &str)> {
    let line = lines[at].trim_end();
    if let Some(found) = ruby(line) {
        return Some(found);
    }
    let (name, _) = line.split_once(": ").unwrap_or((line, ""));
    let name = name.split(" [").next().unwrap_or(name);
    let class = name.rsplit('.').next().unwrap_or(name);
    let plain = name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'.' || c == b'_');
    let capital = class.starts_with(|c: char| c.is_ascii_uppercase());
    let fault = ["Error", "Exception", "ImproperlyConfigured"].iter().any(|end| class.ends_with(end));
    // Gunicorn's own, and what Node repeats of an error that was not caught.
    if !(plain && capital && fault) {
        return None;
    }
    Some((frame_before(&lines[..at]).or_else(|| frame_behind(&lines[at + 1..])), line))
}

/// `/app/app.rb:3:in 'require': cannot load such file -- x (LoadError)`
fn ruby(line: &str) -> Option<(Option<String>, &str)> {
    let class = line.strip_suffix(')')?.rsplit_once(" (")?.1;
    let (place, rest) = line.split_once(":in ")?;
    let (_, message) = rest.split_once(": ")?;
    class.ends_with("Error").then(|| (numbered(place), message))
}

/// The app's file of the frames right above: of Python, the last; of Node, the line
/// that could not be read.
fn frame_before(lines: &[String]) -> Option<String> {
    for line in lines.iter().rev().take(60) {
        let text = line.trim();
        if text.starts_with("Traceback (") {
            return None;
        }
        if let Some((path, rest)) = text.strip_prefix("File \"").and_then(|rest| rest.split_once("\", line "))
        {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if let Some(path) = own(path) {
                return Some(format!("{path} line {}", &rest[..digits]));
            }
        }
        if let Some(place) = numbered(line.trim_end()) {
            return Some(place);
        }
    }
    None
}

/// The app's first file of the frames below, as Node writes them.
fn frame_behind(lines: &[String]) -> Option<String> {
    let frames =
        lines.iter().take(30).map(|line| line.trim()).take_while(|line| !line.starts_with("Node.js v"));
    frames.filter(|line| line.starts_with("at ")).find_map(|line| {
        let place =
            line.rsplit_once('(').map_or_else(|| &line[3..], |(_, place)| place.trim_end_matches(')'));
        let (place, _column) = place.rsplit_once(':')?;
        numbered(place)
    })
}

/// `/app/index.js:2` → `index.js line 2`
fn numbered(place: &str) -> Option<String> {
    let (path, number) = place.rsplit_once(':')?;
    let path = own(path.strip_prefix("file://").unwrap_or(path))?;
    (!number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()))
        .then(|| format!("{path} line {number}"))
}

/// The path of a file of the app, from its root.
fn own(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(ROOT)?;
    (!OTHERS.iter().any(|other| path.contains(other))).then_some(inside)
}

/// What would mend an error of a well-known kind.
fn next(error: &str, lines: &[String]) -> Option<String> {
    let quoted = |text: &str| {
        let rest = text.trim_start().strip_prefix(['\'', '"'])?;
        Some(rest.split(['\'', '"']).next()?.to_owned()).filter(|name| !name.is_empty() && name.len() < 100)
    };
    let behind = |word: &str| error.split_once(word).and_then(|(_, rest)| quoted(rest));
    if let Some(module) = behind("No module named ") {
        let top = module.split('.').next().unwrap_or(&module).to_owned();
        return Some(format!(
            "Commit {top}, if it is a module of yours, or add the package that has it to the dependencies."
        ));
    }
    if let Some(module) = behind("Cannot find module ").or_else(|| behind("Cannot find package ")) {
        if module.starts_with('.') || module.starts_with('/') {
            return Some("Commit that file; names are read to the letter here, capitals too.".to_owned());
        }
        return Some(format!("Add it to the dependencies: npm install {module}"));
    }
    if let Some(name) = error.strip_prefix("KeyError: ").and_then(quoted)
        && lines.iter().any(|line| line.contains("environ"))
    {
        return Some(format!("Set it: paas config:set APP {name}=…"));
    }
    let unreached =
        ["ECONNREFUSED", "Connection refused", "could not translate host name", "getaddrinfo ENOTFOUND"];
    if unreached.iter().any(|word| error.contains(word) || lines.iter().any(|line| line.contains(word))) {
        return Some(
            "It needs a server, such as a database, that does not answer there. Name one by config vars: paas config:set APP DATABASE_URL=…"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(text: &str) -> Option<(String, Option<String>)> {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        reason(&lines).map(|reason| (reason.text, reason.next))
    }

    #[test]
    fn python_under_gunicorn() {
        let text = "[1] [ERROR] Exception in worker process\n\
            Traceback (most recent call last):\n  \
              File \"/opt/venv/lib/python3.13/site-packages/gunicorn/util.py\", line 370, in import_app\n    \
                mod = importlib.import_module(module)\n  \
              File \"/app/app.py\", line 4, in <module>\n    \
                app.config[\"DB\"] = os.environ[\"DATABASE_URL\"]\n                       ~~~~~~~~~~^^^^^^\n  \
              File \"<frozen os>\", line 717, in __getitem__\n\
            KeyError: 'DATABASE_URL'\n'DATABASE_URL'\n\
            Traceback (most recent call last):\n  \
              File \"/opt/venv/bin/gunicorn\", line 10, in <module>\n    sys.exit(run())\n\
            gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>";
        let (told, next) = of(text).unwrap();
        assert_eq!(told, "app.py line 4: KeyError: 'DATABASE_URL'");
        assert_eq!(next.unwrap(), "Set it: paas config:set APP DATABASE_URL=…");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let kept: Vec<&str> = without_frames(&lines).into_iter().map(String::as_str).collect();
        assert_eq!(
            kept[1..4].join("\n"),
            "Traceback (most recent call last):\n  File \"/app/app.py\", line 4, in <module>\n    app.config[\"DB\"] = os.environ[\"DATABASE_URL\"]"
        );
        assert!(!kept.iter().any(|line| line.contains("site-packages")), "{kept:?}");
    }

    #[test]
    fn python_by_itself() {
        let syntax =
            "  File \"/app/app.py\", line 5\n    def index()\n               ^\nSyntaxError: expected ':'";
        assert_eq!(of(syntax), Some(("app.py line 5: SyntaxError: expected ':'".to_owned(), None)));
        let (told, next) =
            of("Traceback (most recent call last):\nModuleNotFoundError: No module named 'wsgi'").unwrap();
        assert_eq!(told, "ModuleNotFoundError: No module named 'wsgi'");
        assert!(next.unwrap().starts_with("Commit wsgi, if"));
        assert_eq!(
            of("django.core.exceptions.ImproperlyConfigured: no").unwrap().0,
            "django.core.exceptions.ImproperlyConfigured: no"
        );
    }

    #[test]
    fn node() {
        let missing = "node:internal/modules/cjs/loader:1568\n  throw err;\n  ^\n\nError: Cannot find module 'express'\n\
            Require stack:\n- /app/index.js\n    at Module._resolveFilename (node:internal/x:1:2)\n    \
            at Object.<anonymous> (/app/index.js:3:17)\n\nNode.js v24.21.0";
        let (told, next) = of(missing).unwrap();
        assert_eq!(told, "index.js line 3: Error: Cannot find module 'express'");
        assert_eq!(next.unwrap(), "Add it to the dependencies: npm install express");
        let syntax = "/app/index.js:2\nhttp.createServer((\n    ^\n\nSyntaxError: missing ) after argument list\n    at wrapSafe (node:internal/x:1:2)";
        assert_eq!(of(syntax).unwrap().0, "index.js line 2: SyntaxError: missing ) after argument list");
        let (told, next) =
            of("Error: Cannot find module './lib/helper'\n    at f (file:///app/src/a.mjs:1:1)").unwrap();
        assert_eq!(told, "src/a.mjs line 1: Error: Cannot find module './lib/helper'");
        assert!(next.unwrap().starts_with("Commit that file"));
        let (_, next) =
            of("Error: connect ECONNREFUSED 127.0.0.1:5432\n    at x (/app/node_modules/pg/a.js:1:1)")
                .unwrap();
        assert!(next.unwrap().contains("a database"));
    }

    #[test]
    fn ruby_and_what_tells_nothing() {
        let load = "/app/app.rb:3:in 'Kernel#require': cannot load such file -- x (LoadError)";
        assert_eq!(of(load).unwrap().0, "app.rb line 3: cannot load such file -- x (LoadError)");
        for text in ["", "boom", "an Error: here", "Listening on 80", "error: no"] {
            assert_eq!(of(text), None, "{text}");
        }
    }
}
