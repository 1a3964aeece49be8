//! Vectors whose elements are about to be written: filling them with zeros first would cost a tenth of a training step.

use crate::element::Element;

/// A vector of `len` elements that hold anything.
///
/// # Panics
/// Where no memory can hold as many.
pub fn unset<T: Element>(len: usize) -> Vec<T> {
    #[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)))]
    {
        let mut values = Vec::<T>::with_capacity(len);
        // SAFETY: the assembly is given the pointer and may write what it points to, so the compiler has to take it that it did: from there on
        // the elements hold values, unknown ones. That nothing is written only means that they are what the pages held, which the system does
        // not change under a process that owns them. Any bits are a number of either type of `Element`, which nobody else can
        // implement, and `len` elements are within the capacity.
        unsafe {
            std::arch::asm!("/* {0} */", in(reg) values.as_mut_ptr(), options(nostack, preserves_flags));
            values.set_len(len);
        }
        values
    }
    #[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri))))]
    vec![T::default(); len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_read_and_written() {
        for len in [0, 1, 1000, 1 << 20] {
            let mut values = unset::<f32>(len);
            assert_eq!(values.len(), len);
            // Whatever is there stays there.
            let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
            assert!(values.iter().zip(&bits).all(|(value, &bits)| value.to_bits() == bits));
            values.fill(1.5);
            assert!(values.iter().all(|&value| value.to_bits() == 1.5_f32.to_bits()));
        }
    }
}
