//! The pre-flight: everything that would make capture fail or harm the source, in one go, each with the statement that mends it
//! (decisions 3, 5, 6, 8, 8d).

use crate::catalog::Relation;
use crate::codes;
use crate::database::Database;
use crate::published::{self, MEMBERS, USABLE_IDENTITY};
use crate::wire::{Cells, quote_name, quote_text};
use mainstem_connector::{Finding, Severity};
use mainstem_types::{Code, Identity, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Oldest server that can stream transactions in progress and reads ranges of ctid.
const VERSION_MIN: i64 = 140_000;

pub async fn run(inner: &Database) -> Result<Vec<Finding>> {
    let mut check = Check { inner, findings: Vec::new() };
    for note in &inner.settings.notes {
        check.add(Severity::Note, codes::CAUTION, note.clone(), None);
    }
    // The rest cannot be said without a login: its error is the one finding.
    let settings = check.settings().await?;
    check.server(&settings).await?;
    check.role().await?;
    check.slots(&settings).await?;
    check.transactions().await?;
    check.timeouts().await?;
    let relations = inner.relations(None).await?;
    check.tables(&relations).await?;
    check.publications(&relations).await?;
    check.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(check.findings)
}

struct Check<'a> {
    inner: &'a Database,
    findings: Vec<Finding>,
}

type ServerSettings = BTreeMap<String, String>;

fn number(settings: &ServerSettings, name: &str) -> i64 {
    settings.get(name).and_then(|v| v.parse().ok()).unwrap_or(-1)
}

