//! The agent's own memory.

#![expect(unsafe_code, reason = "no library wraps malloc_trim(3)")]

/// Returns freed memory to the kernel: reading the kernel's BTF takes a hundred times what the agent needs later.
pub(crate) fn release_memory() {
    // SAFETY: malloc_trim(3) is thread-safe and touches free memory only.
    unsafe { libc::malloc_trim(0) };
}
