//! Build constraints: which files belong to a build for Linux on amd64.
//!
//! <https://pkg.go.dev/cmd/go#hdr-Build_constraints>

/// Systems that a file's name may end in.
const SYSTEMS: [&str; 16] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
];

/// More of them, and processors.
const OTHERS: [&str; 19] = [
    "wasip1", "zos", "386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
    "ppc", "ppc64", "ppc64le", "riscv64", "s390x", "sparc64", "wasm", "riscv",
];

/// Longest expression that is looked at.
const LONGEST: usize = 500;

/// Whether a file is part of the build, by its name and by its first lines.
pub(super) fn is_built(path: &str, text: &str) -> bool {
    named(path) && told(text)
}

/// Whether a tag holds. Any `go1.N` does: the toolchain is at least what go.mod asks for.
fn holds(tag: &str) -> bool {
    matches!(tag, "linux" | "amd64" | "unix" | "gc" | "cgo") || tag.starts_with("go1.")
}

/// `serve_windows.go`, `serve_linux_arm64.go`: the last two parts of the name count.
fn named(path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split('.').next().unwrap_or(file);
    let known = |part: &&str| SYSTEMS.contains(part) || OTHERS.contains(part);
    // What stands before the first underscore is the name itself.
    let parts = stem.split('_').skip(1).collect::<Vec<_>>();
    match parts.as_slice() {
        [.., system, processor] if SYSTEMS.contains(system) && known(processor) => {
            holds(system) && holds(processor)
        }
        [.., last] if known(last) => holds(last),
        _ => true,
    }
}

/// What `//go:build`, or without it `// +build`, says before the package clause.
fn told(text: &str) -> bool {
    let head = || text.lines().map(str::trim).take_while(|line| !line.starts_with("package "));
    if let Some(expression) = head().find_map(|line| line.strip_prefix("//go:build ")) {
        return evaluate(expression).unwrap_or(true);
    }
    let older = head().filter_map(|line| line.strip_prefix("//")?.trim_start().strip_prefix("+build "));
    older.into_iter().all(|line| {
        line.split_whitespace().any(|option| {
            option.split(',').all(|tag| tag.strip_prefix('!').map_or(holds(tag), |tag| !holds(tag)))
        })
    })
}

/// The value of `linux && (amd64 || !cgo)`; `None`: it is no such expression.
fn evaluate(expression: &str) -> Option<bool> {
    if expression.len() > LONGEST {
        return None;
    }
    let mut rest = expression.split("//").next().unwrap_or_default();
    let value = either(&mut rest)?;
    rest.trim().is_empty().then_some(value)
}

fn either(rest: &mut &str) -> Option<bool> {
    let mut value = both(rest)?;
    while takes(rest, "||") {
        value |= both(rest)?;
    }
    Some(value)
}

fn both(rest: &mut &str) -> Option<bool> {
    let mut value = one(rest)?;
    while takes(rest, "&&") {
        value &= one(rest)?;
    }
    Some(value)
}

fn one(rest: &mut &str) -> Option<bool> {
    if takes(rest, "!") {
        return one(rest).map(|value| !value);
    }
    if takes(rest, "(") {
        let value = either(rest)?;
        return takes(rest, ")").then_some(value);
    }
    let tag = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let end = rest.find(|c| !tag(c)).unwrap_or(rest.len());
    let (word, after) = rest.split_at(end);
    *rest = after;
    (!word.is_empty()).then(|| holds(word))
}

/// Whether this comes next, which is then behind us.
fn takes(rest: &mut &str, token: &str) -> bool {
    *rest = rest.trim_start();
    let after = rest.strip_prefix(token);
    *rest = after.unwrap_or(rest).trim_start();
    after.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_for_which_system_a_file_is() {
        for built in
            ["main.go", "linux.go", "a/serve_linux.go", "serve_linux_amd64.go", "x_amd64.go", "my_app.go"]
        {
            assert!(named(built), "{built}");
        }
        for other in ["main_windows.go", "x_js_wasm.go", "x_linux_arm64.go", "a/x_darwin.go", "x_arm64.go"] {
            assert!(!named(other), "{other}");
        }
    }

    #[test]
    fn expressions_say_more() {
        for (line, expected) in [
            ("//go:build linux", true),
            ("//go:build mage", false),
            ("//go:build js && wasm", false),
            ("//go:build !windows && (amd64 || arm64)", true),
            ("//go:build !(linux || darwin) // for others", false),
            ("//go:build go1.21 && unix", true),
            ("//go:build ignore", false),
            ("//go:build (linux", true),
            ("// +build linux,386 darwin", false),
            ("// +build windows linux", true),
            ("//+build tools", false),
            ("// +build linux\n// +build !cgo", false),
            ("// go:build mage", true),
        ] {
            assert_eq!(told(&format!("{line}\n\npackage main\n//go:build none\n")), expected, "{line}");
        }
        assert_eq!(evaluate(&"(".repeat(LONGEST + 1)), None);
        assert_eq!(evaluate(&"(".repeat(LONGEST)), None);
    }
}
