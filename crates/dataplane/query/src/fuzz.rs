//! What `fuzz/` feeds with any text: splitting into statements and the statements of our own. Read or refused, never a panic.

use crate::sql::{commands, declarations, text};
use mainstem_types::Principal;

/// A text of any number of statements.
pub fn statements(sql: &str) {
    let _ = text::without_literals(sql);
    let Ok(statements) = text::split(sql) else { return };
    for statement in &statements {
        assert!(!statement.is_empty() && sql.contains(statement), "a statement is a part of its text");
        let _ = commands::parse(statement);
        let _ = commands::declared_cursor(statement);
        let _ = declarations::parse(statement, &Principal::admin());
    }
}
