//! `smartbuild`, thin over its library.

fn main() {}
