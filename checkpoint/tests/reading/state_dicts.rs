//! PyTorch files. PyTorch wrote them: see ../state_dicts/make_state_dicts.py.

use colm_checkpoint::{ChainCount, Checkpoint, CheckpointError, Dtype, Source, TensorId};

use crate::folder::Folder;
use colm_testing::small_checkpoint::{fill, place};

const FILE: &str = "pytorch_model.bin";

/// Asserts that every value encodes its position.
fn assert_places(source: &Source) {
    for tensor in source.config().tensors(ChainCount::ONE) {
        let expected = fill(source.dtype(&tensor), &tensor.shape(), place);
        let block = source.tensor(&tensor).unwrap();
        assert_eq!(block.dtype(), source.dtype(&tensor));
        assert_eq!(block.shape(), tensor.shape());
        assert_eq!(block.bytes(), expected.bytes, "{}", tensor.id);
    }
}

#[test]
fn tensors_with_any_strides_are_read() {
    let folder = Folder::copied("state_dicts/strided");
    let source = Source::open(&folder.dir).unwrap();
    assert!(source.is_llama());
    assert_places(&source);
    let dtype = |id| {
        let mut tensors = source.config().tensors(ChainCount::ONE);
        source.dtype(&tensors.find(|tensor| tensor.id == id).unwrap())
    };
    assert_eq!(dtype(TensorId::Embedding), Dtype::F32);
    assert_eq!(dtype(TensorId::InputNorm { layer: 0 }), Dtype::F16);
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn shards_are_found_by_index_or_by_name() {
    let folder = Folder::copied("state_dicts/sharded");
    let source = Source::open(&folder.dir).unwrap();
    assert_eq!(source.files().count(), 2);
    assert_places(&source);
    drop(source);
    std::fs::remove_file(folder.path("pytorch_model.bin.index.json")).unwrap();
    assert_places(&Source::open(&folder.dir).unwrap());
}

#[test]
fn safetensors_files_take_precedence() {
    let folder = Folder::dense();
    folder.write(FILE, "not looked at");
    assert_eq!(folder.problems(), [""; 0]);
}

#[test]
fn the_engine_rejects_them_and_suggests_pack() {
    let folder = Folder::copied("state_dicts/strided");
    let (config, _) = Source::read_config(&folder.dir).unwrap();
    let error = Checkpoint::open(&folder.dir, &config, ChainCount::ONE).unwrap_err();
    assert!(matches!(error, CheckpointError::StateDict { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(FILE) && error.contains("colm-convert pack"), "{error}");
}

#[test]
fn a_tied_head_that_differs_from_the_embedding_is_an_error() {
    let folder = Folder::copied("state_dicts/strided");
    let mut bytes = std::fs::read(folder.path(FILE)).unwrap();
    // Head and embedding share their storage. Change the strides of the head in the pickle.
    let strides = b"lm_head.weight";
    let at = bytes.windows(strides.len()).position(|window| window == strides).unwrap();
    // [rows, columns] are (6, 8), then the strides (8, 1): two one-byte integers and a tuple.
    let shape = [b'K', 8, b'K', 1, 0x86];
    let stride = at + bytes[at..].windows(5).position(|window| window == shape).unwrap();
    bytes[stride + 1] = 1;
    folder.write(FILE, bytes);
    folder.one_problem(&["lm_head.weight", "tie_word_embeddings"]);
    let error = Source::open(&folder.dir).unwrap_err();
    assert!(matches!(error, CheckpointError::UntiedHead { .. }), "{error}");
}

#[test]
fn unreadable_files_give_a_reason() {
    let cases = [
        ("before_1_6.bin", "not a zip archive as torch.save writes since PyTorch 1.6"),
        ("float64.bin", "`model.norm.weight` is in a DoubleStorage"),
        ("nested.bin", "`model` is not a tensor"),
        ("negative.bin", "tensor `model.norm.weight` has \"neg\" in its metadata"),
    ];
    for (file, why) in cases {
        let folder = Folder::copied("state_dicts/strided");
        let from = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state_dicts");
        folder.write(FILE, std::fs::read(from.join(file)).unwrap());
        let problems = folder.problems();
        assert!(problems[0].contains(why) && problems[0].contains(FILE), "{problems:#?}");
    }
}

#[test]
fn metas_own_format_is_recognized() {
    let folder = Folder::copied("state_dicts/strided");
    std::fs::rename(folder.path(FILE), folder.path("consolidated.00.pth")).unwrap();
    folder.one_problem(&["consolidated.00.pth", "Meta's own format"]);
}

#[test]
fn two_state_dicts_are_ambiguous() {
    let folder = Folder::copied("state_dicts/sharded");
    std::fs::remove_file(folder.path("pytorch_model.bin.index.json")).unwrap();
    folder.write(FILE, "");
    folder.one_problem(&[FILE, "pytorch_model-00001-of-00002.bin"]);
}
