//! Plain columns, as Docker's client sets them.

/// A column is at least this wide, the gap included.
const COLUMN_MIN: usize = 10;
/// Spaces between columns.
const GAP: usize = 3;

/// Sets rows in columns: each as wide as its widest cell, the last one as it
/// is. Rows may have different lengths.
pub fn columns(rows: &[Vec<String>]) -> String {
    columns_with(rows, COLUMN_MIN, GAP)
}

/// The same with another least width and gap.
pub fn columns_with(rows: &[Vec<String>], column_min: usize, gap: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|column| {
            rows.iter()
                // The last cell of a row pushes nothing to the right.
                .filter(|row| row.len() > column + 1)
                .filter_map(|row| row.get(column))
                .map(|cell| width(cell) + gap)
                .max()
                .unwrap_or(0)
                .max(column_min)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                let room = widths.get(column).copied().unwrap_or(0);
                text.extend(std::iter::repeat_n(' ', room.saturating_sub(width(cell))));
            }
        }
        text.push('\n');
    }
    text
}

/// Columns that `text` takes on a terminal; characters are counted as one.
pub fn width(text: &str) -> usize {
    text.chars().count()
}

/// At most `max` characters, the last one an ellipsis if some were cut.
pub fn ellipsis(text: &str, max: usize) -> String {
    if width(text) <= max {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(max.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// `web2` before `web10`: runs of digits compare as numbers.
pub fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut left, mut right) = (chunks(a).into_iter(), chunks(b).into_iter());
    loop {
        let order = match (left.next(), right.next()) {
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return std::cmp::Ordering::Less,
            (Some(_), None) => return std::cmp::Ordering::Greater,
            (Some(Chunk::Number(x)), Some(Chunk::Number(y))) => {
                let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
                x.len().cmp(&y.len()).then_with(|| x.cmp(y))
            }
            (Some(Chunk::Number(x) | Chunk::Text(x)), Some(Chunk::Number(y) | Chunk::Text(y))) => {
                x.cmp(y)
            }
        };
        if order.is_ne() {
            return order;
        }
    }
}

enum Chunk<'a> {
    Number(&'a str),
    Text(&'a str),
}

fn chunks(text: &str) -> Vec<Chunk<'_>> {
    text.as_bytes()
        .chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit())
        .scan(0, |start, chunk| {
            let end = *start + chunk.len();
            // Borders lie beside ASCII digits, so they are never inside a character.
            let piece = text.get(*start..end).unwrap_or("");
            *start = end;
            Some(if piece.starts_with(|c: char| c.is_ascii_digit()) {
                Chunk::Number(piece)
            } else {
                Chunk::Text(piece)
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|c| (*c).to_owned()).collect()
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_at_least_ten() {
        let rows = [
            row(&["ID", "NAME", "PORTS"]),
            row(&["abcdefghijkl", "web", ""]),
        ];
        assert_eq!(
            columns(&rows),
            "ID             NAME      PORTS\nabcdefghijkl   web       \n"
        );
    }

    #[test]
    fn numbers_sort_by_value() {
        let mut names = ["web10", "web2", "api", "web", "web02"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["api", "web", "web02", "web2", "web10"]);
    }

    #[test]
    fn cutting_counts_characters() {
        assert_eq!(ellipsis("größer", 4), "grö…");
        assert_eq!(ellipsis("ok", 4), "ok");
    }
}
