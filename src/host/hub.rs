//! Fetches a model from the Hugging Face hub. Of the weights, only the files of the requested chains are fetched.

use std::path::{Path, PathBuf};
use std::{env, fmt};

use anyhow::{anyhow, bail, ensure, Context, Result};
use colm_checkpoint::{CheckpointError, ModelConfig, INDEX_FILE};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};

use super::loader::chains_to_load;

const CONFIG: &str = "config.json";

/// The optional files of a model, other than its weights.
const OPTIONAL_FILES: [&str; 7] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.json",
    "chat_template.jinja",
];

/// The folder of additional chat templates.
const CHAT_TEMPLATES: &str = "additional_chat_templates/";

/// A model of the hub at a revision, which is a branch, a tag or a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// `owner/name`.
    pub name: String,
    /// Default: `main`.
    pub revision: String,
}

impl HubId {
    /// Parses `owner/name` or `owner/name@revision`. None if `text` is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let part = |part: &str| !part.is_empty() && !part.starts_with('.');
        let is_name = name.split('/').count() == 2 && name.split('/').all(part);
        let is_id =
            is_name && !revision.is_empty() && !revision.split('/').any(|part| part == "..");
        is_id.then(|| Self { name: name.into(), revision: revision.into() })
    }

    fn repo(&self) -> Repo {
        Repo::with_revision(self.name.clone(), RepoType::Model, self.revision.clone())
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// Fetches the files of the first `max_chains` chains of the model `id` that are not in the cache. Returns the folder
/// in the cache. If the hub cannot be reached, uses the files in the cache.
///
/// Reads the environment variables `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_TOKEN` and `HF_HUB_OFFLINE`, as the
/// hub's own tools do.
pub fn fetch_folder(id: &HubId, max_chains: Option<usize>) -> Result<PathBuf> {
    let cache = mistralrs_core::hf_hub_cache_dir().map(Cache::new).unwrap_or_else(Cache::from_env);
    let token = env::var("HF_TOKEN").ok().or_else(|| Cache::from_env().token());
    let api = ApiBuilder::from_env().with_cache_dir(cache.path().clone()).with_token(token);
    let repo = api.build()?.repo(id.repo());
    match listing(&repo) {
        Ok(names) => RemoteModel { repo, names }
            .fetch(max_chains)
            .with_context(|| format!("cannot fetch {id}")),
        Err(reason) => {
            let config = cache.repo(id.repo()).get(CONFIG).with_context(|| {
                format!(
                    "{id} is not a local folder, is not in the cache at {}, and cannot be fetched from the \
                     Hugging Face hub: {reason}",
                    cache.path().display()
                )
            })?;
            tracing::warn!("using {id} from the cache, because the hub does not answer: {reason}");
            parent(&config)
        }
    }
}

/// The names of the files of a model on the hub, or the reason why they cannot be listed.
fn listing(repo: &ApiRepo) -> Result<Vec<String>, String> {
    let offline = env::var("HF_HUB_OFFLINE").unwrap_or_default().to_lowercase();
    if ["1", "on", "yes", "true"].contains(&offline.as_str()) {
        return Err(format!("HF_HUB_OFFLINE is {offline}"));
    }
    let info = repo.info().map_err(|error| error.to_string())?;
    Ok(info.siblings.into_iter().map(|sibling| sibling.rfilename).collect())
}

/// A model on the hub.
struct RemoteModel {
    repo: ApiRepo,
    /// The names of its files.
    names: Vec<String>,
}

impl RemoteModel {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }

    fn fetch(&self, max_chains: Option<usize>) -> Result<PathBuf> {
        ensure!(
            self.has(CONFIG),
            "it has no {CONFIG}: expected a CoLM checkpoint, or a Llama, Mistral or Qwen model"
        );
        let config = self.repo.get(CONFIG)?;
        let folder = parent(&config)?;
        let model = ModelConfig::read(&config)?;
        if self.has(INDEX_FILE) {
            self.get(INDEX_FILE, &folder)?;
        }
        let k = chains_to_load(model.colm(), max_chains)?;
        for name in OPTIONAL_FILES.into_iter().filter(|name| self.has(name)) {
            self.get(name, &folder)?;
        }
        let is_template =
            |name: &&String| name.starts_with(CHAT_TEMPLATES) && name.ends_with(".jinja");
        for name in self.names.iter().filter(is_template) {
            self.get(name, &folder)?;
        }
        let files = model.select_files(&folder, &self.names, k);
        let files = files.map_err(|error| match error {
            // The advice of this error is for a folder that has the weights.
            CheckpointError::StateDict { path, .. } => anyhow!(
                "its weights are in PyTorch files only ({}): expected safetensors files; download it and convert it with \
                 `colm-convert pack`",
                path.file_name().unwrap_or_default().display()
            ),
            error => error.into(),
        });
        for name in files? {
            self.get(&name, &folder)?;
        }
        Ok(folder)
    }

    /// Fetches the file `name`. Fails if it is not in `folder`, because then it belongs to another commit.
    fn get(&self, name: &str, folder: &Path) -> Result<()> {
        let path = self.repo.get(name).with_context(|| name.to_string())?;
        if path != folder.join(name) {
            bail!(
                "{name} belongs to another commit than the files in {}: the model has changed; delete that \
                 folder and run again",
                folder.display()
            );
        }
        Ok(())
    }
}

fn parent(file: &Path) -> Result<PathBuf> {
    file.parent()
        .map(Path::to_path_buf)
        .with_context(|| format!("{} has no folder", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_an_owner_a_name_and_an_optional_revision() {
        let id = HubId::parse("owner/name@refs/pr/1").unwrap();
        assert_eq!((id.name.as_str(), id.revision.as_str()), ("owner/name", "refs/pr/1"));
        assert_eq!(id.to_string(), "owner/name@refs/pr/1");
        assert_eq!(HubId::parse("owner/name").unwrap().to_string(), "owner/name");
        for text in ["", "name", "a/b/c", "/b", "a/", "./b", "../b", "a/..", "a/b@", "a/b@../c"] {
            assert_eq!(HubId::parse(text), None, "{text}");
        }
    }
}
