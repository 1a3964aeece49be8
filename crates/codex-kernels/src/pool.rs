//! An allocator that keeps large blocks for the next time: a training step asks for the same sizes again and again, and without it a tenth of the
//! time is the system handing out fresh pages.
//!
//! A program declares it as its `#[global_allocator]` and gives it a cap; with a cap of 0, as at the start, it keeps nothing and the system's
//! allocator does all the work. Blocks are kept by size class, sixteen classes to a power of two.
//!
//! Whatever is kept counts as memory of the process. So that a program whose sizes change, as between training and saving, does not hold both, a
//! size that is not there lets go of others, until what is in use and what is kept together are three sixteenths above the most that was ever in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Smallest size that is kept: below it the system's allocator does not ask for pages.
const SMALLEST: usize = 1 << 16;
/// Largest size that is kept.
const LARGEST: usize = 1 << 30;
/// Classes to a power of two.
const STEPS: usize = 16;
const CLASSES: usize = (LARGEST.trailing_zeros() - SMALLEST.trailing_zeros()) as usize * STEPS + 1;
/// Where blocks start: at a cache line, which is a vector register of the widest path.
const ALIGNMENT: usize = 64;

/// The allocator; see the module.
#[derive(Debug)]
pub struct Pool {
    classes: [Mutex<Kept>; CLASSES],
    cap: AtomicUsize,
    used: AtomicUsize,
    most_used: AtomicUsize,
    kept: AtomicUsize,
    most_kept: AtomicUsize,
    reused: AtomicU64,
    fresh: AtomicU64,
}

/// What a pool has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatistics {
    /// Most bytes, of sizes that are kept, in use at one time.
    pub most_used_bytes: usize,
    /// Most bytes that may be kept.
    pub cap_bytes: usize,
    /// Bytes kept now.
    pub kept_bytes: usize,
    /// Most bytes kept at one time.
    pub most_kept_bytes: usize,
    /// Blocks handed out again.
    pub reused: u64,
    /// Blocks of a size that is kept, for which the system was asked.
    pub fresh: u64,
}

/// The first of a list of free blocks, each of which starts with the address of the next.
#[derive(Debug)]
struct Kept(Option<NonNull<Link>>);

// SAFETY: the blocks of a list belong to the pool alone while they are in it, whichever thread put them there.
unsafe impl Send for Kept {}

#[derive(Debug)]
struct Link(Option<NonNull<Self>>);

impl Pool {
    /// A pool that keeps nothing until it is given a cap.
    #[expect(clippy::new_without_default, reason = "it is made for a static")]
    pub const fn new() -> Self {
        Self {
            classes: [const { Mutex::new(Kept(None)) }; CLASSES],
            cap: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            most_used: AtomicUsize::new(0),
            kept: AtomicUsize::new(0),
            most_kept: AtomicUsize::new(0),
            reused: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
        }
    }

    /// Sets how many bytes may be kept, and lets go of what is above. What was in use before counts no more: the most in use is what is now.
    pub fn set_cap(&self, bytes: usize) {
        give_large_blocks_their_own_pages();
        self.cap.store(bytes, Ordering::Relaxed);
        self.most_used.store(self.used.load(Ordering::Relaxed), Ordering::Relaxed);
        if self.kept.load(Ordering::Relaxed) > bytes {
            self.release();
        }
    }

    /// Gives everything that is kept back to the system: before a phase that asks for other sizes.
    pub fn release(&self) {
        self.release_while(|_| true);
    }

    /// Gives kept blocks back, the largest first, as long as `is_too_much` says so of the bytes kept.
    fn release_while(&self, is_too_much: impl Fn(usize) -> bool) {
        for class in (0..CLASSES).rev() {
            while is_too_much(self.kept.load(Ordering::Relaxed))
                && let Some(block) = self.take(class)
            {
                // SAFETY: the block was in the list, so it is free and of this class's layout.
                unsafe { System.dealloc(block.as_ptr().cast(), layout_of(size_of_class(class))) };
            }
        }
    }

