//! While an app is worked on, its users get a page.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest page of an app's own, in bytes: it is sent along with the route.
pub const LONGEST_PAGE: usize = 64 << 10;

/// Pages of all apps together, in bytes.
pub const ALL_PAGES: usize = 8 << 20;

/// Every request is answered by a page. The app goes on running.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    /// The app's own, as HTML; none: the server's.
    #[serde(default)]
    pub page: Option<Arc<str>>,
}

/// Why standard input is no page; the words come ready for the user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAPage {
    /// Nothing at all.
    #[error("Standard input is empty: it is the page, as HTML")]
    Empty,
    /// A byte that no page has.
    #[error("Standard input has control characters: it is the page, as HTML")]
    Control,
}

impl Maintenance {
    /// Takes what a person brings for a page.
    pub fn expect_page(text: &str) -> Result<(), NotAPage> {
        let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\r' | '\t');
        match text {
            _ if text.trim().is_empty() => Err(NotAPage::Empty),
            _ if text.contains(control) => Err(NotAPage::Control),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_text() {
        assert_eq!(Maintenance::expect_page("<h1>Soon</h1>\r\n\t"), Ok(()));
        assert_eq!(Maintenance::expect_page(" \n"), Err(NotAPage::Empty));
        assert_eq!(Maintenance::expect_page("\u{0}PNG"), Err(NotAPage::Control));
        assert_eq!(Maintenance::expect_page("\u{1b}[0m"), Err(NotAPage::Control));
    }
}
