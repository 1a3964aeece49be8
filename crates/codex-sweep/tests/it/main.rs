//! A sweep as it is read, run by several processes, handed to schedulers and looked at.

// `cfg(test)` tells clippy that the functions beside the tests are tests too.
#[cfg(test)]
mod absent;
#[cfg(test)]
mod fakes;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod kubernetes;
#[cfg(test)]
mod launchers;
#[cfg(test)]
mod local;
#[cfg(test)]
mod optuna;
#[cfg(test)]
mod results;
#[cfg(test)]
mod sweep_file;
#[cfg(test)]
mod trials;
