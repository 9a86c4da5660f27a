//! What a person is told when no plan could be made.

use super::draft::folded;
use super::error::{DetectError, Place, ProcfileFault};
use super::version::shorten;
use crate::model::Problem;

/// Most names that a list in a message has.
const LISTED: usize = 12;

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{} line {line}", self.file),
        }
    }
}

impl From<DetectError> for Problem {
    fn from(error: DetectError) -> Self {
        Self::from(&error)
    }
}

impl From<&DetectError> for Problem {
    #[allow(clippy::too_many_lines, reason = "one exhaustive match, so that no message is forgotten")]
    fn from(error: &DetectError) -> Self {
        let problem = match error {
            DetectError::ReservedPath(path) => Self::new(
                "a path of the repository is reserved",
                format!("{}: paths under .paas/ belong to the platform.", shorten(path)),
                "Rename it and push again.",
            ),
            DetectError::Empty => Self::new(
                "there is nothing to deploy",
                "The commit contains no file.",
                "Commit an app and push again.",
            ),
            DetectError::NothingMatched { seen, folders, ignored } => {
                nothing_matched(seen, folders, *ignored)
            }
            DetectError::Among { error, others } => {
                let Self { title, cause, next } = Self::from(error.as_ref());
                let others: Vec<String> =
                    others.iter().map(|other| format!("This is also {other}.")).collect();
                Self::new(title, cause, format!("{next}\n{}", others.join("\n")))
            }
            DetectError::Misnamed { found, wanted } => Self::new(
                format!("{found} should be called {wanted}"),
                "Names of files are read to the letter, and this one has no meaning here.",
                format!("Rename it, commit and push again:\n  git mv {found} {wanted}"),
            ),
            DetectError::Foreign { file, what } => Self::new(
                format!("{what} is not among the languages that are built here"),
                format!("{} is there, and nothing that a buildpack builds.", shorten(file)),
                "Bring a Dockerfile, such as\n  FROM debian:bookworm-slim\n  COPY . /app\n  CMD [\"/app/start\"]",
            ),
            DetectError::Compose { file, folders } => compose(file, folders),
            DetectError::NotAllowed { builder, place, allowed } => Self::new(
                format!("{builder} is not allowed on this server"),
                format!("{place} would be built by it; the administrator allows {}.", list(allowed)),
                "Add what one of these builds, or ask the administrator ([builds] allow in server.toml).",
            ),
            DetectError::Procfile { line, fault } => procfile(*line, fault),
            DetectError::Malformed { place, format, reason } => Self::new(
                format!("{} cannot be read", place.file),
                format!("{place}: this is no {format}: {reason}"),
                "Correct it, commit and push again.",
            ),
            DetectError::UnknownKey { place, key, nearest } => Self::new(
                format!("{} has an unknown key", place.file),
                format!("{place}: there is no {}.", shorten(key)),
                nearest.as_ref().map_or_else(String::new, |nearest| format!("Did you mean {nearest}?")),
            ),
            DetectError::BadValue { place, key, value, possible } => Self::new(
                format!("{} has a value that is not possible", place.file),
                format!("{place}: {key} is {:?}.", shorten(value)),
                format!("Possible: {}.", list(possible)),
            ),
            DetectError::Symlink(file) => Self::new(
                format!("{file} is a symbolic link"),
                "Files that say how to build are not read through links.",
                "Commit the file itself and push again.",
            ),
            DetectError::MissingFile { file, named_by } => Self::new(
                format!("{} is missing", shorten(file)),
                format!("{named_by} names it, and it is not in the commit."),
                "Commit it or correct the name. git status --ignored shows whether it is kept out.",
            ),
            DetectError::TooLarge { file, limit } => Self::new(
                format!("{file} is too large"),
                format!("More than {} KiB of it are not read.", limit >> 10),
                "Make it smaller and push again.",
            ),
            DetectError::Endless(file) => Self::new(
                format!("{file} takes too long to apply"),
                "Each of its patterns is tried on each file of the commit.",
                "Write fewer or shorter patterns and push again.",
            ),
            DetectError::BadVersion { place, language, text } => Self::new(
                format!("no {language} version could be told"),
                format!("{place}: {text:?} is not written as {language} versions are."),
                "Correct it, commit and push again.",
            ),
            DetectError::NoSuchVersion { place, language, text, have } => Self::new(
                format!("{language} {text} cannot be had here"),
                format!("{place} asks for it."),
                format!("Ask for one of these: {}.", list(have)),
            ),
            DetectError::TwoLocks(first, second) => Self::new(
                "there are lock files of two package managers",
                format!("{first} and {second} are both in the root."),
                "Remove the one that you do not use, commit and push again.",
            ),
            DetectError::TwoManagers { first, second, name } => Self::new(
                "there are lock files of two package managers",
                format!("{first} and {second} are both in the root."),
                format!(
                    "Remove the one that you do not use, or choose in package.json:\n  \"packageManager\": \"{name}\""
                ),
            ),
            DetectError::LockBehind { place, lock, package, command } => Self::new(
                format!("{lock} is out of date"),
                format!("{place} asks for {}, which is not in {lock}.", shorten(package)),
                format!("Bring it up to date and commit it:\n  {command}\n  git add {lock}"),
            ),
            DetectError::NoSuchScript { place, name, have } => Self::new(
                format!("package.json has no script {}", shorten(name)),
                format!("{place} runs it."),
                match have.as_slice() {
                    [] => "Add it, commit and push again. There are no scripts.".to_owned(),
                    have => format!("Add it, or run one of these: {}.", list(have)),
                },
            ),
            DetectError::MissingLock { manifest, lock, command } => Self::new(
                format!("{lock} is missing"),
                format!("{manifest} is there without it, so that versions are not fixed."),
                format!("Write it and commit it:\n  {command}\n  git add {lock}"),
            ),
            DetectError::Unsupported { place, what, instead } => Self::new(
                format!("{what} is not supported yet"),
                format!("{place} asks for it."),
                instead.clone(),
            ),
            DetectError::NoProcess { language, looked_for, suggestion } => Self::new(
                "nothing says what to start",
                format!("{language}: looked for {}.", list(looked_for)),
                format!("Commit a Procfile with a line such as\n  {suggestion}"),
            ),
            DetectError::NoMain => Self::new(
                "there is no program to build",
                "No Go file outside vendor/ and testdata/ has package main.",
                "Add a main package in the root or under cmd/.",
            ),
            DetectError::SeveralBinaries(names) => Self::new(
                "nothing says which program serves requests",
                format!("go build makes {}.", list(names)),
                format!(
                    "Commit a Procfile with a line such as\n  web: bin/{}",
                    names.first().map_or("web", String::as_str)
                ),
            ),
            DetectError::NoSuchImage { place, image, have } => Self::new(
                format!("the image {image} cannot be had here"),
                format!("{place} names it, and no container registry is in use."),
                format!("Images with a stand-in: {}.", list(have)),
            ),
            DetectError::NoSuchStage { place, name, stages } => Self::new(
                format!("no stage is called {name}"),
                format!("{place} copies from it, and there is no image of that name either."),
                if stages.is_empty() {
                    "Give the stage above a name: FROM … AS build".to_owned()
                } else {
                    format!("Stages above it: {}.", list(stages))
                },
            ),
            DetectError::NoFrom(path) => Self::new(
                format!("{path} has no FROM line"),
                "A Dockerfile begins with the image that it builds on.",
                "Write one, such as\n  FROM debian:bookworm-slim",
            ),
            DetectError::Broken { pack, reason } => Self::new(
                "a buildpack of the platform is broken",
                format!("{pack}: {reason}"),
                "This is a fault of the platform, not of the app: tell the administrator.",
            ),
        };
        fitted(&problem)
    }
}

