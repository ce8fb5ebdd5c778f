//! Functions that Postgres's clients expect and DataFusion lacks or does otherwise.

use crate::engine::DATABASE;
use crate::plan::Scope;
use arrow::array::{Array, ListBuilder, StringBuilder};
use arrow::datatypes::DataType;
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

pub(crate) const VERSION: &str = concat!("PostgreSQL 15.0 (Mainstem ", env!("CARGO_PKG_VERSION"), ")");

/// Adds the functions that are the same for all sessions.
pub(crate) fn register(_context: &SessionContext) {}

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
        "pg_backend_pid" => ScalarValue::Int32(Some(scope.session.client.number)),
        "current_setting" => return Some(Arc::new(ScalarUDF::from(CurrentSetting::new(scope)))),
        _ => return None,
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
        Self { signature: any_arguments(), settings: scope.settings.clone() }
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

