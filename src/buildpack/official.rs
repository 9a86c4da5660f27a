//! Official images by their names, and what of ours stands in for each where no
//! registry can be reached.

use super::base;
use super::catalog::Catalog;
use super::error::DetectError;
use super::pack::{self, Offer, Pack};
use super::version;
use crate::model::BaseImage;

/// Where official images are kept, too.
const HOSTS: [&str; 7] = [
    "docker.io/",
    "index.docker.io/",
    "registry-1.docker.io/",
    "registry.docker.com/",
    "registry.hub.docker.com/",
    "public.ecr.aws/docker/",
    "mirror.gcr.io/",
];

/// Takes the user `app` of our bases away, where it is one of them.
const WITHOUT_OUR_USER: &str = "RUN userdel --remove app 2>/dev/null || true";

/// Images without a shell, and the user that they have besides root.
const DISTROLESS: &str = "gcr.io/distroless/";
const NONROOT: &str =
    "RUN groupadd --gid 65532 nonroot && useradd --uid 65532 --gid nonroot --create-home nonroot";

/// The image that uv is copied from, and where our Python has what is in it.
const UV: &str = "ghcr.io/astral-sh/uv";
const PROGRAMS_OF_UV: [(&str, &str); 2] = [("/uv", "/opt/uv/bin/uv"), ("/uvx", "/opt/uv/bin/uvx")];
const WITH_UV: &str = "RUN ln -s /opt/uv/bin/uv /opt/uv/bin/uvx /usr/local/bin/";

/// Alpine's own commands, and busybox's under their names where Debian has none.
const AS_ALPINE: &str = "RUN chmod 755 /usr/local/sbin/apk /usr/local/sbin/addgroup /usr/local/sbin/adduser \
    && for applet in $(busybox --list); do command -v \"$applet\" >/dev/null \
    || ln -s \"$(command -v busybox)\" \"/usr/local/bin/$applet\"; done";

