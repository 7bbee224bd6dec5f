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
    for home in HOMES {
        println!("cargo::rerun-if-env-changed={home}");
    }
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
    // The linker also searches the folders of LIBRARY_PATH.
    for folder in runtime_folders(&nvcc) {
        println!("cargo::rustc-link-search=native={}", folder.display());
    }
    println!("cargo::rustc-link-lib=static=colm_cuda");
    println!("cargo::rustc-link-lib=dylib=cudart");
    println!("cargo::rustc-link-lib=dylib=stdc++");
    Ok(())
}

/// The environment variables that name a toolkit.
const HOMES: [&str; 2] = ["CUDA_HOME", "CUDA_PATH"];

/// Where installers put the toolkit.
const DEFAULT_HOME: &str = "/usr/local/cuda";

/// The folders of the toolkits that the environment names.
fn named_homes() -> impl Iterator<Item = PathBuf> {
    HOMES.iter().filter_map(env::var_os).map(PathBuf::from)
}

/// nvcc of the toolkit that the environment names, else of the PATH, else of the default toolkit.
fn nvcc() -> PathBuf {
    if let Some(home) = named_homes().next() {
        return home.join("bin/nvcc");
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    folders.push(Path::new(DEFAULT_HOME).join("bin"));
    let mut candidates = folders.iter().map(|folder| folder.join("nvcc"));
    candidates.find(|nvcc| nvcc.is_file()).unwrap_or_else(|| "nvcc".into())
}

/// The folders with the CUDA runtime: of the toolkit of `nvcc`, and of the others.
fn runtime_folders(nvcc: &Path) -> Vec<PathBuf> {
    // The nvcc of a PATH may be a link to that of a toolkit.
    let nvcc = nvcc.canonicalize().unwrap_or_else(|_| nvcc.into());
    let own = nvcc.parent().and_then(Path::parent).map(Path::to_path_buf);
    let mut folders = Vec::new();
    for home in own.into_iter().chain(named_homes()).chain([DEFAULT_HOME.into()]) {
        let candidates = ["lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"];
        let candidates = candidates.iter().map(|folder| home.join(folder));
        folders.extend(candidates.filter(|folder| folder.join("libcudart.so").exists()));
    }
    folders.dedup();
    folders
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
