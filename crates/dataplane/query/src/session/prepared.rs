//! A prepared statement of any kind.

use super::run::{self, Work};
use super::{Session, spelled};
use crate::codes;
use crate::functions::keeps_source_type;
use crate::plan::{Notice, Scope};
use crate::sql::commands::Command;
use crate::sql::errors::from_engine;
use crate::sql::{bounds, names, rewrite};
use crate::tables::Rows;
use crate::threads::unwound;
use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::sql::sqlparser::ast::Statement;
use futures::{FutureExt, StreamExt};
use mainstem_types::control::{self, Declaration};
use mainstem_types::schema::SOURCE_TYPE_KEY;
use mainstem_types::sql::{Outcome, Parameter, PreparedStatement};
use mainstem_types::system;
use mainstem_types::{Error, Result};
use mainstem_warehouse::Snapshot;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};

pub(super) enum Kind {
    Empty,
    Command(Command),
    Declaration(Declaration),
    /// A query, and the cursor that is to hold its rows.
    Query(Arc<Statement>, Option<Holder>),
}

/// The cursor of a DECLARE.
pub(super) struct Holder {
    pub(super) name: String,
    /// It outlives its transaction.
    pub(super) hold: bool,
}

pub(super) struct Prepared {
    session: Arc<Session>,
    sql: String,
    kind: Kind,
    parameters: Vec<DataType>,
    /// Names of the parameters' types where the text says one.
    sources: Vec<&'static str>,
    columns: Option<SchemaRef>,
    /// The plan made at prepare, for the first execution if it still fits. Not kept longer: it holds its snapshot.
    planned: Mutex<Option<Planned>>,
    /// Executed once and at once: the plan fits though there is a newer snapshot since.
    once: bool,
    me: Weak<Prepared>,
}

/// A plan with the snapshot that it reads and its notices.
type Planned = (Arc<Snapshot>, LogicalPlan, Vec<Notice>);

impl Prepared {
    /// `scope`: the one in which a query was parsed, when it had to be.
    pub(super) fn new(
        session: Arc<Session>,
        sql: &str,
        kind: Kind,
        scope: Option<Scope>,
        declared: &[Option<DataType>],
        once: bool,
    ) -> Result<Arc<Self>> {
        let mut prepared = Self {
            session,
            sql: sql.to_string(),
            kind,
            parameters: Vec::new(),
            sources: Vec::new(),
            columns: None,
            planned: Mutex::new(None),
            once,
            me: Weak::new(),
        };
        match &prepared.kind {
            Kind::Query(statement, holder) => {
                let scope = scope.map_or_else(|| prepared.session.scope(), Ok)?;
                let (statement, shown) = (statement.clone(), holder.is_none());
                let (plan, parameters) = plan(&scope, &statement, declared).map_err(|e| from_engine(e, sql))?;
                bounds::check_columns(plan.schema().fields().len())?;
                prepared.columns = shown.then(|| columns(&plan));
                prepared.sources = parameter_sources(&statement, parameters.len());
                prepared.parameters = parameters;
                if prepared.parameters.is_empty() && !scope.is_momentary() {
                    prepared.planned = Mutex::new(Some((scope.snapshot.clone(), plan, scope.notices())));
                }
            }
            Kind::Declaration(declaration) => prepared.columns = declaration.shows().map(text_columns),
            Kind::Command(Command::Show(name)) => prepared.columns = Some(text_columns(spelled(name))),
            Kind::Command(Command::ShowAll) => prepared.columns = Some(all_settings(&[]).schema()),
            Kind::Command(Command::Fetch { cursor, shown: true, .. }) => {
                prepared.columns = prepared.session.cursor_columns(cursor);
            }
            Kind::Command(_) | Kind::Empty => {}
        }
        Ok(Arc::new_cyclic(|me| Self { me: me.clone(), ..prepared }))
    }

