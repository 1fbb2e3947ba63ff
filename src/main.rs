//! `smartbuild`, thin over its library.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    smartbuild::cli::main()
}
