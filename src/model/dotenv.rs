//! Config vars as text: dotenv files, what a shell reads, JSON.
//!
//! The dialects of dotenv disagree on escapes and on `$`. This reader takes what
//! all of them mean alike, takes `$` as it stands, and refuses the rest with its
//! line. What [`dotenv`] writes is read alike by all.

use super::{ConfigVars, EnvKey};
use std::collections::BTreeMap;

/// What is wrong with a dotenv file; no value is ever repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct DotenvError {
    /// From 1.
    pub line: usize,
    /// What.
    pub fault: Fault,
}

/// What a line can have wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No `=`.
    #[error("this is not NAME=VALUE")]
    NoEquals,
    /// No name of a config var in front of `=`.
    #[error("what stands before = is not a name: use letters, digits and _, not starting with a digit")]
    Name,
    /// A quote that does not end.
    #[error("the {0} that begins the value never ends")]
    Open(char),
    /// Something behind the closing quote.
    #[error("only a # comment may follow the closing {0}")]
    Behind(char),
    /// A backslash and something that dialects disagree on.
    #[error("\\{0} is no escape in double quotes: write \\\\{0}, or use single quotes")]
    Escape(char),
    /// The same name again.
    #[error("{0} is set in line {1} already")]
    Twice(EnvKey, usize),
    /// A NUL byte.
    #[error("a NUL byte stands here")]
    Nul,
}

/// Reads a dotenv file.
pub fn read(text: &str) -> Result<ConfigVars, DotenvError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    if let Some(at) = text.find('\0') {
        return Err(DotenvError { line: text[..at].matches('\n').count() + 1, fault: Fault::Nul });
    }
    let mut reader = Reader { rest: &text, line: 1 };
    let mut found: BTreeMap<EnvKey, (String, usize)> = BTreeMap::new();
    while let Some((key, value, line)) = reader.next()? {
        if let Some((_, first)) = found.get(&key) {
            let fault = Fault::Twice(key, *first);
            return Err(DotenvError { line, fault });
        }
        found.insert(key, (value, line));
    }
    Ok(ConfigVars(found.into_iter().map(|(key, (value, _))| (key, value)).collect()))
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    /// The next assignment and its line.
    fn next(&mut self) -> Result<Option<(EnvKey, String, usize)>, DotenvError> {
        loop {
            self.blanks();
            match self.rest.chars().next() {
                None => return Ok(None),
                Some('\n') => self.skip(1),
                Some('#') => self.skip(self.to_line_end()),
                Some(_) => break,
            }
        }
        let line = self.line;
        let fail = |fault| DotenvError { line, fault };
        let current = &self.rest[..self.to_line_end()];
        let equals = current.find('=').ok_or_else(|| fail(Fault::NoEquals))?;
        let name = current[..equals].trim();
        let name = name.strip_prefix("export").filter(|rest| rest.starts_with([' ', '\t'])).unwrap_or(name);
        let key = EnvKey::parse(name.trim()).map_err(|_| fail(Fault::Name))?;
        self.skip(equals + 1);
        self.blanks();
        let value = self.value().map_err(|(at, fault)| DotenvError { line: at, fault })?;
        Ok(Some((key, value, line)))
    }

    fn value(&mut self) -> Result<String, (usize, Fault)> {
        match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => {
                self.skip(1);
                let value = if quote == '"' { self.escaped() } else { self.literal() }?;
                self.blanks();
                match self.rest.chars().next() {
                    None | Some('\n' | '#') => Ok(value),
                    Some(_) => Err((self.line, Fault::Behind(quote))),
                }
            }
            _ => Ok(self.bare()),
        }
    }

    /// Up to the end of the line, or a `#` behind a blank.
    fn bare(&mut self) -> String {
        let line = &self.rest[..self.to_line_end()];
        let comment = line
            .char_indices()
            .find(|&(at, char)| char == '#' && (at == 0 || line[..at].ends_with([' ', '\t'])));
        let value = line[..comment.map_or(line.len(), |(at, _)| at)].trim_end_matches([' ', '\t']).to_owned();
        self.skip(self.to_line_end());
        value
    }

    /// Behind `'`, as it stands up to the next.
    fn literal(&mut self) -> Result<String, (usize, Fault)> {
        let end = self.rest.find('\'').ok_or((self.line, Fault::Open('\'')))?;
        let value = self.rest[..end].to_owned();
        self.skip(end + 1);
        Ok(value)
    }

    /// Behind `"`, with escapes.
    fn escaped(&mut self) -> Result<String, (usize, Fault)> {
        let open = (self.line, Fault::Open('"'));
        let mut value = String::new();
        loop {
            let Some(end) = self.rest.find(['"', '\\']) else { return Err(open) };
            value.push_str(&self.rest[..end]);
            let closes = self.rest[end..].starts_with('"');
            self.skip(end + 1);
            if closes {
                return Ok(value);
            }
            let escape = self.rest.chars().next().ok_or_else(|| open.clone())?;
            value.push(match escape {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                '\\' | '"' | '$' => escape,
                other => return Err((self.line, Fault::Escape(other))),
            });
            self.skip(1);
        }
    }

    fn to_line_end(&self) -> usize {
        self.rest.find('\n').unwrap_or(self.rest.len())
    }

    fn blanks(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t']);
    }

    fn skip(&mut self, bytes: usize) {
        let (gone, rest) = self.rest.split_at(bytes);
        self.line += gone.matches('\n').count();
        self.rest = rest;
    }
}