    async fn query(&self, statement: &Arc<Statement>, holder: Option<&Holder>, parameters: Vec<Parameter>) -> Result<Outcome> {
        if let Some(Holder { name, hold }) = holder {
            self.session.check_cursor(name, *hold)?;
        }
        if parameters.len() != self.parameters.len() {
            let wanted = self.parameters.len();
            return Err(Error::fix(
                codes::PARAMETERS,
                format!("the statement has {wanted} parameters, {} were given", parameters.len()),
            ));
        }
        // Before planning: what it shows of sessions shows this statement, and a cancel that comes meanwhile is not lost.
        let interrupt = self.session.started(&self.sql);
        let Some(me) = self.me.upgrade() else { return Err(Error::bug(codes::INTERNAL, "the statement has ended")) };
        let statement = statement.clone();
        let make = move || me.work(&statement, &parameters);
        let ((schema, notices), batches) = run::run(&self.session, interrupt, make, holder.is_some()).await?;
        let batches = run::sealed(batches);
        let Some(Holder { name, hold }) = holder else { return Ok(Outcome::Rows { schema, batches, notices }) };
        self.session.open_cursor(name, *hold, schema, batches);
        Ok(Outcome::Done { tag: "DECLARE CURSOR".into(), notices })
    }

    /// The plan of one execution: on a thread for it.
    fn work(&self, statement: &Statement, parameters: &[Parameter]) -> Result<Work> {
        let scope = self.session.scope()?;
        let planned = self.planned.lock().take();
        let (plan, notices) = match planned {
            Some((snapshot, plan, notices)) if self.once || Arc::ptr_eq(&snapshot, &scope.snapshot) => (plan, notices),
            _ => {
                let declared: Vec<_> = self.parameters.iter().cloned().map(Some).collect();
                let (plan, _) = plan(&scope, statement, &declared).map_err(|e| from_engine(e, &self.sql))?;
                (plan, scope.notices())
            }
        };
        let notices = self.session.heard(notices);
        let plan = bind(plan, &self.parameters, parameters).map_err(|e| from_engine(e, &self.sql))?;
        let schema = self.columns.clone().unwrap_or_else(|| columns(&plan));
        if columns(&plan).fields().iter().map(|f| f.data_type()).ne(schema.fields().iter().map(|f| f.data_type())) {
            return Err(Error::retry(codes::NOT_SUPPORTED, "cached plan must not change result type")
                .hint("A table's columns have changed: prepare the statement again."));
        }
        let explain = matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_));
        Ok(Work { sql: self.sql.clone(), scope, plan, schema, notices, explain })
    }

    /// Hands a declaration on, beside cancel and the statement timeout.
    async fn declare(&self, declaration: &Declaration) -> Result<Outcome> {
        // Others see its kind and its name, whatever else stands in the text.
        let mut interrupt = self.session.started(&format!("{declaration:?}"));
        let done = self.session.engine.control.execute(&self.session.facts.principal, declaration.clone());
        let outcome = interrupt.or(done).await.and_then(|outcome| outcome);
        self.session.facts.running.lock().active = false;
        let control::Outcome { notices, text } = outcome?;
        if declaration.shows().is_none() {
            return Ok(Outcome::Done { tag: declaration.tag().into(), notices });
        }
        let mut shown = Rows::new(&[("text", system::Kind::Text)]);
        shown.push(vec![text.into()]);
        rows_as(shown, self.columns.clone())
    }

    async fn run(&self, parameters: Vec<Parameter>) -> Result<Outcome> {
        self.session.check_block(&self.kind)?;
        match &self.kind {
            Kind::Empty => Ok(Outcome::Empty),
            Kind::Query(statement, holder) => self.query(statement, holder.as_ref(), parameters).await,
            Kind::Declaration(declaration) => self.declare(declaration).await,
            Kind::Command(Command::Show(name)) => {
                let Some(value) = self.session.show(name) else {
                    let error = Error::fix(codes::UNKNOWN_SETTING, format!("unrecognized configuration parameter \"{name}\""));
                    return Err(error.hint("SHOW ALL lists the settings of a session; SHOW SOURCES the sources."));
                };
                let mut shown = Rows::new(&[("setting", system::Kind::Text)]);
                shown.push(vec![value.into()]);
                rows_as(shown, self.columns.clone())
            }
            Kind::Command(Command::Fetch { cursor, rows, shown }) => {
                let interrupt = self.session.started(&self.sql);
                self.session.fetch(cursor, *rows, *shown, interrupt).await
            }
            Kind::Command(Command::ShowAll) => rows(all_settings(&self.session.inner.lock().variables.all())),
            Kind::Command(command) => self.session.command(command),
        }
    }
}

