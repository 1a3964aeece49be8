//! The program as a user meets it: exact across kills and threads, clear about bad input, honest about what it found.

#[cfg(test)]
mod adapters;
mod bad_input;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod conversations;
#[cfg(test)]
mod default_run;
#[cfg(test)]
mod embed;
#[cfg(test)]
mod evaluation;
#[cfg(test)]
mod exactness;
#[cfg(test)]
mod generation;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod lineage;
#[cfg(test)]
mod mixtures;
#[cfg(test)]
mod models;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod sweeps;
#[cfg(test)]
mod tracking;