/// Has these where they lack.
fn with_programs(programs: &[&str]) -> String {
    format!(
        "RUN missing=; for program in {}; do command -v \"$program\" >/dev/null || missing=\"$missing $program\"; done; \
         [ -z \"$missing\" ] || {{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
         --no-install-recommends $missing >/dev/null && apt-get clean && rm -rf /var/lib/apt/lists/*; }}",
        programs.join(" ")
    )
}

/// An image as a Dockerfile names it.
pub(super) struct Official<'t> {
    /// `node`
    name: &'t str,
    /// `22-slim`
    tag: String,
}

impl<'t> Official<'t> {
    /// Name and tag; a digest is passed over. Distroless images have Debian's version
    /// in their name, those of uv Python's behind the tool's own.
    pub fn of(image: &'t str) -> Self {
        let image = image.split('@').next().unwrap_or(image);
        let image = HOSTS.iter().find_map(|host| image.strip_prefix(host)).unwrap_or(image);
        let image = image.strip_prefix("library/").unwrap_or(image);
        let (name, tag) = image.split_once(':').unwrap_or((image, "latest"));
        if let Some((_, version)) = name.strip_prefix(DISTROLESS).and_then(|name| name.rsplit_once("-debian"))
        {
            let end = name.len() - "-debian".len() - version.len();
            return Self { name: &name[..end], tag: format!("{version}-{tag}") };
        }
        let tag = if name == UV { tag.split_once("python").map_or("latest", |(_, tag)| tag) } else { tag };
        Self { name, tag: tag.to_owned() }
    }

    /// The buildpack whose bases stand in.
    pub fn pack(&self) -> Result<Option<&'static Pack>, DetectError> {
        let stands_in = |pack: &&Pack| pack.images.iter().any(|known| known == self.name);
        Ok(pack::all()?.iter().find(stands_in))
    }

    /// The nearest version's base: the same line if there is one, else the lowest that
    /// is newer. What is older stands in only where versions are alike.
    pub fn choose(
        &self,
        pack: &'static Pack,
        catalog: &Catalog,
    ) -> Result<Option<(BaseImage, String)>, DetectError> {
        let Some(offer) = self.nearest(pack, pack.offers(catalog.source)) else { return Ok(None) };
        let pair = base::pair(pack, offer, catalog)?;
        let slim = self.tag.contains("slim") || self.tag.contains("alpine");
        let small = slim && ["node", "ruby"].contains(&pack.key.as_str());
        Ok(Some((if small { pair.run } else { pair.build }, offer.version.clone())))
    }

    fn nearest<'o>(&self, pack: &Pack, offers: &'o [Offer]) -> Option<&'o Offer> {
        let head = self.tag.split('-').next().unwrap_or_default();
        let named = offers.iter().find(|offer| offer.names.iter().any(|name| name == head));
        let Some(wanted) = version::numbers(head) else { return named.or(offers.first()) };
        let release = |offer: &&Offer| version::numbers(&offer.release);
        let near =
            named.or(version::by_prefix(offers, &wanted)).or_else(|| version::same_line(offers, &wanted));
        // Lines of Python, Ruby and Go are 3.11, and 4 is another language than 3.
        let kin = |offer: &&Offer| {
            !offer.version.contains('.') || offer.version.split('.').next() == head.split('.').next()
        };
        let newer = offers.iter().filter(|offer| pack.alike || kin(offer));
        let newer = newer.filter(|offer| release(offer).is_some_and(|release| release > wanted));
        let newest = || offers.iter().max_by_key(release).filter(|_| pack.alike);
        near.or_else(|| newer.min_by_key(release)).or_else(newest)
    }

    /// Whether Dockerfiles on it speak Alpine's way, which is busybox's.
    pub fn is_alpine(&self) -> bool {
        !self.is_distroless() && (["alpine", "busybox"].contains(&self.name) || self.tag.contains("alpine"))
    }

    fn is_distroless(&self) -> bool {
        self.name.starts_with(DISTROLESS)
    }

    /// What makes a stand-in more like it: the user of our bases is in no official
    /// image, and stands in the way of `useradd --uid 1000` and `adduser app`.
    pub fn likeness(&self, pack: &Pack) -> Result<String, DetectError> {
        if self.is_distroless() {
            return Ok(format!("\n{WITHOUT_OUR_USER}\n{NONROOT}"));
        }
        let more = if self.name == UV { WITH_UV } else { "" };
        let lines = [WITHOUT_OUR_USER, pack.stand_in.trim(), more].map(str::to_owned);
        let mut lines: Vec<String> = lines.into_iter().filter(|line| !line.is_empty()).collect();
        lines.push(with_programs(self.programs()));
        if self.is_alpine() {
            lines.push(format!("COPY --from={} / /", base::alpine()?.reference));
            lines.push(AS_ALPINE.to_owned());
        }
        Ok(lines.iter().map(|line| format!("\n{line}")).collect())
    }

    /// Programs that Dockerfiles and health checks count on. Debian's own bases lack
    /// `adduser` from 13 on.
    fn programs(&self) -> &'static [&'static str] {
        let full =
            self.name != UV && !["debian", "ubuntu"].contains(&self.name) && !self.tag.contains("slim");
        match (self.is_alpine(), full) {
            (true, _) => &["busybox", "wget"],
            (false, true) => &["adduser", "curl", "wget"],
            (false, false) => &["adduser"],
        }
    }

    /// Who runs in it unless it is told otherwise.
    pub fn user(&self, pack: &Pack) -> String {
        let nobody = self.is_distroless() && self.tag.contains("nonroot");
        let user = pack.user.as_ref().map(|user| format!("\nUSER {user}"));
        if nobody { "\nUSER 65532\nWORKDIR /home/nonroot".to_owned() } else { user.unwrap_or_default() }
    }

    /// A line of a COPY from it, with the paths that are others in ours.
    pub fn moved(&self, line: &str) -> Option<String> {
        if self.name != UV {
            return None;
        }
        let path = |word: &'_ str| PROGRAMS_OF_UV.into_iter().find(|(theirs, _)| *theirs == word);
        let words: Vec<&str> = line.split_whitespace().collect();
        // What comes last is where they go.
        let sources = words.len().saturating_sub(1);
        let moved = words.iter().enumerate().map(|(index, word)| {
            let ours = path(word).filter(|_| index < sources);
            ours.map_or(*word, |(_, ours)| ours)
        });
        Some(moved.collect::<Vec<_>>().join(" "))
    }
}

/// `python:3.11`, … for the message: all, or those of one buildpack.
pub(super) fn offered(catalog: &Catalog, of: Option<&Pack>) -> Result<Vec<String>, DetectError> {
    let mut found = Vec::new();
    for pack in pack::all()?.iter().filter(|pack| of.is_none_or(|of| of.key == pack.key)) {
        for image in pack.images.iter().filter(|image| !image.starts_with(DISTROLESS) && *image != UV) {
            found
                .extend(pack.offers(catalog.source).iter().map(|offer| format!("{image}:{}", offer.version)));
        }
    }
    Ok(found)
}
