//! What a caller of the kernels can get wrong.

/// Why a kernel refused its arguments; nothing has been written when it is returned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RowsError {
    /// A slice does not fit the others.
    #[error("`{argument}` of {operation} has {found} elements, expected {expected}")]
    Length {
        /// The kernel.
        operation: &'static str,
        /// The slice.
        argument: &'static str,
        /// Elements it must have.
        expected: usize,
        /// Elements it has.
        found: usize,
    },
    /// A slice that holds whole rows does not.
    #[error("`{argument}` of {operation} has {found} elements, expected a multiple of {width}")]
    NotRows {
        /// The kernel.
        operation: &'static str,
        /// The slice.
        argument: &'static str,
        /// Elements of a row.
        width: usize,
        /// Elements it has.
        found: usize,
    },
    /// Rows without elements.
    #[error("{operation} expects rows of at least one element")]
    ZeroWidth {
        /// The kernel.
        operation: &'static str,
    },
    /// An id names no row of its table.
    #[error("id {id} at position {position} of {operation} is outside the table of {n_rows} rows")]
    IdOutOfRange {
        /// The kernel.
        operation: &'static str,
        /// The id.
        id: u32,
        /// Where it stands.
        position: usize,
        /// Rows of the table.
        n_rows: usize,
    },
    /// A number outside its range.
    #[error("`{setting}` of {operation} is {found}, expected {expected}")]
    Setting {
        /// The kernel.
        operation: &'static str,
        /// The number's name.
        setting: &'static str,
        /// Its range in words.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// An activation that has no version of this kind.
    #[error("{operation} is not defined for {activation}")]
    Unsupported {
        /// The kernel.
        operation: &'static str,
        /// The activation's name.
        activation: &'static str,
    },
}

/// An error unless a slice has the expected length.
pub(crate) fn check_length(operation: &'static str, argument: &'static str, expected: usize, found: usize) -> Result<(), RowsError> {
    if expected == found { Ok(()) } else { Err(RowsError::Length { operation, argument, expected, found }) }
}

/// How many rows of `width` a slice of `found` elements holds.
pub(crate) fn count_rows(operation: &'static str, argument: &'static str, width: usize, found: usize) -> Result<usize, RowsError> {
    match found.checked_rem(width) {
        None => Err(RowsError::ZeroWidth { operation }),
        Some(0) => Ok(found / width),
        Some(_) => Err(RowsError::NotRows { operation, argument, width, found }),
    }
}

/// An error unless every id names one of `n_rows` rows.
pub(crate) fn check_ids(operation: &'static str, ids: &[u32], n_rows: usize) -> Result<(), RowsError> {
    match ids.iter().position(|&id| id as usize >= n_rows) {
        None => Ok(()),
        Some(position) => Err(RowsError::IdOutOfRange { operation, id: ids[position], position, n_rows }),
    }
}

/// An error unless a setting is in its range.
pub(crate) fn check_setting(
    operation: &'static str,
    setting: &'static str,
    expected: &'static str,
    found: f64,
    is_good: bool,
) -> Result<(), RowsError> {
    if is_good { Ok(()) } else { Err(RowsError::Setting { operation, setting, expected, found }) }
}
