//! Flags and log.

use std::path::Path;

use candle_core::{DType, Device};
use clap::Parser;
use colm_checkpoint::{Architecture, ColmConfig, ConfigFile};
use colm_train::data::{Mix, Task};
use colm_train::recipe::Loss;
use colm_train::save;
use colm_train::tokenizer::ChatTokenizer;
use colm_train::train::StepReport;
use colm_train::weights::Weights;

use crate::arguments::Arguments;
use crate::log::Log;

fn parse(flags: &str) -> Result<Arguments, clap::Error> {
    let flags = flags.split_whitespace();
    Arguments::try_parse_from(["train", "--out", "no/such/folder"].into_iter().chain(flags))
}

/// Of `chains` equal chains, with LM heads of their own.
fn config(chains: usize) -> ColmConfig {
    let file = ConfigFile::new(Architecture::Colm, vec![1; chains]);
    let sizes = ConfigFile {
        vocab_size: 300,
        hidden_size: 8 * chains,
        intermediate_size: 8 * chains,
        num_hidden_layers: 1,
        num_attention_heads: chains,
        num_key_value_heads: Some(chains),
        max_position_embeddings: 64,
        ..file
    };
    ColmConfig::new(sizes).unwrap()
}

fn refused(flags: &str, config: &ColmConfig) -> String {
    let arguments = match parse(flags) {
        Ok(arguments) => arguments,
        Err(error) => return error.to_string(),
    };
    match arguments.recipe(config).and_then(|_| arguments.start()) {
        Err(error) => format!("{error:#}"),
        Ok(_) => panic!("{flags} is accepted"),
    }
}

#[test]
fn the_defaults_with_weights_are_the_recipe_of_tiny_colm() {
    let recipe = parse("--loss-weights 1,2,3,4").unwrap().recipe(&config(4)).unwrap();
    assert_eq!((recipe.steps, recipe.batch_size, recipe.seed, recipe.frozen), (9000, 32, 0, 0));
    assert_eq!((recipe.learning_rate, recipe.warmup), (2e-3, 200));
    assert_eq!((recipe.weight_decay, recipe.max_gradient_norm), (0.05, 1.));
    assert_eq!(recipe.loss, Loss::Joint(vec![1., 2., 3., 4.]));
    assert!(!recipe.frozen_backbone);
    assert_eq!(recipe.tasks, Task::SCORED);
}

#[test]
fn a_recipe_sets_the_loss_and_what_is_frozen() {
    let equal = || Loss::Joint(vec![1.; 4]);
    for (flags, loss, frozen, frozen_backbone) in [
        ("", equal(), 0, false),
        ("--recipe joint", equal(), 0, false),
        ("--recipe pretrain", Loss::Last, 0, false),
        ("--recipe elastic-heads --from x", equal(), 0, true),
        ("--recipe expansion --from x", Loss::Last, 1, false),
        ("--recipe chain-tuning --from x", Loss::Last, 3, false),
        ("--recipe pretrain --freeze 2 --from x", Loss::Last, 2, false),
        ("--recipe elastic-heads --freeze 1 --from x", equal(), 1, true),
        (
            "--recipe elastic-heads --loss-weights 1,0,2,1 --from x",
            Loss::Joint(vec![1., 0., 2., 1.]),
            0,
            true,
        ),
    ] {
        let recipe = parse(flags).unwrap().recipe(&config(4)).unwrap();
        let found = (recipe.loss, recipe.frozen, recipe.frozen_backbone);
        assert_eq!(found, (loss, frozen, frozen_backbone), "{flags}");
    }
}

#[test]
fn flags_set_tasks() {
    let recipe = parse("--tasks weekday,look-up").unwrap().recipe(&config(4)).unwrap();
    assert_eq!(recipe.tasks, [Task::Weekday, Task::Lookup]);
    let recipe = parse("--without-tasks add,month").unwrap().recipe(&config(4)).unwrap();
    assert_eq!(recipe.tasks.len(), Task::SCORED.len() - 2);
    assert!(!recipe.tasks.contains(&Task::Month));
}

