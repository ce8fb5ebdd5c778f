//! Names to tables: what one statement may see. The only way from a name in SQL to rows, and it goes through `enforce`.

use crate::engine::{DATABASE, QueryEngine};
use crate::session::{SessionFacts, Variables};
use crate::sql::errors::nearest;
use crate::{codes, enforce, functions, system, tables};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef, TimeUnit};
use datafusion::catalog::{TableFunctionArgs, TableProvider};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{DFSchema, DataFusionError, ScalarValue, TableReference, plan_err};
use datafusion::datasource::{cte_worktable::CteWorkTable, provider_as_source};
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, ScalarUDF, TableSource, WindowUDF};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{DataType as SqlType, Statement, TimezoneInfo};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_pg_catalog::pg_catalog::oid_type_planner::PgOidTypePlanner;
use mainstem_types::{Error, Identity, Result, TableName, TableState};
use mainstem_warehouse::{Snapshot, TableView};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One statement's world: who asks, under which settings, of which snapshot.
pub(crate) struct Scope {
    pub(crate) engine: Arc<QueryEngine>,
    pub(crate) session: Arc<SessionFacts>,
    /// What exists for who asks.
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) state: SessionState,
    /// Schemas for unqualified names, in order.
    pub(crate) search_path: Vec<String>,
    /// The session's settings, as they are when the statement begins.
    pub(crate) variables: Variables,
    /// SET from within the statement.
    pub(crate) setter: functions::Setter,
    notices: Mutex<Vec<Notice>>,
    /// Whether a table was opened whose rows are made at planning time, so that the plan serves one execution only.
    momentary: AtomicBool,
}

/// What a statement tells its client beside its rows.
#[derive(Clone)]
pub(crate) struct Notice {
    pub(crate) text: String,
    /// A session hears it once.
    pub(crate) once: bool,
}

impl Scope {
    pub(crate) fn new(
        engine: Arc<QueryEngine>,
        session: Arc<SessionFacts>,
        snapshot: Arc<Snapshot>,
        variables: Variables,
        setter: functions::Setter,
    ) -> Self {
        let mut state = engine.running.clone();
        state.mark_start_execution();
        let search_path = variables.search_path(&session.principal.0);
        let snapshot = enforce::visible(&session.principal, snapshot);
        Self {
            engine,
            session,
            snapshot,
            state,
            search_path,
            variables,
            setter,
            notices: Mutex::default(),
            momentary: AtomicBool::new(false),
        }
    }