#[async_trait]
impl PreparedStatement for Prepared {
    fn parameter_types(&self) -> &[DataType] {
        &self.parameters
    }

    fn parameter_source(&self, at: usize) -> &str {
        self.sources.get(at).copied().unwrap_or("")
    }

    fn columns(&self) -> Option<SchemaRef> {
        self.columns.clone()
    }

    async fn execute(&self, parameters: Vec<Parameter>) -> Result<Outcome> {
        let done = AssertUnwindSafe(self.run(parameters)).catch_unwind().await;
        done.unwrap_or_else(|payload| Err(unwound(payload))).map_err(|error| {
            self.session.facts.running.lock().active = false;
            self.session.failed(error)
        })
    }
}

fn text_columns(name: &str) -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(name, DataType::Utf8View, true)]))
}

fn all_settings(values: &[(String, String)]) -> Rows {
    let mut rows =
        Rows::new(&[("name", system::Kind::Text), ("setting", system::Kind::Text), ("description", system::Kind::Text)]);
    values.iter().for_each(|(name, value)| rows.push(vec![spelled(name).into(), value.clone().into(), "".into()]));
    rows
}

fn rows(rows: Rows) -> Result<Outcome> {
    rows_as(rows, None)
}

/// Rows under the names of `schema`, which has the same types.
fn rows_as(rows: Rows, schema: Option<SchemaRef>) -> Result<Outcome> {
    let batch = rows.batch().map_err(|e| from_engine(e, ""))?;
    let schema = schema.unwrap_or_else(|| batch.schema());
    let batch = RecordBatch::try_new(schema.clone(), batch.columns().to_vec());
    let batch = batch.map_err(|e| Error::bug(codes::INTERNAL, "rows do not fit their columns").caused_by(e));
    Ok(Outcome::Rows { schema, batches: futures::stream::iter([batch]).boxed(), notices: Vec::new() })
}

/// Plans a query; gives the types of its parameters, declared or inferred.
fn plan(
    scope: &Scope,
    statement: &Statement,
    declared: &[Option<DataType>],
) -> datafusion::common::Result<(LogicalPlan, Vec<DataType>)> {
    let count = rewrite::parameter_count(statement);
    let mut known: Vec<Option<DataType>> = (0..count).map(|at| declared.get(at).cloned().flatten()).collect();
    for (number, kind) in rewrite::cast_parameters(statement) {
        if let Some(slot) = known.get_mut(number.wrapping_sub(1))
            && slot.is_none()
        {
            *slot = scope.data_type(&kind).map(parameter_type);
        }
    }
    let fields = |known: &[Option<DataType>]| {
        known.iter().map(|kind| kind.clone().map(|kind| Arc::new(Field::new("", kind, true)) as FieldRef)).collect::<Vec<_>>()
    };
    if let Some((single, arrays)) = rewrite::with_elements(statement)
        && arrays.iter().any(|number| known.get(number - 1).is_some_and(Option::is_none))
    {
        let mut found = scope.plan(single, fields(&known))?.get_parameter_types()?;
        for number in arrays {
            let element = found.remove(&format!("${number}")).flatten().map_or(DataType::Utf8, parameter_type);
            if let Some(slot) = known.get_mut(number - 1).filter(|slot| slot.is_none()) {
                *slot = Some(DataType::new_list(element, true));
            }
        }
    }
    let plan = scope.plan(statement.clone(), fields(&known))?;
    if known.iter().all(Option::is_some) {
        return Ok((scope.typed(plan)?, known.into_iter().flatten().collect()));
    }
    let found = plan.get_parameter_types()?;
    for (at, slot) in known.iter_mut().enumerate().filter(|(_, slot)| slot.is_none()) {
        let inferred = found.get(&format!("${}", at + 1)).cloned().flatten();
        *slot = Some(parameter_type(inferred.unwrap_or(DataType::Utf8)));
    }
    let plan = scope.plan(statement.clone(), fields(&known))?;
    Ok((scope.typed(plan)?, known.into_iter().flatten().collect()))
}

