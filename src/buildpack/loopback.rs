//! The line that keeps an app on 127.0.0.1, in the languages that name it in
//! plain words: told only if it turns out to be there.

use super::draft::folded;
use super::source::Files;

/// Most sources that are looked at, and the largest.
const MOST: usize = 60;
const LARGEST: u64 = 64 << 10;

/// What a line has that says where to listen, in small letters.
const LISTENING: [&str; 7] = ["listen", "host", "addr", "bind", "run(", "start(", "serve"];

/// Lines behind the call of Fastify's in which its host may stand.
const CALL: usize = 4;

/// What to change in the sources that end so; `fastify` listens on 127.0.0.1 unless
/// it is told otherwise.
pub(super) fn advice(files: Files<'_>, ends: &[&str], fastify: bool) -> Option<String> {
    let foreign = |path: &str| path.split('/').any(|part| part == "node_modules" || part == "vendor");
    let source = |path: &&str| ends.iter().any(|end| path.ends_with(end)) && !foreign(path);
    let mut paths: Vec<&str> = files.paths().filter(source).collect();
    // What starts stands near the root.
    paths.sort_by_key(|path| path.matches('/').count());
    paths.truncate(MOST);
    let texts = || paths.iter().filter_map(|path| Some((*path, files.hint_below(path, LARGEST)?)));
    let named = texts().find_map(|(path, text)| {
        named(&text).map(|line| format!("{path} line {line} names it: write 0.0.0.0 there."))
    });
    let told = named.or_else(|| {
        let call = |(path, text): (&str, String)| {
            unnamed(&text).map(|line| format!("{path} line {line}: give listen the host \"0.0.0.0\", too."))
        };
        texts().filter(|_| fastify).find_map(call)
    });
    told.map(|advice| folded(&advice).join("\n"))
}

/// The line, from 1, that names a loopback address to listen on.
fn named(text: &str) -> Option<usize> {
    let fits = |line: &str| {
        let line = line.trim_start().to_ascii_lowercase();
        let comment = ["//", "#", "*", "/*"].iter().any(|sign| line.starts_with(sign));
        let place = line.contains("127.0.0.1") || line.contains("localhost");
        // An address that is printed, or somebody else's.
        let url = line.contains("://") || line.contains("console.") || line.contains("print");
        // The word itself says nothing of listening.
        let rest = line.replace("localhost", "");
        place && !comment && !url && LISTENING.iter().any(|word| rest.contains(word))
    };
    text.lines().position(fits).map(|at| at + 1)
}

/// The line of a call of `listen` that names a port and no host.
fn unnamed(text: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let call = |at: &usize| {
        let calls = lines[*at].contains(".listen({") && !lines[*at].trim_start().starts_with("//");
        let end = lines.len().min(at + CALL);
        calls && !lines[*at..end].iter().any(|line| line.contains("host"))
    };
    (0..lines.len()).find(call).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::sketch::planned;

    fn told(files: &[(&str, &str)]) -> Option<String> {
        planned(files).unwrap().loopback
    }

    #[test]
    fn the_line_that_says_where_to_listen() {
        let node = ("package.json", r#"{"scripts": {"start": "node server.js"}}"#);
        let express = "// localhost host\nconsole.log('listen on http://localhost')\napp.listen(port,\n  'localhost')\nserver.listen(1, '127.0.0.1')\n";
        assert_eq!(
            told(&[node, ("server.js", express)]).as_deref(),
            Some("server.js line 5 names it: write 0.0.0.0 there.")
        );
        assert_eq!(told(&[node, ("server.js", "app.listen(process.env.PORT)\n")]), None);
        assert_eq!(told(&[node, ("node_modules/a/a.js", "listen('localhost')\n"), ("server.js", "")]), None);
        let fastify =
            ("package.json", r#"{"scripts": {"start": "node a.js"}, "dependencies": {"fastify": "5"}}"#);
        let call = "await app.listen({\n  port: 1,\n});\n";
        assert_eq!(
            told(&[fastify, ("src/a.js", call)]).as_deref(),
            Some("src/a.js line 1: give listen the host \"0.0.0.0\", too.")
        );
        assert_eq!(told(&[fastify, ("a.js", "app.listen({ port, host: '::' })\n")]), None);
        let go = "package main\n\nfunc main() {\n\thttp.ListenAndServe(\"localhost:8080\", nil)\n}\n";
        assert_eq!(
            told(&[("go.mod", "module x\n\ngo 1.26\n"), ("main.go", go)]).as_deref(),
            Some("main.go line 4 names it: write 0.0.0.0 there.")
        );
    }
}