    pub(crate) fn notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.notices.lock())
    }

    fn notice(&self, text: String, once: bool) {
        let mut notices = self.notices.lock();
        if notices.iter().all(|known| known.text != text) {
            notices.push(Notice { text, once });
        }
    }

    /// The open sessions that the principal may know of: all for `admin`, else those of one's own.
    pub(crate) fn sessions(&self) -> Vec<Arc<SessionFacts>> {
        let me = &self.session.principal;
        self.engine.sessions.lock().values().filter(|other| me.is_admin() || other.principal == *me).cloned().collect()
    }

    pub(crate) fn is_momentary(&self) -> bool {
        self.momentary.load(Ordering::Relaxed)
    }

    /// Plans a statement. `parameters` are the types known so far.
    pub(crate) fn plan(
        &self,
        statement: Statement,
        parameters: Vec<Option<FieldRef>>,
    ) -> datafusion::common::Result<LogicalPlan> {
        let names = Names { scope: self, types: Arc::new(Types) };
        let options = ParserOptions::new().with_parse_float_as_decimal(true).with_collect_spans(true);
        let mut context = PlannerContext::new().with_prepare_param_data_types(parameters);
        let plan = SqlToRel::new_with_options(&names, options).sql_statement_to_plan_with_context(statement, &mut context)?;
        functions::ordered(plan, &self.engine.functions)
    }

    /// The plan with the types that its columns will have: the branches of a CASE and of a UNION agree on one only here.
    pub(crate) fn typed(&self, plan: LogicalPlan) -> datafusion::common::Result<LogicalPlan> {
        self.state.analyzer().execute_and_check(plan, self.state.config_options(), |_, _| {})
    }

    /// The Arrow type of an SQL type.
    pub(crate) fn data_type(&self, sql: &datafusion::sql::sqlparser::ast::DataType) -> Option<DataType> {
        let text = format!("SELECT CAST(NULL AS {sql})");
        let statement = Parser::parse_sql(&PostgreSqlDialect {}, &text).ok()?.pop()?;
        let plan = self.plan(statement, Vec::new()).ok()?;
        plan.schema().fields().first().map(|field| field.data_type().clone())
    }

    /// The table that a name means, by the search path when it names no schema.
    pub(crate) fn resolve(&self, name: &TableReference) -> Result<TableName> {
        if let Some(catalog) = name.catalog()
            && catalog != DATABASE
        {
            return Err(Error::fix(codes::NOT_SUPPORTED, format!("cross-database references are not possible: {name}")));
        }
        if let Some(schema) = name.schema() {
            let full = TableName::new(schema, name.table());
            return if self.exists(&full) { Ok(full) } else { Err(self.unknown(schema, name.table())) };
        }
        let schemas = std::iter::once("pg_catalog").chain(self.search_path.iter().map(String::as_str));
        let found = schemas.map(|schema| TableName::new(schema, name.table())).find(|full| self.exists(full));
        found.ok_or_else(|| self.unknown("", name.table()))
    }

    fn exists(&self, name: &TableName) -> bool {
        self.snapshot.tables.contains_key(name) || self.snapshot.parents.contains_key(name) || system::exists(self, name)
    }

    fn unknown(&self, schema: &str, table: &str) -> Error {
        let shown = if schema.is_empty() { table.to_string() } else { format!("{schema}.{table}") };
        let error = Error::fix(codes::UNKNOWN_TABLE, format!("relation \"{shown}\" does not exist"));
        let all = || self.snapshot.tables.keys().chain(self.snapshot.parents.keys());
        if let Some(same) = all().find(|name| name.name.as_ref() == table && schema.is_empty()) {
            return error.hint(format!("There is {same}: write it so, or SET search_path = {}.", same.schema));
        }
        let schemas: Vec<&str> = all().map(|name| name.schema.as_ref()).collect();
        if !schema.is_empty() && !schemas.contains(&schema) && !system::SCHEMAS.contains(&schema) {
            return match nearest(schema, schemas.into_iter().chain(system::SCHEMAS.iter().copied())) {
                Some(schema) => error.hint(format!("Perhaps you meant schema {schema}.")),
                None => error.hint("A source's tables are in the schema of its name; \\dt *.* lists all tables."),
            };
        }
        let system = system::names(self);
        let names = all().map(ToString::to_string).chain(system.iter().map(ToString::to_string)).collect::<Vec<_>>();
        let near = match schema {
            "" => nearest(table, names.iter().filter_map(|name| name.split_once('.').map(|(_, table)| table))),
            _ => nearest(&shown, names.iter().map(String::as_str)),
        };
        match near {
            Some(near) => match names.iter().find(|name| name.as_str() == near || name.ends_with(&format!(".{near}"))) {
                Some(full) => error.hint(format!("Perhaps you meant {full}.")),
                None => error,
            },
            None => error.hint("\\dt *.* or SELECT * FROM mainstem.tables lists the tables."),
        }
    }

    /// Opens a table for the session's principal.
    pub(crate) fn open(&self, name: &TableName) -> Result<Arc<dyn TableProvider>> {
        let pass = enforce::decide(&self.session.principal, name)?;
        if let Some(leaves) = self.snapshot.parents.get(name) {
            return self.open_parent(name, leaves);
        }
        if let Some(view) = self.snapshot.tables.get(name) {
            self.check_readable(view, name)?;
            return tables::open_live(&pass, name, &self.snapshot, view).map_err(|e| not_made(name, e));
        }
        self.momentary.store(true, Ordering::Relaxed);
        system::open(self, &pass)
    }

    fn open_parent(&self, name: &TableName, leaves: &[TableName]) -> Result<Arc<dyn TableProvider>> {
        let mut opened = Vec::new();
        let mut views = Vec::new();
        for leaf in leaves {
            let Some(view) = self.snapshot.tables.get(leaf) else { continue };
            let pass = enforce::decide(&self.session.principal, leaf)?;
            self.check_readable(view, name)?;
            let reader = tables::open_live(&pass, leaf, &self.snapshot, view).map_err(|e| not_made(leaf, e))?;
            opened.push((leaf.clone(), reader));
            views.push(view);
        }
        let own = self.snapshot.tables.get(name).map(|view| view.schema.as_ref());
        let schemas: Vec<_> = views.iter().map(|view| view.schema.as_ref()).collect();
        let columns = tables::parent_columns(own, &schemas);
        tables::view_over(&columns, opened).map_err(|e| not_made(name, e))
    }

    /// Decision 34: what is being copied fails with its progress, what has failed is readable with a notice. `asked` is the name by which
    /// it was asked for, its own or a parent's.
    fn check_readable(&self, view: &TableView, asked: &TableName) -> Result<()> {
        let name = &view.record.name;
        if !view.readable && view.record.state == TableState::Failed {
            let cause = view.record.error.as_deref().unwrap_or("see mainstem.source_tables");
            return Err(Error::fix(codes::NOT_READABLE_YET, format!("{name} failed before it was whole: {cause}")).hint(
                format!("Fix the cause, then run RESYNC SOURCE {} TABLE {};", view.record.source, view.record.schema.name),
            ));
        }
        if !view.readable {
            let estimated = system::shown(self, &view.record, "rows_estimated");
            let estimated = estimated.map_or(String::new(), |n| format!(" of about {n}"));
            let rows = system::shown(self, &view.record, "rows_copied").map_or(view.rows_copied, |n| n.max(0) as u64);
            let state = view.record.state.as_str();
            return Err(Error::retry(
                codes::NOT_READABLE_YET,
                format!("{name} is not readable yet: {state}, {rows} rows{estimated} copied"),
            )
            .hint(format!(
                "WAIT FOR SOURCE {} returns when it is; mainstem.source_tables shows the progress.",
                view.record.source
            )));
        }
        if view.record.state == TableState::Failed {
            let at = view.position.as_deref().unwrap_or("its snapshot");
            let cause = view.record.error_code.as_deref().map_or(String::new(), |code| format!(" ({code})"));
            let text = format!(
                "{name} has failed{cause} and stands at {at}; mainstem.source_tables has the cause, RESYNC SOURCE {} TABLE {} rebuilds it",
                view.record.source, view.record.schema.name
            );
            self.notice(text, false);
        }
        if view.schema.identity == Identity::AppendOnly {
            let text = format!(
                "{asked} shows inserts only: updates and deletes in its source cannot be captured; mainstem.source_tables says why, \
                 and what mends it"
            );
            self.notice(text, true);
        }
        Ok(())
    }
}