#[test]
fn invalid_flags_fail_with_the_reason() {
    for (flags, hint) in [
        ("--freeze 1", "--from"),
        ("--from a --arch llama", "--arch"),
        ("--from a --config b", "--config"),
        ("--tasks add --without-tasks month", "--without-tasks"),
        ("--tasks weekdays", "no such task; expected some of add, subtract"),
        ("--recipe joined", "no such recipe; expected one of pretrain, joint, elastic-heads"),
        (
            "--recipe pretrain --loss-weights 1,2,3,4",
            "--loss-weights: loss weights with the recipe pretrain",
        ),
        ("--recipe expansion", "--recipe expansion without --from"),
        ("--recipe elastic-heads", "--recipe elastic-heads without --from"),
        (
            "--recipe chain-tuning --freeze 1 --from a",
            "chooses the frozen chains itself; expected --recipe pretrain",
        ),
        ("--loss-weights 1,2", "2 loss weights; expected 4"),
        ("--from a --freeze 4", "expected at most 3"),
        ("--from a", "reading the checkpoint a"),
        ("--from no/such/folder", "--out is --from"),
        ("--config no/config.json", "no/config.json"),
        ("--heads 7", "--hidden 256 over --heads 7"),
        ("--chains 1,2 --loss-weights 1,2,3,4", "chains [1, 2]"),
        ("--arch colm-air", "num_attention_heads"),
        ("--arch llama --chains 1,1", "a llama has one chain"),
        ("--every 0", "--every 0"),
        ("--steps 100", "warm-up = 200"),
    ] {
        let refused = refused(flags, &config(4));
        assert!(refused.contains(hint), "{flags}: {refused}");
    }
}

#[test]
fn a_recipe_that_does_not_fit_the_model_fails_with_the_reason() {
    for recipe in ["expansion", "chain-tuning"] {
        let refused = refused(&format!("--from a --recipe {recipe}"), &config(1));
        let expected = format!("--recipe: the recipe {recipe} on a model of one chain");
        assert!(refused.contains(&expected), "{refused}");
    }
    let file = ConfigFile { tie_word_embeddings: true, ..config(4).file };
    let tied = ColmConfig::new(file).unwrap();
    let refused = refused("--from a --recipe elastic-heads", &tied);
    assert!(refused.contains("tie_word_embeddings = true"), "{refused}");
}

#[test]
fn frozen_weights_are_not_rounded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    let config = config(2);
    let weights = Weights::random(&config, 0).unwrap();
    save::save(dir.path(), &weights, DType::F32).unwrap();
    let chat = ChatTokenizer::train(0, 10, 300, Mix::of_vocabulary()).unwrap();
    chat.save(dir.path(), 64).unwrap();
    let start = |flags: &str| parse(&format!("--from {folder} {flags}")).unwrap().start();
    for flags in ["--recipe elastic-heads", "--recipe expansion", "--freeze 1"] {
        let refused = start(&format!("{flags} --dtype f16")).err().unwrap().to_string();
        assert!(refused.contains("--dtype would round the frozen weights"), "{refused}");
        start(flags).unwrap();
    }
    start("--dtype f16 --freeze 0").unwrap();
}

/// Stores the norms of `chain` (from 1) of the two chains in `dir` in f32.
fn store_norms_as_f32(dir: &Path, chain: usize) {
    let path = dir.join(format!("model-chain-0000{chain}-of-00002.safetensors"));
    let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    for norm in tensors.values_mut().filter(|tensor| tensor.rank() == 1) {
        *norm = norm.to_dtype(DType::F32).unwrap();
    }
    candle_core::safetensors::save(&tensors, &path).unwrap();
}

/// The last tensor is a matrix, so it does not tell the dtype of the norms.
#[test]
fn frozen_weights_of_several_dtypes_are_not_rounded() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    save::save(dir.path(), &Weights::random(&config(2), 0).unwrap(), DType::BF16).unwrap();
    let chat = ChatTokenizer::train(0, 10, 300, Mix::of_vocabulary()).unwrap();
    chat.save(dir.path(), 64).unwrap();
    let dtype = |flags: &str| {
        let start = parse(&format!("--from {folder} {flags}")).unwrap().start();
        start.map(|start| start.dtype).map_err(|error| error.to_string())
    };
    assert_eq!(dtype("--recipe expansion"), Ok(DType::BF16));
    store_norms_as_f32(dir.path(), 2);
    assert_eq!(dtype("--recipe expansion"), Ok(DType::F32));
    assert_eq!(dtype("--recipe expansion --dtype bf16"), Ok(DType::BF16), "they are trained");
    store_norms_as_f32(dir.path(), 1);
    assert_eq!(dtype("--recipe expansion"), Ok(DType::F32));
    assert_eq!(dtype("--recipe pretrain --dtype bf16"), Ok(DType::BF16), "they are trained");
    for flags in ["--recipe elastic-heads", "--recipe expansion", "--freeze 1"] {
        let refused = dtype(&format!("{flags} --dtype bf16")).unwrap_err();
        let tensor = "model.layers.0.input_layernorm.chains.0.weight in ";
        assert!(refused.contains(tensor) && refused.contains(" is f32"), "{refused}");
    }
}

