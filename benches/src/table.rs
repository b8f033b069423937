//! A Markdown table whose columns line up in a terminal too.

use std::fmt::{self, Display};

/// A table with a name per row.
#[derive(Debug)]
pub(crate) struct Table {
    /// The header first. All rows have the same length.
    rows: Vec<Vec<String>>,
}

// === impl Table ===

impl Table {
    /// Creates a table with these columns, next to the one for the rows' names.
    pub(crate) fn new(columns: impl IntoIterator<Item = String>) -> Self {
        let header = std::iter::once(String::new()).chain(columns).collect();
        Self { rows: vec![header] }
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// Panics if there are not as many cells as columns.
    pub(crate) fn row(&mut self, name: &str, cells: impl IntoIterator<Item = String>) {
        let row: Vec<String> = std::iter::once(name.to_owned()).chain(cells).collect();
        assert_eq!(
            row.len(),
            self.rows[0].len(),
            "one cell per column: {row:?}"
        );
        self.rows.push(row);
    }

    /// The widest cell of each column, in characters; three at least, which Markdown's rule needs.
    fn widths(&self) -> Vec<usize> {
        (0..self.rows[0].len())
            .map(|column| {
                let widest = self
                    .rows
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max();
                widest.unwrap_or_default().max(3)
            })
            .collect()
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (index, row) in self.rows.iter().enumerate() {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(f, "| {cell:<width$} |")?;
                } else {
                    write!(f, " {cell:>width$} |")?;
                }
            }
            writeln!(f)?;
            if index == 0 {
                for (column, width) in widths.iter().enumerate() {
                    if column == 0 {
                        write!(f, "|{:-<1$}|", "", width + 2)?;
                    } else {
                        write!(f, "{:-<1$}:|", "", width + 1)?;
                    }
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["ask".to_owned(), "tell".to_owned()]);
        table.row("baseline", ["1 µs".to_owned(), "2 ns".to_owned()]);

        assert_eq!(
            table.to_string(),
            "|          |  ask | tell |\n\
             |----------|-----:|-----:|\n\
             | baseline | 1 µs | 2 ns |\n"
        );
    }
}
