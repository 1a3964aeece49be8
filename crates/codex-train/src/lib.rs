//! The training loop: one linear function from a plan to a trained model.
