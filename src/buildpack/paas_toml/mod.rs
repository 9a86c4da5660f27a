//! `paas.toml`: settings of an app that are ours.

mod build;
mod checks;
mod deploy;
mod http;
mod processes;
mod section;
mod site;

use toml::de::DeTable;

use super::error::{DetectError, Place};
use super::source::{Files, toml_error};
use crate::model::HealthCheck;
use section::{Section, bad, bad_value};

pub(super) use build::{Build, go_package};
pub(super) use deploy::Deploy;
pub(super) use http::apply_http;
pub(super) use processes::apply;
pub(super) use section::Given;
pub(super) use site::{Redirect, Static};

/// Its name in the root of an app.
pub(super) const FILE: &str = "paas.toml";

/// What `[build] builder` can be beside the buildpacks.
const OWN: &str = "dockerfile";

/// An app's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PaasToml {
    /// `[build]`.
    pub build: Build,
    /// `[checks]`.
    pub checks: Option<HealthCheck>,
    /// `[processes.TYPE]`.
    pub types: Vec<processes::OfType>,
    /// `[http]`.
    pub http: Option<http::Http>,
    /// `[deploy]`.
    pub deploy: Deploy,
    /// `[static]`.
    pub site: Option<Static>,
}

/// The settings of a tree; none are all defaults. `languages` are the keys of
/// the buildpacks that there are.
pub(super) fn load(files: Files<'_>, languages: &[&str]) -> Result<PaasToml, DetectError> {
    match files.text(FILE)? {
        Some(text) => parse(&text, languages),
        None => Ok(PaasToml::default()),
    }
}

/// The settings of a file's text.
pub(super) fn parse(text: &str, languages: &[&str]) -> Result<PaasToml, DetectError> {
    let document = DeTable::parse(text).map_err(|error| toml_error(FILE, text, &error))?;
    let mut settings = PaasToml::default();
    let mut root = Section::of(text, document.get_ref());
    settings.build = root.table("build")?.map(Build::read).transpose()?.unwrap_or_default();
    settings.checks = root.table("checks")?.map(checks::read).transpose()?;
    settings.types = processes::read(root.named_tables("processes")?)?;
    settings.http = root.table_at("http")?.map(http::read).transpose()?;
    settings.deploy = root.table("deploy")?.map(Deploy::read).transpose()?.unwrap_or_default();
    settings.site = root.table("static")?.map(Static::read).transpose()?;
    root.finish()?;
    check_builder(&settings, languages)?;
    Ok(settings)
}

/// What others build by and we do not: what it is, and what to do instead.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    (
        "cnb",
        "building by Cloud Native Buildpacks",
        "Leave builder out: the language is found. Or bring a Dockerfile.",
    ),
    (
        "herokuish",
        "building by Herokuish",
        "Leave builder out: the language is found. Or bring a Dockerfile.",
    ),
    ("nixpacks", "building by Nixpacks", "Leave builder out: the language is found. Or bring a Dockerfile."),
    (
        "image",
        "deploying an image that is built elsewhere",
        "Commit a Dockerfile of one line, FROM and the image, and leave builder out.",
    ),
];

fn check_builder(settings: &PaasToml, languages: &[&str]) -> Result<(), DetectError> {
    let Some(builder) = &settings.build.builder else { return Ok(()) };
    let possible: Vec<&str> = [OWN].into_iter().chain(languages.iter().copied()).collect();
    if possible.contains(&builder.value.as_str()) {
        return Ok(());
    }
    if let Some((_, what, instead)) = ELSEWHERE.iter().find(|(name, ..)| *name == builder.value) {
        let (what, instead) = ((*what).to_owned(), (*instead).to_owned());
        return Err(DetectError::Unsupported { place: builder.place(), what, instead });
    }
    Err(bad_value(builder.line, "builder", &builder.value, &possible))
}

