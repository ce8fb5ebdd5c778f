//! What `fuzz/` feeds with any bytes: the files of a table's directory. Read or refused, never a panic. Checksums are put right first:
//! what stands behind them is to be reached.

use crate::context::GenerationDir;
use crate::delta::{framed, unchecked};
use crate::run::Run;
use mainstem_env::Env;
use mainstem_types::{Generation, SourceName, TableId};
use std::path::PathBuf;

/// The only commit of a Delta table.
pub fn commit(env: Env, bytes: &[u8]) {
    let (Ok(source), dir) = (SourceName::new("fuzzed"), PathBuf::from("/table")) else { return };
    let place = GenerationDir {
        env,
        settings: Default::default(),
        source,
        table: TableId(1),
        generation: Generation(1),
        index_dir: dir.clone(),
        dir,
        seed: 1,
        damages: Default::default(),
    };
    if let Ok(table) = unchecked(&place, bytes) {
        assert!(table.entries().count() <= table.files.len());
    }
}

/// The inside of a deletion vector.
pub fn vector(env: Env, bytes: &[u8]) {
    let _ = framed(&env, bytes);
}

/// A run of the key index: its entries and segments.
pub fn index_run(env: Env, bytes: &[u8]) {
    let path = PathBuf::from("/fuzzed.run");
    let (form, rest) = bytes.split_first().map_or((0, bytes), |(form, rest)| (u64::from(*form), rest));
    for file in [rest.to_vec(), Run::around(rest, form)] {
        assert!(env.disk.replace(&path, &file).is_ok(), "a disk in memory takes small files");
        if let Ok(Some(run)) = Run::open(env.disk.as_ref(), &path, form) {
            let all: Vec<_> = (0..run.len()).map(|at| (run.key(at), run.addr(at))).collect();
            for (key, _) in &all {
                assert!(run.seek(0, *key) <= run.len());
            }
        }
    }
}
