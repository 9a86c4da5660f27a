//! A second language for assets: a stage beside the first language's, whose
//! result takes the place of the app's files. It runs beside the install of the
//! first language.

use crate::model::BaseImage;

/// The stage, the base that it stands on, and what is printed of it.
pub(super) struct Assets {
    /// Lines of a Dockerfile; the stage is called `assets`, its files are in `/app`.
    pub text: String,
    /// Its base.
    pub base: BaseImage,
    /// Decisions.
    pub said: Vec<String>,
    /// Notices.
    pub notices: Vec<String>,
}

/// A Dockerfile that takes the app's files from the assets' stage; `None` if it
/// takes all of them nowhere, so that what is built would be lost.
pub(super) fn instead(dockerfile: &str, stage: &str) -> Option<String> {
    let mut taken = false;
    let mut text = stage.to_owned() + "\n";
    for line in dockerfile.lines() {
        let from_stage = from_stage(line);
        taken |= from_stage.is_some();
        text += from_stage.as_deref().unwrap_or(line);
        text.push('\n');
    }
    taken.then_some(text)
}

/// `COPY app/ ./` or `COPY ["app/","./"]`, perhaps with options, as a copy from the
/// stage.
fn from_stage(line: &str) -> Option<String> {
    let rest = line.trim_end().strip_prefix("COPY ")?;
    let begin = rest.find('[').unwrap_or_else(|| rest.find("app/").unwrap_or(rest.len()));
    let (options, paths) = rest.split_at(begin);
    let words: Vec<String> =
        serde_json::from_str(paths).unwrap_or_else(|_| paths.split_whitespace().map(str::to_owned).collect());
    let whole =
        words == ["app/", "./"] && options.split_whitespace().all(|word| word.starts_with("--chown="));
    whole.then(|| format!("COPY {options}--from=assets /app/ ./"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_copying_everything_are_known() {
        for (line, expected) in [
            ("COPY app/ ./", Some("COPY --from=assets /app/ ./")),
            ("COPY [\"app/\",\"./\"]", Some("COPY --from=assets /app/ ./")),
            ("COPY --chown=1000:1000 app/ ./", Some("COPY --chown=1000:1000 --from=assets /app/ ./")),
            ("COPY --from=build /app ./", None),
            ("COPY [\"app/package.json\",\"./\"]", None),
            ("COPY app/bin/ ./", None),
            ("RUN cp app/ ./", None),
        ] {
            assert_eq!(from_stage(line).as_deref(), expected, "{line}");
        }
        assert_eq!(instead("COPY app/bin/ ./\n", "FROM x AS assets"), None);
    }
}
