//! Functions that Postgres's clients expect and DataFusion lacks or does otherwise.

mod bounded;
mod casts;
mod forms;
mod json;
mod jsonb;
mod numbers;
mod operators;
mod patterns;
mod reading;
mod scalar;
mod session;
mod single;
mod strings;
mod templates;
mod times;

pub(crate) use operators::{FunctionsByName, ordered};
pub(crate) use scalar::keeps_source_type;
pub(crate) use session::Setter;

use crate::engine::DATABASE;
use crate::plan::Scope;
use arrow::array::{Array, AsArray, Int32Array, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

pub(crate) const VERSION: &str = concat!("PostgreSQL 15.0 (Mainstem ", env!("CARGO_PKG_VERSION"), ")");

/// Adds the functions that are the same for all sessions.
pub(crate) fn register(context: &SessionContext) {
    bounded::bind(context);
    own().into_iter().for_each(|function| context.register_udf(function));
    context.register_udaf(single::function());
    context.register_udf(ScalarUDF::from(FormatType { signature: Signature::any(2, Volatility::Immutable) }));
    for (name, value) in fixed() {
        let signature = Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Stable);
        context.register_udf(ScalarUDF::from(Constant { name: name.to_string(), signature, value }));
    }
}

fn own() -> Vec<ScalarUDF> {
    let mut all = forms::all();
    all.extend(casts::all());
    all.extend(json::all());
    all.extend(jsonb::all());
    all.extend(numbers::all());
    all.extend(patterns::all());
    all.extend(strings::all());
    all.extend(templates::all());
    all.extend(times::all());
    all
}

/// What operators mean; before the engine's own planners.
pub(crate) fn operators(functions: FunctionsByName) -> Arc<dyn ExprPlanner> {
    Arc::new(operators::Operators::new(functions))
}

/// Our functions, for who builds calls of them.
pub(crate) fn by_name() -> FunctionsByName {
    Arc::new(own().into_iter().map(|function| (function.name().to_string(), Arc::new(function))).collect())
}

/// What tools ask about objects that we do not have.
fn fixed() -> Vec<(&'static str, ScalarValue)> {
    let none = || ScalarValue::Utf8(None);
    let yes = || ScalarValue::Boolean(Some(true));
    let no = || ScalarValue::Boolean(Some(false));
    vec![
        ("obj_description", none()),
        ("col_description", none()),
        ("shobj_description", none()),
        ("pg_get_viewdef", none()),
        ("pg_get_indexdef", none()),
        (crate::system::RELATION_NAME, none()),
        ("pg_get_triggerdef", none()),
        ("pg_get_ruledef", none()),
        ("pg_get_functiondef", none()),
        ("pg_get_function_sqlbody", none()),
        ("pg_get_function_result", none()),
        ("pg_get_function_arguments", none()),
        ("pg_get_function_identity_arguments", none()),
        ("pg_get_serial_sequence", none()),
        ("pg_tablespace_location", none()),
        ("inet_server_addr", none()),
        ("inet_client_addr", none()),
        ("pg_function_is_visible", yes()),
        ("pg_type_is_visible", yes()),
        ("pg_opclass_is_visible", yes()),
        ("pg_operator_is_visible", yes()),
        ("pg_ts_config_is_visible", yes()),
        ("pg_conversion_is_visible", yes()),
        ("pg_collation_is_visible", yes()),
        ("has_column_privilege", yes()),
        ("has_function_privilege", yes()),
        ("has_sequence_privilege", yes()),
        ("pg_has_role", yes()),
        ("pg_is_in_recovery", no()),
        ("row_security_active", no()),
        ("inet_server_port", ScalarValue::Int32(None)),
        // Everything here is UTF8.
        ("pg_encoding_to_char", ScalarValue::Utf8(Some("UTF8".into()))),
        ("pg_client_encoding", ScalarValue::Utf8(Some("UTF8".into()))),
        // There are no such locks, so all of this session's are free.
        ("pg_advisory_unlock_all", ScalarValue::Utf8(Some(String::new()))),
    ]
}

/// `format_type(oid, modifier)`: the type's name as SQL writes it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct FormatType {
    signature: Signature,
}

