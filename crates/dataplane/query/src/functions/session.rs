//! Functions that reach into the session: settings that are set by a SELECT, sleeping, stopping others.

use crate::codes;
use crate::plan::Scope;
use crate::session::SessionFacts;
use arrow::array::{Array, AsArray, BooleanArray, StringArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use async_trait::async_trait;
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::async_udf::{AsyncScalarUDF, AsyncScalarUDFImpl};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use mainstem_env::Clock;
use mainstem_types::Error;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

/// Sets a setting (`None`: to its default; `true`: to the end of the transaction) and gives what it is then.
pub(crate) type Setter = Arc<dyn Fn(&str, Option<String>, bool) -> mainstem_types::Result<String> + Send + Sync>;

/// The function of this name, for the scope's session.
pub(super) fn of(scope: &Scope, name: &str) -> Option<Arc<ScalarUDF>> {
    match name {
        "set_config" => Some(Arc::new(ScalarUDF::from(SetConfig { signature: volatile(), set: scope.setter.clone() }))),
        "pg_cancel_backend" => Some(Arc::new(ScalarUDF::from(Cancel { signature: volatile(), sessions: scope.sessions() }))),
        "pg_sleep" => {
            let sleep = Sleep { signature: volatile(), clock: scope.engine.env.clock.clone() };
            Some(Arc::new(AsyncScalarUDF::new(Arc::new(sleep)).into_scalar_udf()))
        }
        _ => None,
    }
}

fn volatile() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Volatile)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// These are made for one statement: each is only itself.
macro_rules! one_of_a_kind {
    ($name:ty, $shown:literal) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($shown)
            }
        }
        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.signature == other.signature
            }
        }
        impl Eq for $name {}
        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                $shown.hash(state);
            }
        }
    };
}

/// `set_config(name, value, is_local)`.
struct SetConfig {
    signature: Signature,
    set: Setter,
}
one_of_a_kind!(SetConfig, "set_config");

impl ScalarUDFImpl for SetConfig {
    fn name(&self) -> &str {
        "set_config"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [names, values, local] = args.args.as_slice() else {
            return Err(DataFusionError::Plan(
                "No function matches set_config: it takes a name, a value and whether it is local".into(),
            ));
        };
        let column = |value: &ColumnarValue, kind| value.cast_to(&kind, None)?.into_array(args.number_rows);
        let (names, values, local) =
            (column(names, DataType::Utf8)?, column(values, DataType::Utf8)?, column(local, DataType::Boolean)?);
        let mut made = StringBuilder::new();
        for row in 0..names.len() {
            let text = |array: &dyn Array| array.is_valid(row).then(|| array.as_string::<i32>().value(row).to_string());
            let name = text(&names).ok_or_else(|| external(Error::fix(codes::INVALID_SETTING, "SET requires parameter name")))?;
            let local = local.is_valid(row) && local.as_boolean().value(row);
            made.append_value((self.set)(&name.to_lowercase(), text(&values), local).map_err(external)?);
        }
        Ok(ColumnarValue::Array(Arc::new(made.finish())))
    }
}

/// `pg_cancel_backend(pid)`: stops the statement that a session runs.
struct Cancel {
    signature: Signature,
    sessions: Vec<Arc<SessionFacts>>,
}
one_of_a_kind!(Cancel, "pg_cancel_backend");

impl ScalarUDFImpl for Cancel {
    fn name(&self) -> &str {
        "pg_cancel_backend"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let pids = match args.args.first() {
            Some(pids) => cast(&pids.clone().into_array(args.number_rows)?, &DataType::Int64)?,
            None => return Err(DataFusionError::Plan("No function matches pg_cancel_backend()".into())),
        };
        let cancel = |pid: i64| match self.sessions.iter().find(|session| i64::from(session.client.number) == pid) {
            Some(session) => {
                session.cancel();
                true
            }
            None => false,
        };
        let done = pids.as_primitive::<Int64Type>().iter().map(|pid| pid.map(cancel));
        Ok(ColumnarValue::Array(Arc::new(done.collect::<BooleanArray>())))
    }
}

/// `pg_sleep(seconds)`: waits without holding a thread.
struct Sleep {
    signature: Signature,
    clock: Arc<dyn Clock>,
}
one_of_a_kind!(Sleep, "pg_sleep");

impl ScalarUDFImpl for Sleep {
    fn name(&self) -> &str {
        "pg_sleep"
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }
    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        Err(DataFusionError::NotImplemented("pg_sleep here: it can stand in SELECT only".into()))
    }
}

#[async_trait]
impl AsyncScalarUDFImpl for Sleep {
    async fn invoke_async_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let Some(seconds) = args.args.first() else { return Err(DataFusionError::Plan("No function matches pg_sleep()".into())) };
        let seconds = cast(&seconds.clone().into_array(rows)?, &DataType::Float64)?;
        let mut made = Vec::with_capacity(rows);
        for seconds in seconds.as_primitive::<Float64Type>() {
            if let Some(seconds) = seconds.filter(|seconds| *seconds > 0.0) {
                self.clock.sleep(Duration::from_secs_f64(seconds.min(1e9))).await;
            }
            made.push(seconds.map(|_| ""));
        }
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(made))))
    }
}
