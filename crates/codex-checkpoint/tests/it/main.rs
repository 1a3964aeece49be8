//! A store of checkpoints as a run uses it and as damage, attacks, full disks and kills find it.

#[cfg(test)]
mod sample;
#[cfg(test)]
mod tally;

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
mod crash;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod disk;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod fault;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod kill;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod power;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod survivors;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod trace;
#[cfg(target_os = "linux")]
#[cfg(test)]
mod writers;
