//! vzd
