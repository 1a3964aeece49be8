//! Threads of the pool that stay awake between short parallel parts.
//!
//! A worker of rayon that finds nothing to do goes to sleep within microseconds, and waking it costs tens of them. Work that is a chain of short
//! parallel parts, such as the decoding of one token, pays that in every part.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rayon::Yield;

/// While it lives, the other threads of the pool of the thread that made it look for work instead of going to sleep. They give way to any other
/// program and thread that wants the core; on an idle machine they keep it busy. On a thread of no pool it does nothing.
#[derive(Debug)]
pub struct Awake(Arc<AtomicBool>);

impl Awake {
    /// Keeps them awake from now on.
    #[must_use = "they go to sleep when it is dropped"]
    pub fn keep() -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let here = rayon::current_thread_index();
        if here.is_some() && rayon::current_num_threads() > 1 {
            let is_over = Arc::clone(&is_over);
            // Each thread gets one of its own, which no other can take: the thread that is waited for never waits here.
            rayon::spawn_broadcast(move |context| {
                while Some(context.index()) != here && !is_over.load(Ordering::Relaxed) {
                    if rayon::yield_now() != Some(Yield::Executed) {
                        thread::yield_now();
                    }
                }
            });
        }
        Self(is_over)
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn threads_that_are_kept_awake_work_and_are_let_go() {
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let (sums, kept, is_over) = pool.install(|| {
                let awake = Awake::keep();
                // One in the other, as when two models work at a time.
                let _again = Awake::keep();
                let sums: Vec<u64> = (0..100).map(|_| (0..1000_u64).into_par_iter().sum()).collect();
                // This thread's own parts, which end at once.
                while rayon::yield_now() == Some(Yield::Executed) {}
                (sums, Arc::strong_count(&awake.0), Arc::clone(&awake.0))
            });
            assert_eq!(sums, [499_500; 100]);
            assert_eq!(kept, if threads > 1 { 2 } else { 1 }, "the other threads look for work");
            let is_free = || Arc::strong_count(&is_over) == 1;
            assert!(
                (0..10_000_000).any(|_| is_free() || {
                    thread::yield_now();
                    false
                }),
                "they are let go"
            );
        }
        drop(Awake::keep());
    }
}