impl ScalarUDFImpl for FormatType {
    fn name(&self) -> &str {
        "format_type"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let number = |at: usize| -> Result<Int32Array> {
            let Some(value) = args.args.get(at) else { return Ok(Int32Array::new_null(args.number_rows)) };
            let array = value.cast_to(&DataType::Int32, None)?.into_array(args.number_rows)?;
            Ok(array.as_primitive::<Int32Type>().clone())
        };
        let (oids, modifiers) = (number(0)?, number(1)?);
        let mut names = StringBuilder::new();
        for (oid, modifier) in oids.iter().zip(&modifiers) {
            names.append_option(oid.map(|oid| match crate::system::format_type(oid, modifier.unwrap_or(-1)) {
                Some(name) => name,
                None => "???".to_string(),
            }));
        }
        Ok(ColumnarValue::Array(Arc::new(names.finish())))
    }
}

/// Functions whose value belongs to the session.
pub(crate) fn of_session(scope: &Scope, name: &str) -> Option<Arc<ScalarUDF>> {
    let text = |value: &str| ScalarValue::Utf8(Some(value.to_string()));
    let value = match name {
        "version" => text(VERSION),
        "current_database" | "current_catalog" => text(DATABASE),
        "current_user" | "session_user" | "user" | "current_role" => text(&scope.session.principal.0),
        "current_schema" => match scope.search_path.iter().find(|schema| crate::system::schema_exists(scope, schema)) {
            Some(schema) => text(schema),
            None => ScalarValue::Utf8(None),
        },
        "current_schemas" => texts(crate::system::visible_schemas(scope)),
        "pg_get_userbyid" => return Some(crate::system::roles_by_oid(scope)),
        "pg_get_indexdef" | "pg_get_constraintdef" | "pg_get_viewdef" => return Some(crate::system::definitions(scope, name)),
        crate::system::RELATION_NAME => return Some(crate::system::relation_names(scope)),
        "pg_relation_size" | "pg_table_size" | "pg_total_relation_size" | "pg_indexes_size" | "pg_database_size" => {
            return Some(crate::system::sizes(scope, name));
        }
        "pg_backend_pid" => ScalarValue::Int32(Some(scope.session.client.number)),
        "current_setting" => return Some(Arc::new(ScalarUDF::from(CurrentSetting::new(scope)))),
        "to_regtype" => return Some(crate::system::types_by_name()),
        _ => return session::of(scope, name),
    };
    Some(Arc::new(ScalarUDF::from(Constant { name: name.to_string(), signature: any_arguments(), value })))
}

fn texts(values: Vec<String>) -> ScalarValue {
    let mut list = ListBuilder::new(StringBuilder::new());
    list.append_value(values.into_iter().map(Some));
    ScalarValue::List(Arc::new(list.finish()))
}

fn any_arguments() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::Any(1), TypeSignature::Any(2)], Volatility::Stable)
}

/// A function with one value for the whole statement, whatever its arguments.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Constant {
    name: String,
    signature: Signature,
    value: ScalarValue,
}

impl ScalarUDFImpl for Constant {
    fn name(&self) -> &str {
        &self.name
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.value.data_type())
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Scalar(self.value.clone()))
    }
}

/// `current_setting(name [, missing_ok])`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct CurrentSetting {
    signature: Signature,
    settings: Vec<(String, String)>,
}

impl CurrentSetting {
    fn new(scope: &Scope) -> Self {
        Self { signature: any_arguments(), settings: scope.variables.all() }
    }
}

impl ScalarUDFImpl for CurrentSetting {
    fn name(&self) -> &str {
        "current_setting"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let names = match args.args.first() {
            Some(names) => names.cast_to(&DataType::Utf8, None)?.into_array(args.number_rows)?,
            None => return Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None))),
        };
        let mut values = StringBuilder::new();
        let names = names.as_any().downcast_ref::<arrow::array::StringArray>();
        for name in names.into_iter().flatten() {
            let found = name.and_then(|name| self.settings.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)));
            values.append_option(found.map(|(_, value)| value));
        }
        Ok(ColumnarValue::Array(Arc::new(values.finish())))
    }
}
