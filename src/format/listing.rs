//! A list as `--format` wants it: a table, a template per row, or JSON lines.

use serde_json::{Map, Value};
use skep_proto::Result;

use super::Template;
use crate::ui::table;

/// One field that rows have.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its name in templates and JSON.
    pub field: &'static str,
    /// What stands above it in a table.
    pub header: &'static str,
    /// Whether the table has it unless told otherwise.
    pub by_default: bool,
}

impl Column {
    /// One that the default table shows.
    pub const fn shown(field: &'static str, header: &'static str) -> Self {
        Self {
            field,
            header,
            by_default: true,
        }
    }

    /// One for templates and JSON only.
    pub const fn extra(field: &'static str, header: &'static str) -> Self {
        Self {
            field,
            header,
            by_default: false,
        }
    }
}

/// Rows under columns; each row has a cell per column, in their order.
#[derive(Debug)]
pub struct Listing {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
}

impl Listing {
    /// An empty one.
    pub fn new(columns: &'static [Column]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row at the end.
    pub fn push(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell per column");
        self.rows.push(cells);
    }

    /// The text that `format` makes of it; `None` and `table` are the default table.
    pub fn render(&self, format: Option<&str>) -> Result<String> {
        match format.map(str::trim) {
            None | Some("" | "table") => Ok(self.default_table()),
            Some("json") => Ok(self.lines(|row| Ok(row.to_string()))?.concat()),
            Some(format) => match format.strip_prefix("table ") {
                Some(template) => self.table(template.trim_start()),
                None => {
                    let template = Template::parse(format)?;
                    Ok(self.lines(|row| template.render(row))?.concat())
                }
            },
        }
    }

    fn default_table(&self) -> String {
        let headers: Vec<String> = self
            .columns
            .iter()
            .filter(|c| c.by_default)
            .map(|c| c.header.to_owned())
            .collect();
        let rows = self.rows.iter().map(|row| {
            row.iter()
                .zip(self.columns)
                .filter(|(_, column)| column.by_default)
                .map(|(cell, _)| cell.clone())
                .collect()
        });
        let table: Vec<Vec<String>> = std::iter::once(headers).chain(rows).collect();
        table::columns(&table)
    }

    fn table(&self, template: &str) -> Result<String> {
        let headers: Map<String, Value> = self
            .columns
            .iter()
            .map(|c| (c.field.to_owned(), c.header.into()))
            .collect();
        let head = Template::parse_for_headers(template)?.render(&headers.into())?;
        let template = Template::parse(template)?;
        let mut table = vec![cells(&head)];
        for line in self.lines(|row| template.render(row))? {
            table.push(cells(line.trim_end_matches('\n')));
        }
        Ok(table::columns(&table))
    }

    /// A line per row, newline included.
    fn lines(&self, line: impl Fn(&Value) -> Result<String>) -> Result<Vec<String>> {
        self.rows
            .iter()
            .map(|row| {
                let fields: Map<String, Value> = self
                    .columns
                    .iter()
                    .zip(row)
                    .map(|(column, cell)| (column.field.to_owned(), cell.as_str().into()))
                    .collect();
                Ok(format!("{}\n", line(&fields.into())?))
            })
            .collect()
    }
}

fn cells(line: &str) -> Vec<String> {
    line.split('\t').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: &[Column] = &[
        Column::shown("ID", "ID"),
        Column::shown("Name", "NAME"),
        Column::extra("Extra", "EXTRA"),
    ];

    fn listing() -> Listing {
        let mut listing = Listing::new(COLUMNS);
        listing.push(vec!["1".into(), "web".into(), "x".into()]);
        listing.push(vec!["2".into(), "a-long-name".into(), "y".into()]);
        listing
    }

    #[test]
    fn the_default_is_a_table_of_the_shown_columns() {
        let text = listing().render(None).unwrap();
        assert_eq!(
            text,
            "ID        NAME\n1         web\n2         a-long-name\n"
        );
        let empty = Listing::new(COLUMNS).render(None).unwrap();
        assert_eq!(empty, "ID        NAME\n");
    }

    #[test]
    fn a_table_template_gets_headers_of_its_own() {
        let text = listing()
            .render(Some("table {{.Name}}\\t{{upper .Extra}}"))
            .unwrap();
        assert_eq!(
            text,
            "NAME          EXTRA\nweb           X\na-long-name   Y\n"
        );
    }

    #[test]
    fn a_template_is_a_line_per_row_and_json_an_object() {
        assert_eq!(
            listing().render(Some("{{.Name}}!")).unwrap(),
            "web!\na-long-name!\n"
        );
        let json = listing().render(Some("json")).unwrap();
        assert_eq!(
            json.lines().next(),
            Some(r#"{"Extra":"x","ID":"1","Name":"web"}"#)
        );
    }
}
