//! The agent's own memory.

#![expect(unsafe_code, reason = "no library wraps malloc_trim(3) and mallopt(3)")]

/// Returns freed memory to the kernel: reading the kernel's BTF takes a hundred times what the agent needs later.
pub(crate) fn release_memory() {
    // SAFETY: malloc_trim(3) is thread-safe and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}

/// Has all threads share one heap. What they allocate at the same time is little, and each heap keeps some memory that is
/// free.
pub(crate) fn share_one_heap() {
    // SAFETY: mallopt(3) sets a number for heaps that are made later.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}
