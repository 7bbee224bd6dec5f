//! The rounds of a setting: in each round every contender runs each measurement in turn.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::args::{Args, Part};
use super::contender::{contenders, Contender, Model};
use super::process::{Answers, WorkerProcess};
use super::protocol::{Batch, EngineKind, GenerationRequest, Start};
use super::python::Python;
use super::results::{Measure, Results};
use super::shape::Setting;
use super::workload::{concurrent, single, tokens, MEMORY_PROMPT};

/// A setting that is being measured.
pub struct Rounds<'a> {
    args: &'a Args,
    python: &'a Python,
    /// Holds the models and the logs of their processes.
    folder: TempDir,
    results: Results,
}

impl<'a> Rounds<'a> {
    /// Writes the models of all contenders.
    pub fn prepare(args: &'a Args, python: &'a Python, setting: Setting) -> Result<Self> {
        let mut selected = contenders(&setting);
        selected.retain(|contender| args.selects(&contender.name()));
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let results = Results::new(setting, selected, args.decode.into());
        let mut rounds = Self { args, python, folder, results };
        for (model, names) in rounds.models() {
            eprintln!("{}: writing {}", setting.name(), model.name());
            if let Err(error) = rounds.write(&model) {
                for name in &names {
                    rounds.results.set_unavailable(name, format!("{error:#}"));
                }
            }
        }
        Ok(rounds)
    }

    /// Runs all rounds of the selected measurements.
    pub fn run(mut self) -> Result<Results> {
        let selected = |part| self.args.measure.contains(&part);
        if selected(Part::Load) {
            self.load_rounds()?;
        }
        let mut workloads = Vec::new();
        if selected(Part::Single) {
            workloads.extend(self.args.prompts.iter().copied().map(Workload::Single));
        }
        if selected(Part::Concurrent) {
            workloads.extend(self.args.concurrent.iter().copied().map(Workload::Concurrent));
        }
        if !workloads.is_empty() {
            self.timed_rounds(&workloads)?;
        }
        Ok(self.results)
    }

    fn write(&self, model: &Model) -> Result<()> {
        if model.engine == EngineKind::LlamaCpp {
            self.python.llama_cpp()?;
        }
        model.write(&self.path(model), &self.results.setting, self.python)
    }

    /// Every model with the names of its contenders.
    fn models(&self) -> Vec<(Model, Vec<String>)> {
        let mut models: Vec<(Model, Vec<String>)> = Vec::new();
        for contender in &self.results.contenders {
            match models.iter_mut().find(|(model, _)| *model == contender.model) {
                Some((_, names)) => names.push(contender.name()),
                None => models.push((contender.model.clone(), vec![contender.name()])),
            }
        }
        models
    }

    fn path(&self, model: &Model) -> PathBuf {
        self.folder.path().join(model.name().replace(['[', ']', ',', ' '], "_"))
    }

    /// Starts a process that loads the first `max_chains` of `model`, with KV cache for `tokens` tokens in `sequences`
    /// sequences.
    fn start(
        &self,
        model: &Model,
        max_chains: Option<usize>,
        sequences: usize,
        tokens: usize,
    ) -> Result<WorkerProcess> {
        let weights = model.weights(&self.results.setting);
        let (engine, path) = (model.engine, self.path(model));
        let log = path.with_extension("log");
        let matmul_precision = self.args.matmul_precision.map(|precision| precision.to_string());
        let start =
            Start { engine, model: path, weights, matmul_precision, max_chains, sequences, tokens };
        WorkerProcess::start(&start, self.python, &log)
    }

    /// Load time and peak memory: each contender runs in a process of its own, which loads k chains and answers one
    /// request.
    fn load_rounds(&mut self) -> Result<()> {
        for round in 1..=self.args.rounds.into() {
            for contender in self.results.contenders.clone() {
                let name = contender.name();
                if self.results.is_available(&name) {
                    self.progress(round, "load", &name);
                    match self.load_once(&contender, round) {
                        Ok((load_ms, peak_mib)) => {
                            self.results.add(&name, Measure::Load, load_ms);
                            if let Some(peak_mib) = peak_mib {
                                self.results.add(&name, Measure::PeakMemory, peak_mib);
                            }
                        }
                        Err(error) => self.results.set_unavailable(&name, format!("{error:#}")),
                    }
                }
            }
        }
        Ok(())
    }

