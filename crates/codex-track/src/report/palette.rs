//! Colors for any number of curves: eight that stay apart for the color-blind, then the same ones dashed and dotted. The style sheet has both schemes.

/// The most curves that look different.
pub(super) const MOST: usize = 24;

const CLASSES: [&str; MOST] = [
    "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k0 dash", "k1 dash", "k2 dash", "k3 dash", "k4 dash", "k5 dash", "k6 dash", "k7 dash",
    "k0 dots", "k1 dots", "k2 dots", "k3 dots", "k4 dots", "k5 dots", "k6 dots", "k7 dots",
];

/// The class of the curve at this place; they begin anew behind [`MOST`].
pub(super) fn class(idx: usize) -> &'static str {
    CLASSES[idx % MOST]
}