fn nothing_matched(seen: &[String], folders: &[String], ignored: usize) -> Problem {
    let cause = format!(
        "Looked in the root for a Dockerfile, go.mod, Gemfile, requirements.txt, pyproject.toml, package.json, index.html and the like.\n{}",
        if seen.is_empty() { "Seen: nothing.".to_owned() } else { format!("Seen: {}.", list(seen)) }
    );
    let cause = match ignored {
        0 => cause,
        count => format!("{cause}\n.dockerignore keeps {count} more out of the build."),
    };
    let next = match folders {
        [folder] => format!(
            "{} looks like an app. To deploy it, commit a paas.toml with\n  [build]\n  root = {folder:?}",
            shorten(&format!("{folder}/"))
        ),
        [_, ..] => choose_folder(folders),
        [] => "Add one of them and, where it does not say what to start, a Procfile with a line such as\n  web: ./start\nor a Dockerfile such as\n  FROM debian:bookworm-slim\n  COPY . /app\n  CMD [\"/app/start\"]".to_owned(),
    };
    Problem::new("no language was recognised", cause, next)
}

/// How one of several folders is deployed.
fn choose_folder(folders: &[String]) -> String {
    let first = folders.first().map_or("", String::as_str);
    format!(
        "Folders that could be apps: {}. To deploy one, commit a paas.toml with\n  [build]\n  root = {first:?}",
        list(folders)
    )
}

