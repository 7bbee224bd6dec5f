//! Finds a model: a local folder, or a Hugging Face id.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context, Result};
use colm_checkpoint::check_model_folder;

use super::hub::{self, HubId};

/// Returns the name under which the model is served, and its folder. Fetches a model of the hub if it is not cached.
pub fn find_model(model: &str, max_chains: Option<usize>) -> Result<(String, PathBuf)> {
    let path = Path::new(model);
    if path.exists() {
        check_model_folder(path)?;
        return Ok((folder_name(path)?, path.to_path_buf()));
    }
    let Some(id) = HubId::parse(model) else {
        bail!(
            "{model} does not exist: expected a folder, or a Hugging Face id such as owner/name or owner/name@revision"
        );
    };
    let fetch = || hub::fetch_folder(&id, max_chains);
    let folder = tokio::task::block_in_place(fetch)?;
    Ok((id.name, folder))
}

fn folder_name(folder: &Path) -> Result<String> {
    let full =
        folder.canonicalize().with_context(|| format!("cannot open {}", folder.display()))?;
    let name = full.file_name().map(|name| name.to_string_lossy().into_owned());
    name.with_context(|| format!("{} has no folder name", folder.display()))
}