    /// Notes a block that is handed out; for one that the pool does not have, makes room.
    fn hand_out(&self, class: usize) -> Option<NonNull<Link>> {
        let size = size_of_class(class);
        let used = self.used.fetch_add(size, Ordering::Relaxed) + size;
        let most = self.most_used.fetch_max(used, Ordering::Relaxed).max(used);
        if let Some(block) = self.take(class) {
            self.reused.fetch_add(1, Ordering::Relaxed);
            return Some(block);
        }
        self.fresh.fetch_add(1, Ordering::Relaxed);
        self.release_while(|kept| kept > 0 && used + kept > most + most / 16 * 3);
        None
    }

    /// What has happened so far.
    pub fn statistics(&self) -> PoolStatistics {
        PoolStatistics {
            most_used_bytes: self.most_used.load(Ordering::Relaxed),
            cap_bytes: self.cap.load(Ordering::Relaxed),
            kept_bytes: self.kept.load(Ordering::Relaxed),
            most_kept_bytes: self.most_kept.load(Ordering::Relaxed),
            reused: self.reused.load(Ordering::Relaxed),
            fresh: self.fresh.load(Ordering::Relaxed),
        }
    }

    fn class(&self, class: usize) -> MutexGuard<'_, Kept> {
        self.classes[class].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kept block of a class.
    fn take(&self, class: usize) -> Option<NonNull<Link>> {
        let mut list = self.class(class);
        let block = list.0?;
        // SAFETY: a block in the list starts with its link, and the lock is held.
        list.0 = unsafe { block.read() }.0;
        drop(list);
        self.kept.fetch_sub(size_of_class(class), Ordering::Relaxed);
        Some(block)
    }

    /// Keeps a free block, or answers that there is no room for it.
    fn keep(&self, class: usize, block: NonNull<Link>) -> bool {
        let (size, cap) = (size_of_class(class), self.cap.load(Ordering::Relaxed));
        let reserve = |kept: usize| kept.checked_add(size).filter(|kept| *kept <= cap);
        let Ok(before) = self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve) else { return false };
        self.most_kept.fetch_max(before + size, Ordering::Relaxed);
        let mut list = self.class(class);
        // SAFETY: the caller gives up the block, which is larger than a link and aligned to a cache line.
        unsafe { block.write(Link(list.0)) };
        list.0 = Some(block);
        true
    }
}

/// One in a static is never dropped; another gives back what it keeps.
impl Drop for Pool {
    fn drop(&mut self) {
        self.release();
    }
}

/// Tells the C library to ask the system for each large block by itself and to give it back when it is freed. By default it moves that bound up
/// as blocks are freed, and then holds the gaps between those that are left.
fn give_large_blocks_their_own_pages() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    {
        // SAFETY: it sets a number of the C library's allocator, which locks for it. A refusal leaves the default, which is slower, not wrong.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20) };
    }
}

/// The class of a size that is kept, or `None`. Its blocks have at least that size, and at most a sixteenth more.
fn class_of(layout: Layout) -> Option<usize> {
    let size = layout.size();
    if !(SMALLEST..=LARGEST).contains(&size) || layout.align() > ALIGNMENT {
        return None;
    }
    let power = size.ilog2() - SMALLEST.ilog2();
    let base = SMALLEST << power;
    let step = (size - base).div_ceil(base / STEPS);
    Some(power as usize * STEPS + step)
}

fn size_of_class(class: usize) -> usize {
    let base = SMALLEST << (class / STEPS);
    base + class % STEPS * (base / STEPS)
}

/// The layout that a class's blocks have for the system.
fn layout_of(size: usize) -> Layout {
    // SAFETY: the alignment is a power of two, and no class's size is near the end of the address space.
    unsafe { Layout::from_size_align_unchecked(size, ALIGNMENT) }
}

