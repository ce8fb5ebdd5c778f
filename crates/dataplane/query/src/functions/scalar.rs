//! The frame of our scalar functions: a name, how the result's type follows from the arguments, and the work on arrays.

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use datafusion::prelude::cast;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The result's type, from the arguments' fields and the constants among them.
pub(super) type TypeOf = fn(&[FieldRef], &[Option<&ScalarValue>]) -> Result<DataType>;
/// The result for arguments as arrays of equal length.
pub(super) type Work = fn(&[ArrayRef], &[FieldRef], &DataType) -> Result<ArrayRef>;

pub(super) struct Function {
    name: &'static str,
    signature: Signature,
    type_of: TypeOf,
    work: Work,
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
pub(super) fn simplified(name: &'static str, type_of: TypeOf, work: Work, simplify: fn(&DataType) -> Simplified) -> ScalarUDF {
    ScalarUDF::from(Function { name, signature: any_arguments(), type_of, work, simplify })
}

fn any_arguments() -> Signature {
    Signature::one_of(vec![TypeSignature::Nullary, TypeSignature::VariadicAny], Volatility::Immutable)
}

/// A function of any arguments, always the same for the same ones.
pub(super) fn function(name: &'static str, type_of: TypeOf, work: Work) -> ScalarUDF {
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
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = types.iter().map(|kind| Arc::new(Field::new("", kind.clone(), true))).collect();
        (self.type_of)(&fields, &vec![None; fields.len()])
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let kind = (self.type_of)(args.arg_fields, args.scalar_arguments)?;
        Ok(Arc::new(Field::new(self.name, kind, true)))
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
        let made = (self.work)(&arrays, &args.arg_fields, args.return_field.data_type())?;
        if scalar { Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?)) } else { Ok(ColumnarValue::Array(made)) }
    }
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
