//! `smartbuild`, thin over its library.

use std::process::ExitCode;

fn main() -> ExitCode {
    smartbuild::cli::main()
}