/// A path below the app's root, of characters that mean nothing to a Dockerfile
/// or a shell; `.` for the root itself.
pub(super) fn folder(key: &str, text: &str, place: &Place) -> Result<String, DetectError> {
    let path = text.trim_end_matches('/').trim_start_matches("./");
    let plain = |c: u8| c.is_ascii_alphanumeric() || b"._-/+@".contains(&c);
    let parts = || path.split('/');
    if path.is_empty() || path == "." {
        return Ok(".".to_owned());
    }
    let inside =
        parts().all(|part| !part.is_empty() && part != ".." && part != "." && !part.starts_with('-'));
    if inside && path.len() <= 200 && path.bytes().all(plain) {
        return Ok(path.to_owned());
    }
    Err(bad(place, key, text, &["a plain path below the root"]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_builder_of_others_is_told_with_what_to_do() {
        for name in ["cnb", "image"] {
            let text = format!("[build]\nbuilder = \"{name}\"\n");
            let error =
                crate::buildpack::sketch::planned(&[("paas.toml", &text), ("main.py", "")]).unwrap_err();
            let told = crate::model::Problem::from(&error).to_string();
            assert!(told.contains("is not supported yet\npaas.toml line 2 asks for it."), "{told}");
            assert!(told.contains("Dockerfile"), "{told}");
        }
    }

    #[test]
    fn builder_and_dockerfile_are_read() {
        let text = "[build]\nbuilder = \"dockerfile\"\ndockerfile = \"deploy/Dockerfile\"\n";
        let settings = parse(text, &[]).unwrap();
        let given = |value: &str, line| Some(Given { value: value.to_owned(), line });
        assert_eq!(settings.build.builder, given("dockerfile", 2));
        assert_eq!(settings.build.dockerfile, given("deploy/Dockerfile", 3));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let nearest = |text| match parse(text, &["go"]).unwrap_err() {
            DetectError::UnknownKey { place, nearest, .. } => (place.line, nearest.unwrap()),
            other => panic!("{other:?}"),
        };
        assert_eq!(nearest("[build]\nbilder = 'go'"), (2, "builder".to_owned()));
        assert_eq!(nearest("[build]\nstrat = 'x'"), (2, "start".to_owned()));
        assert_eq!(nearest("[biuld]"), (1, "build".to_owned()));
        assert_eq!(nearest("[static]\n\nrediretcs = []"), (3, "redirects".to_owned()));
        assert_eq!(nearest("[[static.redirects]]\nform = '/'"), (2, "from".to_owned()));
    }

    /// The examples of the documentation, each alone.
    fn documented() -> Vec<&'static str> {
        let page = include_str!("../../../docs/paas-toml.md");
        let blocks = page.split("```toml\n").skip(1);
        blocks.map(|rest| rest.split("```").next().unwrap()).collect()
    }

    #[test]
    fn documented_examples_are_read() {
        assert!(documented().len() >= 2);
        for example in documented() {
            parse(example, &["python", "node"]).unwrap_or_else(|error| panic!("{error}:\n{example}"));
        }
    }

    #[test]
    fn names_and_commands_of_a_build_are_checked() {
        let refused = |text: &str| match parse(text, &[]).unwrap_err() {
            DetectError::BadValue { place, key, .. } => format!("{} {key}", place.line),
            other => panic!("{other:?}"),
        };
        assert_eq!(refused("[build.env]\n'A B' = 'x'"), "2 a variable");
        assert_eq!(refused("[build.env]\nPATH = 'x'"), "2 a variable");
        assert_eq!(refused("[build.env]\nA = 1"), "2 A");
        assert_eq!(refused("[build.args]\n\"A\\nRUN id\" = 'x'"), "2 a variable");
        assert_eq!(refused("[build]\nsecrets = ['A', '$(id)']"), "2 a variable");
        assert_eq!(refused("[build]\nstart = ' '"), "2 start");
        assert_eq!(refused("[build]\nbuild = \"a\\u0000b\""), "2 build");
        assert_eq!(refused("[build]\napt = 'x'"), "2 apt");
        assert_eq!(refused("[build]\npackages = ['./a', '-o']"), "2 packages");
        assert_eq!(refused("[build]\npackages = ['./$(id)']"), "2 packages");
        assert_eq!(refused("[build]\npackages = ['./../x']"), "2 packages");
        assert_eq!(refused("[build]\nroot = '../x'"), "2 root");
        assert_eq!(refused("[build]\ndockerfile = '/etc/x'"), "2 dockerfile");
    }

    #[test]
    fn process_types_and_times_are_refused_in_their_line() {
        let refused = |text: &str| match parse(text, &[]) {
            Err(error) => crate::model::Problem::from(&error).to_string(),
            Ok(settings) => panic!("{settings:?}"),
        };
        let of_worker = |line: &str| refused(&format!("[processes.worker]\n{line}"));
        let all = [
            of_worker("memory = \"512\""),
            of_worker("memory = 512"),
            of_worker("cpu = 0.01"),
            of_worker("cpu = true"),
            of_worker("restart = \"sometimes\""),
            of_worker("overlap = \"yes\""),
            of_worker("memroy = \"1G\""),
            of_worker("stop_timeout = 60"),
            of_worker("stop_timeout = \"2h\""),
            refused("[processes]\nworker = 2"),
            refused("[processes.\"a b\"]\nmemory = \"1G\""),
            refused("[deploy]\nrelease_timeout = 600"),
            refused("[deploy]\nrelease_timeout = \"10\""),
            refused("[deploy]\nrelease_timout = \"10m\""),
            refused("[deploy]\ncanary = \"10%\""),
            refused("[deploy]\ncanary = 10"),
            refused("[deploy]\ncanary = \"0% for 2m\""),
        ];
        insta::assert_snapshot!(all.join("\n\n"));
    }

    #[test]
    fn folders_are_below_the_root_and_plain() {
        let read = |text: &str| folder("root", text, &Place::file(FILE)).ok();
        assert_eq!(read("./web/app/"), Some("web/app".to_owned()));
        assert_eq!(read("."), Some(".".to_owned()));
        for bad in [
            "/etc",
            "../x",
            "a/../b",
            "a//b",
            "a b",
            "$HOME",
            "a\nRUN id",
            "-x",
            "a*",
            "a\\b",
            "[a]",
            "\"",
            "ä",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn rules_of_a_site_hold_no_line_ends_and_no_headers_of_the_server() {
        let refused = |text: &str| match parse(text, &[]).unwrap_err() {
            DetectError::BadValue { place, key, .. } => format!("{} {key}", place.line),
            other => panic!("{other:?}"),
        };
        let header = |path: &str, line: &str| refused(&format!("[static.headers.\"{path}\"]\n{line}"));
        assert_eq!(header("/*", "X-A = \"a\\nB: c\""), "2 X-A");
        assert_eq!(header("/*", "Content-Length = '1'"), "2 header");
        assert_eq!(header("/*", "\"X: y\\r\\nZ\" = '1'"), "2 header");
        assert_eq!(header("x", "A = '1'"), "1 headers");
        let redirect = |line: &str| refused(&format!("[[static.redirects]]\n{line}"));
        assert_eq!(redirect("from = '/a'\nto = 'javascript:x'"), "3 to");
        assert_eq!(redirect("from = '/a'\nto = \"/b\\r\\nSet-Cookie: x\""), "3 to");
        assert_eq!(redirect("from = '/a'"), "1 to");
        assert_eq!(redirect("from = '/*/*'\nto = '/b'"), "2 from");
        assert_eq!(redirect("from = '/a'\nto = '/b'\nstatus = 200"), "4 status");
    }
}