/// `$1::uuid` and its kin, which were put into calls before.
fn parameter_sources(statement: &Statement, count: usize) -> Vec<&'static str> {
    let mut sources = vec![""; count];
    for (number, name) in rewrite::named_parameters(statement) {
        if let Some(source) = sources.get_mut(number.wrapping_sub(1)) {
            *source = name;
        }
    }
    sources
}

/// The type in which a parameter is asked for, when `inferred` is what stands beside it.
fn parameter_type(inferred: DataType) -> DataType {
    match inferred {
        DataType::Utf8View | DataType::LargeUtf8 | DataType::Null => DataType::Utf8,
        DataType::BinaryView | DataType::LargeBinary => DataType::Binary,
        // As wide as can be: `price = $1` must not round the parameter to the column's scale.
        DataType::Decimal128(_, scale) => DataType::Decimal128(38, scale.max(10)),
        DataType::Decimal32(_, scale) | DataType::Decimal64(_, scale) => DataType::Decimal128(38, scale.max(10)),
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone),
        DataType::UInt8 | DataType::UInt16 | DataType::UInt32 | DataType::UInt64 => DataType::Int64,
        DataType::Dictionary(_, values) => parameter_type(*values),
        kind => kind,
    }
}

fn bind(plan: LogicalPlan, types: &[DataType], values: &[Parameter]) -> datafusion::common::Result<LogicalPlan> {
    if types.is_empty() {
        return Ok(plan);
    }
    let mut scalars = Vec::with_capacity(values.len());
    for (kind, value) in types.iter().zip(values) {
        let scalar = if value.is_empty() { ScalarValue::try_from(kind)? } else { ScalarValue::try_from_array(value, 0)? };
        let scalar = if scalar.data_type() == *kind { scalar } else { scalar.cast_to(kind)? };
        scalars.push(scalar.into());
    }
    plan.with_param_values(ParamValues::List(scalars))
}

/// The result's columns: shown names, and the source's type where a column is passed through as it is.
fn columns(plan: &LogicalPlan) -> SchemaRef {
    if matches!(plan, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
        return text_columns("QUERY PLAN");
    }
    let through = passed_through(plan);
    let field = |(at, field): (usize, &FieldRef)| {
        // Postgres has no unsigned types: counts and ranks are bigint.
        let kind = match field.data_type() {
            DataType::UInt64 | DataType::UInt32 => DataType::Int64,
            kind => kind.clone(),
        };
        let made = Field::new(names::shown(field.name()), kind, true);
        let source = field.metadata().get(SOURCE_TYPE_KEY).filter(|_| through.get(at).copied().unwrap_or(true));
        match source {
            Some(source) => made.with_metadata(HashMap::from([(SOURCE_TYPE_KEY.to_string(), source.clone())])),
            None => made,
        }
    };
    Arc::new(Schema::new(plan.schema().fields().iter().enumerate().map(field).collect::<Vec<_>>()))
}

/// Per output column whether it is a plain column: casts and functions must not keep the source's type name.
fn passed_through(plan: &LogicalPlan) -> Vec<bool> {
    fn plain(expr: &Expr) -> bool {
        match expr {
            Expr::Column(_) => true,
            Expr::Alias(alias) => plain(&alias.expr),
            // They say the type of what they make.
            Expr::ScalarFunction(function) => keeps_source_type(function.name()),
            _ => false,
        }
    }
    match plan {
        LogicalPlan::Projection(projection) => projection.expr.iter().map(plain).collect(),
        LogicalPlan::Sort(sort) => passed_through(&sort.input),
        LogicalPlan::Limit(limit) => passed_through(&limit.input),
        LogicalPlan::SubqueryAlias(alias) => passed_through(&alias.input),
        LogicalPlan::Distinct(datafusion::logical_expr::Distinct::All(input)) => passed_through(input),
        LogicalPlan::Union(union) => union.inputs.first().map(|input| passed_through(input)).unwrap_or_default(),
        _ => Vec::new(),
    }
}
