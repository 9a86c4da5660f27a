//! `maintenance…`: a page instead of the app.

use super::of_app::OfApp;
use super::table::facts;
use super::{CommandError, Session};
use crate::model::{AppName, LONGEST_PAGE, Maintenance};

impl Session<'_> {
    pub(super) async fn maintenance(&mut self, name: AppName) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        let page = match self.pipeline.maintenance_page(&app).await? {
            Some(length) => format!("the app's own ({length} bytes)"),
            None => "the server's".to_owned(),
        };
        let state = if app.maintenance.is_some() { "on" } else { "off" };
        self.print(&facts(&[("maintenance", state.to_owned()), ("page", page)])).await
    }

    pub(super) async fn set_maintenance(&mut self, name: AppName, on: bool) -> Result<(), CommandError> {
        let app = self.app(&name).await?;
        self.pipeline.set_maintenance(&app, on).await?;
        let text = if on {
            format!("{name} is in maintenance: every request gets a page (503). Deploys and checks go on.\n")
        } else {
            format!("{name} takes requests.\n")
        };
        self.print(&text).await
    }

    pub(super) async fn maintenance_page(&mut self, app: OfApp, default: bool) -> Result<(), CommandError> {
        let name = app.only("maintenance:page")?;
        let app = self.app(&name).await?;
        if default {
            self.pipeline.set_maintenance_page(&app, None).await?;
            return self.print(&format!("{name} has the server's page for maintenance.\n")).await;
        }
        let page = self.read_text(LONGEST_PAGE as u64).await?;
        Maintenance::expect_page(&page)?;
        let length = page.len();
        self.pipeline.set_maintenance_page(&app, Some(page)).await?;
        self.print(&format!("{name} has a page of its own for maintenance ({length} bytes).\n")).await
    }
}