fn compose(file: &str, folders: &[String]) -> Problem {
    let next = match folders {
        [] => "Bring a Dockerfile in the root, or the files of a language.".to_owned(),
        _ => choose_folder(folders),
    };
    Problem::new(
        format!("{file} is not what an app is deployed from"),
        "It describes several containers; an app here is one image, and databases are others' business.",
        next,
    )
}

fn procfile(line: usize, fault: &ProcfileFault) -> Problem {
    let next = "Each line is <type>: <command>, such as\n  web: python app.py";
    let cause = match fault {
        ProcfileFault::NoColon(text) => format!("Procfile line {line}: {:?} has no colon.", shorten(text)),
        ProcfileFault::BadType(text) => format!(
            "Procfile line {line}: {:?} is no process type: 1 to 63 letters, digits, - and _.",
            shorten(text)
        ),
        ProcfileFault::NoCommand(kind) => format!("Procfile line {line}: {kind} has no command."),
        ProcfileFault::Duplicate(kind, first) => {
            format!("Procfile line {line}: {kind} is declared already, in line {first}.")
        }
        ProcfileFault::Nul => format!("Procfile line {line}: there is a NUL byte."),
        ProcfileFault::TooMany(most) => {
            format!("Procfile line {line}: this is one process type too many; {most} is the limit.")
        }
        ProcfileFault::Empty => "Procfile declares no process.".to_owned(),
    };
    Problem::new("Procfile cannot be read", cause, next)
}

/// At most a dozen names, separated by commas, wrapped.
fn list(names: &[String]) -> String {
    let mut shown: Vec<String> = names.iter().take(LISTED).map(|name| shorten(name)).collect();
    if names.len() > LISTED {
        shown.push(format!("… ({} in all)", names.len()));
    }
    shown.join(", ")
}

