//! Flags and log.

use clap::Parser;
use colm_train::data::Task;
use colm_train::recipe::Loss;
use colm_train::train::StepReport;

use crate::arguments::Arguments;
use crate::log::Log;

fn parse(flags: &str) -> Result<Arguments, clap::Error> {
    let flags = flags.split_whitespace();
    Arguments::try_parse_from(["train", "--out", "no/such/folder"].into_iter().chain(flags))
}

fn refused(flags: &str, chains: usize) -> String {
    let arguments = match parse(flags) {
        Ok(arguments) => arguments,
        Err(error) => return error.to_string(),
    };
    match arguments.recipe(chains).and_then(|_| arguments.start()) {
        Err(error) => format!("{error:#}"),
        Ok(_) => panic!("{flags} is accepted"),
    }
}

#[test]
fn the_defaults_are_the_recipe_of_tiny_colm() {
    let recipe = parse("").unwrap().recipe(4).unwrap();
    assert_eq!((recipe.steps, recipe.batch_size, recipe.seed, recipe.frozen), (9000, 32, 0, 0));
    assert_eq!((recipe.learning_rate, recipe.warmup), (2e-3, 200));
    assert_eq!((recipe.weight_decay, recipe.max_gradient_norm), (0.05, 1.));
    assert_eq!(recipe.loss, Loss::Joint(vec![1., 2., 3., 4.]));
    assert_eq!(recipe.tasks, Task::SCORED);
}

#[test]
fn flags_set_tasks_and_loss() {
    let recipe = parse("--tasks weekday,look-up --loss last --freeze 3 --from x").unwrap();
    let recipe = recipe.recipe(4).unwrap();
    assert_eq!(recipe.tasks, [Task::Weekday, Task::Lookup]);
    assert_eq!((recipe.loss, recipe.frozen), (Loss::Last, 3));
    let recipe = parse("--without-tasks add,month --loss-weights 1,0,2,1").unwrap();
    let recipe = recipe.recipe(4).unwrap();
    assert_eq!(recipe.tasks.len(), Task::SCORED.len() - 2);
    assert!(!recipe.tasks.contains(&Task::Month));
    assert_eq!(recipe.loss, Loss::Joint(vec![1., 0., 2., 1.]));
}

#[test]
fn invalid_flags_fail_with_the_reason() {
    for (flags, hint) in [
        ("--freeze 1", "--from"),
        ("--from a --arch llama", "--arch"),
        ("--from a --config b", "--config"),
        ("--tasks add --without-tasks month", "--without-tasks"),
        ("--tasks weekdays", "no such task; expected some of add, subtract"),
        ("--loss last --loss-weights 1,2,3,4", "--loss-weights with --loss last"),
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
        let refused = refused(flags, 4);
        assert!(refused.contains(hint), "{flags}: {refused}");
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
    log.add(3, &report(7.)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "step,learning rate,gradient norm,loss at k = 1,loss at k = 2");
    assert_eq!(
        lines[1..],
        ["0,0.25,0.5,0,0", "1,0.25,0.5,1,0.5", "2,0.25,0.5,2,1", "3,0.25,0.5,7,3.5"]
    );
}
