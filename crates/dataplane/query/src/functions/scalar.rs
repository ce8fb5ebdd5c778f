//! The frame of our scalar functions: a name, how the result's type follows from the arguments, and the work on arrays.

use super::strings::{MADE_BYTES_MAX, too_long};
use crate::threads::pause;
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::cast;
use mainstem_types::schema::{QUOTIENT, SOURCE_TYPE_KEY};
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The result's type, from the arguments' fields and the constants among them.
pub(super) trait TypeOf: Fn(&[FieldRef], &[Option<&ScalarValue>]) -> Result<DataType> + Send + Sync + 'static {}
impl<F: Fn(&[FieldRef], &[Option<&ScalarValue>]) -> Result<DataType> + Send + Sync + 'static> TypeOf for F {}
/// The result for arguments as arrays of equal length.
pub(super) trait Work: Fn(&[ArrayRef], &[FieldRef], &DataType) -> Result<ArrayRef> + Send + Sync + 'static {}
impl<F: Fn(&[ArrayRef], &[FieldRef], &DataType) -> Result<ArrayRef> + Send + Sync + 'static> Work for F {}

pub(super) struct Function {
    name: &'static str,
    signature: Signature,
    type_of: Box<dyn TypeOf>,
    work: Box<dyn Work>,
    simplify: fn(&DataType) -> Simplified,
}

/// What the optimizer may put in a call's place, by the first argument's type.
pub(super) enum Simplified {
    No,
    /// The argument itself.
    Argument,
    /// A plain cast to the function's type, which filters can be pushed through.
    Cast,
}

/// As `function`, with a simpler form for some arguments.
pub(super) fn simplified(
    name: &'static str,
    type_of: impl TypeOf,
    work: impl Work,
    simplify: fn(&DataType) -> Simplified,
) -> ScalarUDF {
    let (type_of, work) = (Box::new(type_of), Box::new(work));
    ScalarUDF::from(Function { name, signature: any_arguments(), type_of, work, simplify })
}

/// One type, whatever the arguments.
pub(super) fn fixed_type(kind: DataType) -> impl TypeOf {
    move |_: &[FieldRef], _: &[Option<&ScalarValue>]| Ok(kind.clone())
}

/// An error of ours through the engine.
pub(super) fn own_error(error: mainstem_types::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The Postgres type of a function's result where its Arrow type does not say it. `->` gives what it was given.
fn source_type(name: &str, args: &[FieldRef], kind: &DataType) -> Option<&'static str> {
    let given = || match args.first().and_then(|field| field.metadata().get(SOURCE_TYPE_KEY)).map(String::as_str) {
        Some("json") => "json",
        _ => "jsonb",
    };
    match name {
        "pg_uuid" => Some("uuid"),
        "pg_json" | "json_build_object" | "json_build_array" | "to_json" => Some("json"),
        "pg_jsonb" | "jsonb_build_object" | "jsonb_build_array" | "to_jsonb" => Some("jsonb"),
        "pg_json_list" | "pg_json_members" => Some("json"),
        "pg_json_get" | "pg_json_path" => Some(given()),
        "pg_divide" | "pg_avg" if matches!(kind, DataType::Decimal128(_, 20)) => Some(QUOTIENT),
        _ => None,
    }
}

/// Functions whose results have a type of their own; see `source_type`.
pub(crate) fn keeps_source_type(name: &str) -> bool {
    let fields = [];
    source_type(name, &fields, &DataType::Decimal128(38, 20)).is_some()
}

fn any_arguments() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Immutable)
}

