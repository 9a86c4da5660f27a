//! See [`paas::cli`].

fn main() -> std::process::ExitCode {
    paas::cli::main()
}
