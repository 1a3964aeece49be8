//! A store of checkpoints as a run uses it and as damage, attacks, full disks and kills find it.

#[cfg(test)]
mod sample;

#[cfg(test)]
mod background;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod folder;
#[cfg(test)]
mod store;
#[cfg(test)]
mod traversal;

#[cfg(target_os = "linux")]
#[cfg(test)]
mod child;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod fault;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod kill;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod trace;
