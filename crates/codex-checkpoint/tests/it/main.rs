//! A store of checkpoints as a run uses it and as damage, attacks, full disks and kills find it.

#[cfg(test)]
mod sample;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod store;
