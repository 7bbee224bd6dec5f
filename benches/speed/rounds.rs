//! Who is measured when: in every round each contender in turn, for one quantity after the other.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::args::{Args, Part};
use super::contender::{contenders, Contender, Model};
use super::peer::{Answers, Peer, Python};
use super::protocol::{Ask, EngineKind, Start, Task};
use super::results::{Measure, Results};
use super::shape::Setting;
use super::workload::{single, together, tokens, MEMORY_PROMPT};

/// A setting under way.
pub struct Rounds<'a> {
    args: &'a Args,
    python: &'a Python,
    /// The models, and what their processes say.
    folder: TempDir,
    results: Results,
}

impl<'a> Rounds<'a> {
    /// Writes the models.
    pub fn prepare(args: &'a Args, python: &'a Python, setting: Setting) -> Result<Self> {
        let mut taking_part = contenders(&setting);
        taking_part.retain(|contender| args.takes_part(&contender.name()));
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let results = Results::new(setting, taking_part, args.decode.into());
        let mut rounds = Self { args, python, folder, results };
        for (model, names) in rounds.models() {
            eprintln!("{}: writing {}", setting.name(), model.name());
            if let Err(error) = rounds.write(&model) {
                names.iter().for_each(|name| rounds.results.set_absent(name, format!("{error:#}")));
            }
        }
        Ok(rounds)
    }

    /// All rounds of all that the command line asks for.
    pub fn run(mut self) -> Result<Results> {
        let asked = |part| self.args.measure.contains(&part);
        let (load, singles, togethers) =
            (asked(Part::Load), asked(Part::Single), asked(Part::Together));
        if load {
            self.load_rounds()?;
        }
        let mut works = Vec::new();
        if singles {
            works.extend(self.args.prompts.iter().copied().map(Work::Single));
        }
        if togethers {
            works.extend(self.args.together.iter().copied().map(Work::Together));
        }
        if !works.is_empty() {
            self.timed_rounds(&works)?;
        }
        Ok(self.results)
    }

    fn write(&self, model: &Model) -> Result<()> {
        if model.engine == EngineKind::LlamaCpp {
            self.python.llama_cpp()?;
        }
        model.write(&self.path(model), &self.results.setting, self.python)
    }

    /// Every model once, with the names of its contenders.
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

    /// A process with `max_chains` of `model` and room for `sequences` of `tokens` in all.
    fn start(
        &self,
        model: &Model,
        max_chains: Option<usize>,
        sequences: usize,
        tokens: usize,
    ) -> Result<Peer> {
        let weights = model.weights(&self.results.setting);
        let (engine, path) = (model.engine, self.path(model));
        let log = path.with_extension("log");
        let start = Start { engine, model: path, weights, max_chains, sequences, tokens };
        Peer::start(&start, self.python, &log)
    }

    /// Each contender in a process of its own, alone: loads k chains, answers once, ends.
    fn load_rounds(&mut self) -> Result<()> {
        for round in 1..=self.args.rounds.into() {
            for contender in self.results.contenders.clone() {
                let name = contender.name();
                if self.results.is_present(&name) {
                    self.progress(round, "load", &name);
                    match self.load_once(&contender, round) {
                        Ok((load_ms, peak_mib)) => {
                            self.results.add(&name, Measure::Load, load_ms);
                            if let Some(peak_mib) = peak_mib {
                                self.results.add(&name, Measure::PeakMemory, peak_mib);
                            }
                        }
                        Err(error) => self.results.set_absent(&name, format!("{error:#}")),
                    }
                }
            }
        }
        Ok(())
    }

    fn load_once(&self, contender: &Contender, round: usize) -> Result<(f64, Option<f64>)> {
        let asks = single(MEMORY_PROMPT, self.results.decode, round);
        let mut peer = self.start(&contender.model, contender.asked_chains(), 1, tokens(&asks))?;
        let answers = ask(&mut peer, contender, asks)?;
        Ok((peer.load_ms, answers.peak_mib))
    }

