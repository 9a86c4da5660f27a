//! Aligned columns.

/// Lines of a table: every column as wide as its widest cell, two blanks apart.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// `key:    value` lines.
pub(super) fn facts(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0) + 1;
    rows.iter().fold(String::new(), |text, (key, value)| text + &format!("{:width$}  {value}\n", format!("{key}:")))
}

/// `2026-01-02T03:04:05Z`; a dash for never.
pub(super) fn time(seconds: i64) -> String {
    match jiff::Timestamp::from_second(seconds) {
        Ok(time) if seconds > 0 => time.to_string(),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_without_trailing_blanks() {
        let rows = [vec!["shop".to_owned(), "running".to_owned()], vec!["a".to_owned(), String::new()]];
        insta::assert_snapshot!(table(&["NAME", "STATUS"], &rows) + &facts(&[("id", "1".to_owned())]));
    }
}
