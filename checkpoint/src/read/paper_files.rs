//! Which files of a folder in the paper's conventions hold weights.

use std::path::Path;

use super::folder::no_weights;
use super::weight_files::is_of_any_name;
use crate::format::{is_state_dict, CheckpointError};

/// How the names of weights usually begin.
const USUAL: [&str; 3] = ["consolidated", "model", "pytorch_model"];

/// The weight files among the files `names` of folder `dir`: the safetensors files, or if there are none, the PyTorch
/// files; those with a usual name, or if there are none, all. They may hold any tensors each.
///
/// # Errors
/// If there are none, or if the weights are cut in a way that PyTorch has to undo first.
pub(super) fn paper_files(dir: &Path, names: &[String]) -> Result<Vec<String>, CheckpointError> {
    if let Some(name) = names.iter().find(|name| is_part_of_matrices(name)) {
        return Err(CheckpointError::ModelParallel { path: dir.join(name) });
    }
    let is_pytorch = |name: &str| is_state_dict(Path::new(name));
    let is_usual = |name: &str| USUAL.iter().any(|begin| name.starts_with(begin));
    let found = |is_weights: &dyn Fn(&str) -> bool| -> Vec<String> {
        names.iter().filter(|name| is_weights(name)).cloned().collect()
    };
    let sets = [
        found(&|name| is_of_any_name(name) && is_usual(name)),
        found(&is_of_any_name),
        found(&|name| is_pytorch(name) && is_usual(name)),
        found(&is_pytorch),
    ];
    let files = sets.into_iter().find(|files| !files.is_empty()).unwrap_or_default();
    match names.iter().find(|name| name.ends_with(".distcp")) {
        _ if !files.is_empty() => Ok(files),
        Some(name) => Err(CheckpointError::Distributed { dir: dir.into(), path: dir.join(name) }),
        None => Err(no_weights(dir, names)),
    }
}

/// Whether `name` is a file of Meta's model parallelism: `consolidated.NN.*`, of which every file has a part of each
/// matrix. The first of them, `consolidated.00.*`, may also be the only one.
fn is_part_of_matrices(name: &str) -> bool {
    let number = name.strip_prefix("consolidated.").and_then(|rest| rest.split_once('.'));
    number.is_some_and(|(number, extension)| {
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        let is_weights = ["pth", "pt", "bin", "safetensors"].contains(&extension);
        is_number && is_weights && number.bytes().any(|digit| digit != b'0')
    })
}