impl Check<'_> {
    fn add(&mut self, severity: Severity, code: Code, message: String, fix: Option<String>) {
        self.findings.push(Finding { severity, code: code.id, message, fix });
    }

    fn fatal(&mut self, code: Code, message: String, fix: String) {
        self.add(Severity::Fatal, code, message, Some(fix));
    }

    async fn settings(&self) -> Result<ServerSettings> {
        let rows = self
            .inner
            .query(
                "SELECT name, setting FROM pg_settings WHERE name IN ('server_version_num', 'wal_level', 'max_replication_slots', \
                 'max_wal_senders', 'max_slot_wal_keep_size', 'idle_replication_slot_timeout', 'synchronous_standby_names', \
                 'server_encoding', 'wal_sender_timeout')",
            )
            .await?;
        let pair = |row: &crate::wire::Row| Some((row.first()?.clone()?, row.get(1)?.clone()?));
        Ok(rows.iter().filter_map(pair).collect())
    }

    async fn server(&mut self, settings: &ServerSettings) -> Result<()> {
        let version = number(settings, "server_version_num");
        if version < VERSION_MIN {
            let message = format!("the server is version {}; 14 is the oldest that can be captured", version / 10_000);
            self.fatal(codes::SETTING, message, "upgrade the server".into());
        }
        if settings.get("wal_level").is_some_and(|l| l != "logical") {
            let level = &settings["wal_level"];
            let fix = "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server";
            self.fatal(codes::SETTING, format!("wal_level is `{level}`: the log does not tell row changes"), fix.into());
        }
        let recovery = self.inner.query("SELECT pg_is_in_recovery()").await?;
        if recovery.first().and_then(|r| r.first()?.as_deref()) == Some("t") {
            self.fatal(codes::SETTING, "the server is a standby".into(), "give the address of the primary".into());
        }
        if settings.get("server_encoding").is_some_and(|e| e == "SQL_ASCII") {
            let message = "the database's encoding is SQL_ASCII: text that is not UTF-8 will fail its table".to_string();
            self.add(Severity::Warning, codes::CAUTION, message, None);
        }
        self.synchronous(settings);
        Ok(())
    }

    /// A logical walsender whose application name matches holds up every commit (decision 8d). Ours is `mainstem <source>`.
    fn synchronous(&mut self, settings: &ServerSettings) {
        let names = settings.get("synchronous_standby_names").map_or("", String::as_str);
        let ours = &self.inner.settings.target.application;
        let matches = |name: &str| {
            let name = name.trim().trim_matches('"');
            name == "*" || name.eq_ignore_ascii_case(ours)
        };
        let list = names.rsplit_once('(').map_or(names, |(_, list)| list.trim_end().trim_end_matches(')'));
        if list.split(',').any(matches) {
            let message = format!("synchronous_standby_names = '{names}' takes us for a standby: every commit would wait for us");
            self.fatal(codes::SETTING, message, "name the standbys in synchronous_standby_names instead of `*`".into());
        }
    }

    async fn role(&mut self) -> Result<()> {
        let sql = "SELECT rolreplication OR rolsuper, rolbypassrls OR rolsuper, rolname, \
            has_database_privilege(current_database(), 'CREATE'), rolsuper FROM pg_roles WHERE rolname = current_user";
        let rows = self.inner.query(sql).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let cells = Cells(row);
        let role = quote_name(cells.text(2)?);
        if !cells.flag(0) {
            let fix = format!("ALTER ROLE {role} REPLICATION;");
            self.fatal(codes::RIGHTS, format!("role {role} may not replicate"), fix);
        }
        if !cells.flag(3) && !self.inner.settings.publications_given {
            let database = quote_name(&self.inner.settings.target.database);
            let fix = format!("GRANT CREATE ON DATABASE {database} TO {role};");
            self.fatal(codes::RIGHTS, format!("role {role} may not create publications in {database}"), fix);
        }
        // Replication is a permission of pg_hba.conf too, and a pooler cannot carry it.
        if cells.flag(0)
            && let Err(error) = self.inner.settings.target.connect(&self.inner.env, true).await
        {
            let fix =
                "allow replication connections of this role in pg_hba.conf, and give the server's own address, not a pooler's";
            let code = if error.code() == codes::LOGIN { codes::LOGIN } else { codes::POOLER };
            self.fatal(code, format!("a replication connection was refused: {}", error.message()), fix.into());
        }
        Ok(())
    }

    async fn slots(&mut self, settings: &ServerSettings) -> Result<()> {
        let slot = &self.inner.settings.slot;
        let sql = format!(
            "SELECT (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_stat_replication), \
             EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = {})",
            quote_text(slot)
        );
        let rows = self.inner.query(&sql).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let cells = Cells(row);
        let (used, senders, exists) = (cells.number::<i64>(0)?, cells.number::<i64>(1)?, cells.flag(2));
        let ours = self.inner.settings.slot_given || self.inner.settings.owns("slot", slot);
        if exists && !ours {
            let message = format!("replication slot {slot} exists and was not made by this data directory");
            let fix = format!("SELECT pg_drop_replication_slot('{slot}'); -- or name it with slot = '{slot}'");
            self.add(Severity::Warning, codes::NOT_OURS, message, Some(fix));
        }
        for (name, used) in [("max_replication_slots", used), ("max_wal_senders", senders)] {
            let most = number(settings, name);
            if !exists && used >= most {
                let fix = format!("ALTER SYSTEM SET {name} = {}; -- then restart the server", most + 4);
                self.fatal(codes::SETTING, format!("all {most} of {name} are in use"), fix);
            }
        }
        let keep = number(settings, "max_slot_wal_keep_size");
        if keep == -1 {
            let message = "max_slot_wal_keep_size is unlimited: while we are away the server keeps all its log".to_string();
            let fix = "ALTER SYSTEM SET max_slot_wal_keep_size = '64GB'; SELECT pg_reload_conf();";
            self.add(Severity::Note, codes::CAUTION, message, Some(fix.into()));
        } else if keep < 1024 {
            let message = format!("max_slot_wal_keep_size is {keep} MB: a short absence loses the slot and rebuilds all tables");
            let fix = "ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'; SELECT pg_reload_conf();";
            self.add(Severity::Warning, codes::CAUTION, message, Some(fix.into()));
        }
        if number(settings, "idle_replication_slot_timeout") > 0 {
            let message =
                "idle_replication_slot_timeout is set: a long absence loses the slot and rebuilds all tables".to_string();
            let fix = "ALTER SYSTEM SET idle_replication_slot_timeout = 0; SELECT pg_reload_conf();";
            self.add(Severity::Warning, codes::CAUTION, message, Some(fix.into()));
        }
        Ok(())
    }

    /// Open transactions hold up the making of the slot and the copies.
    async fn transactions(&mut self) -> Result<()> {
        let sql = "SELECT 'prepared transaction ' || quote_literal(gid), extract(epoch FROM clock_timestamp() - prepared)::bigint, \
            'ROLLBACK PREPARED ' || quote_literal(gid) || ';' FROM pg_prepared_xacts WHERE database = current_database() \
            UNION ALL SELECT 'session ' || pid, extract(epoch FROM clock_timestamp() - xact_start)::bigint, \
            'SELECT pg_terminate_backend(' || pid || ');' FROM pg_stat_activity WHERE datname = current_database() \
            AND backend_type = 'client backend' AND pid <> pg_backend_pid() AND xact_start < clock_timestamp() - interval '60 s'";
        for row in self.inner.query(sql).await? {
            let cells = Cells(&row);
            let message = format!("{} is open for {} s: slot and copies wait for its end", cells.text(0)?, cells.text(1)?);
            let fix = Some(cells.text(2)?.to_string());
            self.add(Severity::Warning, codes::CAUTION, message, fix);
        }
        Ok(())
    }

    /// Limits set on role or database: our sessions lift them, which a reader of the server's activity may wonder about.
    async fn timeouts(&mut self) -> Result<()> {
        let sql = "SELECT DISTINCT item FROM pg_db_role_setting s JOIN pg_roles r ON r.rolname = current_user, unnest(s.setconfig) item \
            WHERE s.setrole IN (0, r.oid) AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())) \
            AND item ~ '^(statement|lock|transaction|idle_session|idle_in_transaction_session)_timeout=' \
            AND item !~ '=0$' ORDER BY item";
        let rows = self.inner.query(sql).await?;
        let limits: Vec<String> = rows.into_iter().filter_map(|mut row| row.pop().flatten()).collect();
        if !limits.is_empty() {
            let message =
                format!("role or database has {}: our own sessions switch it off, for a copy may take longer", limits.join(", "));
            self.add(Severity::Note, codes::CAUTION, message, None);
        }
        Ok(())
    }

    /// Log and tables hold a copied row twice for a while (decision 8).
    fn disk(&mut self, count: usize, bytes: i64) {
        let message =
            format!("{count} tables, {} MiB, will be copied; log and tables here hold a row twice for a while", bytes >> 20);
        self.add(Severity::Note, codes::CAUTION, message, None);
        let Some(directory) = &self.inner.settings.spool else { return };
        let disk = &self.inner.env.disk;
        let there = directory.ancestors().find(|d| disk.exists(d));
        // A file system that does not say how full it is has no finding.
        let Some(free) = there.and_then(|d| disk.free_bytes(d).ok()) else { return };
        let need = u64::try_from(bytes).unwrap_or(0).saturating_mul(2);
        if free < need {
            let message = format!(
                "the copies may take up to {} MiB here, and {} MiB are free in the data directory's file system",
                need >> 20,
                free >> 20
            );
            self.add(Severity::Warning, codes::CAUTION, message, Some("free space, or take tables out with `tables`".into()));
        }
    }

    async fn tables(&mut self, relations: &BTreeMap<u32, Relation>) -> Result<()> {
        let wanted: Vec<&Relation> = relations.values().filter(|r| self.inner.settings.tables.matches(&r.name)).collect();
        let captured: Vec<&Relation> = wanted.iter().copied().filter(|r| r.excluded().is_none()).collect();
        let idle = self.inner.settings.tables.without_match(relations.values().map(|r| &r.name));
        let database = &self.inner.settings.target.database;
        let mend = "tables = 'public.*' -- case counts; `*` stands for anything";
        if captured.is_empty() {
            let message = format!("`tables` matches no table of database {database} ({})", idle.join(", "));
            self.fatal(codes::NO_MATCH, message, mend.into());
        } else if !idle.is_empty() {
            let message = format!("{} in `tables` matches no table of database {database} yet", idle.join(", "));
            self.add(Severity::Warning, codes::NO_MATCH, message, Some(mend.into()));
        }
        for relation in &wanted {
            if let Some(reason) = relation.excluded().filter(|_| relation.kind != b'p') {
                self.add(Severity::Note, codes::CAUTION, format!("{} is left out: {reason}", relation.name), None);
            }
        }
        let owned = self.rights().await?;
        for relation in &captured {
            // One that has none by now was dropped since the catalog was read.
            if let Some(rights) = owned.get(&relation.oid) {
                self.table(relation, *rights);
            }
        }
        let bytes = captured.iter().filter_map(|r| owned.get(&r.oid)).map(|r| r.bytes).sum();
        self.disk(captured.len(), bytes);
        Ok(())
    }

    /// What we may do with each relation, and its size.
    async fn rights(&self) -> Result<BTreeMap<u32, Rights>> {
        let sql = "SELECT c.oid, has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE'), \
            pg_has_role(c.relowner, 'USAGE'), c.relrowsecurity AND row_security_active(c.oid), pg_table_size(c.oid) \
            FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
            WHERE c.relkind = 'r' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'";
        let mut rights = BTreeMap::new();
        // The server asks for the privileges of tables as they are now: of one that was dropped meanwhile there are none to tell.
        let rows = self.inner.query(sql).await?;
        for row in rows.iter().filter(|row| Cells(row).get(1).is_some()) {
            let cells = Cells(row);
            let oid = cells.number(0)?;
            let right = Rights {
                read: cells.flag(1),
                own: cells.flag(2),
                filtered: cells.flag(3),
                bytes: cells.get(4).and_then(|b| b.parse().ok()).unwrap_or(0),
            };
            rights.insert(oid, right);
        }
        Ok(rights)
    }

    fn table(&mut self, relation: &Relation, rights: Rights) {
        let name = relation.quoted();
        let role = quote_name(&self.inner.settings.target.user);
        if !rights.read {
            let schema = quote_name(&relation.name.schema);
            let fix = format!("GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {name} TO {role};");
            self.fatal(codes::RIGHTS, format!("{} may not be read", relation.name), fix);
        }
        if !rights.own && !self.inner.settings.publications_given {
            let message = format!("{} can only be published by its owner", relation.name);
            self.fatal(codes::RIGHTS, message, "have an administrator run the script that `mainstem check` prints".into());
        }
        if rights.filtered {
            let fix = format!("ALTER ROLE {role} BYPASSRLS;");
            self.fatal(
                codes::ROW_SECURITY,
                format!("row-level security would hide rows of {} from the copy", relation.name),
                fix,
            );
        }
        if relation.identity() == Identity::AppendOnly {
            let message = format!("{} has no replica identity: only its inserts and truncates are captured", relation.name);
            let fix = format!("ALTER TABLE {name} REPLICA IDENTITY FULL; -- or add a primary key");
            self.add(Severity::Warning, codes::CAUTION, message, Some(fix));
        }
        if !relation.generated.is_empty() {
            let columns = relation.generated.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("{}: generated columns are not in the log and are left out: {columns}", relation.name);
            self.add(Severity::Note, codes::CAUTION, message, None);
        }
    }

    /// Publications: those named by the user must be there; those of somebody else can already make keyless tables fail.
    async fn publications(&mut self, relations: &BTreeMap<u32, Relation>) -> Result<()> {
        let sql = "SELECT p.pubname, p.pubupdate OR p.pubdelete, n.nspname, t.tablename, c.oid FROM pg_publication p \
            LEFT JOIN pg_publication_tables t ON t.pubname = p.pubname LEFT JOIN pg_namespace n ON n.nspname = t.schemaname \
            LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename";
        let mut there = BTreeSet::new();
        for row in self.inner.query(sql).await? {
            let cells = Cells(&row);
            let publication = cells.text(0)?;
            there.insert(publication.to_string());
            let table = cells.get(4).and_then(|oid| oid.parse().ok()).and_then(|oid: u32| relations.get(&oid));
            if let Some(table) = table.filter(|t| cells.flag(1) && t.kind == b'r' && t.identity() == Identity::AppendOnly) {
                let message = format!(
                    "publication {publication} publishes updates of {}, which has no replica identity: UPDATE and DELETE on it fail",
                    table.name
                );
                let fix = format!("ALTER TABLE {} REPLICA IDENTITY FULL;", table.quoted());
                self.add(Severity::Warning, codes::FOREIGN_PUBLICATION, message, Some(fix));
            }
        }
        let settings = &self.inner.settings;
        for publication in &settings.publications {
            let exists = there.contains(publication);
            if settings.publications_given && !exists {
                let fix = format!("CREATE PUBLICATION {} FOR TABLE ...;", quote_name(publication));
                self.fatal(codes::NOT_OURS, format!("publication {publication} does not exist"), fix);
            } else if !settings.publications_given && exists && !settings.owns("publication", publication) {
                let message = format!("publication {publication} exists and was not made by this data directory");
                let fix = format!(
                    "choose another source name; or, when nothing uses it, DROP PUBLICATION {}; -- or name it with publication = '{publication}'",
                    quote_name(publication)
                );
                self.fatal(codes::NOT_OURS, message, fix);
            }
        }
        if settings.publications_given {
            let wanted: Vec<&Relation> =
                relations.values().filter(|r| r.excluded().is_none() && settings.tables.matches(&r.name)).collect();
            for gap in published::gaps(&published::entries(self.inner).await?, &wanted) {
                self.fatal(codes::NARROWED, gap.message, gap.fix);
            }
        }
        self.slot().await
    }

    /// A slot of our name that somebody else made is somebody else's place in the log.
    async fn slot(&mut self) -> Result<()> {
        let settings = &self.inner.settings;
        let slot = &settings.slot;
        if settings.slot_given || settings.owns("slot", slot) {
            return Ok(());
        }
        let sql = format!("SELECT 1 FROM pg_replication_slots WHERE slot_name = {}", quote_text(slot));
        if !self.inner.query(&sql).await?.is_empty() {
            let message = format!("replication slot {slot} exists and was not made by this data directory");
            let fix = format!("choose another source name; or, when nothing uses it, SELECT pg_drop_replication_slot('{slot}')");
            self.fatal(codes::NOT_OURS, message, fix);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
struct Rights {
    read: bool,
    own: bool,
    filtered: bool,
    /// With TOAST, without indexes.
    bytes: i64,
}

/// Everything an administrator runs once, so that the role needs neither ownership nor superuser.
pub async fn administrator_script(inner: &Database) -> Result<String> {
    let relations = inner.relations(None).await?;
    let settings = &inner.settings;
    let role = quote_name(&settings.target.user);
    let wanted: Vec<&Relation> =
        relations.values().filter(|r| r.excluded().is_none() && settings.tables.matches(&r.name)).collect();
    let mut script =
        format!("-- Run as a superuser in database {}.\nALTER ROLE {role} LOGIN REPLICATION;\n", settings.target.database);
    let schemas: BTreeSet<&str> = wanted.iter().map(|r| r.name.schema.as_ref()).collect();
    for schema in schemas {
        script.push_str(&format!("GRANT USAGE ON SCHEMA {} TO {role};\n", quote_name(schema)));
    }
    for relation in &wanted {
        script.push_str(&format!("GRANT SELECT ON {} TO {role};\n", relation.quoted()));
    }
    if wanted.iter().any(|r| r.row_security) {
        script.push_str(&format!("ALTER ROLE {role} BYPASSRLS;\n"));
    }
    for (at, publication) in settings.publications.iter().enumerate() {
        let operations = published::operations(at);
        let keyless = |r: &&&Relation| (r.identity() == Identity::AppendOnly) == (at == 1);
        let tables: Vec<String> = wanted.iter().filter(keyless).map(|r| format!("ONLY {}", r.quoted())).collect();
        let list = if tables.is_empty() { String::new() } else { format!(" FOR TABLE {}", tables.join(", ")) };
        script.push_str(&format!("CREATE PUBLICATION {}{list} WITH (publish = '{operations}');\n", quote_name(publication)));
    }
    if let [updates, append] = settings.publications.as_slice() {
        script.push_str(&identity_trigger(&settings.source, updates, append));
    }
    script.push_str(&format!(
        "-- Then: CREATE SOURCE {} ... WITH (publication = '{}');\n",
        settings.source,
        settings.publications.join(", ")
    ));
    Ok(script)
}

/// An event trigger that keeps each table in the publication that fits its identity, in the transaction that changes it: whoever drops a
/// primary key finds UPDATE and DELETE working, and whoever adds one finds them captured (decision 1).
fn identity_trigger(source: &str, updates: &str, append: &str) -> String {
    let (all, inserts) = (quote_text(updates), quote_text(append));
    format!(
        "CREATE SCHEMA IF NOT EXISTS mainstem;
CREATE OR REPLACE FUNCTION mainstem.follow_identity_{source}() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog AS $follow$
DECLARE moved record;
BEGIN
  FOR moved IN SELECT c.oid::regclass AS name, p.pubname = {all} AS lost {MEMBERS} AND p.pubname IN ({all}, {inserts})
    AND (p.pubname = {inserts}) = ({USABLE_IDENTITY})
  LOOP
    EXECUTE format('ALTER PUBLICATION %I DROP TABLE %s', CASE WHEN moved.lost THEN {all} ELSE {inserts} END, moved.name);
    EXECUTE format('ALTER PUBLICATION %I ADD TABLE ONLY %s', CASE WHEN moved.lost THEN {inserts} ELSE {all} END, moved.name);
  END LOOP;
EXCEPTION WHEN OTHERS THEN RAISE WARNING 'mainstem.follow_identity_{source}: %', SQLERRM;
END $follow$;
DROP EVENT TRIGGER IF EXISTS mainstem_{source};
CREATE EVENT TRIGGER mainstem_{source} ON ddl_command_end WHEN TAG IN ('ALTER TABLE', 'DROP INDEX', 'DROP TYPE', 'DROP DOMAIN')
EXECUTE FUNCTION mainstem.follow_identity_{source}();\n"
    )
}