/// SQL's types in Arrow: times in microseconds, as Postgres has them and as live tables hold them; the rest is the library's.
#[derive(Debug)]
struct Types;

impl TypePlanner for Types {
    fn plan_type_field(&self, sql: &SqlType) -> datafusion::common::Result<Option<FieldRef>> {
        let zoned = |zone: &TimezoneInfo| matches!(zone, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz);
        let kind = match sql {
            SqlType::Time(_, zone) if !zoned(zone) => DataType::Time64(TimeUnit::Microsecond),
            SqlType::Timestamp(_, zone) if zoned(zone) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            SqlType::Timestamp(_, _) => DataType::Timestamp(TimeUnit::Microsecond, None),
            other => return PgOidTypePlanner.plan_type_field(other),
        };
        Ok(Some(Arc::new(Field::new("", kind, true))))
    }
}

/// Table functions know moments in nanoseconds only.
fn in_nanoseconds(arg: Expr) -> Expr {
    match arg {
        Expr::Literal(ScalarValue::TimestampMicrosecond(Some(us), zone), metadata) if us.checked_mul(1000).is_some() => {
            Expr::Literal(ScalarValue::TimestampNanosecond(Some(us * 1000), zone), metadata)
        }
        arg => arg,
    }
}

fn not_made(name: &TableName, error: DataFusionError) -> Error {
    Error::bug(codes::INTERNAL, format!("the reader of {name} could not be made")).caused_by(error)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// What DataFusion's planner asks.
struct Names<'a> {
    scope: &'a Scope,
    types: Arc<dyn TypePlanner>,
}

impl ContextProvider for Names<'_> {
    fn get_table_source(&self, name: TableReference) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let full = self.scope.resolve(&name).map_err(external)?;
        self.scope.open(&full).map(provider_as_source).map_err(external)
    }

    fn get_table_function_source(&self, name: &str, args: Vec<Expr>) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let state = &self.scope.state;
        let Some(function) = self.scope.engine.names.table_functions().get(name).cloned() else {
            return plan_err!("table function '{name}' does not exist");
        };
        let context = SimplifyContext::builder()
            .with_config_options(state.config_options().clone())
            .with_query_execution_start_time(state.execution_props().query_execution_start_time)
            .build();
        let simplifier = ExprSimplifier::new(context);
        let schema = DFSchema::empty();
        let simple = |arg| simplifier.coerce(arg, &schema).and_then(|e| simplifier.simplify(e));
        let args = args.into_iter().map(|arg| simple(arg).map(in_nanoseconds)).collect::<datafusion::common::Result<Vec<_>>>()?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> datafusion::common::Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.scope.engine.planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.types.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        functions::of_session(self.scope, name).or_else(|| self.scope.engine.names.scalar_functions().get(name).cloned())
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.scope.engine.names.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.scope.engine.names.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.scope.engine.names.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.scope.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.scope.engine.names.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.scope.engine.names.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.scope.engine.names.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.scope.engine.names.window_functions().keys().cloned().collect()
    }
}