#[test]
fn an_existing_folder_is_replaced_with_force_only() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().to_str().unwrap();
    let arguments = Arguments::try_parse_from(["train", "--out", out]).unwrap();
    let refused = arguments.start().err().unwrap().to_string();
    assert!(refused.contains("--force"), "{refused}");
}

/// A run that was killed has a state and a log but no checkpoint.
#[test]
fn an_earlier_run_is_continued_or_replaced_only_if_a_flag_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (out, state, log) = (path("out"), path("out.state.safetensors"), path("log.csv"));
    let other = path("other.state");
    let check = |more: &[&str]| {
        let flags = ["train", "--out", out.as_str()].into_iter().chain(more.iter().copied());
        Arguments::try_parse_from(flags).unwrap().check_outputs().map_err(|error| error.to_string())
    };
    check(&["--log", log.as_str()]).unwrap();
    for (file, flags, advice) in [
        (&state, vec![], "--resume continues"),
        (&other, vec!["--state", other.as_str()], "--resume continues"),
        (&log, vec!["--log", log.as_str()], "no state"),
    ] {
        std::fs::write(file, "an earlier run").unwrap();
        let refused = check(&flags).unwrap_err();
        for part in [file.as_str(), advice, "--force starts again"] {
            assert!(refused.contains(part), "{refused}");
        }
        for flag in ["--resume", "--force"] {
            check(&[flags.as_slice(), &[flag]].concat()).unwrap();
        }
        std::fs::remove_file(file).unwrap();
    }
    // The checkpoint may be there as well. --force alone would lose the state.
    std::fs::write(&state, "an earlier run").unwrap();
    std::fs::create_dir(&out).unwrap();
    assert!(check(&[]).unwrap_err().contains("--resume continues"));
    assert!(check(&["--resume"]).unwrap_err().contains("--force replaces it"));
    check(&["--resume", "--force"]).unwrap();
}

#[test]
fn a_run_does_not_start_over_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "an earlier run").unwrap();
    let refused = refused(&format!("--state {}", state.display()), &config(4));
    assert!(refused.contains("--resume continues"), "{refused}");
}

/// A dot in a name begins no extension, and a slash after it changes nothing.
#[test]
fn the_state_is_beside_the_folder() {
    for (out, state) in [
        ("target/lr0.001", "target/lr0.001.state.safetensors"),
        ("target/lr0.002", "target/lr0.002.state.safetensors"),
        ("tiny/", "tiny.state.safetensors"),
    ] {
        let arguments = Arguments::try_parse_from(["train", "--out", out]).unwrap();
        assert_eq!(arguments.state(), Path::new(state));
    }
    let arguments = parse("--state other").unwrap();
    assert_eq!(arguments.state(), Path::new("other"));
}

#[test]
fn the_source_is_not_replaced_however_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("base");
    std::fs::create_dir(&base).unwrap();
    let from = base.to_str().unwrap();
    for out in [base.join("."), dir.path().join("./base/../base"), base.join("")] {
        let flags = ["train", "--from", from, "--force", "--out", out.to_str().unwrap()];
        let arguments = Arguments::try_parse_from(flags).unwrap();
        let refused = arguments.start().err().unwrap().to_string();
        assert!(refused.contains("--out is --from"), "{}: {refused}", out.display());
    }
    std::os::unix::fs::symlink(&base, dir.path().join("link")).unwrap();
    let link = dir.path().join("link");
    let flags = ["train", "--from", from, "--force", "--out", link.to_str().unwrap()];
    let refused = Arguments::try_parse_from(flags).unwrap().start().err().unwrap().to_string();
    assert!(refused.contains("--out is --from"), "{refused}");
}

#[test]
fn a_resumed_log_drops_rows_of_repeated_steps() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log.csv");
    let report = |loss| StepReport {
        losses: vec![loss, loss / 2.],
        gradient_norm: 0.5,
        learning_rate: 0.25,
    };
    let mut log = Log::open(&path, 2, 0).unwrap();
    (0..5).for_each(|step| log.add(step, &report(step as f64)).unwrap());
    drop(log);
    let mut log = Log::open(&path, 2, 3).unwrap();
    let names = "step,learning rate,gradient norm,loss at k = 1,loss at k = 2\n";
    let kept = format!("{names}0,0.25,0.5,0,0\n1,0.25,0.5,1,0.5\n2,0.25,0.5,2,1\n");
    // Even if the run is killed in its first step.
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept);
    log.add(3, &report(7.)).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), kept + "3,0.25,0.5,7,3.5\n");
    assert_eq!(dir.path().read_dir().unwrap().count(), 1, "no other file is left");
}