    /// All contenders are loaded and take turns.
    fn timed_rounds(&mut self, works: &[Work]) -> Result<()> {
        let mut peers = self.start_all(works);
        let mut too_slow = BTreeSet::new();
        for round in 1..=self.args.rounds.into() {
            for work in works {
                for contender in self.results.contenders.clone() {
                    let name = contender.name();
                    if !self.results.is_present(&name) || too_slow.contains(&(name.clone(), *work))
                    {
                        continue;
                    }
                    self.progress(round, &work.words(), &name);
                    let peer = peers.get_mut(&contender.model.name());
                    let peer = peer.context("a contender that is present has a process")?;
                    let began = Instant::now();
                    match ask(peer, &contender, work.asks(self.results.decode, round)) {
                        Ok(answers) => self.record(&name, *work, round, &answers),
                        Err(error) => self.results.set_absent(&name, format!("{error:#}")),
                    }
                    let seconds = began.elapsed().as_secs_f64();
                    if self.args.patience.is_some_and(|patience| seconds > patience) {
                        too_slow.insert((name, *work));
                    }
                }
            }
        }
        Ok(())
    }

    /// Loads every model, and has each contender answer once before anything counts.
    fn start_all(&mut self, works: &[Work]) -> BTreeMap<String, Peer> {
        let decode = self.results.decode;
        let asks: Vec<Vec<Ask>> = works.iter().map(|work| work.asks(decode, 0)).collect();
        let sequences = asks.iter().map(Vec::len).max().unwrap_or(1);
        let warm_up = single(WARM_UP, decode, 0);
        let room = asks.iter().chain([&warm_up]).map(|asks| tokens(asks)).max().unwrap_or(0);
        let mut peers = BTreeMap::new();
        for contender in self.results.contenders.clone() {
            let (name, model) = (contender.name(), &contender.model);
            if !self.results.is_present(&name) {
                continue;
            }
            self.progress(0, "warming up", &name);
            let peer = match peers.entry(model.name()) {
                Entry::Occupied(peer) => Ok(peer.into_mut()),
                Entry::Vacant(place) => {
                    let peer = self.start(model, None, sequences, room);
                    peer.map(|peer| place.insert(peer))
                }
            };
            let warm = peer.and_then(|peer| ask(peer, &contender, warm_up.clone()));
            if let Err(error) = warm {
                self.results.set_absent(&name, format!("{error:#}"));
            }
        }
        peers
    }

    fn record(&mut self, name: &str, work: Work, round: usize, answers: &Answers) {
        let times = &answers.times;
        match work {
            Work::Single(length) => {
                let decode_ms = (times[0].last_ms - times[0].first_ms) / self.results.decode as f64;
                self.results.add(name, Measure::Prefill(length), times[0].first_ms);
                self.results.add(name, Measure::Decode(length), decode_ms);
            }
            Work::Together(count) => {
                let ms = times.iter().map(|times| times.last_ms).fold(0., f64::max);
                let speed = tokens(&together(count, round)) as f64 / ms * 1e3;
                self.results.add(name, Measure::Together(count), speed);
            }
        }
    }

    fn progress(&self, round: usize, what: &str, name: &str) {
        let (setting, rounds) = (self.results.setting.name(), self.args.rounds);
        eprintln!("{setting}: round {round} of {rounds}, {what}: {name}");
    }
}

/// Tokens of the prompt that does not count.
const WARM_UP: usize = 256;

/// One measurement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    Single(usize),
    Together(usize),
}

impl Work {
    fn asks(self, decode: usize, round: usize) -> Vec<Ask> {
        match self {
            Self::Single(length) => single(length, decode, round),
            Self::Together(count) => together(count, round),
        }
    }

    fn words(self) -> String {
        match self {
            Self::Single(length) => format!("{length} tokens"),
            Self::Together(count) => format!("{count} at once"),
        }
    }
}

fn ask(peer: &mut Peer, contender: &Contender, requests: Vec<Ask>) -> Result<Answers> {
    peer.run(&Task { chains: contender.asked_chains(), requests })
}
