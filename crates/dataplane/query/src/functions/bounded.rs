//! The engine's own functions, held to the memory that one call may make, to an end when nobody waits, and to names that do not grow with the
//! tree below a call.

use super::scalar::bounded_name;
use super::strings::{MADE_BYTES_MAX, too_long};
use crate::threads::pause;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{ExprSchema, Result, ScalarValue};
use datafusion::logical_expr::interval_arithmetic::Interval;
use datafusion::logical_expr::preimage::PreimageResult;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ExpressionPlacement, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, StructFieldMapping,
};
use datafusion::prelude::SessionContext;
use std::sync::Arc;

/// Of what is made at once, this much needs no second look.
const CHUNK_BYTES: u64 = 32 << 20;

/// Known to the engine by their types: they stay as they are.
const KNOWN_BY_TYPE: [&str; 5] = ["get_field", "named_struct", "struct", "power", "log"];

/// Puts a bounded function in the place of each that is registered so far.
pub(super) fn bind(context: &SessionContext) {
    for (name, function) in context.state().scalar_functions() {
        // The map has aliases, too.
        if name == function.name() && !KNOWN_BY_TYPE.contains(&name.as_str()) {
            context.register_udf(ScalarUDF::new_from_impl(Bounded { inner: function.clone() }));
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl Bounded {
    fn of(&self) -> &dyn ScalarUDFImpl {
        self.inner.inner().as_ref()
    }

    /// At most how many bytes each row's value takes, for functions whose values are larger than their arguments together.
    fn most(&self, args: &[ColumnarValue], rows: usize) -> Result<Option<Vec<u64>>> {
        let name = self.inner.name();
        let sizes = |at: usize| args.get(at).map_or(Ok(vec![0; rows]), |arg| sizes(arg, rows));
        let numbers = |at: usize, other: i64| args.get(at).map_or(Ok(Some(vec![other; rows])), |arg| numbers(arg, rows));
        Ok(Some(match name {
            "replace" => {
                let (texts, from, to) = (sizes(0)?, sizes(1)?, sizes(2)?);
                (0..rows)
                    .map(|row| times(texts[row].checked_div(from[row]).unwrap_or(0), to[row]).saturating_add(texts[row]))
                    .collect()
            }
            // Between any two characters there may be a match, and the groups of all of them together are no longer than the text.
            "regexp_replace" => {
                let (texts, to) = (sizes(0)?, sizes(2)?);
                (0..rows).map(|row| times(texts[row] + 1, to[row] * 2 + 1)).collect()
            }
            "concat" | "concat_ws" => {
                let parts = (0..args.len()).map(sizes).collect::<Result<Vec<_>>>()?;
                let between = |row: usize| if name == "concat_ws" { times(parts[0][row], args.len() as u64) } else { 0 };
                (0..rows).map(|row| parts.iter().map(|part| part[row]).sum::<u64>() + between(row)).collect()
            }
            "array_repeat" => {
                let (Some(counts), items) = (numbers(1, 0)?, sizes(0)?) else { return Ok(None) };
                (0..rows).map(|row| times(counts[row].max(0) as u64, items[row].max(8))).collect()
            }
            "range" | "generate_series" => {
                let (from, to) = if args.len() == 1 { (None, numbers(0, 0)?) } else { (numbers(0, 0)?, numbers(1, 0)?) };
                let (Some(to), Some(step)) = (to, numbers(2, 1)?) else { return Ok(None) };
                let from = from.unwrap_or_else(|| vec![0; rows]);
                let count = |row: usize| from[row].abs_diff(to[row]) / step[row].unsigned_abs().max(1);
                (0..rows).map(|row| times(count(row), 8)).collect()
            }
            _ => return Ok(None),
        }))
    }

    /// Some rows at a time, and no more than may be made together.
    fn in_parts(&self, args: ScalarFunctionArgs, most: &[u64]) -> Result<ColumnarValue> {
        let (mut parts, mut made, mut from): (Vec<ArrayRef>, usize, usize) = (Vec::new(), 0, 0);
        while from < most.len() {
            let mut bytes = most[from];
            let mut upto = from + 1;
            while upto < most.len() && bytes.saturating_add(most[upto]) <= CHUNK_BYTES {
                bytes += most[upto];
                upto += 1;
            }
            if bytes > MADE_BYTES_MAX as u64 {
                return Err(too_long());
            }
            pause();
            let slice = |arg: &ColumnarValue| match arg {
                ColumnarValue::Array(array) => ColumnarValue::Array(array.slice(from, upto - from)),
                scalar => scalar.clone(),
            };
            let part = ScalarFunctionArgs {
                args: args.args.iter().map(slice).collect(),
                arg_fields: args.arg_fields.clone(),
                number_rows: upto - from,
                return_field: args.return_field.clone(),
                config_options: args.config_options.clone(),
            };
            let part = self.of().invoke_with_args(part)?.into_array(upto - from)?;
            made += part.to_data().get_slice_memory_size()?;
            if made > MADE_BYTES_MAX {
                return Err(too_long());
            }
            parts.push(part);
            from = upto;
        }
        let parts: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
        Ok(ColumnarValue::Array(concat(&parts)?))
    }
}

fn times(left: u64, right: u64) -> u64 {
    left.saturating_mul(right)
}

/// Bytes of each row's value.
fn sizes(arg: &ColumnarValue, rows: usize) -> Result<Vec<u64>> {
    let array = match arg {
        ColumnarValue::Scalar(value) => return Ok(vec![size_of_scalar(value)?; rows]),
        ColumnarValue::Array(array) => array,
    };
    let each = |of: &dyn Fn(usize) -> usize| (0..rows).map(|row| of(row) as u64).collect();
    Ok(match array.data_type() {
        DataType::Utf8 => each(&|row| array.as_string::<i32>().value_length(row) as usize),
        DataType::LargeUtf8 => each(&|row| array.as_string::<i64>().value_length(row) as usize),
        DataType::Utf8View => each(&|row| array.as_string_view().value(row).len()),
        _ => {
            let whole = array.to_data().get_slice_memory_size()? / array.len().max(1);
            vec![whole as u64; rows]
        }
    })
}

fn size_of_scalar(value: &ScalarValue) -> Result<u64> {
    if let Some(text) = value.try_as_str() {
        return Ok(text.map_or(0, str::len) as u64);
    }
    Ok(value.to_array()?.to_data().get_slice_memory_size()? as u64)
}

/// Each row's number; None when they are none.
fn numbers(arg: &ColumnarValue, rows: usize) -> Result<Option<Vec<i64>>> {
    if !arg.data_type().is_integer() {
        return Ok(None);
    }
    let array = cast(&arg.clone().into_array(rows)?, &DataType::Int64)?;
    let array = array.as_primitive::<Int64Type>();
    Ok(Some(array.iter().map(|number| number.unwrap_or(0)).collect()))
}

impl ScalarUDFImpl for Bounded {
    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        pause();
        let scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        match self.most(&args.args, rows)? {
            Some(most) if most.iter().fold(0, |sum: u64, row| sum.saturating_add(*row)) > CHUNK_BYTES => match scalar {
                true if most[0] > MADE_BYTES_MAX as u64 => Err(too_long()),
                true => self.of().invoke_with_args(args),
                false => self.in_parts(args, &most),
            },
            _ => self.of().invoke_with_args(args),
        }
    }
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        match bounded_name(self.inner.name(), args) {
            Some(name) => Ok(name),
            None => self.of().schema_name(args),
        }
    }
    fn name(&self) -> &str {
        self.of().name()
    }
    fn aliases(&self) -> &[String] {
        self.of().aliases()
    }
    fn signature(&self) -> &Signature {
        self.of().signature()
    }
    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.of().return_type(types)
    }
    fn with_updated_config(&self, config: &ConfigOptions) -> Option<ScalarUDF> {
        self.of().with_updated_config(config)
    }
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        pause();
        self.of().return_field_from_args(args)
    }
    #[allow(deprecated)] // the engine still asks
    fn is_nullable(&self, args: &[Expr], schema: &dyn ExprSchema) -> bool {
        self.of().is_nullable(args, schema)
    }
    fn is_strict(&self) -> bool {
        self.of().is_strict()
    }
    fn simplify(&self, args: Vec<Expr>, info: &SimplifyContext) -> Result<ExprSimplifyResult> {
        self.of().simplify(args, info)
    }
    fn preimage(&self, args: &[Expr], literal: &Expr, info: &SimplifyContext) -> Result<PreimageResult> {
        self.of().preimage(args, literal, info)
    }
    fn short_circuits(&self) -> bool {
        self.of().short_circuits()
    }
    fn conditional_arguments<'a>(&self, args: &'a [Expr]) -> Option<(Vec<&'a Expr>, Vec<&'a Expr>)> {
        self.of().conditional_arguments(args)
    }
    fn evaluate_bounds(&self, input: &[&Interval]) -> Result<Interval> {
        self.of().evaluate_bounds(input)
    }
    fn propagate_constraints(&self, interval: &Interval, inputs: &[&Interval]) -> Result<Option<Vec<Interval>>> {
        self.of().propagate_constraints(interval, inputs)
    }
    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.of().output_ordering(inputs)
    }
    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.of().preserves_lex_ordering(inputs)
    }
    fn strictly_order_preserving(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.of().strictly_order_preserving(inputs)
    }
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.of().coerce_types(types)
    }
    fn struct_field_mapping(&self, literals: &[Option<ScalarValue>]) -> Option<StructFieldMapping> {
        self.of().struct_field_mapping(literals)
    }
    fn documentation(&self) -> Option<&Documentation> {
        self.of().documentation()
    }
    fn placement(&self, args: &[ExpressionPlacement]) -> ExpressionPlacement {
        self.of().placement(args)
    }
}