/// As a dotenv file: values of plain characters bare, others in single quotes, in
/// which no dialect changes anything; with escapes only where there is no other way.
pub fn dotenv(vars: &ConfigVars) -> String {
    let value = |value: &str| match value {
        bare if !bare.is_empty() && bare.chars().all(is_plain) => bare.to_owned(),
        literal if !literal.contains(['\'', '\r', '\n']) => format!("'{literal}'"),
        other => escape(other),
    };
    vars.0.iter().map(|(key, text)| format!("{key}={}\n", value(text))).collect()
}

fn escape(value: &str) -> String {
    let mut text = String::from("\"");
    for char in value.chars() {
        match char {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\\' | '"' | '$' => text.extend(['\\', char]),
            other => text.push(other),
        }
    }
    text + "\""
}

/// As lines for a POSIX shell: `eval "$(… config:export APP --format shell)"`.
pub fn shell(vars: &ConfigVars) -> String {
    let value = |text: &str| format!("'{}'", text.replace('\'', "'\\''"));
    vars.0.iter().map(|(key, text)| format!("export {key}={}\n", value(text))).collect()
}

fn is_plain(char: char) -> bool {
    char.is_ascii_alphanumeric() || "_-./:@%+,".contains(char)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let vars = read(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        vars.0.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    fn one(text: &str) -> String {
        let mut found = pairs(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        found.remove(0).1
    }

    #[test]
    fn what_people_have_in_their_files() {
        for (line, value) in [
            ("A=b", "b"),
            ("A=", ""),
            ("A=''", ""),
            ("  A = b \t ", "b"),
            ("export A=b", "b"),
            ("export\tA = 'b'", "b"),
            ("A=b # comment", "b"),
            ("A=# comment", ""),
            ("A=http://x/#part", "http://x/#part"),
            ("A=a=b==", "a=b=="),
            ("A=it's \"so\"", "it's \"so\""),
            ("A=C:\\dir\\new", "C:\\dir\\new"),
            ("A=$B ${C} `d`", "$B ${C} `d`"),
            ("A='$B\\n \"x\" # no comment' # one", "$B\\n \"x\" # no comment"),
            ("A=\"a\\nb\\t\\\"c\\\" \\\\ \\$D $E\"", "a\nb\t\"c\" \\ $D $E"),
            ("A=\"-----BEGIN-----\nabc\n-----END-----\n\"#end", "-----BEGIN-----\nabc\n-----END-----\n"),
            ("A='two\nlines'", "two\nlines"),
            ("A=\"dos\r\nlines\"\r\n", "dos\nlines"),
            ("\u{feff}# head\r\n\r\nA=grüße\r\n", "grüße"),
        ] {
            assert_eq!(one(line), value, "{line:?}");
        }
        let several = "# head\nA=1\n\n  export B='2'\nC=\"3\n4\" # end\nexport=5";
        let expected = [("A", "1"), ("B", "2"), ("C", "3\n4"), ("export", "5")];
        assert_eq!(pairs(several), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(pairs("\n# nothing\n"), []);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_never_repeated() {
        let files = [
            "A=1\nhunter2",
            "A=1\n\n1B=hunter2",
            "A-B=hunter2",
            "=hunter2",
            "# a\nA=\"hunter2\nB=2",
            "A='hunter2",
            "A=\"hunter2\\",
            "A=\"1\n2\" hunter2",
            "A='it'hunter2'",
            "A=\"1\n\\d+ hunter2\"",
            "A=1\nB=hunter2\nA=2",
            "A=1\nB=hunter2\0",
        ];
        let said = files.map(|file| {
            let error = read(file).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
            format!("{file:?}\n  {error}")
        });
        insta::assert_snapshot!(said.join("\n"));
    }

    fn any_vars() -> impl Strategy<Value = ConfigVars> {
        let value = prop_oneof!["[^\0]{0,30}", "[ '\"\\\\$#\n\r\tnr=`a]{0,20}"];
        prop::collection::btree_map("[A-Za-z_][A-Za-z0-9_]{0,8}", value, 0..6).prop_map(|vars| {
            ConfigVars(vars.into_iter().map(|(key, value)| (EnvKey::parse(&key).unwrap(), value)).collect())
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_byte_for_byte(vars in any_vars()) {
            prop_assert_eq!(read(&dotenv(&vars)).unwrap(), vars);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = read(&text);
        }
    }

    /// By the real shell, which the output is for.
    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_shell_reads_every_value_byte_for_byte() {
        let values = [
            "",
            "plain",
            "it's",
            "'",
            "''\\''",
            "$HOME `id` $(id) \\n \\",
            "two\nlines\n",
            "a\rb\t",
            "grüße ☃",
            "#x",
            "-n",
            "!!",
        ];
        let vars = ConfigVars(
            values
                .iter()
                .enumerate()
                .map(|(at, value)| (EnvKey::parse(&format!("V{at}")).unwrap(), (*value).to_owned()))
                .collect(),
        );
        let print: String = (0..values.len()).map(|at| format!("printf '%s\\0' \"$V{at}\"\n")).collect();
        let output = std::process::Command::new("sh").arg("-c").arg(shell(&vars) + &print).output().unwrap();
        let read = String::from_utf8(output.stdout).unwrap();
        assert_eq!(read.split_terminator('\0').collect::<Vec<_>>(), values);
    }
}
