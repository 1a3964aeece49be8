//! What a caller of the quantized products can get wrong.

use crate::error::RowsError;
use crate::gemm::GemmError;

/// Why a matrix was not quantized or a product was refused; nothing has been written then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizedError {
    /// A matrix without elements.
    #[error("cannot quantize a {inputs} x {outputs} matrix: it has no elements")]
    NoElements {
        /// Rows of the matrix.
        inputs: usize,
        /// Columns of the matrix.
        outputs: usize,
    },
    /// A number that no scale fits: NaN, an infinity, or one whose scale would be an infinity of f16.
    #[error("the weight of input {input} for output {output} is {found}, expected a number below {limit} in magnitude")]
    Weight {
        /// Its row.
        input: usize,
        /// Its column.
        output: usize,
        /// What it is.
        found: f32,
        /// What its magnitude must be below.
        limit: f32,
    },
    /// A slice does not fit the matrix.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The product with dequantized weights was refused.
    #[error(transparent)]
    Product(#[from] GemmError),
}
