//! What an order can fail for, each in one line.

use crate::https::HttpsError;
use crate::x509::CertificateFault;
use instant_acme::{Error, Problem};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The authority says no.
    #[error("{}", told(.problem))]
    Refused {
        /// Its words.
        problem: Box<Problem>,
        /// For how many seconds it wants to hear nothing of us.
        retry_after: Option<i64>,
    },
    /// The authority can't be reached, or answers nonsense.
    #[error("the certificate authority: {0}")]
    Authority(String),
    /// It did not find our answer; its words.
    #[error("{0}")]
    Unproven(String),
    /// It offers no way to prove that a name is ours that we know.
    #[error("the certificate authority does not offer {0} for this name")]
    NotOffered(&'static str),
    /// We could not put up our answer.
    #[error("{0}")]
    Answer(String),
    /// Neither a certificate nor a reason in time.
    #[error("the certificate authority does not decide")]
    Undecided,
    /// Our own client.
    #[error("{0}")]
    Https(#[from] HttpsError),
    /// The certificate that came is none.
    #[error("the certificate that was issued can't be used: {0}")]
    Certificate(#[from] CertificateFault),
    /// No key or request could be made.
    #[error("no key could be made: {0}")]
    Key(#[from] rcgen::Error),
}

impl AcmeError {
    pub(super) fn new(error: Error, retry_after: Option<i64>) -> Self {
        match error {
            Error::Api(problem) => Self::Refused { problem: Box::new(problem), retry_after },
            Error::Timeout(_) => Self::Undecided,
            other => Self::Authority(line(&other.to_string())),
        }
    }

    /// Whether the authority does not know our account (any more).
    pub fn is_of_the_account(&self) -> bool {
        matches!(self, Self::Refused { problem, .. } if kind(problem) == "accountDoesNotExist")
    }

    /// After how many seconds it is to be asked again, if it says that we ask too often.
    pub fn retry_after(&self) -> Option<i64> {
        match self {
            Self::Refused { problem, retry_after } if kind(problem) == "rateLimited" => {
                Some(retry_after.unwrap_or(3600))
            }
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Whether that is for its own sake, whatever the name.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { problem, .. } if problem.status == Some(503))
    }
}

fn kind(problem: &Problem) -> &str {
    problem.r#type.as_deref().and_then(|kind| kind.rsplit(':').next()).unwrap_or_default()
}

/// An authority's reason in one line.
pub(super) fn told(problem: &Problem) -> String {
    let detail = problem.detail.clone().or_else(|| problem.r#type.clone()).unwrap_or_default();
    let more = problem.subproblems.iter().filter_map(|sub| sub.detail.as_deref());
    let text = std::iter::once(detail.as_str()).chain(more).collect::<Vec<_>>().join("; ");
    format!("the certificate authority says: {}", line(&text))
}

fn line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    crate::output::tame(&text).chars().take(400).collect()
}
