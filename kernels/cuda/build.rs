//! With the feature `cuda`, compiles all kernels with nvcc into one static library: machine code for sm_80 and sm_90a,
//! and PTX for later GPUs. Without the feature it does nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

type Result<T> = std::result::Result<T, String>;

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed=.");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|error| error.to_string())?);
    let nvcc = nvcc();
    let mut objects = Vec::new();
    for source in sources()? {
        let object = out.join(&source).with_extension("o");
        let mut compile = Command::new(&nvcc);
        compile.args(["-std=c++17", "-O3", "-Werror", "all-warnings", "-Xcompiler", "-fPIC"]);
        for (compute, code) in [("80", "sm_80"), ("90a", "sm_90a"), ("80", "compute_80")] {
            compile.arg(format!("-gencode=arch=compute_{compute},code={code}"));
        }
        run(compile.arg("-c").arg(&source).arg("-o").arg(&object))?;
        objects.push(object);
    }
    let library = out.join("libcolm_cuda.a");
    run(Command::new(&nvcc).args(["-lib", "-o"]).arg(&library).args(&objects))?;
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static=colm_cuda");
    println!("cargo::rustc-link-lib=dylib=cudart");
    println!("cargo::rustc-link-lib=dylib=stdc++");
    Ok(())
}

/// nvcc of `$CUDA_HOME`, or of the PATH.
fn nvcc() -> PathBuf {
    match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => "nvcc".into(),
    }
}

/// The sources of the kernels, sorted.
fn sources() -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(".").map_err(|error| format!("kernels/cuda: {error}"))?;
    let paths =
        entries.map(|entry| Ok(entry.map_err(|error| error.to_string())?.file_name().into()));
    let mut sources = paths.collect::<Result<Vec<PathBuf>>>()?;
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    Ok(sources)
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}; see its output above")),
        Err(error) => Err(format!(
            "cannot run {program}: {error}; set CUDA_HOME to a CUDA 12 or 13 toolkit, or build without the \
             feature `cuda`"
        )),
    }
}
