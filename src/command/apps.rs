//! `apps…` and `releases`.

use super::of_app::OfApp;
use super::table::{facts, table, time};
use super::{CommandError, Session};
use crate::deploy::{Account, DeployError};
use crate::model::{App, AppName};
use serde_json::json;

impl Session<'_> {
    pub(super) async fn apps(&mut self, as_json: bool) -> Result<(), CommandError> {
        let accounts = self.pipeline.accounts().await?;
        if as_json {
            let all = accounts.iter().map(|account| self.summary(account)).collect();
            return self.print_json(&serde_json::Value::Array(all)).await;
        }
        let rows: Vec<Vec<String>> = accounts
            .iter()
            .map(|account| {
                let app = &account.app;
                vec![
                    app.name.to_string(),
                    runtime(account),
                    account.status.to_string(),
                    self.pipeline.url(&app.name),
                ]
            })
            .collect();
        self.print(&table(&["NAME", "RUNTIME", "STATUS", "URL"], &rows)).await
    }

    fn summary(&self, account: &Account) -> serde_json::Value {
        json!({
            "id": account.app.id,
            "name": account.app.name,
            "runtime": runtime(account),
            "status": account.status,
            "url": self.pipeline.url(&account.app.name),
        })
    }

    pub(super) async fn apps_create(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.pipeline.create_app(&name).await?;
        let text = format!(
            "Created {name}. Deploy to it:\n  git remote add paas {}\n  git push paas main\nIt will answer at {}\n",
            self.pipeline.remote(&app.name),
            self.pipeline.url(&app.name)
        );
        self.print(&text).await
    }

    pub(super) async fn apps_info(&mut self, name: AppName, as_json: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let account = self.pipeline.account(&app).await?;
        if as_json {
            let mut value = self.summary(&account);
            value["repository"] = json!(self.pipeline.remote(&name));
            value["branch"] = json!(app.deploy_branch);
            value["release"] = json!(account.current.as_ref().map(|release| release.number));
            value["commit"] = json!(account.current.as_ref().map(|release| release.commit.as_str()));
            value["image"] = json!(account.current.as_ref().map(|release| release.image.clone()));
            value["command"] = json!(command(&account));
            value["port"] = json!(app.port);
            value["maintenance"] = json!(app.maintenance.is_some());
            value["sleep"] = super::sleep::as_value(account.app.sleep);
            value["created"] = json!(time(app.created_at));
            return self.print_json(&value).await;
        }
        let text = facts(&self.facts_of(&account));
        self.print(&text).await
    }

    fn facts_of(&self, account: &Account) -> Vec<(&'static str, String)> {
        let app = &account.app;
        let dash = || "-".to_owned();
        let release = account.current.as_ref();
        let processes: Vec<String> = account.processes.iter().map(|line| line.name.to_string()).collect();
        vec![
            ("id", app.id.0.to_string()),
            ("name", app.name.to_string()),
            ("status", account.status.to_string()),
            ("runtime", runtime(account)),
            ("url", self.pipeline.url(&app.name)),
            ("repository", self.pipeline.remote(&app.name)),
            ("branch", app.deploy_branch.clone().unwrap_or_else(dash)),
            ("release", release.map_or_else(dash, |release| format!("v{}", release.number))),
            ("commit", release.map_or_else(dash, |release| release.commit.to_string())),
            ("command", command(account).unwrap_or_else(dash)),
            ("port", app.port.to_string()),
            ("maintenance", if app.maintenance.is_some() { "on" } else { "off" }.to_owned()),
            ("image", release.map_or_else(dash, |release| release.image.clone())),
            ("processes", if processes.is_empty() { dash() } else { processes.join(" ") }),
            ("created", time(app.created_at)),
        ]
    }

    pub(super) async fn apps_branch(&mut self, app: OfApp) -> Result<(), CommandError> {
        let (name, words) = app.split("apps:branch")?;
        let app = self.app(&name).await?;
        let Some(branch) = words.first() else {
            let branch =
                app.deploy_branch.unwrap_or_else(|| "main or master, whichever is pushed first".to_owned());
            return self.print(&format!("{branch}\n")).await;
        };
        self.set_branch(&app, branch).await?;
        self.print(&format!("A push to {branch} deploys {name} now.\n")).await
    }

    async fn set_branch(&mut self, app: &App, branch: &str) -> Result<(), CommandError> {
        if !crate::git::refs::is_branch_name(branch) {
            return Err(CommandError::NotABranch(branch.chars().take(60).collect()));
        }
        if self.pipeline.set_deploy_branch(app, branch).await? {
            Ok(())
        } else {
            Err(CommandError::BranchElsewhere(branch.to_owned(), app.name.clone()))
        }
    }

    pub(super) async fn apps_destroy(
        &mut self,
        name: AppName,
        confirm: Option<String>,
    ) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        if confirm.as_deref() != Some(name.as_str()) {
            return Err(CommandError::NotConfirmed(name));
        }
        let removed = self.pipeline.destroy_app(&app, self.caller.name()).await;
        self.changed = matches!(removed, Ok(()) | Err(DeployError::HalfRemoved(_)));
        removed?;
        self.print(&format!("Removed {name} and everything of it.\n")).await
    }
}

fn runtime(account: &Account) -> String {
    account.current.as_ref().map_or_else(|| "-".to_owned(), |release| release.runtime.clone())
}

fn command(account: &Account) -> Option<String> {
    let processes = &account.current.as_ref()?.processes;
    let web = processes.iter().find(|(kind, _)| kind.is_web());
    web.or_else(|| processes.iter().next()).map(|(_, command)| command.to_string())
}
