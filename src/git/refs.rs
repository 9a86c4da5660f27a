//! The updates of one push, and what each of them means.

use crate::model::{CommitId, Problem};

/// One line of pre-receive's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefUpdate {
    /// What the ref is now; zero: it is new.
    pub old: CommitId,
    /// What it shall be; zero: it is deleted.
    pub new: CommitId,
    /// Full name: `refs/heads/main`.
    pub name: String,
}

impl RefUpdate {
    /// Reads `OLD NEW NAME`.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.splitn(3, ' ');
        let old = CommitId::parse(words.next()?).ok()?;
        let new = CommitId::parse(words.next()?).ok()?;
        Some(Self { old, new, name: words.next()?.to_owned() })
    }

    /// The branch's short name.
    pub fn branch(&self) -> Option<&str> {
        self.name.strip_prefix("refs/heads/")
    }
}

/// What a push asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Deploy this update of the deploy branch.
    Deploy(&'a RefUpdate),
    /// Store the refs and deploy nothing, for this reason (lines for the user).
    Store(Vec<String>),
    /// Refuse the push.
    Refuse(Problem),
}

/// Most refs that one push may update.
pub const MOST_REFS: usize = 32;

/// Whether a branch can be called so.
pub fn is_branch_name(name: &str) -> bool {
    git2::Branch::name_is_valid(name).unwrap_or(false)
}

/// Decides what a push means.
///
/// `deploy_branch` is the app's, if it is known yet.
pub fn judge<'a>(updates: &'a [RefUpdate], deploy_branch: Option<&str>) -> Verdict<'a> {
    if let Some(problem) = refusal(updates, deploy_branch) {
        return Verdict::Refuse(problem);
    }
    let deploys = |update: &&RefUpdate| match (update.branch(), deploy_branch) {
        (Some(branch), Some(deploy)) => branch == deploy,
        (Some(branch), None) => matches!(branch, "main" | "master"),
        (None, _) => false,
    };
    match updates.iter().find(deploys) {
        Some(update) => Verdict::Deploy(update),
        None => Verdict::Store(reasons(updates, deploy_branch)),
    }
}

fn refusal(updates: &[RefUpdate], deploy_branch: Option<&str>) -> Option<Problem> {
    if updates.len() > MOST_REFS {
        return Some(Problem::new(
            format!("Push rejected: {} refs at once.", updates.len()),
            format!("A push may update at most {MOST_REFS}."),
            "Push the branch alone: git push paas main",
        ));
    }
    if let Some(bad) = updates.iter().find(|update| !is_plain(&update.name)) {
        return Some(Problem::new(
            "Push rejected: a ref name that is not allowed.",
            format!("{:?}: only branches and tags, of letters, digits and . _ / - +", shorten(&bad.name)),
            "Rename it and push again.",
        ));
    }
    if updates.iter().filter(|update| update.branch().is_some()).count() > 1 {
        return Some(Problem::new(
            "Push rejected: several branches at once.",
            "One push is one deploy, so it may update one branch (and tags).",
            "Push them one by one: git push paas main",
        ));
    }
    let deleted = |update: &&RefUpdate| update.new.is_zero() && update.branch() == deploy_branch;
    updates.iter().filter(|update| update.branch().is_some()).find(deleted).map(|update| {
        Problem::new(
            "Push rejected: the deploy branch cannot be deleted.",
            format!("{} names what runs.", update.branch().unwrap_or_default()),
            "To remove the app: apps:destroy APP --confirm APP",
        )
    })
}

/// `refs/heads/…` or `refs/tags/…` and plain characters; stricter than git.
fn is_plain(name: &str) -> bool {
    let short = name.strip_prefix("refs/heads/").or_else(|| name.strip_prefix("refs/tags/"));
    short.is_some_and(|short| {
        !short.is_empty()
            && short != "HEAD"
            && short.len() <= 200
            && !short.starts_with(['-', '.', '/'])
            && short.bytes().all(|c| c.is_ascii_alphanumeric() || b"._/-+@".contains(&c))
    })
}

fn shorten(name: &str) -> String {
    name.chars().take(60).collect()
}

fn reasons(updates: &[RefUpdate], deploy_branch: Option<&str>) -> Vec<String> {
    let wanted = deploy_branch.unwrap_or("main or master");
    let mut lines: Vec<String> = updates
        .iter()
        .map(|update| {
            let (kind, name) = match update.branch() {
                Some(branch) => ("Branch", branch),
                None => ("Tag", update.name.trim_start_matches("refs/tags/")),
            };
            let fate = if update.new.is_zero() { "removed" } else { "stored" };
            format!("{kind} {name} is {fate}. Nothing was deployed:")
        })
        .collect();
    lines.push(format!("only a push to {wanted} deploys this app."));
    if let Some(branch) = updates.iter().find_map(|update| update.branch().filter(|_| !update.new.is_zero()))
    {
        let target = deploy_branch.unwrap_or("main");
        lines.push(format!("To deploy it: git push paas {branch}:{target}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ZERO: &str = "0000000000000000000000000000000000000000";
    const ONE: &str = "1111111111111111111111111111111111111111";

    fn update(old: &str, new: &str, name: &str) -> RefUpdate {
        RefUpdate::parse(&format!("{old} {new} {name}")).unwrap()
    }

    #[test]
    fn whichever_of_main_and_master_comes_first_deploys() {
        let master = [update(ZERO, ONE, "refs/heads/master")];
        assert!(matches!(judge(&master, None), Verdict::Deploy(_)));
        assert!(matches!(judge(&master, Some("main")), Verdict::Store(_)));
        let with_tag = [update(ZERO, ONE, "refs/tags/v1"), update(ZERO, ONE, "refs/heads/main")];
        assert_eq!(judge(&with_tag, None), Verdict::Deploy(&with_tag[1]));
    }

    #[test]
    fn what_is_said_when_nothing_is_deployed() {
        let say = |updates: &[RefUpdate], branch| match judge(updates, branch) {
            Verdict::Store(lines) => lines.join("\n"),
            Verdict::Refuse(problem) => problem.to_string(),
            Verdict::Deploy(_) => "deploys".to_owned(),
        };
        let many: Vec<_> = (0..40).map(|n| update(ZERO, ONE, &format!("refs/tags/{n}"))).collect();
        insta::assert_snapshot!(
            [
                say(&[update(ZERO, ONE, "refs/heads/topic")], None),
                say(&[update(ZERO, ONE, "refs/tags/v1")], Some("main")),
                say(&[update(ONE, ZERO, "refs/heads/topic")], Some("main")),
                say(&[update(ONE, ZERO, "refs/heads/main")], Some("main")),
                say(&[update(ZERO, ONE, "refs/heads/a"), update(ZERO, ONE, "refs/heads/main")], Some("main")),
                say(&[update(ZERO, ONE, "refs/replace/x")], Some("main")),
                say(&[update(ZERO, ONE, "refs/heads/$(id)")], Some("main")),
                say(&many, Some("main")),
            ]
            .join("\n\n")
        );
    }
}
