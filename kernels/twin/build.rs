//! Compiles every kernel source as plain C++ against `cpp/cuda_twin.h`.

use std::path::{Path, PathBuf};
use std::{fs, io};

fn main() -> io::Result<()> {
    let mut kernels = sources("../cuda", "cu")?;
    kernels.extend(sources("probes", "cu")?);
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .flag("-xc++")
        .opt_level(2)
        .extra_warnings(true)
        .warnings_into_errors(true)
        // `#pragma unroll` is known to nvcc only.
        .flag("-Wno-unknown-pragmas")
        // Kernels access 16-bit numbers as vectors of words, which nvcc allows.
        .flag("-fno-strict-aliasing")
        // The checks of longjmp reject a switch between stacks.
        .flag("-U_FORTIFY_SOURCE")
        .include("cpp")
        .include("../cuda")
        .files(kernels)
        .files(sources("cpp", "cpp")?)
        .try_compile("colm_kernels_twin")
        .map_err(io::Error::other)
}

/// The files of `folder` with `extension`. Cargo reruns this script if any source in it changes.
fn sources(folder: &str, extension: &str) -> io::Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if ["cu", "cuh", "cpp", "h"].iter().any(|kind| has_extension(&path, kind)) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
        if has_extension(&path, extension) {
            sources.push(path);
        }
    }
    println!("cargo::rerun-if-changed={folder}");
    sources.sort();
    Ok(sources)
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
