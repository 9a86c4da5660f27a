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

/// What the templates of other languages copy, and what they copy instead.
const COPIES: [(&str, &str); 2] = [
    ("COPY app/ ./", "COPY --from=assets /app/ ./"),
    ("COPY --chown=1000:1000 app/ ./", "COPY --chown=1000:1000 --from=assets /app/ ./"),
];

/// A Dockerfile that takes the app's files from the assets' stage.
pub(super) fn instead(dockerfile: &str, stage: &str) -> String {
    let line = |line: &str| {
        let found = COPIES.iter().find(|(from, _)| *from == line.trim_end());
        found.map_or(line, |(_, to)| to).to_owned() + "\n"
    };
    stage.to_owned() + "\n" + &dockerfile.lines().map(line).collect::<String>()
}
