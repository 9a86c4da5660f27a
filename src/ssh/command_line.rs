//! From the line of an exec request to words. Nothing is ever given to a shell.

use super::words::Refusal;

/// Longest line, in bytes.
const LONGEST: usize = 64 << 10;

/// The words of `line`, at least one; quoting is that of a POSIX shell, and
/// nothing is expanded.
pub(super) fn words(line: &[u8]) -> Result<Vec<String>, Refusal> {
    if line.len() > LONGEST {
        return Err(Refusal::TooLong(line.len()));
    }
    if line.contains(&0) {
        return Err(Refusal::Nul);
    }
    let line = std::str::from_utf8(line).map_err(|_| Refusal::NotUtf8)?;
    let words = shell_words::split(line).map_err(|_| Refusal::OpenQuote)?;
    if words.is_empty() { Err(Refusal::NoCommand) } else { Ok(words) }
}

/// Whether this value of `GIT_PROTOCOL` may be passed on.
pub(super) fn is_git_protocol(value: &str) -> bool {
    matches!(value, "version=0" | "version=1" | "version=2")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_hold_words_together_and_nothing_expands() {
        assert_eq!(words(b"git-receive-pack 'my app'").unwrap(), ["git-receive-pack", "my app"]);
        assert_eq!(
            words(b"a $(id) `id` ; rm -rf / | x > y && \"$HOME\"").unwrap(),
            ["a", "$(id)", "`id`", ";", "rm", "-rf", "/", "|", "x", ">", "y", "&&", "$HOME"]
        );
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for (line, refusal) in [
            (&b""[..], Refusal::NoCommand),
            (b"  \n", Refusal::NoCommand),
            (b"\xff\xfe", Refusal::NotUtf8),
            (b"apps\0", Refusal::Nul),
            (b"apps 'x", Refusal::OpenQuote),
            (b"apps \"x", Refusal::OpenQuote),
            (&vec![b'a'; 65_537], Refusal::TooLong(65_537)),
        ] {
            assert_eq!(words(line), Err(refusal));
        }
        assert!(words(&vec![b'a'; 65_536]).is_ok());
    }

    #[test]
    fn only_three_git_protocols_pass() {
        assert!(is_git_protocol("version=2"));
        for bad in ["version=3", "version=2\n", "version=2:x", "", "VERSION=2", "version=22"] {
            assert!(!is_git_protocol(bad), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn what_a_shell_quoted_comes_back(given in prop::collection::vec("[^\0]{0,40}", 1..8)) {
            let line = shell_words::join(&given);
            prop_assert_eq!(words(line.as_bytes()).unwrap(), given);
        }

        #[test]
        fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = words(&line);
        }
    }
}
