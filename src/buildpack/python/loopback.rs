//! Which line keeps an app on 127.0.0.1: told only if it turns out to be there.

use super::super::draft::{Draft, folded};
use super::search::Source;

/// Programs that listen on 127.0.0.1 unless told otherwise, the option that
/// tells them, and what to add.
const PROGRAMS: [(&[&str], &[&str], &str); 6] = [
    (&["uvicorn"], &["--host"], "--host 0.0.0.0 --port $PORT"),
    (&["flask", "run"], &["--host", "-h"], "--host 0.0.0.0 --port $PORT"),
    (&["fastapi", "dev"], &["--host"], "--host 0.0.0.0 --port $PORT"),
    (&["hypercorn"], &["--bind", "-b"], "--bind 0.0.0.0:$PORT"),
    (&["gunicorn"], &["--bind", "-b"], "--bind 0.0.0.0:$PORT"),
    (&["daphne"], &["--bind", "-b"], "-b 0.0.0.0 -p $PORT"),
];

/// Frameworks whose `run` listens on 127.0.0.1 unless told otherwise.
const RUNNING: [&str; 6] = ["flask", "dash", "bottle", "uvicorn", "quart", "sanic"];

/// What a line has that says where to listen.
const LISTENING: [&str; 7] = ["host=", "host =", "run(", "serve", "bind", "listen", "server("];

/// The advice for the web process of this app.
pub(super) fn advice(draft: &Draft<'_>, sources: &[Source<'_>]) -> Option<String> {
    let advice = in_procfile(draft).or_else(|| sources.iter().find_map(in_source));
    advice.map(|advice| folded(&advice).join("\n"))
}

fn in_procfile(draft: &Draft<'_>) -> Option<String> {
    let text = draft.files.hint("Procfile")?;
    let (index, line) = text.lines().enumerate().find(|(_, line)| line.trim_start().starts_with("web:"))?;
    let at = index + 1;
    let words: Vec<&str> = line.split_whitespace().collect();
    if words.contains(&"runserver") {
        return Some(format!("Procfile line {at}: write runserver 0.0.0.0:$PORT"));
    }
    let (_, _, add) = PROGRAMS.iter().find(|(program, options, _)| {
        let told = words.iter().any(|word| options.iter().any(|option| word.starts_with(option)));
        let local = words.iter().any(|word| word.contains("127.0.0.1") || word.contains("localhost"));
        program.iter().all(|part| words.contains(part)) && (!told || local)
    })?;
    Some(format!("Procfile line {at}: give it {add}"))
}

fn in_source(source: &Source<'_>) -> Option<String> {
    let path = source.path;
    let code = |line: &&str| !line.trim_start().starts_with('#');
    let lines = || source.text.lines().enumerate().filter(|(_, line)| code(line));
    let named = lines().find(|(_, line)| {
        let place = line.contains("127.0.0.1") || line.contains("localhost");
        place && LISTENING.iter().any(|word| line.to_ascii_lowercase().contains(word))
    });
    if let Some((index, _)) = named {
        return Some(format!("{path} line {} names it: write 0.0.0.0 there.", index + 1));
    }
    let imports = |module: &&str| {
        let forms = [format!("import {module}"), format!("from {module} ")];
        source.text.lines().any(|line| forms.iter().any(|form| line.starts_with(form.as_str())))
    };
    RUNNING.iter().find(|module| imports(module))?;
    let (index, _) = lines().find(|(_, line)| {
        let call = line.trim_start().starts_with("run(") || line.contains(".run(");
        call && !line.contains("host")
    })?;
    Some(format!("{path} line {}: add host=\"0.0.0.0\", port=int(os.environ[\"PORT\"]).", index + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_where_to_listen() {
        let advice = |text: &str| in_source(&Source { path: "app.py", text: text.to_owned() });
        let flask =
            "from flask import Flask\napp = Flask(__name__)\n# app.run()\nif x:\n    app.run(debug=True)\n";
        assert_eq!(
            advice(flask).as_deref(),
            Some("app.py line 5: add host=\"0.0.0.0\", port=int(os.environ[\"PORT\"]).")
        );
        let uvicorn = "import uvicorn\nuvicorn.run(\n    app,\n    host=\"127.0.0.1\",\n)\n";
        assert_eq!(advice(uvicorn).as_deref(), Some("app.py line 4 names it: write 0.0.0.0 there."));
        assert_eq!(advice("import asyncio\nasyncio.run(main())\n"), None);
        assert_eq!(advice("DATABASE = 'postgres://localhost/x'\n"), None);
    }
}
