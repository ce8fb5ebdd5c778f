//! Runs sources against the log: snapshot beside stream, staging, barriers, acknowledgement; and the control of sources.
