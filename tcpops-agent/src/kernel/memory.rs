//! Giving memory back.

#![expect(unsafe_code, reason = "no library wraps malloc_trim(3)")]

/// Gives freed memory back to the kernel: reading the kernel's BTF takes a hundred times what the agent needs later.
pub(crate) fn release_memory() {
    // SAFETY: malloc_trim(3) is thread-safe and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}
