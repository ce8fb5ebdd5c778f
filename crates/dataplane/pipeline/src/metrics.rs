//! What a pipeline counts.

use mainstem_types::metrics::{Counter, Metric};

pub static CHANGES: Counter = Counter::new(
    "mainstem_pipeline_changes_total",
    "Change events appended to table topics, copied rows included. Flat while a source is busy: look at its state.",
);
pub static BARRIERS: Counter = Counter::new(
    "mainstem_pipeline_barriers_total",
    "Barriers appended; each is one consistent cut of one source. The rows per barrier say how changes are grouped.",
);
pub static STAGED: Counter = Counter::new(
    "mainstem_pipeline_staged_changes_total",
    "Changes that waited in a staging topic while their table was copied. They take room in the log until the copy ends.",
);
pub static STAGED_DROPPED: Counter = Counter::new(
    "mainstem_pipeline_staged_seen_total",
    "Staged changes left out because the copy had already seen their transaction. For judging copies, nothing to act on.",
);
pub static RECONNECTS: Counter = Counter::new(
    "mainstem_pipeline_reconnects_total",
    "Times a source's stream was opened anew after an error. Alert when it rises: the source or the way to it is not stable.",
);
pub static COPIES: Counter = Counter::new(
    "mainstem_pipeline_copies_total",
    "Table copies started. Unexpected growth says that tables are copied anew: `mainstem.source_tables` and the log say why.",
);
pub static REPEATED: Counter = Counter::new(
    "mainstem_pipeline_repeated_items_total",
    "Stream items dropped because the stored position covered them already. Rises after reconnects, nothing to act on.",
);

pub static DEAD_LETTERS: Counter = Counter::new(
    "mainstem_pipeline_dead_letters_total",
    "Rows with a value that cannot be held that went to a topic of dead letters (on_bad_value = 'dead_letter').",
);

static ALL: [&dyn Metric; 8] = [&CHANGES, &BARRIERS, &STAGED, &STAGED_DROPPED, &RECONNECTS, &COPIES, &REPEATED, &DEAD_LETTERS];

pub fn all() -> &'static [&'static dyn Metric] {
    &ALL
}
