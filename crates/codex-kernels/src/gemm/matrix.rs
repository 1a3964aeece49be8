//! The matrices of a product: strided views whose bounds are checked once, when they are made.

use half::{bf16, f16};
use rayon::prelude::*;
use thiserror::Error;

use crate::gemm::elements::{Elements, ElementsMut};

/// Why a product was refused; nothing has been written then.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum GemmError {
    /// A slice ends before the last element of its matrix.
    #[error("a {rows} x {cols} matrix with row stride {row_stride} does not fit in a slice of {found} elements")]
    SliceTooShort {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Elements from the start of one row to the start of the next.
        row_stride: usize,
        /// Length of the slice.
        found: usize,
    },
    /// Rows would overlap.
    #[error("a row stride of {row_stride} is shorter than a row of {cols} columns")]
    RowsOverlap {
        /// Columns of the matrix.
        cols: usize,
        /// Elements from the start of one row to the start of the next.
        row_stride: usize,
    },
    /// The shapes of the operands and of the output are not `m x k`, `k x n` and `m x n`.
    #[error("cannot multiply {a:?} by {b:?} into {out:?} (rows, columns)")]
    Shapes {
        /// Rows and columns of the left operand.
        a: (usize, usize),
        /// Rows and columns of the right operand.
        b: (usize, usize),
        /// Rows and columns of the output.
        out: (usize, usize),
    },
    /// The bias has not one element per column of the output.
    #[error("a bias of {found} elements for {expected} columns")]
    BiasLength {
        /// Columns of the output.
        expected: usize,
        /// Length of the bias.
        found: usize,
    },
    /// The residual ends before the last element of the output's layout.
    #[error("a residual of {found} elements where the output's layout needs {expected}")]
    ResidualLength {
        /// Elements up to the last one of the output.
        expected: usize,
        /// Length of the residual.
        found: usize,
    },
    /// Sums cannot be kept in an output of bf16: each addition would be rounded.
    #[error("cannot accumulate into an output of bf16")]
    AccumulatesBf16,
}

/// Elements from the first to the last of a matrix, or why a slice cannot hold it.
fn extent(len: usize, rows: usize, cols: usize, row_stride: usize) -> Result<usize, GemmError> {
    if rows == 0 || cols == 0 {
        return Ok(0);
    }
    if row_stride < cols {
        return Err(GemmError::RowsOverlap { cols, row_stride });
    }
    let needed = (rows - 1).checked_mul(row_stride).and_then(|start| start.checked_add(cols));
    needed.filter(|needed| *needed <= len).ok_or(GemmError::SliceTooShort { rows, cols, row_stride, found: len })
}

/// A read-only row-major matrix, or the transpose of one.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// From the first element to the last.
    elements: Elements<'a>,
    /// Rows in memory.
    stored_rows: usize,
    /// Columns in memory.
    stored_cols: usize,
    row_stride: usize,
    is_transposed: bool,
}

impl<'a> View<'a> {
    /// A `rows x cols` matrix whose rows follow each other without gaps.
    ///
    /// # Errors
    /// [`GemmError::SliceTooShort`].
    pub fn new(elements: impl Into<Elements<'a>>, rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::with_row_stride(elements, rows, cols, cols)
    }

    /// A `rows x cols` matrix whose rows start `row_stride` elements apart, such as a range of columns of a wider one.
    ///
    /// # Errors
    /// [`GemmError::SliceTooShort`] or [`GemmError::RowsOverlap`].
    pub fn with_row_stride(elements: impl Into<Elements<'a>>, rows: usize, cols: usize, row_stride: usize) -> Result<Self, GemmError> {
        let elements = elements.into();
        let elements = elements.first(extent(elements.len(), rows, cols, row_stride)?);
        Ok(Self { elements, stored_rows: rows, stored_cols: cols, row_stride, is_transposed: false })
    }

    /// The transpose, of the same memory.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { is_transposed: !self.is_transposed, ..self }
    }

    /// Rows, after the transposition if there is one.
    #[must_use]
    pub fn rows(&self) -> usize {
        if self.is_transposed { self.stored_cols } else { self.stored_rows }
    }

    /// Columns, after the transposition if there is one.
    #[must_use]
    pub fn cols(&self) -> usize {
        if self.is_transposed { self.stored_rows } else { self.stored_cols }
    }

    /// Whether columns, not rows, are contiguous.
    pub(crate) fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// The same matrix with each element rounded to f16.
    pub(crate) fn in_half(&self) -> Half {
        let rounded = |value: f32| f16::from_f32(value).to_f32();
        let elements = match self.elements {
            Elements::F32(elements) => elements.par_iter().with_min_len(MIN_ROUNDED).map(|&value| rounded(value)).collect(),
            Elements::Bf16(elements) => elements.par_iter().with_min_len(MIN_ROUNDED).map(|value| rounded(value.to_f32())).collect(),
        };
        Half {
            elements,
            stored_rows: self.stored_rows,
            stored_cols: self.stored_cols,
            row_stride: self.row_stride,
            is_transposed: self.is_transposed,
        }
    }

    /// The elements, from the first to the last, and how far apart their rows start.
    pub(crate) fn stored(&self) -> (Elements<'a>, usize) {
        (self.elements, self.row_stride)
    }
}

