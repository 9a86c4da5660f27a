//! A git repository of a test, used through the real git.

use super::run::{Finished, Running, run};
use super::server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A work tree with a remote called `paas`.
pub struct Repository {
    server: &'static Server,
    directory: tempfile::TempDir,
}

/// Where the test apps are.
pub fn case_folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps").join(case)
}

impl Repository {
    /// `git init`, branch main, remote `paas`, no commit.
    pub fn empty(server: &'static Server, app: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("paas-repo.").tempdir().unwrap();
        let repository = Self { server, directory };
        repository.git(&["init", "-q", "-b", "main"]).ok();
        repository.git(&["remote", "add", "paas", &server.remote(app)]).ok();
        repository
    }

    /// `git clone ARGS URL` into a fresh directory, with `paas` as its remote's name.
    pub fn clone_of(server: &'static Server, url: &str, args: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("paas-clone.").tempdir().unwrap();
        let repository = Self { server, directory };
        let words: Vec<&str> =
            ["clone", "-q", "-o", "paas"].into_iter().chain(args.iter().copied()).collect();
        repository.git(&[&words[..], &[url, "."]].concat()).ok();
        repository
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// git with settings of its own, in the work tree.
    pub fn git_command(&self, args: &[&str]) -> Command {
        let ssh = [vec!["ssh".to_owned()], self.server.ssh_options("id")].concat().join(" ");
        // A test run in the background ignores Ctrl-C, and so would git and ssh.
        let mut command = Command::new("env");
        command.args(["--default-signal=HUP,INT,QUIT", "git"]);
        command.current_dir(self.path()).args(args);
        command
            .env("GIT_SSH_COMMAND", ssh)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null");
        command.env_remove("SSH_AUTH_SOCK").env("LC_ALL", "C.UTF-8");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada");
            command.env(format!("GIT_{role}_EMAIL"), "ada@example.com");
        }
        command
    }

    /// Runs git to its end.
    pub fn git(&self, args: &[&str]) -> Finished {
        run(self.git_command(args), b"")
    }

    /// `git push paas ARGS`.
    pub fn push(&self, args: &[&str]) -> Finished {
        self.git(&[&["push", "paas"], args].concat())
    }

    /// The same, left running.
    pub fn push_running(&self, args: &[&str]) -> Running {
        Running::start(self.git_command(&[&["push", "paas"], args].concat()), b"")
    }

    /// Writes a file and its folders.
    pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let file = self.path().join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }

    /// Copies `tests/apps/CASE` without its `expect.toml`.
    pub fn copy_case(&self, case: &str) {
        let mut command = Command::new("cp");
        command.arg("-r").arg(case_folder(case).join(".")).arg(self.path());
        run(command, b"").ok();
        std::fs::remove_file(self.path().join("expect.toml")).unwrap();
    }

    /// Commits everything; returns the commit's id.
    pub fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A", "-f"]).ok();
        self.git(&["commit", "-q", "--allow-empty", "-m", message]).ok();
        self.head()
    }

    /// Makes Python's smallest app say `text`, and commits that.
    pub fn say(&self, text: &str) -> String {
        let file = self.path().join("main.py");
        let source = std::fs::read_to_string(&file).unwrap();
        let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
        let line = lines.iter_mut().find(|line| line.contains("body = ")).unwrap();
        *line = format!("        body = {text:?}.encode()");
        std::fs::write(&file, lines.join("\n") + "\n").unwrap();
        self.commit(text)
    }

    /// Id of the commit that is checked out.
    pub fn head(&self) -> String {
        self.git(&["rev-parse", "HEAD"]).ok().out().trim().to_owned()
    }

    /// What the server's repository has under this ref; empty if nothing.
    pub fn on_server(&self, reference: &str) -> String {
        let listing = self.git(&["ls-remote", "paas", reference]).ok().out();
        listing.split_whitespace().next().unwrap_or_default().to_owned()
    }
}