/// A function of any arguments, always the same for the same ones.
pub(super) fn function(name: &'static str, type_of: impl TypeOf, work: impl Work) -> ScalarUDF {
    simplified(name, type_of, work, |_| Simplified::No)
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Function {}
impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }
    /// The engine asks for the name of each call at each level above it, and a name holds the names below: a tree that is not shallow is
    /// named by its hash.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        if let Some(name) = bounded_name(self.name, args) {
            return Ok(name);
        }
        let names: Vec<String> = args.iter().map(|arg| arg.schema_name().to_string()).collect();
        Ok(format!("{}({})", self.name, names.join(",")))
    }
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = types.iter().map(|kind| Arc::new(Field::new("", kind.clone(), true))).collect();
        (self.type_of)(&fields, &vec![None; fields.len()])
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = (self.type_of)(args.arg_fields, args.scalar_arguments)?;
        let source = source_type(self.name, args.arg_fields, &kind);
        let field = Field::new(self.name, kind, true);
        Ok(Arc::new(match source {
            Some(source) => field.with_metadata(HashMap::from([(SOURCE_TYPE_KEY.to_string(), source.to_string())])),
            None => field,
        }))
    }
    fn simplify(&self, mut args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let [arg] = args.as_slice() else { return Ok(ExprSimplifyResult::Original(args)) };
        let kind = info.get_data_type(arg)?;
        Ok(match (self.simplify)(&kind) {
            Simplified::No => ExprSimplifyResult::Original(args),
            Simplified::Argument => ExprSimplifyResult::Simplified(args.remove(0)),
            Simplified::Cast => {
                let to = self.return_type(&[kind])?;
                ExprSimplifyResult::Simplified(cast(args.remove(0), to))
            }
        })
    }
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = !args.args.is_empty() && args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let arrays = args.args.iter().map(|arg| arg.clone().into_array(rows)).collect::<Result<Vec<_>>>()?;
        pause();
        let made = (self.work)(&arrays, &args.arg_fields, args.return_field.data_type())?;
        if made.get_buffer_memory_size() > MADE_BYTES_MAX && made.to_data().get_slice_memory_size()? > MADE_BYTES_MAX {
            return Err(too_long());
        }
        if scalar { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)) } else { Ok(ColumnarValue::Array(made)) }
    }
}

/// The name of a call that is not shallow.
pub(super) fn bounded_name(name: &str, args: &[Expr]) -> Option<String> {
    if is_shallow(args, SHALLOW_LEVELS) {
        return None;
    }
    pause();
    let mut hasher = std::hash::DefaultHasher::new();
    args.hash(&mut hasher);
    Some(format!("{name}(#{:016x})", hasher.finish()))
}

/// Levels of calls whose names are spelled out.
const SHALLOW_LEVELS: usize = 4;

fn is_shallow(exprs: &[Expr], levels: usize) -> bool {
    let shallow = |expr: &Expr| {
        let (mut children, Some(below)) = (true, levels.checked_sub(1)) else { return false };
        let _ = expr.apply_children(|child| {
            children = is_shallow(std::slice::from_ref(child), below);
            Ok(if children { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
        });
        children
    };
    exprs.iter().all(shallow)
}

/// The argument at a place.
pub(super) fn argument(arrays: &[ArrayRef], at: usize) -> Result<&ArrayRef> {
    arrays.get(at).ok_or_else(|| DataFusionError::Plan("No function matches: an argument is missing".into()))
}

/// The argument as text, whatever kind of text array it is.
pub(super) fn text_argument(arrays: &[ArrayRef], at: usize) -> Result<StringArray> {
    Ok(arrow::compute::cast(argument(arrays, at)?, &DataType::Utf8)?.as_string::<i32>().clone())
}

pub(super) fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

pub(super) fn mismatch(name: &str, fields: &[FieldRef]) -> DataFusionError {
    let kinds: Vec<_> = fields.iter().map(|field| crate::system::type_name(field)).collect();
    DataFusionError::Plan(format!("No function matches {name}({})", kinds.join(", ")))
}

pub(super) fn text_type(_: &[FieldRef], _: &[Option<&ScalarValue>]) -> Result<DataType> {
    Ok(DataType::Utf8)
}