// SAFETY: a size that is kept is always asked of the system, and returned to it, as its class's layout, whether the pool keeps anything at the
// time or not; a block is handed out once until it comes back, since lists are changed under their lock. Other sizes go to the system as they are.
unsafe impl GlobalAlloc for Pool {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise about the layout is passed on.
            return unsafe { System.alloc(layout) };
        };
        if let Some(block) = self.hand_out(class) {
            return block.as_ptr().cast();
        }
        // SAFETY: a class's size is not zero.
        unsafe { System.alloc(layout_of(size_of_class(class))) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise about the layout is passed on.
            return unsafe { System.alloc_zeroed(layout) };
        };
        if let Some(block) = self.hand_out(class) {
            let block = block.as_ptr().cast::<u8>();
            // SAFETY: the block is free and at least that long.
            unsafe { block.write_bytes(0, layout.size()) };
            return block;
        }
        // SAFETY: a class's size is not zero.
        unsafe { System.alloc_zeroed(layout_of(size_of_class(class))) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: the caller's promise about the block is passed on; its layout was passed on when it was made.
            return unsafe { System.dealloc(block, layout) };
        };
        self.used.fetch_sub(size_of_class(class), Ordering::Relaxed);
        #[expect(clippy::cast_ptr_alignment, reason = "a block of a class starts at a cache line")]
        let link = NonNull::new(block.cast::<Link>());
        let is_kept = link.is_some_and(|block| self.keep(class, block));
        if !is_kept {
            // SAFETY: the block was made with its class's layout.
            unsafe { System.dealloc(block, layout_of(size_of_class(class))) };
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is not zero and does not overflow when it is rounded up to the alignment.
        let new_layout = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (class_of(layout), class_of(new_layout)) {
            // SAFETY: the caller's promise about the block is passed on, and neither size is one that is kept.
            (None, None) => unsafe { System.realloc(block, layout, new_size) },
            (Some(old), Some(new)) if old == new => block,
            _ => {
                // SAFETY: the new block is as long as the shorter of both sizes at least, is another block, and the old one is given up after.
                unsafe {
                    let new_block = self.alloc(new_layout);
                    if !new_block.is_null() {
                        new_block.copy_from_nonoverlapping(block, layout.size().min(new_size));
                        self.dealloc(block, layout);
                    }
                    new_block
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_their_sizes_and_waste_a_sixteenth_at_most() {
        let mut size = SMALLEST;
        while size <= LARGEST {
            for size in [size, size + 1, size + 77, size + size / 8, size * 2 - 1] {
                let Some(class) = class_of(Layout::from_size_align(size, 8).unwrap()) else { continue };
                let found = size_of_class(class);
                assert!(found >= size && found - size <= size / 16, "{size} in {found}");
                assert_eq!(class_of(layout_of(found)), Some(class));
            }
            size *= 2;
        }
        assert_eq!(class_of(Layout::from_size_align(SMALLEST - 1, 8).unwrap()), None);
        assert_eq!(class_of(Layout::from_size_align(LARGEST + 1, 8).unwrap()), None);
        assert_eq!(class_of(Layout::from_size_align(SMALLEST, 128).unwrap()), None);
        assert_eq!(class_of(layout_of(LARGEST)), Some(CLASSES - 1));
    }

    /// Makes a block, fills it, and tells its address.
    fn make(pool: &Pool, size: usize, zeroed: bool) -> *mut u8 {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not zero, and the block is as long as is written.
        unsafe {
            let block = if zeroed { pool.alloc_zeroed(layout) } else { pool.alloc(layout) };
            assert!(!block.is_null());
            if zeroed {
                assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == 0));
            }
            block.write_bytes(7, size);
            block
        }
    }

    fn free(pool: &Pool, block: *mut u8, size: usize) {
        // SAFETY: the tests free each block once, with the size it was made with.
        unsafe { pool.dealloc(block, Layout::from_size_align(size, 8).unwrap()) };
    }

    #[test]
    fn blocks_are_reused_up_to_the_cap_and_zeroed_when_asked() {
        let pool = Pool::new();
        let (size, other) = (100_000, 300_000);
        let first = make(&pool, size, false);
        free(&pool, first, size);
        let statistics = pool.statistics();
        assert_eq!((statistics.fresh, statistics.reused, statistics.kept_bytes), (1, 0, 0));
        assert!(statistics.most_used_bytes >= size);

        pool.set_cap(1 << 20);
        let blocks = [make(&pool, size, false), make(&pool, size, false)];
        for block in blocks {
            free(&pool, block, size);
        }
        let again = make(&pool, size + 10, true);
        assert!(blocks.contains(&again));
        let statistics = pool.statistics();
        assert_eq!((statistics.reused, statistics.fresh), (1, 3));
        assert!(statistics.kept_bytes >= size && statistics.most_kept_bytes >= 2 * size && statistics.cap_bytes == 1 << 20);
        free(&pool, again, size + 10);

        // Above the cap nothing more is kept, and a lower one lets go of everything.
        let many: Vec<*mut u8> = (0..5).map(|_| make(&pool, other, false)).collect();
        for block in many {
            free(&pool, block, other);
        }
        assert!(pool.statistics().kept_bytes <= 1 << 20);
        pool.set_cap(0);
        assert_eq!(pool.statistics().kept_bytes, 0);
    }

    #[test]
    fn another_size_takes_the_place_of_what_is_kept() {
        let pool = Pool::new();
        pool.set_cap(1 << 30);
        let (size, other) = (1 << 20, 3 << 20);
        let all: Vec<*mut u8> = (0..12).map(|_| make(&pool, size, false)).collect();
        for block in all {
            free(&pool, block, size);
        }
        assert_eq!(pool.statistics().kept_bytes, 12 * size);
        // In use and kept together stay within three sixteenths of twelve blocks.
        let others: Vec<*mut u8> = (0..4).map(|_| make(&pool, other, false)).collect();
        assert!(pool.statistics().kept_bytes <= 12 * size / 16 * 3, "{:?}", pool.statistics());
        for block in others {
            free(&pool, block, other);
        }
        assert_eq!(pool.statistics().most_used_bytes, 12 * size);
    }

    #[test]
    fn blocks_grow_and_shrink_with_what_they_hold() {
        let pool = Pool::new();
        pool.set_cap(1 << 24);
        let sizes = [10, 70_000, 70_001, 500_000, 66_000, 100];
        let mut block = make(&pool, sizes[0], false);
        for pair in sizes.windows(2) {
            // SAFETY: the block was made with the first size, and is as long as the second after.
            unsafe {
                block = pool.realloc(block, Layout::from_size_align(pair[0], 8).unwrap(), pair[1]);
                let kept = pair[0].min(pair[1]);
                assert!(std::slice::from_raw_parts(block, kept).iter().all(|&byte| byte == 7), "{pair:?}");
                block.write_bytes(7, pair[1]);
            }
        }
        free(&pool, block, sizes[sizes.len() - 1]);
    }

    #[test]
    fn threads_share_it_without_sharing_a_block() {
        let pool = Pool::new();
        pool.set_cap(1 << 26);
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                let pool = &pool;
                scope.spawn(move || {
                    for turn in 0..300_usize {
                        let size = SMALLEST + turn % 3 * 9_000;
                        let block = make(pool, size, turn % 2 == 0);
                        // SAFETY: the block is as long.
                        unsafe {
                            block.write_bytes(thread, size);
                            std::thread::yield_now();
                            assert!(std::slice::from_raw_parts(block, size).iter().all(|&byte| byte == thread));
                        }
                        free(pool, block, size);
                    }
                });
            }
        });
        let statistics = pool.statistics();
        assert_eq!(statistics.reused + statistics.fresh, 1200);
        pool.release();
        assert_eq!(pool.statistics().kept_bytes, 0);
    }
}
