//! Writes the seeds of all targets below a directory: `sitegate-fuzzing fuzz/corpus`. `cargo xtask fuzz --seeds` calls it.

use std::path::PathBuf;
use std::process::ExitCode;

use sitegate_fuzzing::TARGETS;

fn main() -> ExitCode {
    let Some(corpus) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: say where the corpus lies, as in `sitegate-fuzzing fuzz/corpus`");
        return ExitCode::FAILURE;
    };
    match write_seeds(&corpus) {
        Ok(count) => {
            println!("{count} seeds in {}", corpus.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: cannot write below {}: {error}", corpus.display());
            ExitCode::FAILURE
        }
    }
}

fn write_seeds(corpus: &std::path::Path) -> std::io::Result<usize> {
    let mut count = 0;
    for target in TARGETS {
        let directory = corpus.join(target.name);
        std::fs::create_dir_all(&directory)?;
        for (name, bytes) in (target.seeds)() {
            std::fs::write(directory.join(format!("seed-{name}")), bytes)?;
            count += 1;
        }
    }
    Ok(count)
}
