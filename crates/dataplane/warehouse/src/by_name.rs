//! Links by which readers outside find tables by name: `tables/by-name/<warehouse>/<schema>/<table>` leads to the directory of the
//! generation that is read now. Derived: made anew at a start, and moved when a table is renamed, dropped or copied anew.

use crate::codes::io_error;
use mainstem_env::{Disk, Env};
use mainstem_types::{Result, TableName};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The name under which all tables are reached over SQL.
const WAREHOUSE: &str = "main";

/// A table's place below `tables/by-name/main` and the directory that it leads to, relative to the link.
pub(crate) type Wanted = BTreeMap<PathBuf, PathBuf>;

/// The link of a table.
pub(crate) fn link(name: &TableName, dir: &Path) -> Option<(PathBuf, PathBuf)> {
    let (generation, table) = (dir.file_name()?, dir.parent()?.file_name()?);
    let place = Path::new(&encoded(&name.schema)).join(encoded(&name.name));
    Some((place, Path::new("../../..").join(table).join(generation)))
}

/// A name as part of a path: what a path or a shell's pattern would take for something else is its bytes as `%` and two digits.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (at, c) in name.char_indices() {
        let plain = c.is_alphanumeric() || matches!(c, '_' | '-' | ' ') || c == '.' && at > 0;
        match plain {
            true => out.push(c),
            false => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| out.push_str(&format!("%{byte:02X}"))),
        }
    }
    out
}

/// The links as they are on disk.
#[derive(Default)]
pub(crate) struct Links {
    /// None: not looked at yet.
    made: Option<Wanted>,
    /// The last call failed: it is said once.
    pub failing: bool,
}

impl Links {
    /// Makes the links what they are to be; a reader finds the old one or the new one. What cannot be done is tried again at the next call.
    pub fn update(&mut self, env: &Env, tables: &Path, wanted: &Wanted) -> Result<()> {
        if self.made.as_ref() == Some(wanted) {
            return Ok(());
        }
        let (disk, root) = (env.disk.as_ref(), tables.join("by-name").join(WAREHOUSE));
        let mut found = match self.made.take() {
            Some(made) => made,
            // What a link of before leads to is not asked: it is made anew.
            None => present(disk, &root)?.into_iter().map(|place| (place, PathBuf::new())).collect(),
        };
        for place in found.keys().filter(|place| !wanted.contains_key(*place)).cloned().collect::<Vec<_>>() {
            remove(disk, &root.join(&place))?;
            found.remove(&place);
        }
        for (place, target) in wanted.iter().filter(|(place, target)| found.get(*place) != Some(target)) {
            make(disk, &root.join(place), target)?;
        }
        let schemas: BTreeSet<_> = wanted.keys().filter_map(|place| place.parent()).collect();
        for schema in names(disk, &root)?.iter().map(Path::new).filter(|schema| !schemas.contains(schema)) {
            let path = root.join(schema);
            disk.remove_dir_all(&path).map_err(io_error(&path, "remove"))?;
        }
        self.made = Some(wanted.clone());
        Ok(())
    }
}

fn names(disk: &dyn Disk, dir: &Path) -> Result<Vec<String>> {
    if disk.exists(dir) { disk.list(dir).map_err(io_error(dir, "list")) } else { Ok(Vec::new()) }
}

fn present(disk: &dyn Disk, root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for schema in names(disk, root)? {
        let tables = names(disk, &root.join(&schema))?;
        found.extend(tables.into_iter().map(|table| Path::new(&schema).join(table)));
    }
    Ok(found)
}

fn make(disk: &dyn Disk, path: &Path, target: &Path) -> Result<()> {
    let failed = io_error(path, "make the link");
    if let Some(dir) = path.parent() {
        disk.create_dir_all(dir).map_err(&failed)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push("#new");
    let temporary = PathBuf::from(temporary);
    remove(disk, &temporary)?;
    match disk.symlink(target, &temporary) {
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()), // a disk without links
        made => made.and_then(|()| disk.rename(&temporary, path)).map_err(&failed),
    }
}

fn remove(disk: &dyn Disk, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(io_error(path, "remove the link")(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        for (name, expected) in [
            ("film", "film"),
            ("Größe 1", "Größe 1"),
            ("a.b", "a.b"),
            ("..", "%2E."),
            (".x", "%2Ex"),
            ("a/b\\c", "a%2Fb%5Cc"),
            ("50%", "50%25"),
            ("a\n*#", "a%0A%2A%23"),
            ("", ""),
        ] {
            assert_eq!(encoded(name), expected);
        }
    }

    #[test]
    fn links_follow_the_tables() {
        let dir = tempfile::tempdir().unwrap();
        let (env, tables) = (Env::real(), dir.path());
        let check = |links: &mut Links, wanted: &[(&str, &str, &str)]| {
            let link = |(schema, name, dir): &(&str, &str, &str)| link(&TableName::new(schema, name), &tables.join(dir)).unwrap();
            links.update(&env, tables, &wanted.iter().map(link).collect()).unwrap();
            let root = tables.join("by-name/main");
            let mut found: Vec<_> = present(env.disk.as_ref(), &root).unwrap();
            found.sort();
            assert_eq!(found.len(), wanted.len(), "{found:?}");
            for (schema, name, at) in wanted {
                env.disk.create_dir_all(&tables.join(at)).unwrap();
                let link = root.join(encoded(schema)).join(encoded(name));
                // Through the link, what is in the directory.
                env.disk.replace(&tables.join(at).join("mark"), at.as_bytes()).unwrap();
                assert_eq!(env.disk.read(&link.join("mark")).unwrap(), at.as_bytes());
            }
        };
        let mut links = Links::default();
        check(&mut links, &[("shop", "film", "1/1"), ("shop_x", "a/b", "2/1")]);
        check(&mut links, &[("shop", "film", "1/2"), ("shop_x", "a/b", "2/1")]);
        check(&mut links, &[("shop", "movie", "1/2")]);
        // A start: what is there is of before.
        let mut links = Links::default();
        check(&mut links, &[("shop", "film", "1/3"), ("shop", "actor", "3/1")]);
        check(&mut links, &[]);
    }
}