/// Elements that a task rounds at least.
const MIN_ROUNDED: usize = 1 << 14;

/// A matrix of its own, whose elements are f16 numbers.
pub(crate) struct Half {
    elements: Vec<f32>,
    stored_rows: usize,
    stored_cols: usize,
    row_stride: usize,
    is_transposed: bool,
}

impl Half {
    pub(crate) fn view(&self) -> View<'_> {
        let Self { stored_rows, stored_cols, row_stride, is_transposed, .. } = *self;
        View { elements: Elements::F32(&self.elements), stored_rows, stored_cols, row_stride, is_transposed }
    }
}

/// A row-major matrix to write to.
#[derive(Debug)]
pub struct ViewMut<'a> {
    elements: ElementsMut<'a>,
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> ViewMut<'a> {
    /// A `rows x cols` matrix whose rows follow each other without gaps.
    ///
    /// # Errors
    /// [`GemmError::SliceTooShort`].
    pub fn new(elements: impl Into<ElementsMut<'a>>, rows: usize, cols: usize) -> Result<Self, GemmError> {
        Self::with_row_stride(elements, rows, cols, cols)
    }

    /// A `rows x cols` matrix whose rows start `row_stride` elements apart; what lies between them is left alone.
    ///
    /// # Errors
    /// [`GemmError::SliceTooShort`] or [`GemmError::RowsOverlap`].
    pub fn with_row_stride(elements: impl Into<ElementsMut<'a>>, rows: usize, cols: usize, row_stride: usize) -> Result<Self, GemmError> {
        let elements = elements.into();
        extent(elements.len(), rows, cols, row_stride)?;
        Ok(Self { elements, rows, cols, row_stride })
    }

    /// Rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from the start of one row to the start of the next.
    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// The rows, from the first to the last, of the type that the elements have; none where a row has no element.
    pub(crate) fn into_rows(self) -> RowsMut<'a> {
        let (rows, cols, row_stride) = (if self.cols == 0 { 0 } else { self.rows }, self.cols, self.row_stride);
        match self.elements {
            ElementsMut::F32(elements) => RowsMut::F32(rows_of(elements, rows, cols, row_stride)),
            ElementsMut::Bf16(elements) => RowsMut::Bf16(rows_of(elements, rows, cols, row_stride)),
        }
    }
}

/// The rows of an output.
pub(crate) enum RowsMut<'a> {
    F32(Vec<&'a mut [f32]>),
    Bf16(Vec<&'a mut [bf16]>),
}

/// The rows of a matrix.
pub(crate) fn rows_of<T>(elements: &mut [T], rows: usize, cols: usize, row_stride: usize) -> Vec<&mut [T]> {
    elements.chunks_mut(row_stride.max(1)).take(rows).map(move |row| &mut row[..cols]).collect()
}

/// What is done with the product as it is written: `out = [out +] a b [+ bias] [+ residual]`, added in this order
/// and as f32; an output of bf16 is rounded once, at the end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    pub(crate) accumulates: bool,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) residual: Option<Elements<'a>>,
}

impl<'a> Epilogue<'a> {
    /// Replaces what is in the output, which is not read.
    #[must_use]
    pub fn store() -> Self {
        Self::default()
    }

    /// Adds to what is in the output, which must be f32.
    #[must_use]
    pub fn accumulate() -> Self {
        Self { accumulates: true, ..Self::default() }
    }

    /// Also adds `bias`, one element per column, to each row.
    #[must_use]
    pub fn with_bias(self, bias: &'a [f32]) -> Self {
        Self { bias: Some(bias), ..self }
    }

    /// Also adds `residual`, a matrix with the shape and the row stride of the output, of f32 or bf16 elements.
    #[must_use]
    pub fn with_residual(self, residual: impl Into<Elements<'a>>) -> Self {
        Self { residual: Some(residual.into()), ..self }
    }

    /// Refuses a bias or residual that does not cover the output, and an output that cannot be added to.
    pub(crate) fn check(&self, out: &ViewMut<'_>) -> Result<(), GemmError> {
        let (rows, cols, row_stride) = (out.rows, out.cols, out.row_stride);
        if self.accumulates && matches!(out.elements, ElementsMut::Bf16(_)) {
            return Err(GemmError::AccumulatesBf16);
        }
        if let Some(bias) = self.bias.filter(|bias| bias.len() != cols) {
            return Err(GemmError::BiasLength { expected: cols, found: bias.len() });
        }
        if let Some(residual) = self.residual {
            let expected = if rows == 0 || cols == 0 { 0 } else { (rows - 1) * row_stride + cols };
            if residual.len() < expected {
                return Err(GemmError::ResidualLength { expected, found: residual.len() });
            }
        }
        Ok(())
    }
}
