//! Columns for people: as wide as their widest cell, two spaces between, nothing behind the last.

use crate::cli::output::{Paint, harmless};

/// Rows under headings.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    paint: Option<Paint>,
}

impl Cell {
    /// A cell in a colour.
    pub fn painted(text: impl AsRef<str>, paint: Option<Paint>) -> Self {
        Cell { text: harmless(text.as_ref()), paint }
    }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Cell::painted(text, None)
    }
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: &[&str]) -> Self {
        Table { rows: vec![headings.iter().map(|text| Cell::painted(text, Some(Paint::Strong))).collect()] }
    }

    /// A table without headings.
    pub fn bare() -> Self {
        Table { rows: Vec::new() }
    }

    /// Adds a row; an empty cell is shown as `-`.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let dash =
            |cell: Cell| if cell.text.is_empty() { Cell { text: "-".to_owned(), ..cell } } else { cell };
        self.rows.push(cells.into_iter().map(dash).collect());
    }

    /// The table as text, each line after `indent`.
    pub fn render(&self, indent: &str, colour: bool) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let length = |cell: &Cell| cell.text.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(length).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            text.push_str(indent);
            for (at, cell) in row.iter().enumerate() {
                let shown =
                    cell.paint.map_or_else(|| cell.text.clone(), |paint| paint.text(colour, &cell.text));
                text.push_str(&shown);
                if at + 1 < row.len() {
                    text.extend(std::iter::repeat_n(' ', widths[at] - length(cell) + 2));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_hostile_text_is_made_harmless() {
        let mut table = Table::new(&["NAME", "X"]);
        table.row(["web\u{1b}[2J".into(), "".into()]);
        table.row([Cell::painted("é", Some(Paint::Good)), "1".into()]);
        assert_eq!(table.render("", false), "NAME          X\nweb\\u{1b}[2J  -\né             1\n");
        assert!(table.render("", true).contains("\u{1b}[32mé\u{1b}[0m             1"));
    }
}
