//! What each client felt, as a picture: a row per client, time from left to right.

use std::time::{Duration, Instant};

use super::load::{Call, Sample};

/// One cell of a client's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    /// Nothing was asked.
    Idle,
    /// A call was under way, none was answered.
    Waiting,
    /// At least one answer.
    Served,
    /// At least one call failed.
    Failed,
}

impl Cell {
    fn glyph(self) -> char {
        match self {
            Self::Idle => ' ',
            Self::Waiting => '·',
            Self::Served => '█',
            Self::Failed => 'x',
        }
    }
}

/// The stretch of time that a picture shows.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Left edge.
    pub from: Instant,
    /// Right edge.
    pub to: Instant,
    /// Characters from edge to edge.
    pub columns: usize,
}

impl Window {
    /// Around the leader's end: a little before, and as much after as the
    /// longest wait takes, twice.
    pub fn around(ended_at: Instant, longest: Duration, columns: usize) -> Self {
        let after = (longest * 2).max(Duration::from_millis(100));
        let before = after / 3;
        Self {
            from: ended_at.checked_sub(before).unwrap_or(ended_at),
            to: ended_at + after,
            columns: columns.max(10),
        }
    }

    /// The column in which a moment falls.
    pub fn column(&self, at: Instant) -> usize {
        let whole = self.to.duration_since(self.from).as_secs_f64();
        let part = at.saturating_duration_since(self.from).as_secs_f64();
        let column = (part / whole * self.columns as f64) as usize;
        column.min(self.columns - 1)
    }

    /// The row of one client.
    pub fn row(&self, samples: &[Sample], client: usize) -> String {
        let mut cells = vec![Cell::Idle; self.columns];
        let mine = samples
            .iter()
            .filter(|s| s.client == client && s.ended >= self.from && s.started <= self.to);
        for sample in mine {
            let (first, last) = (self.column(sample.started), self.column(sample.ended));
            for cell in cells.iter_mut().take(last).skip(first) {
                if *cell == Cell::Idle {
                    *cell = Cell::Waiting;
                }
            }
            if sample.ended <= self.to
                && let Some(cell) = cells.get_mut(last)
            {
                *cell = match (&sample.result, *cell) {
                    (Err(_), _) | (_, Cell::Failed) => Cell::Failed,
                    (Ok(_), _) => Cell::Served,
                };
            }
        }
        cells.into_iter().map(Cell::glyph).collect()
    }
}

/// `writes` or `reads`, for the row's label.
pub fn label(call: Call) -> &'static str {
    match call {
        Call::Write => "writes",
        Call::Read => "reads",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_shows_as_a_gap_between_answers() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let call = |from, to, result| Sample {
            client: 0,
            call: Call::Write,
            started: at(from),
            ended: at(to),
            result,
        };
        let samples = [
            call(0, 5, Ok("a".into())),
            call(10, 15, Ok("b".into())),
            call(20, 75, Ok("c".into())),
            call(80, 85, Err("no".into())),
        ];
        let window = Window {
            from: start,
            to: at(100),
            columns: 10,
        };
        assert_eq!(window.row(&samples, 0), "██·····█x ");
        assert_eq!(window.row(&samples, 1), "          ");
    }
}