    fn load_once(&self, contender: &Contender, round: usize) -> Result<(f64, Option<f64>)> {
        let requests = single(MEMORY_PROMPT, self.results.decode, round);
        let mut worker =
            self.start(&contender.model, contender.requested_chains(), 1, tokens(&requests))?;
        let answers = run(&mut worker, contender, requests)?;
        Ok((worker.load_ms, answers.peak_mib))
    }

    /// Single and concurrent requests: all models stay loaded, and the contenders take turns.
    fn timed_rounds(&mut self, workloads: &[Workload]) -> Result<()> {
        let mut workers = self.start_all(workloads);
        let mut too_slow = BTreeSet::new();
        for round in 1..=self.args.rounds.into() {
            for workload in workloads {
                for contender in self.results.contenders.clone() {
                    let name = contender.name();
                    if !self.results.is_available(&name)
                        || too_slow.contains(&(name.clone(), *workload))
                    {
                        continue;
                    }
                    self.progress(round, &workload.label(), &name);
                    let worker = workers.get_mut(&contender.model.name());
                    let worker = worker.context("no process for an available contender")?;
                    let began = Instant::now();
                    match run(worker, &contender, workload.requests(self.results.decode, round)) {
                        Ok(answers) => self.record(&name, *workload, round, &answers),
                        Err(error) => self.results.set_unavailable(&name, format!("{error:#}")),
                    }
                    let seconds = began.elapsed().as_secs_f64();
                    if self.args.patience.is_some_and(|patience| seconds > patience) {
                        too_slow.insert((name, *workload));
                    }
                }
            }
        }
        Ok(())
    }

    /// Loads every model and runs a warm-up request on each contender.
    fn start_all(&mut self, workloads: &[Workload]) -> BTreeMap<String, WorkerProcess> {
        let decode = self.results.decode;
        let requests: Vec<Vec<GenerationRequest>> =
            workloads.iter().map(|workload| workload.requests(decode, 0)).collect();
        let sequences = requests.iter().map(Vec::len).max().unwrap_or(1);
        let warm_up = single(WARM_UP, decode, 0);
        let room =
            requests.iter().chain([&warm_up]).map(|requests| tokens(requests)).max().unwrap_or(0);
        let mut workers = BTreeMap::new();
        for contender in self.results.contenders.clone() {
            let (name, model) = (contender.name(), &contender.model);
            if !self.results.is_available(&name) {
                continue;
            }
            self.progress(0, "warming up", &name);
            let worker = match workers.entry(model.name()) {
                Entry::Occupied(worker) => Ok(worker.into_mut()),
                Entry::Vacant(place) => {
                    let worker = self.start(model, None, sequences, room);
                    worker.map(|worker| place.insert(worker))
                }
            };
            let warm = worker.and_then(|worker| run(worker, &contender, warm_up.clone()));
            if let Err(error) = warm {
                self.results.set_unavailable(&name, format!("{error:#}"));
            }
        }
        workers
    }

    fn record(&mut self, name: &str, workload: Workload, round: usize, answers: &Answers) {
        let times = &answers.times;
        match workload {
            Workload::Single(length) => {
                let decode_ms = (times[0].last_ms - times[0].first_ms) / self.results.decode as f64;
                self.results.add(name, Measure::Prefill(length), times[0].first_ms);
                self.results.add(name, Measure::Decode(length), decode_ms);
            }
            Workload::Concurrent(count) => {
                let ms = times.iter().map(|times| times.last_ms).fold(0., f64::max);
                let speed = tokens(&concurrent(count, round)) as f64 / ms * 1e3;
                self.results.add(name, Measure::Concurrent(count), speed);
            }
        }
    }

    fn progress(&self, round: usize, what: &str, name: &str) {
        let (setting, rounds) = (self.results.setting.name(), self.args.rounds);
        eprintln!("{setting}: round {round} of {rounds}, {what}: {name}");
    }
}

/// Tokens of the warm-up prompt.
const WARM_UP: usize = 256;

/// The requests of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Workload {
    Single(usize),
    Concurrent(usize),
}

impl Workload {
    fn requests(self, decode: usize, round: usize) -> Vec<GenerationRequest> {
        match self {
            Self::Single(length) => single(length, decode, round),
            Self::Concurrent(count) => concurrent(count, round),
        }
    }

    fn label(self) -> String {
        match self {
            Self::Single(length) => format!("{length} tokens"),
            Self::Concurrent(count) => format!("{count} concurrent requests"),
        }
    }
}

fn run(
    worker: &mut WorkerProcess,
    contender: &Contender,
    requests: Vec<GenerationRequest>,
) -> Result<Answers> {
    worker.run(&Batch { chains: contender.requested_chains(), requests })
}
