//! The table that a benchmark prints.

/// One line: what was measured, the figure, the floor, whether it holds, and the terms of the measurement.
pub struct Row {
    pub what: &'static str,
    pub figure: String,
    pub floor: &'static str,
    pub met: bool,
    /// Peer or physical limit, row width, rows per transaction.
    pub terms: String,
}

#[derive(Default)]
pub struct Report {
    pub rows: Vec<Row>,
}

impl Report {
    pub fn add(&mut self, row: Row) {
        eprintln!("benches: {}: {} (floor {}; {})", row.what, row.figure, row.floor, row.terms);
        self.rows.push(row);
    }

    pub fn all_met(&self) -> bool {
        self.rows.iter().all(|r| r.met)
    }

    pub fn markdown(&self) -> String {
        let profile = std::env::var("MAINSTEM_PROFILE").unwrap_or_else(|_| "as built".to_owned());
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let mut text = format!(
            "Profile {profile}, {cores} cores, Postgres on the same machine.\n\n| what | measured | floor | met | terms |\n|---|---|---|---|---|\n"
        );
        for row in &self.rows {
            let met = if row.met { "yes" } else { "NO" };
            text += &format!("| {} | {} | {} | {met} | {} |\n", row.what, row.figure, row.floor, row.terms);
        }
        text
    }
}