/// The same problem in lines that fit over a push. Lines to be copied, which
/// are indented, stay as they are.
fn fitted(problem: &Problem) -> Problem {
    let fit = |text: &str| {
        let lines = text
            .lines()
            .flat_map(|line| if line.starts_with("  ") { vec![line.to_owned()] } else { folded(line) });
        lines.collect::<Vec<_>>().join("\n")
    };
    Problem::new(fit(&problem.title), fit(&problem.cause), fit(&problem.next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(word: &str) -> String {
        word.to_owned()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| text(name)).collect()
    }

    fn of_trees() -> Vec<DetectError> {
        vec![
            DetectError::ReservedPath(text(".paas/Dockerfile")),
            DetectError::Empty,
            DetectError::NothingMatched {
                seen: names(&["README.md", "docs/"]),
                folders: Vec::new(),
                ignored: 0,
            },
            DetectError::NothingMatched { seen: Vec::new(), folders: Vec::new(), ignored: 12 },
            DetectError::NothingMatched {
                seen: names(&["server/"]),
                folders: names(&["server"]),
                ignored: 0,
            },
            DetectError::NothingMatched {
                seen: names(&["client/", "server/"]),
                folders: names(&["server", "client"]),
                ignored: 0,
            },
            DetectError::NotAllowed {
                builder: text("dockerfile"),
                place: Place::file("Dockerfile"),
                allowed: names(&["python", "node"]),
            },
            DetectError::Among {
                error: Box::new(DetectError::NoMain),
                others: names(&[
                    "Node, because of package.json; builder = \"node\" under [build] in paas.toml chooses it",
                ]),
            },
            DetectError::Misnamed { found: text("Containerfile"), wanted: text("Dockerfile") },
            DetectError::Foreign { file: text("Cargo.toml"), what: "Rust" },
            DetectError::Compose { file: text("compose.yaml"), folders: Vec::new() },
            DetectError::Compose { file: text("compose.yaml"), folders: names(&["api", "web"]) },
            DetectError::Symlink(text("Procfile")),
            DetectError::MissingFile { file: text("base.txt"), named_by: Place::line("requirements.txt", 2) },
            DetectError::TooLarge { file: text("package.json"), limit: 4 << 20 },
            DetectError::Endless(text(".dockerignore")),
            DetectError::TwoLocks(text("package-lock.json"), text("yarn.lock")),
            DetectError::LockBehind {
                place: Place::line("package.json", 7),
                lock: text("package-lock.json"),
                package: text("is-odd 3.0.1"),
                command: text("npm install"),
            },
            DetectError::NoSuchScript {
                place: Place::file("Procfile"),
                name: text("serve"),
                have: vec![text("build"), text("start")],
            },
            DetectError::TwoManagers {
                first: text("yarn.lock"),
                second: text("package-lock.json"),
                name: text("yarn"),
            },
            DetectError::MissingLock {
                manifest: text("Gemfile"),
                lock: text("Gemfile.lock"),
                command: text("bundle lock"),
            },
            DetectError::NoMain,
            DetectError::SeveralBinaries(names(&["admin", "worker"])),
            DetectError::Broken { pack: text("python"), reason: text("Dockerfile.j2: undefined value") },
        ]
    }

    fn of_lines() -> Vec<DetectError> {
        let place = |line| Place::line("paas.toml", line);
        vec![
            DetectError::Malformed {
                place: Place::line("package.json", 3),
                format: "JSON",
                reason: text("expected `,` or `}` at line 3 column 5"),
            },
            DetectError::UnknownKey { place: place(2), key: text("bilder"), nearest: Some(text("builder")) },
            DetectError::BadValue {
                place: place(2),
                key: text("builder"),
                value: text("rust"),
                possible: names(&["dockerfile", "python"]),
            },
            DetectError::BadVersion {
                place: Place::line("package.json", 4),
                language: text("Node"),
                text: text("18; id"),
            },
            DetectError::NoSuchVersion {
                place: Place::line(".python-version", 1),
                language: text("Python"),
                text: text("2.7"),
                have: names(&["3.11"]),
            },
            DetectError::Unsupported {
                place: Place::file("yarn.lock"),
                what: text("installing with yarn"),
                instead: text("Write a Dockerfile."),
            },
            DetectError::NoProcess {
                language: text("Python"),
                looked_for: names(&["Procfile", "main.py", "app.py", "server.py"]),
                suggestion: text("web: python myapp.py"),
            },
            DetectError::NoSuchStage {
                place: Place::line("Dockerfile", 7),
                name: text("builder"),
                stages: names(&["build"]),
            },
            DetectError::NoSuchImage {
                place: Place::line("Dockerfile", 1),
                image: text("mysql:8"),
                have: names(&["debian:12", "python:3.11"]),
            },
            DetectError::NoFrom(text("Dockerfile")),
        ]
    }

    fn of_procfiles() -> Vec<DetectError> {
        let faults = [
            (2, ProcfileFault::NoColon(text("worker run"))),
            (1, ProcfileFault::BadType(text("we b"))),
            (1, ProcfileFault::NoCommand(text("web"))),
            (3, ProcfileFault::Duplicate(text("web"), 1)),
            (1, ProcfileFault::Nul),
            (101, ProcfileFault::TooMany(100)),
            (0, ProcfileFault::Empty),
        ];
        faults.into_iter().map(|(line, fault)| DetectError::Procfile { line, fault }).collect()
    }

    #[test]
    fn every_message() {
        let errors = of_trees().into_iter().chain(of_lines()).chain(of_procfiles());
        let messages: Vec<String> = errors.map(|error| Problem::from(error).to_string()).collect();
        insta::assert_snapshot!(messages.join("\n\n"));
    }

    #[test]
    fn messages_fit_over_a_push() {
        let long = "x".repeat(5000);
        let hostile = [
            DetectError::NothingMatched { seen: vec![long.clone(); 500], folders: Vec::new(), ignored: 0 },
            DetectError::Procfile { line: 10_000, fault: ProcfileFault::NoColon(long.clone()) },
        ];
        for error in of_trees().into_iter().chain(of_lines()).chain(of_procfiles()).chain(hostile) {
            let problem = Problem::from(&error);
            for line in problem.lines() {
                assert!(line.chars().count() <= 65, "{} columns: {line}", line.chars().count());
            }
        }
    }
}
