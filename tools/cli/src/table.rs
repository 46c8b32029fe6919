//! Tables that line up.

/// Rows under a heading; numbers (columns named in `right`) to the right.
pub(crate) fn render(heading: &[&str], right: &[usize], rows: &[Vec<String>]) -> String {
    let cells = |row: &[String], column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let width = |column: usize| {
        let widest = rows.iter().map(|row| cells(row, column)).max().unwrap_or(0);
        widest.max(heading[column].chars().count())
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    let line = |row: &[String]| {
        let cell = |column: usize| {
            let (text, width) = (row[column].as_str(), widths[column]);
            if right.contains(&column) {
                format!("{text:>width$}")
            } else {
                format!("{text:<width$}")
            }
        };
        (0..heading.len()).map(cell).collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let head: Vec<String> = heading.iter().map(|cell| (*cell).to_owned()).collect();
    std::iter::once(head).chain(rows.iter().cloned()).map(|row| line(&row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = vec![vec!["0".to_owned(), "leader".to_owned()], vec!["10".to_owned(), "x".to_owned()]];
        assert_eq!(render(&["id", "role"], &[0], &rows), "id  role\n 0  leader\n10  x\n");
    }
}
