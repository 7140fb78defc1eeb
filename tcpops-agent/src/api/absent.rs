//! Fields that answers leave out.

/// For `skip_serializing_if`: a field that has its default is left out.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
