//! What the gate promises, seen from outside: each rule bites, each lint bites, and this workspace keeps them.

mod lints;
mod rules;
