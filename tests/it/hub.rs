//! Models from the Hugging Face hub, on a local server.

use std::path::{Path as FilePath, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{header, HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::get;
use axum::{Json, Router};
use colm_testing::random_model;
use serde_json::{json, Value};
use tempfile::TempDir;

const ID: &str = "someone/tiny";
const TEMPLATES: &str = "additional_chat_templates";
const REVISIONS: [&str; 2] = ["main", "v1"];

/// A hub with one model; it records which files were requested.
#[derive(Clone)]
struct Hub {
    folder: PathBuf,
    requested: Arc<Mutex<Vec<String>>>,
}

impl Hub {
    /// The address of the hub.
    async fn start(&self) -> String {
        let router = Router::new()
            .route("/api/models/{owner}/{name}/revision/{revision}", get(listing))
            .route("/{owner}/{name}/resolve/{revision}/{*file}", get(file))
            .with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    fn names(&self) -> Vec<String> {
        let names = |folder: PathBuf, before: &str| {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.map(|name| format!("{before}{name}")).collect::<Vec<_>>()
        };
        let files = names(self.folder.clone(), "");
        let files = files.into_iter().filter(|name| self.folder.join(name).is_file());
        files.chain(names(self.folder.join(TEMPLATES), &format!("{TEMPLATES}/"))).collect()
    }

    fn requested(&self) -> Vec<String> {
        let mut requested = self.requested.lock().unwrap().clone();
        requested.sort();
        requested.dedup();
        requested
    }
}

async fn listing(
    State(hub): State<Hub>,
    Path((owner, name, revision)): Path<(String, String, String)>,
) -> Result<Json<Value>, StatusCode> {
    if format!("{owner}/{name}") != ID || !REVISIONS.contains(&revision.as_str()) {
        return Err(StatusCode::NOT_FOUND);
    }
    let names = hub.names().into_iter().map(|name| json!({"rfilename": name}));
    Ok(Json(json!({"sha": "c0ffee", "siblings": names.collect::<Vec<_>>()})))
}

/// The part of a file that the `Range` header asks for.
async fn file(
    State(hub): State<Hub>,
    Path((_, _, revision, name)): Path<(String, String, String, String)>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if !REVISIONS.contains(&revision.as_str()) {
        return Err(StatusCode::NOT_FOUND);
    }
    hub.requested.lock().unwrap().push(name.clone());
    let bytes = std::fs::read(hub.folder.join(&name)).map_err(|_| StatusCode::NOT_FOUND)?;
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok()).unwrap();
    let (first, last) =
        range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(bytes.len() - 1);
    Ok(Response::builder()
        .status(StatusCode::PARTIAL_CONTENT)
        .header(header::ETAG, format!("\"{name}\""))
        .header("x-repo-commit", "c0ffee")
        .header(header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", bytes.len()))
        .body(Body::from(bytes[first..=last].to_vec()))
        .unwrap())
}

/// The answer of `colm run` with a model of the hub at `endpoint`, cached in `home`. Without an endpoint colm runs
/// offline.
async fn run(endpoint: &str, home: &FilePath, model: &str, arguments: &[&str]) -> Output {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_colm"));
    command.args(["run", "-m", model, "-i", "hello", "--max-tokens", "12"]).args(arguments);
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", home);
    for name in ["HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"] {
        command.env_remove(name);
    }
    if endpoint.is_empty() {
        command.env("HF_HUB_OFFLINE", "1");
    }
    command.output().await.unwrap()
}

fn hub() -> (TempDir, Hub) {
    let parent = random_model::folder(&random_model::air());
    let folder = parent.path().join("model");
    (parent, Hub { folder, requested: Arc::default() })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_files_of_the_requested_chains_are_fetched() {
    let (_parent, hub) = hub();
    let endpoint = hub.start().await;
    let home = tempfile::tempdir().unwrap();
    let two = run(&endpoint, home.path(), ID, &["--max-chains", "2"]).await;
    assert!(two.status.success(), "{}", said(&two));
    let weights = || {
        let requested = hub.requested();
        requested.into_iter().filter(|name| name.starts_with("model-chain-")).collect::<Vec<_>>()
    };
    let file = |chain: usize| format!("model-chain-{chain:05}-of-00004.safetensors");
    assert_eq!(weights(), [file(1), file(2)]);

    // The other files are fetched when they are needed, and no file twice.
    hub.requested.lock().unwrap().clear();
    let four = run(&endpoint, home.path(), ID, &[]).await;
    assert!(four.status.success(), "{}", said(&four));
    assert_eq!(hub.requested(), [file(3), file(4)]);

    let here = hub.folder.to_string_lossy().into_owned();
    for (answer, arguments) in [(two, &["--max-chains", "2"][..]), (four, &[])] {
        let expected = run(&endpoint, home.path(), &here, arguments).await;
        assert_eq!(answer.stdout, expected.stdout, "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_model_runs_offline() {
    let (_parent, hub) = hub();
    let endpoint = hub.start().await;
    let home = tempfile::tempdir().unwrap();
    let nowhere = "http://127.0.0.1:1";
    let unknown = run(nowhere, home.path(), ID, &[]).await;
    assert!(!unknown.status.success() && said(&unknown).contains(ID), "{}", said(&unknown));
    let online = run(&endpoint, home.path(), ID, &["--max-chains", "2"]).await;
    for (endpoint, reason) in [(nowhere, "the hub does not answer"), ("", "HF_HUB_OFFLINE is 1")] {
        let offline = run(endpoint, home.path(), ID, &["--max-chains", "2"]).await;
        assert!(offline.status.success(), "{}", said(&offline));
        assert_eq!(online.stdout, offline.stdout);
        assert!(said(&offline).contains(reason), "{}", said(&offline));
    }
    let all = run(nowhere, home.path(), ID, &[]).await;
    assert!(said(&all).contains("model-chain-00003-of-00004.safetensors"), "{}", said(&all));
}

/// `colm-convert` cannot read them before they are downloaded.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_with_pytorch_files_alone_is_not_fetched() {
    let (_parent, hub) = hub();
    for entry in std::fs::read_dir(&hub.folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains(".safetensors") {
            std::fs::remove_file(path).unwrap();
        }
    }
    std::fs::write(hub.folder.join("pytorch_model.bin"), "").unwrap();
    let endpoint = hub.start().await;
    let home = tempfile::tempdir().unwrap();
    let refused = said(&run(&endpoint, home.path(), ID, &[]).await);
    for part in ["PyTorch files only (pytorch_model.bin)", "download it", "colm-convert pack"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(!hub.requested().contains(&"pytorch_model.bin".to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_name_files_missing_on_the_hub() {
    let (_parent, hub) = hub();
    let endpoint = hub.start().await;
    let home = tempfile::tempdir().unwrap();
    let refused = run(&endpoint, home.path(), "someone/other", &[]).await;
    assert!(!refused.status.success());
    let error = said(&refused);
    assert!(error.contains("someone/other") && error.contains("404"), "{error}");
    std::fs::remove_file(hub.folder.join("config.json")).unwrap();
    let refused = run(&endpoint, home.path(), ID, &[]).await;
    assert!(said(&refused).contains("no config.json"), "{}", said(&refused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_is_fetched_with_all_its_templates() {
    let (_parent, hub) = hub();
    std::fs::create_dir(hub.folder.join(TEMPLATES)).unwrap();
    std::fs::write(hub.folder.join(TEMPLATES).join("tool_use.jinja"), "{{ tools }}").unwrap();
    std::fs::write(hub.folder.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    let endpoint = hub.start().await;
    let home = tempfile::tempdir().unwrap();
    let tagged = run(&endpoint, home.path(), &format!("{ID}@v1"), &["--max-chains", "1"]).await;
    assert!(tagged.status.success(), "{}", said(&tagged));
    assert!(
        hub.requested().contains(&format!("{TEMPLATES}/tool_use.jinja")),
        "{:?}",
        hub.requested()
    );
    let unknown = format!("{ID}@v2");
    let refused = run(&endpoint, home.path(), &unknown, &[]).await;
    let error = said(&refused);
    assert!(!refused.status.success() && error.contains(&unknown), "{error}");
}
