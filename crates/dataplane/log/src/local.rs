//! The log on this machine's disk.

/// Stub until the log lands.
pub struct LocalLog;
/// Stub until the log lands.
pub struct LogSettings;
