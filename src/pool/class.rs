//! Sizes of blocks. What is asked for is rounded up to the next of them:
//!
//! ```text
//!  up to 256 B        in steps of 8 B                        less than 8 B are lost
//!  up to 256 KiB      sixteen steps from 2^n to 2^(n + 1)    less than 1/16 of what was asked for, 6.25 %
//! ```
//!
//! A larger block is no class: it is a mapping of its own, in whole pages of the system.

/// Sizes up to here lie on steps of [`SMALL_STEP`].
const SMALL_MAX: usize = 256;
const SMALL_STEP: usize = 8;
/// Classes up to [`SMALL_MAX`].
const SMALL_CLASSES: usize = SMALL_MAX / SMALL_STEP;
/// Steps between two powers of two.
const STEPS: usize = 16;
/// Powers of two from [`SMALL_MAX`] to [`CLASS_BYTES_MAX`].
const DOUBLINGS: usize = (CLASS_BYTES_MAX / SMALL_MAX).ilog2() as usize;

/// The largest class, in bytes.
pub(super) const CLASS_BYTES_MAX: usize = 256 * 1024;
/// How many classes there are.
pub(super) const CLASSES: usize = SMALL_CLASSES + STEPS * DOUBLINGS;

/// Which class holds `bytes`; they are at most [`CLASS_BYTES_MAX`].
pub(super) fn class_for(bytes: usize) -> usize {
    let last = bytes.saturating_sub(1);
    if last < SMALL_MAX {
        return last / SMALL_STEP;
    }
    let doubling = last.ilog2() - SMALL_MAX.ilog2();
    let step = last >> (last.ilog2() - STEPS.ilog2()); // from STEPS to 2 * STEPS - 1
    SMALL_CLASSES + STEPS * doubling as usize + step - STEPS
}

/// The size of a class, in bytes.
pub(super) const fn class_bytes(class: usize) -> usize {
    if class < SMALL_CLASSES {
        return (class + 1) * SMALL_STEP;
    }
    let (doubling, step) = ((class - SMALL_CLASSES) / STEPS, (class - SMALL_CLASSES) % STEPS);
    (STEPS + step + 1) << (doubling + (SMALL_MAX / STEPS).ilog2() as usize)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_size_is_its_own_class_and_the_next_byte_is_the_next_one() {
        for class in 0..CLASSES {
            assert_eq!(class_for(class_bytes(class)), class);
            if class + 1 < CLASSES {
                assert_eq!(class_for(class_bytes(class) + 1), class + 1);
            }
        }
        assert_eq!(class_bytes(CLASSES - 1), CLASS_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn little_is_lost(bytes in 1..=CLASS_BYTES_MAX) {
            let lost = class_bytes(class_for(bytes)) - bytes;
            prop_assert!(lost < SMALL_STEP || (bytes > SMALL_MAX && 16 * lost < bytes), "{lost} of {bytes}");
        }
    }
}
